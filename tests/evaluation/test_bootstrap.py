import numpy as np
import pytest

from lesionkit.evaluation import bootstrap_froc, compare_froc, froc
from lesionkit.evaluation.curve import read_sensitivity

from .brute_force import as_curve, random_case, read, walk

RATES = np.array([0.0, 0.1, 0.25, 0.5, 1, 1.5, 2, 4, 8, 16, 1e300])
MODES = ("hold", "3dce", "strict")
LESION = [10, 10, 19, 19]


@pytest.mark.parametrize("mode", MODES)
def test_resampled_curves_equal_those_of_copied_images(mode):
    """Of equal scores, the copies of a box come one after the other."""
    compared = 0
    for seed in range(150):
        detections, ground_truth = random_case(seed)
        if not sum(map(len, ground_truth)):
            continue
        rng = np.random.default_rng(seed)
        result = froc(detections, ground_truth, mode=mode)
        weights = rng.integers(0, 4, (5, len(detections)))
        weights = weights[weights @ [len(image) for image in ground_truth] > 0]
        if not len(weights):
            continue
        for row, values in zip(
            weights, read_sensitivity(result.ranking, RATES, mode, weights), strict=True
        ):
            curve = copied_curve(detections, ground_truth, row, mode)
            expected = [read(curve, rate, mode) for rate in RATES[:-1]]
            if mode == "3dce":  # copies of the first box make a vertical start of one point
                expected[0] = max([y for x, y in curve if x == 0], default=0.0)
            assert values[:-1].tolist() == expected
            assert values[-1] == (curve[-1][1] if curve else 0)
            compared += 1
    assert compared > 400


def copied_curve(detections, ground_truth, weights, mode):
    """The points of each box, in order of scores, as often as its image is there."""
    points, _ = walk(detections, ground_truth, 0.5, mode)
    images = [(i, box[4]) for i, boxes in enumerate(detections) for box in boxes]
    images.sort(key=lambda entry: -entry[1])
    copied, before, misses, hits = [], (0, 0), 0, 0
    for (image, _), point in zip(images, points, strict=True):
        for _ in range(weights[image]):
            misses, hits = misses + point[0] - before[0], hits + point[1] - before[1]
            copied.append((misses, hits))
        before = point
    lesions = sum(w * len(boxes) for w, boxes in zip(weights, ground_truth, strict=True))
    return as_curve(copied, weights.sum(), lesions)


@pytest.mark.parametrize("mode", MODES)
def test_replicates_are_the_froc_of_the_drawn_patients_images(mode):
    """Two patients: the draws are both, or either twice, a quarter and a half of the time."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found, truth = [], []
        for _ in range(5):
            corner = rng.integers(0, 30, (8, 2))
            boxes = np.hstack([corner, corner + 9])
            found.append(np.column_stack([boxes, rng.permutation(1000)[:8] + rng.random()]))
            truth.append(boxes[rng.choice(8, 2)] + rng.integers(0, 3, (2, 1)))
        patients = ["a", "b", "a", "b", "b"]
        result = froc(found, truth, RATES[1:10], mode=mode)
        drawn = bootstrap_froc(result, patients, 400, seed=seed)
        seen = {}
        for first, second in ("aa", "ab", "bb"):
            images = [i for who in (first, second) for i in range(5) if patients[i] == who]
            copied = froc(
                [found[i] for i in images], [truth[i] for i in images], RATES[1:10], mode=mode
            )
            same = (drawn.replicates == copied.sensitivity).all(axis=1)
            assert np.all(drawn.mean_replicates[same] == pytest.approx(copied.mean))
            seen[first + second] = same
        assert np.all(np.any(list(seen.values()), axis=0))
        if not any((seen["ab"] & seen[other]).any() for other in ("aa", "bb")):
            assert 150 < seen["ab"].sum() < 250
    assert drawn.num_patients == 2


def simulated(rng, patients):
    """Patients of 1 to 3 images with one lesion each, found or not in a way of the patient's."""
    found, truth, who = [], [], []
    for patient in range(patients):
        ease = rng.random()
        for _ in range(rng.integers(1, 4)):
            misses = rng.poisson(3)
            boxes = [[50, 50, 59, 59, rng.random() ** 2] for _ in range(misses)]
            if rng.random() < 0.4 + 0.6 * ease:
                boxes.append([*LESION, rng.random() ** (1 - 0.7 * ease)])
            found.append(boxes)
            truth.append([LESION])
            who.append(patient)
    return found, truth, who


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(7)
    rates = (0.5, 1)
    found, truth, _ = simulated(rng, 8000)
    real = froc(found, truth, rates).sensitivity
    covered = []
    for seed in range(200):
        found, truth, who = simulated(rng, 50)
        intervals = bootstrap_froc(froc(found, truth, rates), who, 150, seed=seed)
        covered.append((intervals.low <= real) & (real <= intervals.high))
    share = np.mean(covered, axis=0)
    assert np.all((share > 0.91) & (share < 0.985)), share


