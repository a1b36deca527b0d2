"""Checks of DL_info.csv by itself."""

from collections.abc import Iterator

import numpy as np

from lesionkit.data.deeplesion.check.problems import Problem, as_ranges
from lesionkit.data.deeplesion.lesions import LESION_TYPES, SPLITS, LesionTable

BOX_PIXELS = 5.0  # DeepLesion's padding around a lesion; its own boxes leave the image by less
DIAMETER_PIXELS = 0.1  # DeepLesion's diameters agree with the measured axes to 0.002
LEAST_INTERVAL = 1e-3  # mm, as in preprocessing


def check_rows(table: LesionTable) -> Iterator[Problem]:
    """What is wrong with the rows, each by itself and beside those of its series and patient."""
    names = table.column("file_name")
    for index in np.flatnonzero(_is_duplicate(table)):
        yield Problem(
            "duplicate", "warning", str(names[index]), f"row {_row(table, index)} has an earlier "
            "row's box on the same slice"
        )  # fmt: skip
    yield from _check_boxes(table)
    first, last = table.column("slice_range").T
    key = table.column("key_slice")
    for index in np.flatnonzero(~((first <= key) & (key <= last))):
        yield Problem(
            "inconsistent", "error", str(names[index]), f"row {_row(table, index)}: the key slice "
            f"{key[index]} is outside Slice_range {first[index]}, {last[index]}"
        )  # fmt: skip
    yield from _check_spacing(table)
    yield from _check_names(table)
    yield from _check_diameters(table)
    yield from _check_agreement(table)


def count_rows(table: LesionTable) -> dict[str, dict]:
    """Images and boxes of each split, before and after the noisy filter, and types after it."""
    counts = {}
    for name, number in SPLITS.items():
        rows = table.take(table.column("split") == number)
        kept = rows.take(~rows.column("noisy"))
        types, per_type = np.unique(kept.column("lesion_type"), return_counts=True)
        counts[name] = {
            "patients": len(np.unique(rows.column("patient"))),
            "images": len(np.unique(rows.column("file_name"))),
            "images_without_noisy": len(np.unique(kept.column("file_name"))),
            "boxes": len(rows),
            "boxes_without_noisy": len(kept),
            "types": {
                LESION_TYPES[t]: n for t, n in zip(types.tolist(), per_type.tolist(), strict=True)
            },
        }
    return counts


def series_of(table: LesionTable) -> np.ndarray:
    """[n] the series folder of each lesion."""
    names = table.column("file_name").tolist()
    return np.array([name.rpartition("_")[0] for name in names], np.str_)


def _row(table: LesionTable, index: int) -> int:
    return int(table.column("lesion_id")[index])


def _is_duplicate(table: LesionTable) -> np.ndarray:
    _, image = np.unique(table.column("file_name"), return_inverse=True)
    keys = np.column_stack([image, table.column("box")])
    _, first = np.unique(keys, axis=0, return_index=True)
    return ~np.isin(np.arange(len(table)), first)


def _check_boxes(table: LesionTable) -> Iterator[Problem]:
    x1, y1, x2, y2 = table.column("box").T
    width, height = table.column("image_size").T
    outside = np.max([-x1, -y1, x2 - (width - 1), y2 - (height - 1)], axis=0)
    for index in np.flatnonzero(outside > BOX_PIXELS):
        yield Problem(
            "box",
            "error",
            str(table.column("file_name")[index]),
            f"row {_row(table, index)}: the box leaves the image of {width[index]} x "
            f"{height[index]} pixels by {outside[index]:.1f}",
        )


def _check_spacing(table: LesionTable) -> Iterator[Problem]:
    x, y, z = table.column("spacing").T
    names = table.column("file_name")
    for index in np.flatnonzero(np.abs(x - y) > 1e-3 * np.maximum(x, y)):
        yield Problem(
            "inconsistent", "error", str(names[index]), f"row {_row(table, index)}: pixels of "
            f"{x[index]:g} x {y[index]:g} mm are not square"
        )  # fmt: skip
    if len(unknown := np.flatnonzero(~(z > 0))):
        rows = as_ranges(table.column("lesion_id")[unknown].tolist())
        yield Problem(
            "inconsistent", "warning", "DL_info.csv", f"rows {rows}: the slice interval is "
            "unknown, so samples repeat the key slice"
        )  # fmt: skip
    for index in np.flatnonzero((z > 0) & (z < LEAST_INTERVAL)):
        yield Problem(
            "inconsistent", "error", str(names[index]), f"row {_row(table, index)}: slices "
            f"{z[index]:g} mm apart are not credible"
        )  # fmt: skip


def _check_names(table: LesionTable) -> Iterator[Problem]:
    numbers = (table.column(name) for name in ("patient", "study", "series"))
    for index, (folder, *ids) in enumerate(zip(series_of(table), *numbers, strict=True)):
        parts = folder.split("_")
        # Own data may have names of another form.
        if len(parts) == 3 and all(map(str.isdecimal, parts)) and [*map(int, parts)] != ids:
            yield Problem(
                "inconsistent",
                "warning",
                str(table.column("file_name")[index]),
                f"row {_row(table, index)}: the name is not of patient {ids[0]}, study {ids[1]}, "
                f"series {ids[2]}",
            )


def _check_diameters(table: LesionTable) -> Iterator[Problem]:
    ends = table.column("measurement").reshape(-1, 2, 2, 2)  # axis, end, x and y
    lengths = np.hypot(*(ends[:, :, 1] - ends[:, :, 0]).transpose(2, 0, 1))
    apart = np.abs(lengths - table.column("diameters_px")).max(axis=1)
    for index in np.flatnonzero(apart > DIAMETER_PIXELS):  # NaN, unknown, is not
        yield Problem(
            "inconsistent",
            "warning",
            str(table.column("file_name")[index]),
            f"row {_row(table, index)}: Lesion_diameters_Pixel_ are {apart[index]:.2f} pixels off "
            "the measured axes",
        )


def _check_agreement(table: LesionTable) -> Iterator[Problem]:
    """What should be the same in all rows of a patient or a series."""
    rows = (
        ("error", "patient", "Train_Val_Test", table.column("patient"), table.column("split")),
        ("warning", "series", "Spacing_mm_px_", series_of(table), table.column("spacing")),
        ("warning", "series", "Image_size", series_of(table), table.column("image_size")),
    )
    for severity, group, column, groups, values in rows:
        names, index = np.unique(groups, return_inverse=True)
        values = np.nan_to_num(
            values[:, None] if values.ndim == 1 else values, nan=-1
        )  # which would differ
        pairs = np.unique(np.column_stack([index, values]), axis=0)
        count = np.bincount(pairs[:, 0].astype(int), minlength=len(names))
        for number in np.flatnonzero(count > 1):
            several = pairs[pairs[:, 0] == number, 1:]
            text = " and ".join(", ".join(f"{v:g}" for v in row) for row in several[:3])
            yield Problem(
                "inconsistent",
                severity,
                str(names[number]),
                f"{column} differs within the {group}: {text}",
            )
