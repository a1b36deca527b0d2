"""The DeepLesion data set: key slices, their lesions and their 16-bit PNG files.

DeepLesion: Yan et al. 2018, "DeepLesion: automated mining of large-scale lesion annotations".
The noisy filter follows 3DCE (`rcnn/utils/load_data.py`).
"""

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.dl_info import DL_INFO_COLUMNS, read_dl_info, write_dl_info
from lesionkit.data.deeplesion.lesions import (
    DIAMETER_AXES,
    LESION_TYPES,
    SPLITS,
    Lesion,
    LesionTable,
)
from lesionkit.data.deeplesion.nifti import NiftiVolumes
from lesionkit.data.deeplesion.slices import HU_OFFSET, NIFTI, image_folder, read_png, slice_path
from lesionkit.data.deeplesion.split_file import own_splits
from lesionkit.errors import InputError

__all__ = [
    "DIAMETER_AXES",
    "DL_INFO_COLUMNS",
    "LESION_TYPES",
    "SPLITS",
    "DeepLesion",
    "KeySlice",
    "Lesion",
    "LesionTable",
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

    Rows are kept as arrays and a `KeySlice` is built when it is asked for, so that worker processes
    share them: memory does not grow over an epoch.

    Args:
        root: folder with DL_info.csv and the slices, ``Images_png/<folder>/NNN.png`` (also inside
            a second ``Images_png``, or in ``Images_16bit...``), or the volumes that NIH's
            DL_save_nifti.py makes of them, ``Images_nifti/<folder>_NNN-NNN.nii.gz``. Slices may be
            absent: the annotations alone are enough for evaluation.
        split: "train", "val", "test", or None for all.
        drop_noisy: drop boxes marked possibly noisy, then images left without a box (3DCE).
        csv: another annotation file with the same columns.
        split_file: CSV file with splits of one's own, which replace those of DL_info.csv: columns
            ``patient`` (Patient_index) or ``file_name`` (File_name), and ``split``, which is train,
            val or test. What it does not name is left out, of ``split=None`` too. Splits by file
            may put one patient on both sides; `lesionkit data check` says so.

    Attributes:
        lesions: the `LesionTable` of all images, in their order.
        image_index: [n] which image each of those lesions is on.

    Raises:
        InputError: no such folder or file, or a malformed row (file and line are named).
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: str | None = None,
        drop_noisy: bool = True,
        csv: str | os.PathLike | None = None,
        split_file: str | os.PathLike | None = None,
    ) -> None:
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)} or None, got {split!r}")
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{root}: not a folder; give the folder that holds DL_info.csv")
        self.images = image_folder(self.root)
        self._volumes = NiftiVolumes(self.images) if self.images.name == NIFTI else None
        table = read_dl_info(self.root / "DL_info.csv" if csv is None else csv)
        if split_file is not None:
            table = table.with_splits(own_splits(split_file, table))
        kept = np.isin(table.column("split"), SPLITS[split] if split else list(SPLITS.values()))
        if drop_noisy:
            kept &= ~table.column("noisy")
        table = table.take(np.flatnonzero(kept))
        names, first, image = np.unique(
            table.column("file_name"), return_index=True, return_inverse=True
        )
        image = np.argsort(np.argsort(first))[image]  # in the order of their first rows
        by_image = np.argsort(image, kind="stable")
        self.lesions = table.take(by_image)
        self.image_index = image[by_image]
        self._bounds = np.searchsorted(self.image_index, np.arange(len(names) + 1))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index):  # int -> KeySlice, slice -> list of them
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        image = range(len(self))[operator.index(index)]
        return _key_slice(tuple(self.lesions[slice(*self._bounds[image : image + 2].tolist())]))

    def read_slice(self, record: KeySlice, slice_number: int) -> np.ndarray | None:
        """Raw uint16 [H, W] of a slice of the record's series (HU + 32768); None if not on disk."""
        if self._volumes is not None:
            hu = self._volumes.read_slice(record.folder, slice_number, record.spacing[2])
            return None if hu is None else (hu.astype(np.int32) + HU_OFFSET).astype(np.uint16)
        path = slice_path(self.images / record.folder, slice_number)
        return read_png(path) if path.is_file() else None


def _key_slice(lesions: tuple[Lesion, ...]) -> KeySlice:
    first = lesions[0]
    return KeySlice(
        file_name=first.file_name,
        patient=first.patient,
        folder=first.folder,
        key_slice=first.key_slice,
        spacing=first.spacing,
        slice_range=first.slice_range,
        image_size=first.image_size,
        lesions=lesions,
    )
