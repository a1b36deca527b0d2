"""The synthetic data set: format, truth, and vessels that only context tells from lesions."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from lesionkit.data.deeplesion import DL_INFO_COLUMNS, DeepLesion
from lesionkit.data.synthetic import BOX_PADDING, recist_axes, synthesize
from lesionkit.data.synthetic.findings import HOSTS
from lesionkit.data.synthetic.organs import LUNG
from lesionkit.data.synthetic.patient import SyntheticSeries, generate_patient
from lesionkit.data.synthetic.sections import Section, make_axis, paint
from lesionkit.errors import InputError

SEED = 0
SIZE, PATIENTS = 96, 16


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "set"
    synthesize(out, patients=3, seed=SEED, image_size=160, workers=1)
    return out


@pytest.fixture(scope="module")
def series() -> list[SyntheticSeries]:
    return [s for patient in range(1, PATIENTS + 1) for s in generate_patient(patient, 1, SIZE)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_bytes_do_not_depend_on_the_number_of_workers(dataset: Path, tmp_path: Path) -> None:
    calls = []
    synthesize(tmp_path / "a", 3, SEED, 160, progress=lambda *n: calls.append(n), workers=2)
    assert contents(tmp_path / "a") == contents(dataset)
    assert calls == [(done, 3) for done in range(1, 4)]


def test_patients_and_seeds_differ() -> None:
    scans = [generate_patient(p, seed, 64)[0] for p, seed in ((1, 0), (2, 0), (1, 1))]
    assert len({scan.hu.tobytes() for scan in scans}) == 3
    assert len({scan.lesions for scan in scans}) == 3


def test_the_loader_reads_every_key_slice_and_the_slices_around_it(dataset: Path) -> None:
    records = DeepLesion(dataset)
    assert {lesion.split for record in records for lesion in record.lesions} == {1, 2, 3}
    folders = set()
    for record in records:
        folders.add(record.folder)
        first, last = record.slice_range
        for number in (first, record.key_slice, last):
            raw = records.read_slice(record, number)
            assert raw.dtype == np.uint16
            assert raw.shape == record.image_size == (160, 160)
        assert records.read_slice(record, first - 1) is None
        assert records.read_slice(record, last + 1) is None
        reach = [n * record.spacing[2] for n in (record.key_slice - first, last - record.key_slice)]
        assert min(reach) >= 29
        assert 0.6 <= record.spacing[0] * 160 / 512 <= 0.95
    assert {folder.name for folder in (dataset / "Images_png").iterdir()} == folders


def test_rows_are_formatted_as_deeplesion_has_them(dataset: Path) -> None:
    with open(dataset / "DL_info.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == DL_INFO_COLUMNS
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["Patient_index"], set()).add(row["Train_Val_Test"])
        points = np.array(row["Measurement_coordinates"].split(", "), float).reshape(4, 2)
        box = np.array(row["Bounding_boxes"].split(", "), float)
        lengths = np.hypot(*(points[::2] - points[1::2]).T)
        assert lengths[0] >= lengths[1] - 1e-3
        np.testing.assert_allclose(
            lengths, np.array(row["Lesion_diameters_Pixel_"].split(", "), float), atol=0.01
        )
        extent = np.concatenate([points.min(axis=0) - 5, points.max(axis=0) + 5])
        np.testing.assert_allclose(box, extent, atol=0.01)
        spacing = float(row["Spacing_mm_px_"].split(", ")[0])
        assert 8 <= lengths[0] * spacing <= 44
        name = "{:06d}_{:02d}_{:02d}_{:03d}.png".format(
            *(int(row[c]) for c in ("Patient_index", "Study_index", "Series_ID", "Key_slice_index"))
        )
        assert row["File_name"] == name
        assert row["Coarse_lesion_type"] in "12345678"
        assert row["Possibly_noisy"] == "0"
    assert all(len(found) == 1 for found in splits.values())
    assert sorted(splits, key=int) == [str(n) for n in range(1, 4)]


def test_box_encloses_the_lesion_that_the_pixels_show(dataset: Path) -> None:
    """Lung lesions: the bright blob's own extent, found by threshold, is the box less padding."""
    records = DeepLesion(dataset)
    checked = 0
    for record in records:
        hu = records.read_slice(record, record.key_slice).astype(int) - 32768
        for lesion in record.lesions:
            if lesion.lesion_type != 5:
                continue
            blobs, _ = ndimage.label(ndimage.binary_opening(hu > -420, iterations=2))
            inner = np.array(lesion.box) + np.array([1, 1, -1, -1]) * BOX_PADDING
            x, y = np.rint((inner[:2] + inner[2:]) / 2).astype(int)
            rows, columns = np.nonzero(blobs == blobs[y, x])
            found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
            assert np.abs(found - inner).max() < 1.6
            checked += 1
    assert checked >= 2


def test_every_lesion_on_a_key_slice_is_annotated_there(series: list[SyntheticSeries]) -> None:
    for one in series:
        keys = {f.key_slice: f.key_z for f in one.lesions + one.vessels}
        for lesion in one.lesions:
            shown = {key for key, z in keys.items() if lesion.section(z)}
            assert shown == {lesion.key_slice}
        assert {lesion.key_slice for lesion in one.lesions} == set(keys)
    keys_per_patient = (
        len({(i, f.key_slice) for i, s in enumerate(series) for f in s.lesions}) / PATIENTS
    )
    assert 2 <= keys_per_patient <= 3
    assert any(len(s.lesions) > len({f.key_slice for f in s.lesions}) for s in series)


