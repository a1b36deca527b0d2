"""Published sensitivities on DeepLesion's test split, in percent.

What is not here was not at hand: the paper's single groups of Table 2, and most columns of its own
runs of 3DCE.
"""

from lesionkit.tables.variants import Variant

FP_PER_IMAGE = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
PAPER = "Tao et al. 2019"
LOG = "log of 3DCE (Yan et al. 2018)"
GAIN = "Tao et al. 2019, 3DCE + the gain it reports"

# False positives per image to percent, and where the row is from.
SENSITIVITY: dict[Variant, tuple[dict[float, float], str]] = {
    Variant(slices, contextual, spatial): (dict(zip(at, percent, strict=True)), source)
    for slices, contextual, spatial, at, percent, source in (
        (3, False, False, FP_PER_IMAGE, (56.5, 67.7, 76.9, 82.8, 87.0, 89.8), PAPER),
        (9, False, False, (0.5, 4.0), (61.7, 84.3), PAPER),
        (15, False, False, (0.5, 4.0), (63.0, 85.2), PAPER),
        (21, False, False, (0.5, 4.0), (63.2, 85.6), PAPER),
        (27, False, False, FP_PER_IMAGE, (62.5, 73.4, 80.7, 85.6, 89.1, 91.1), LOG),
        (15, True, False, (0.5, 4.0), (64.0, 86.0), GAIN),
        (15, False, True, (0.5, 4.0), (69.0, 86.7), GAIN),
        (9, True, True, FP_PER_IMAGE, (67.8, 76.3, 82.9, 86.6, 89.3, 90.7), PAPER),
        (15, True, True, FP_PER_IMAGE, (70.8, 78.6, 83.9, 87.5, 89.9, 91.4), PAPER),
        (21, True, True, FP_PER_IMAGE, (71.4, 78.5, 84.0, 87.6, 90.2, 91.4), PAPER),
    )
}

# Table 2 at 4 false positives per image: the mean of a grouping's figures, weighted by the lesions
# of the groups. The figures of the single groups are not at hand.
GROUP_MEANS: dict[tuple[str, Variant], float] = {
    (by, Variant(15, attention, attention)): percent
    for by, attention, percent in (
        ("type", False, 85.39),
        ("diameter", False, 85.42),
        ("interval", False, 85.45),
        ("type", True, 87.39),
        ("diameter", True, 87.47),
        ("interval", True, 87.60),
    )
}

RUN_TO_RUN = (
    "Three independent runs of 3DCE (its log, a public rerun, and the paper's own) differ by up to "
    "2.7 points at 0.5 false positives per image and 0.8 at 4, on DeepLesion."
)
