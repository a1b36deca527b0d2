import numpy as np
import pytest

from lesionkit.evaluation import bootstrap_froc, compare_froc, froc
from lesionkit.tables.measured import CURVE_FP, difference, pool, seed_margin

from .made_up import detections, images

RECORDS = images()
TRUTH = [record.boxes for record in RECORDS]
PATIENTS = [record.patient for record in RECORDS]


def measured(*shares_and_seeds):
    results = [froc(detections(RECORDS, *pair), TRUTH) for pair in shares_and_seeds]
    return results, pool(results, [bootstrap_froc(result, PATIENTS) for result in results])


def test_one_seed_is_the_result_itself():
    (result,), one = measured((0.6, 1))
    intervals = bootstrap_froc(result, PATIENTS)
    np.testing.assert_array_equal(one.sensitivity, [*result.sensitivity, result.mean])
    np.testing.assert_allclose(
        one.interval,
        [[*intervals.low, intervals.mean_low], [*intervals.high, intervals.mean_high]],
    )
    assert (one.num_images, one.num_lesions) == (40, 40)
    assert np.isnan(one.seed_deviation).all()


def test_seeds_are_averaged():
    results, both = measured((0.6, 1), (0.8, 2))
    wanted = (results[0].sensitivity + results[1].sensitivity) / 2
    np.testing.assert_allclose(both.sensitivity[:-1], wanted)
    np.testing.assert_allclose(
        both.seed_deviation[:-1],
        np.abs(results[0].sensitivity - results[1].sensitivity) / np.sqrt(2),
    )
    low, high = both.interval
    assert np.all((low <= both.sensitivity) & (both.sensitivity <= high))


def test_a_difference_of_single_runs_is_the_paired_comparison():
    (better,), ours = measured((0.9, 1))
    (worse,), baseline = measured((0.5, 2))
    wanted = compare_froc(better, worse, PATIENTS)
    found = difference(ours, baseline)
    np.testing.assert_allclose(found.value[:-1], wanted.difference)
    np.testing.assert_allclose(found.low, [*wanted.low, wanted.mean_low])
    np.testing.assert_allclose(found.high, [*wanted.high, wanted.mean_high])
    assert found.low[3] > 0


def test_a_run_does_not_differ_from_itself():
    _, ours = measured((0.7, 1))
    for values in vars(difference(ours, ours)).values():
        assert not values.any()


def test_the_margin_of_seeds_is_students():
    from dataclasses import replace

    _, row = measured((0.7, 1))
    first = replace(row, of_seed=np.array([[0.5], [0.6]]), sensitivity=np.array([0.55]))
    other = replace(row, of_seed=np.array([[0.7], [0.8]]), sensitivity=np.array([0.75]))
    # Pooled variance 0.005 with 2 degrees of freedom, times 1/2 + 1/2; t is 4.3027.
    np.testing.assert_allclose(seed_margin(first, other, [first, other]), [0.30424], rtol=1e-4)
    single = replace(row, of_seed=np.array([[0.7]]), sensitivity=np.array([0.7]))
    np.testing.assert_allclose(
        seed_margin(first, single, [first, single]), 12.7062 * np.sqrt(0.005 * 1.5), rtol=1e-4
    )
    assert np.isnan(seed_margin(single, single, [single])).all()


@pytest.mark.parametrize("share", (0.0, 0.7))
def test_the_curve_is_the_froc(share):
    _, one = measured((share, 1))
    at = froc(detections(RECORDS, share, 1), TRUTH, fp_per_image=CURVE_FP)
    np.testing.assert_array_equal(one.curve, at.sensitivity)


def test_nothing_found():
    result = froc([np.empty((0, 5)) for _ in RECORDS], TRUTH)
    one = pool([result], [bootstrap_froc(result, PATIENTS)])
    assert not one.curve.any()
    assert not one.interval.any()
