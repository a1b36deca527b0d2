"""DeepLesion folders for tests."""

import gzip
import struct

import numpy as np
from PIL import Image

from lesionkit.data import DeepLesion, write_dl_info


def row(name="000001_01_02_010.png", **changes):
    values = {
        "File_name": name,
        "Patient_index": 1,
        "Study_index": 1,
        "Series_ID": 2,
        "Key_slice_index": int(name[-7:-4]),
        "Measurement_coordinates": (11.0, 12.0, 31.0, 12.0, 21.0, 8.5, 21.0, 16.5),
        "Bounding_boxes": (6.0, 3.5, 36.0, 21.5),
        "Lesion_diameters_Pixel_": (20.0, 8.0),
        "Normalized_lesion_location": (0.25, 0.5, 0.75),
        "Coarse_lesion_type": 5,
        "Possibly_noisy": 0,
        "Slice_range": (8, 12),
        "Spacing_mm_px_": (0.8125, 0.8125, 5.0),
        "Image_size": (512, 512),
        "DICOM_windows": (-1500.0, 500.0),
        "Patient_gender": "F",
        "Patient_age": 62.0,
        "Train_Val_Test": 3,
    }
    return values | changes


def dataset(folder, rows, **options):
    write_dl_info(folder / "DL_info.csv", rows)
    return DeepLesion(folder, **options)


def write_slices(folder, hu, first=8):
    folder.mkdir(parents=True, exist_ok=True)
    for number, plane in enumerate(hu, first):
        raw = (plane.astype(np.int32) + 32768).astype(np.uint16)
        Image.fromarray(raw).save(folder / f"{number:03d}.png")


def write_nifti(path, hu, spacing):
    """What DL_save_nifti.py and nibabel write: axes row, column, slice, and an sform alone.

    hu: [S, H, W], from the first slice number on. spacing: x, y, z as in DL_info.csv.
    """
    slices, rows, columns = hu.shape
    x, y, z = spacing
    affine = [[0, -y, 0, 0], [-x, 0, 0, 0], [0, 0, -z, 0]]
    kind, bits = {np.dtype("i2"): (4, 16), np.dtype("f8"): (64, 64)}[hu.dtype]
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, rows, columns, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, kind, bits)
    struct.pack_into("<8f", header, 76, 1, x, y, abs(z), 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 0, 2)  # qform_code, sform_code
    struct.pack_into("<12f", header, 280, *np.ravel(affine))
    header[344:348] = b"n+1\0"
    pixels = hu.transpose(1, 2, 0).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(header) + pixels, 1))