def test_intervals_by_image_are_too_narrow_where_images_of_a_patient_are_alike():
    found = [[[*LESION, 0.9]] if i % 20 < 10 else [] for i in range(200)]
    result = froc(found, [[LESION]] * 200, (1,))
    by_patient = bootstrap_froc(result, np.arange(200) // 10)
    by_image = bootstrap_froc(result)
    assert (by_patient.num_patients, by_image.num_patients) == (20, 200)
    # 20 and 200 independent coins: 1.96 standard errors of a share of one half, both ways
    assert by_patient.high[0] - by_patient.low[0] == pytest.approx(2 * 1.96 * 0.112, rel=0.2)
    assert by_image.high[0] - by_image.low[0] == pytest.approx(2 * 1.96 * 0.0354, rel=0.1)
    assert by_image.sensitivity == result.sensitivity
    assert by_image.mean == result.mean


def test_the_seed_decides_and_the_confidence_widens():
    found, truth, who = simulated(np.random.default_rng(0), 40)
    result = froc(found, truth)
    first, again = bootstrap_froc(result, who, 100), bootstrap_froc(result, who, 100)
    np.testing.assert_array_equal(first.replicates, again.replicates)
    more = bootstrap_froc(result, who, 150)  # the first draws do not depend on how many follow
    np.testing.assert_array_equal(first.replicates, more.replicates[:100])
    assert not np.array_equal(first.replicates, bootstrap_froc(result, who, 100, seed=1).replicates)
    wider = bootstrap_froc(result, who, 100, confidence=0.99)
    assert np.all((wider.low <= first.low) & (wider.high >= first.high))
    assert wider.mean_high - wider.mean_low > first.mean_high - first.mean_low


def test_one_patient_has_no_spread_and_draws_without_lesions_are_drawn_again():
    result = froc([[[*LESION, 0.9]], []], [[LESION], [LESION]], (1,))
    one = bootstrap_froc(result, [5, 5], 20)
    assert (one.low, one.high, one.mean_low) == (0.5, 0.5, 0.5)
    sparse = froc([[[*LESION, 0.9]], [], []], [[LESION], [], []], (1,))
    assert np.all(bootstrap_froc(sparse, None, 200).replicates == 1)


def test_comparison_is_paired():
    found, truth, who = simulated(np.random.default_rng(1), 60)
    result = froc(found, truth, (1, 4))
    same = compare_froc(result, froc(found, truth, (1, 4)), who, 200)
    assert np.all(same.difference == 0)
    assert np.all(same.replicates == 0)
    assert np.all(same.p_value == 1)
    # The same without what finds the lesion of every third image: worse for certain.
    fewer = [[b for b in boxes if i % 3 or b[:4] != LESION] for i, boxes in enumerate(found)]
    other = froc(fewer, truth, (1, 4))
    compared = compare_froc(result, other, who, 200)
    assert np.all(compared.low > 0)
    assert np.all(compared.p_value == 2 / 201)
    assert compared.mean_p_value == 2 / 201
    np.testing.assert_array_equal(compared.difference, result.sensitivity - other.sensitivity)
    assert compared.mean_difference == result.mean - other.mean
    back = compare_froc(other, result, who, 200)
    np.testing.assert_allclose(back.low, -compared.high)
    np.testing.assert_array_equal(back.p_value, compared.p_value)
    # Paired, the images that both agree on add no spread.
    alone = bootstrap_froc(result, who, 200)
    assert np.all(compared.high - compared.low < alone.high - alone.low + 0.05)


def test_p_values_without_a_difference_are_spread_evenly():
    rng = np.random.default_rng(3)
    values = []
    for seed in range(150):
        hits = rng.random((2, 60)) < 0.6
        first, second = (
            froc([[[*LESION, 0.5]] if hit else [] for hit in row], [[LESION]] * 60, (1,))
            for row in hits
        )
        values.append(compare_froc(first, second, None, 150, seed=seed).p_value[0])
    assert np.mean(np.array(values) <= 0.05) < 0.12
    assert 0.35 < np.median(values) < 0.75


@pytest.mark.parametrize(
    "options, message",
    [
        ({"replicates": 0}, "replicates must be at least 1, got 0"),
        ({"confidence": 1.0}, r"confidence must be in \(0, 1\), got 1.0"),
        ({"patients": [1]}, "patients must have one entry per image, 2, got 1"),
    ],
)
def test_bad_arguments_are_named(options, message):
    result = froc([[], []], [[LESION], []])
    with pytest.raises(ValueError, match=message):
        bootstrap_froc(result, **options)


def test_runs_that_cannot_be_compared():
    result = froc([[], []], [[LESION], []])
    with pytest.raises(ValueError, match="same images and lesions"):
        compare_froc(result, froc([[], []], [[], [LESION]]))
    with pytest.raises(ValueError, match="same fp_per_image"):
        compare_froc(result, froc([[], []], [[LESION], []], (1,)))


def test_prints_two_lines_that_fit_below_the_result():
    result = froc([[[*LESION, 1]]], [[LESION]])
    lines = str(bootstrap_froc(result)).splitlines()
    assert lines == [
        "95 % interval from         100.00  100.00  100.00  100.00  100.00  100.00      100.00",
        "95 % interval to           100.00  100.00  100.00  100.00  100.00  100.00      100.00",
    ]
    assert len(lines[0]) == len(str(result).splitlines()[-1])
