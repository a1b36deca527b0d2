"""Image files that the tests change after writing."""

import gzip
import re
import struct

import numpy as np
import SimpleITK as sitk

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]


def write(path, change=lambda data: data, values=None, packed=False, origin=(0, 0, 0)):
    """A volume of spacing 0.7 x 0.8 x 2.5 mm whose bytes are changed after writing.

    packed compresses the pixels inside a MetaImage or NRRD.
    """
    if values is None:
        values = np.random.default_rng(0).integers(-1000, 1000, (20, 30, 40)).astype(np.int16)
    made = sitk.GetImageFromArray(values)
    made.SetSpacing((0.7, 0.8, 2.5))
    made.SetOrigin(origin)
    sitk.WriteImage(made, str(path), packed)
    data = path.read_bytes()
    zipped = path.suffix == ".gz"
    data = change(gzip.decompress(data) if zipped else data)
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    return path


def replace(**lines):
    """Change lines of a text header: regular expressions and what replaces them."""

    def change(data):
        for pattern, text in lines.items():
            data, count = re.subn(pattern.encode() + rb".*\n", text.encode(), data, count=1)
            assert count == 1
        return data

    return change


def floats(start, *values):
    def change(data):
        return (
            data[:start]
            + struct.pack(f"<{len(values)}f", *values)
            + data[start + 4 * len(values) :]
        )

    return change
