"""FROC of parts of the lesions: by type, diameter or slice interval, as in Tao et al. 2019,
Table 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.evaluation.boxes import Boxes, pack
from lesionkit.evaluation.froc import FP_PER_IMAGE, FrocResult, check_rates, measure
from lesionkit.evaluation.matching import check_rules, match

if TYPE_CHECKING:
    from lesionkit.data.deeplesion import KeySlice, Lesion
    from lesionkit.evaluation.boxes import Detections

GROUPINGS = ("type", "diameter", "interval")
CONVENTIONS = ("subset", "filter", "threshold")


@dataclass(frozen=True, eq=False)
class FrocGroup:
    """The lesions of one group.

    Attributes:
        name: such as "liver" or "<10 mm".
        images: [I] int64, the images that false positives are counted on: those that hold a
            lesion of the group in convention "subset", all in the others.
        num_lesions: in the group.
        result: None where the group has no lesion.
    """

    name: str
    images: np.ndarray
    num_lesions: int
    result: FrocResult | None

    @property
    def num_images(self) -> int:
        return len(self.images)


def froc_by_group(
    detections: "Detections",
    records: "Sequence[KeySlice]",
    by: str,
    convention: str = "subset",
    axis: str = "long",
    fp_per_image: Sequence[float] = FP_PER_IMAGE,
    iou_threshold: float = 0.5,
    mode: str = "hold",
    overlap: str = "iou",
) -> dict[str, FrocGroup]:
    """FROC of each group of lesions.

    Three conventions are in use, and their numbers differ. In all of them sensitivity is the
    share of the group's lesions.

    - ``"subset"``: a data set of its own: the images that hold a lesion of the group, no other
      ground truth. A box on a lesion of another group is a false positive, which concerns the few
      images that hold lesions of several groups. Tao et al. 2019 do not say what they did; the
      group means of their Table 2 fit this one best.
    - ``"filter"``: all images, and no other ground truth (MULAN, Yan et al. 2019,
      ``DL_eval.py``). Boxes on lesions of other groups are false positives, so the smaller the
      group the lower its sensitivity.
    - ``"threshold"``: one score threshold for all, that at which all boxes on all images give the
      rate; then the share of the group's lesions found by the boxes above it. Its mean weighted by
      lesions is the sensitivity without groups.

    Args:
        detections: for each record, as ``froc`` takes them.
        records: a ``DeepLesion`` data set or records of one.
        by: ``"type"`` (coarse lesion type), ``"diameter"`` (in mm; 10 and 30 themselves belong to
            the middle group) or ``"interval"`` (between slices; one of 2.5 mm itself is in
            neither group). What is not known is in no group.
        convention: see above.
        axis: which diameter: the ``"long"`` or ``"short"`` axis or their ``"mean"``.
        fp_per_image, iou_threshold, mode, overlap: as ``froc`` has them.

    Returns:
        Each group by name, in fixed order, those without a lesion too; the type "unknown" only
        where there is one.
    """
    from lesionkit.data.deeplesion import DIAMETER_AXES

    for name, value, allowed in (
        ("by", by, GROUPINGS),
        ("convention", convention, CONVENTIONS),
        ("axis", axis, DIAMETER_AXES),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    check_rates(fp_per_image)
    check_rules(iou_threshold, mode, overlap)
    rules = (iou_threshold, mode, overlap)
    records = list(records)  # a data set makes its records when asked
    found, truth = pack(detections, [record.boxes for record in records])
    whole = match(found, truth, *rules) if convention == "threshold" else None
    names, group_of = _groups([lesion for r in records for lesion in r.lesions], by, axis)
    groups = {}
    for number, name in enumerate(names):
        members = group_of == number
        images = np.arange(len(records))
        if convention == "subset":
            images = np.unique(truth.image[members])
        result = None
        if members.any():
            matches = whole or match(
                _of_images(found, images), _of_images(truth, images, members), *rules
            )
            counted = members if whole else None
            result = measure(matches, fp_per_image, *rules, counted=counted)
        groups[name] = FrocGroup(name, images, int(members.sum()), result)
    return groups


def _of_images(boxes: Boxes, images: np.ndarray, keep: np.ndarray | None = None) -> Boxes:
    """The boxes of some images, rising, and of those the ones to ``keep`` [N] bool."""
    keep = np.ones(len(boxes.values), dtype=bool) if keep is None else keep
    counts = np.bincount(boxes.image[keep], minlength=len(boxes.counts))
    return Boxes(boxes.values[keep & np.isin(boxes.image, images)], counts[images])


def _groups(lesions: "Sequence[Lesion]", by: str, axis: str) -> tuple[list[str], np.ndarray]:
    """The groups' names, and the number of each lesion's group, -1 for none: [L] int64."""
    if by == "type":
        from lesionkit.data.deeplesion import LESION_TYPES

        types = np.array([lesion.lesion_type for lesion in lesions], dtype=np.int64)
        codes = sorted(code for code in LESION_TYPES if code > 0)
        codes += [-1] if (types == -1).any() else []
        return [LESION_TYPES[code] for code in codes], _first_of([types == code for code in codes])
    if by == "diameter":
        sizes = np.array([lesion.diameter_mm(axis) for lesion in lesions], dtype=np.float64)
        return ["<10 mm", "10-30 mm", ">30 mm"], _first_of([sizes < 10, sizes <= 30, sizes > 30])
    intervals = np.array([lesion.interval for lesion in lesions], dtype=np.float64)
    return ["<2.5 mm", ">2.5 mm"], _first_of([intervals < 2.5, intervals > 2.5])


def _first_of(tests: Sequence[np.ndarray]) -> np.ndarray:
    return np.select(tests, range(len(tests)), default=-1)