def test_every_lesion_has_a_vessel_in_its_own_tissue(series: list[SyntheticSeries]) -> None:
    for one in series:
        for lesion in one.lesions:
            assert any(
                (v.host, v.key_slice) == (lesion.host, lesion.key_slice) for v in one.vessels
            )
    assert sum(len(s.vessels) for s in series) >= 2 * sum(len(s.lesions) for s in series)


def chance_that_first_is_greater(a: np.ndarray, b: np.ndarray) -> float:
    return float((a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean())


def test_one_slice_does_not_tell_vessels_from_lesions_but_context_does(
    series: list[SyntheticSeries],
) -> None:
    """Area under the ROC curve of radius and of measured contrast, near 0.5 on the key slice.

    Contrast: mean HU in the middle of the section less the host's, over the finding's own.
    """
    seen: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for one in series:
        rows, columns = np.mgrid[:SIZE, :SIZE]
        x = columns * one.spacing[0] + one.origin[0]
        y = rows * one.spacing[1] + one.origin[1]
        for f in one.lesions + one.vessels:
            radius = min(f.key.rx, f.key.ry)
            disc = np.hypot(x - f.key.x, y - f.key.y) < 0.7 * radius
            key, reach = f.key_slice - one.first_slice, round(10 / one.spacing[2])
            around = one.hu[key - reach : key + reach + 1][:, disc].mean(axis=1)
            contrast = (around - (f.key.hu - f.contrast)) / f.contrast
            seen[f.vessel].append((radius, contrast[reach], contrast.mean()))
    lesions, vessels = np.array(seen[False]), np.array(seen[True])
    for measure in range(2):
        assert 0.38 < chance_that_first_is_greater(vessels[:, measure], lesions[:, measure]) < 0.62
    assert np.median(lesions[:, 1]) == pytest.approx(np.median(vessels[:, 1]), abs=0.05)
    assert chance_that_first_is_greater(vessels[:, 2], lesions[:, 2]) > 0.97
    assert np.median(lesions[:, 2]) < 0.65
    assert np.median(vessels[:, 2]) > 0.9


def test_slices_look_like_ct(series: list[SyntheticSeries]) -> None:
    for one in series:
        body = one.hu > -768
        assert 0.15 < body.mean() < 0.75
        assert np.percentile(one.hu[:, :3], 50) < -950  # air above the patient
        fat = (one.hu > -140) & (one.hu < -60)
        soft = (one.hu > 20) & (one.hu < 140)
        assert fat.mean() > 0.02
        assert soft.mean() > 0.05
    chest = [s for s in series if any(f.host == LUNG for f in s.lesions + s.vessels)]
    assert chest
    assert all(((s.hu < -750) & (s.hu > -930)).mean() > 0.04 for s in chest)


def test_contrast_to_noise_is_mostly_four_or_more(series: list[SyntheticSeries]) -> None:
    ratios = []
    for one in series:
        rows, columns = np.mgrid[:SIZE, :SIZE]
        for f in one.lesions:
            x, y = columns * one.spacing[0] + one.origin[0], rows * one.spacing[1] + one.origin[1]
            disc = np.hypot(x - f.key.x, y - f.key.y) < 0.7 * min(f.key.rx, f.key.ry)
            ratios.append(abs(f.contrast) / one.hu[f.key_slice - one.first_slice][disc].std())
            low, high = HOSTS[f.host][2]
            assert low <= f.contrast <= high
    assert np.mean(np.array(ratios) >= 4) > 0.7


def test_noise_is_correlated_between_neighbouring_pixels(series: list[SyntheticSeries]) -> None:
    correlations = []
    for one in generate_patient(2, 0, 256):
        air = one.hu[:, 8:24, 40:-40].astype(float)
        air -= air.mean()
        correlations.append((air[:, :, 1:] * air[:, :, :-1]).mean() / air.var())
    assert min(correlations) > 0.15


def test_recist_axes_of_a_turned_ellipse() -> None:
    outline = Section(3, 4, 10, 6, 0, angle=0.4).outline(np.linspace(0, 2 * np.pi, 361)[:-1])
    axes = recist_axes(outline)
    long, short = axes[1] - axes[0], axes[3] - axes[2]
    assert np.hypot(*long) == pytest.approx(20, abs=0.01)
    assert np.hypot(*short) == pytest.approx(12, abs=0.02)
    assert abs(long @ short) < 1e-6
    assert np.abs(axes.reshape(2, 2, 2).mean(axis=1) - [3, 4]).max() < 0.2


def test_outline_is_where_the_painted_section_is_half_covered() -> None:
    section = Section(1, -2, 14, 9, 1.0, angle=0.7, wobble=0.08, phase=1.3)
    axis = make_axis(-20, 0.1, 401)
    plane = np.zeros((401, 401), np.float32)
    paint(plane, section, axis, axis, edge=0.5)
    points = section.outline(np.linspace(0, 2 * np.pi, 200))
    index = np.rint((points[:, ::-1] + 20) / 0.1).astype(int)
    np.testing.assert_allclose(plane[index[:, 0], index[:, 1]], 0.5, atol=0.2)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"patients": 2}, "patients"),
        ({"patients": 3, "seed": -1}, "seed"),
        ({"patients": 3, "image_size": 100}, "image_size"),
        ({"patients": 3, "image_size": 56}, "image_size"),
        ({"patients": 3, "image_size": 1032}, "image_size"),
        ({"patients": 3, "workers": 0}, "workers"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict, name: str) -> None:
    with pytest.raises(InputError, match=name):
        synthesize(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["DL_info.csv", "Images_png"])
def test_a_data_set_that_is_there_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("keep")
    with pytest.raises(InputError, match=f"{name} is there already"):
        synthesize(tmp_path, patients=3)
    assert [p.name for p in tmp_path.iterdir()] == [name]
