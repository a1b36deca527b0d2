"""The DeepLesion data set: key slices, their lesions and their 16-bit PNG files.

DeepLesion: Yan et al. 2018, "DeepLesion: automated mining of large-scale lesion annotations".
The noisy filter follows 3DCE (`rcnn/utils/load_data.py`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.dl_info import (
    DL_INFO_COLUMNS,
    LESION_TYPES,
    SPLITS,
    Lesion,
    read_dl_info,
    write_dl_info,
)
from lesionkit.data.deeplesion.slices import image_folder, read_png, slice_path
from lesionkit.errors import InputError

__all__ = [
    "DL_INFO_COLUMNS",
    "LESION_TYPES",
    "SPLITS",
    "DeepLesion",
    "KeySlice",
    "Lesion",
    "read_dl_info",
    "write_dl_info",
]


@dataclass(frozen=True)
class KeySlice:
    """A key-slice image and all lesions marked on it; spacing and range from its first row."""

    file_name: str
    patient: int
    folder: str
    key_slice: int
    spacing: tuple[float, float, float]
    slice_range: tuple[int, int]
    image_size: tuple[int, int]
    lesions: tuple[Lesion, ...]

    @property
    def boxes(self) -> np.ndarray:
        """[n, 4] float32 xyxy, 0-based pixels of the original image, inclusive ends."""
        return np.array([lesion.box for lesion in self.lesions], dtype=np.float32).reshape(-1, 4)


class DeepLesion(Sequence[KeySlice]):
    """The key-slice images of DeepLesion, in the order of DL_info.csv.

    Args:
        root: folder with DL_info.csv and the slices, ``Images_png/<folder>/NNN.png`` (also inside
            a second ``Images_png``, or in ``Images_16bit...``). Slices may be absent: the
            annotations alone are enough for evaluation.
        split: "train", "val", "test", or None for all.
        drop_noisy: drop boxes marked possibly noisy, then images left without a box (3DCE).
        csv: another annotation file with the same columns.

    Raises:
        InputError: no such folder or file, or a malformed row (file and line are named).
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: str | None = None,
        drop_noisy: bool = True,
        csv: str | os.PathLike | None = None,
    ) -> None:
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)} or None, got {split!r}")
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{root}: not a folder; give the folder that holds DL_info.csv")
        self.images = image_folder(self.root)
        lesions_of: dict[str, list[Lesion]] = {}
        for lesion in read_dl_info(self.root / "DL_info.csv" if csv is None else csv):
            if split is not None and lesion.split != SPLITS[split]:
                continue
            if not (drop_noisy and lesion.noisy):
                lesions_of.setdefault(lesion.file_name, []).append(lesion)
        self._records = [_key_slice(lesions) for lesions in lesions_of.values()]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index):  # int -> KeySlice, slice -> list of them
        return self._records[index]

    def read_slice(self, record: KeySlice, slice_number: int) -> np.ndarray | None:
        """Raw uint16 [H, W] of a slice of the record's series (HU + 32768); None if not on disk."""
        path = slice_path(self.images / record.folder, slice_number)
        return read_png(path) if path.is_file() else None


def _key_slice(lesions: list[Lesion]) -> KeySlice:
    first = lesions[0]
    return KeySlice(
        file_name=first.file_name,
        patient=first.patient,
        folder=first.folder,
        key_slice=first.key_slice,
        spacing=first.spacing,
        slice_range=first.slice_range,
        image_size=first.image_size,
        lesions=tuple(lesions),
    )
