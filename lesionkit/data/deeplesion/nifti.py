"""DeepLesion as NIfTI volumes: what NIH's DL_save_nifti.py makes of the PNG files.

A file ``<folder>_<first>-<last>.nii.gz`` holds one run of neighbouring slices of a series as int16
HU. Its third axis counts slices upwards from ``first``, and its affine says that they run to the
feet where the slice interval is positive.
"""

import os
import re
import threading
from pathlib import Path

import numpy as np

from lesionkit.data.images import read_image
from lesionkit.data.volume import CTVolume
from lesionkit.errors import InputError

_NAME = re.compile(r"(\w[\w-]*)_(\d{3,6})-(\d{3,6})\.nii(\.gz)?")


class NiftiVolumes:
    """The slices in a folder of such volumes.

    Each thread keeps the volume it has read last, since the slices of a sample are in one: at most
    4 GiB, usually 10 to 100 MiB.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = (entry.name for entry in os.scandir(folder))
        # One array: a list of names would be copied into every worker process.
        self._names = np.array(sorted(name for name in names if _NAME.fullmatch(name)), np.str_)
        self._last = threading.local()

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "_names": self._names}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _last=threading.local())

    def find(self, series: str, number: int) -> Path | None:
        """The volume that has slice ``number`` of a series, None if there is none."""
        prefix = f"{series}_"
        for name in self._names[np.searchsorted(self._names, prefix) :]:
            if not name.startswith(prefix):
                return None
            match = _NAME.fullmatch(name)
            if match[1] == series and int(match[2]) <= number <= int(match[3]):
                return self.folder / str(name)
        return None

    def read_slice(self, series: str, number: int, interval: float) -> np.ndarray | None:
        """int16 HU [H, W] of a slice, None if no volume has it.

        ``interval`` is that of DL_info.csv, whose sign DL_save_nifti.py writes into the affine.

        Raises InputError for a damaged volume, or one with other slices than its name says.
        """
        path = self.find(series, number)
        if path is None:
            return None
        hu = self._read(path)
        first = int(_NAME.fullmatch(path.name)[2])
        return hu[number - first if interval < 0 else len(hu) - 1 - (number - first)]

    def _read(self, path: Path) -> np.ndarray:
        if getattr(self._last, "path", None) != path:
            self._last.path = self._last.hu = None  # not two at a time
            self._last.hu, self._last.path = read_volume(path).hu, path
        return self._last.hu


def read_volume(path: Path) -> CTVolume:
    """A volume of the form above, int16 HU; its array runs from feet to head."""
    volume = read_image(path, ".nii.gz" if path.name.endswith(".gz") else ".nii")
    _, first, last, _ = _NAME.fullmatch(path.name).groups()
    if len(volume.hu) != int(last) - int(first) + 1:
        raise InputError(
            f"{path}: {len(volume.hu)} slices, but its name promises {first} to {last}; convert "
            "the series again"
        )
    if volume.hu.dtype != np.int16:
        raise InputError(f"{path}: fractions of HU, which DeepLesion does not have")
    return volume
