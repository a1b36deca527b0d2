import os
from pathlib import Path

import numpy as np
import pytest

from lesionkit.data.deeplesion import DeepLesion, KeySlice, Lesion
from lesionkit.evaluation import bootstrap_froc, froc, froc_by_group


def record(number, *lesions, spacing=(1.0, 1.0, 5.0)):
    """A key slice; each lesion is (box, type, long axis, short axis in pixels)."""
    name = f"{number:06d}_01_01_010.png"
    marked = tuple(
        Lesion(
            *(0, name, number, 1, 1, 10, box, (0.0,) * 8, (long, short), (0.5,) * 3, kind, False),
            *((8, 12), spacing, (512, 512), (-100.0, 200.0), "F", 60.0, 3),
        )
        for box, kind, long, short in lesions
    )
    return KeySlice(name, number, name[:12], 10, spacing, (8, 12), (512, 512), marked)


LIVER, LUNG, BONE = 4, 5, 1
A, B, C = (10, 10, 19, 19), (50, 50, 59, 59), (80, 80, 89, 89)
RECORDS = [
    record(1, (A, LIVER, 9.99, 5), (B, LUNG, 10, 2)),
    record(2, (A, LIVER, 30, 10), spacing=(1, 1, 1.0)),
    record(3, (A, LUNG, 30.01, 9), spacing=(1, 1, 2.5)),
    record(4, (C, LUNG, 20, 19), spacing=(0.5, 0.5, float("nan"))),
]
FOUND = [
    [[*A, 0.9], [*B, 0.8]],
    [[*C, 0.7], [*A, 0.6]],
    [[*C, 0.5], [*A, 0.4]],
    [[*B, 0.3]],
]


def found_at(groups, rate_index=0):
    return {
        name: round(group.result.sensitivity[rate_index] * group.num_lesions, 6)
        for name, group in groups.items()
        if group.result
    }


def test_groups_by_type():
    groups = froc_by_group(FOUND, RECORDS, "type", fp_per_image=(0.5,))
    assert list(groups) == [
        *("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis")
    ]
    liver, lung, bone = groups["liver"], groups["lung"], groups["bone"]
    assert (liver.num_lesions, liver.images.tolist()) == (2, [0, 1])
    assert (lung.num_lesions, lung.images.tolist()) == (3, [0, 2, 3])
    assert (bone.num_lesions, bone.num_images, bone.result) == (0, 0, None)
    unknown = [record(1, (A, -1, 5, 5))]
    assert froc_by_group([[]], unknown, "type")["unknown"].num_lesions == 1


def test_convention_subset_is_a_data_set_of_its_own():
    groups = froc_by_group(FOUND, RECORDS, "type", fp_per_image=(0, 0.5, 1))
    # Liver: images 1 and 2; the box on image 1's lung lesion (0.8) and image 2's first are false.
    assert groups["liver"].result.curve_fp.tolist() == [0, 0.5, 1, 1]
    assert groups["liver"].result.sensitivity.tolist() == [0.5, 0.5, 1]
    expected = froc([FOUND[0], FOUND[1]], [[A], [A]], (0, 0.5, 1))
    assert groups["liver"].result.sensitivity.tolist() == expected.sensitivity.tolist()
    lung = froc([FOUND[0], FOUND[2], FOUND[3]], [[B], [A], [C]], (0, 0.5, 1))
    assert groups["lung"].result.sensitivity.tolist() == lung.sensitivity.tolist()


def test_convention_filter_keeps_all_images_and_filters_the_truth():
    groups = froc_by_group(FOUND, RECORDS, "type", "filter", fp_per_image=(0, 0.25, 0.5, 1))
    liver = froc(FOUND, [[A], [A], [], []], (0, 0.25, 0.5, 1))
    assert groups["liver"].num_images == 4
    assert groups["liver"].result.sensitivity.tolist() == liver.sensitivity.tolist()
    assert groups["liver"].result.num_lesions == 2


@pytest.mark.parametrize("mode", ["hold", "3dce", "strict"])
@pytest.mark.parametrize("by", ["type", "diameter"])
def test_convention_threshold_adds_up_to_the_whole(by, mode):
    rng = np.random.default_rng(0)
    found = [np.column_stack([rng.choice([A, B, C], 9), rng.random(9)]) for _ in RECORDS]
    rates = (0, 0.25, 0.5, 1, 2)
    groups = froc_by_group(found, RECORDS, by, "threshold", fp_per_image=rates, mode=mode)
    whole = froc(found, [r.boxes for r in RECORDS], rates, mode=mode)
    total = sum(g.result.sensitivity * g.num_lesions for g in groups.values() if g.result)
    np.testing.assert_allclose(total / whole.num_lesions, whole.sensitivity)
    for group in groups.values():
        if group.result:
            np.testing.assert_array_equal(group.result.curve_fp, whole.curve_fp)


def test_diameter_edges_belong_to_the_middle_and_are_millimetres():
    def count(axis):
        groups = froc_by_group(FOUND, RECORDS, "diameter", axis=axis)
        return {name: group.num_lesions for name, group in groups.items()}

    # Long axes in mm: 9.99, 10, 30, 30.01 and, at half a millimetre a pixel, 10.
    assert count("long") == {"<10 mm": 1, "10-30 mm": 3, ">30 mm": 1}
    assert count("short") == {"<10 mm": 4, "10-30 mm": 1, ">30 mm": 0}
    assert count("mean") == {"<10 mm": 3, "10-30 mm": 2, ">30 mm": 0}


def test_an_interval_of_2_5_or_unknown_is_in_no_group():
    groups = froc_by_group(FOUND, RECORDS, "interval")
    assert {name: g.num_lesions for name, g in groups.items()} == {"<2.5 mm": 1, ">2.5 mm": 2}


def test_intervals_of_a_group():
    patients = np.array([r.patient for r in RECORDS])
    for convention in ("subset", "filter", "threshold"):
        for group in froc_by_group(FOUND, RECORDS, "type", convention).values():
            if group.result:
                drawn = bootstrap_froc(group.result, patients[group.images], 50)
                assert np.all(drawn.low <= drawn.high)
                assert drawn.num_patients == group.num_images


@pytest.mark.parametrize(
    "options, message",
    [
        ({"by": "age"}, "by must be one of type, diameter, interval, got 'age'"),
        ({"by": "type", "convention": "x"}, "convention must be one of subset, filter, threshold"),
        ({"by": "diameter", "axis": "x"}, "axis must be one of long, short, mean, got 'x'"),
        ({"by": "type", "mode": "x"}, "mode must be one of"),
        ({"by": "type", "fp_per_image": (-1,)}, "fp_per_image"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        froc_by_group(FOUND, RECORDS, **options)


def test_counts_of_the_official_test_split(tmp_path):
    folder = os.environ.get("LESIONKIT_SHARED_DATA")
    if not folder:
        pytest.skip("LESIONKIT_SHARED_DATA is not set: no DL_info.csv of DeepLesion to count")
    dataset = DeepLesion(tmp_path, split="test", csv=Path(folder) / "DL_info_test.csv")
    nothing = [[]] * len(dataset)

    def counts(*options):
        groups = froc_by_group(nothing, dataset, *options)
        return [group.num_lesions for group in groups.values()]

    assert counts("type") == [108, 1171, 864, 700, 1100, 233, 327, 409]
    assert sum(counts("type")) == 4912
    assert counts("diameter") == [786, 2850, 1276]
    assert counts("diameter", "subset", "short") == [1630, 2637, 645]
    assert counts("diameter", "subset", "mean") == [1053, 2905, 954]
    assert counts("interval") == [2439, 2470]
    groups = froc_by_group(nothing, dataset, "interval", "filter")
    assert {group.num_images for group in groups.values()} == {4817}
