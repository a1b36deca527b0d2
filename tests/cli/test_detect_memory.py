"""A large scan is in memory once, whatever is done with it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lesionkit.inference.formats import FORMATS

# One run after another in one process, and the most memory it ever had after each.
RUNS = """
import json, sys
from lesionkit.cli.main import main

peaks = []
for arguments in json.loads(sys.argv[1]):
    assert main(arguments) == 0
    with open("/proc/self/status") as status:
        peaks += [int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM")]
print(json.dumps(peaks))
"""


def write_scan(path, slices):
    """512 x 512 pixels, stored from right to left and from front to back, as NIfTI often is."""
    sitk = pytest.importorskip("SimpleITK")
    rows, columns = np.mgrid[:512, :512]
    body = (rows - 256) ** 2 / 190**2 + (columns - 256) ** 2 / 230**2 < 1
    plane = np.where(body, 40, -1000).astype(np.int16)
    image = sitk.GetImageFromArray(np.broadcast_to(plane, (slices, 512, 512)))
    image.SetSpacing((0.8, 0.8, 0.5))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_scan_is_in_memory_once(trained, tmp_path):
    slices = 240
    write_scan(tmp_path / "small.nii", 4)
    write_scan(tmp_path / "large.nii", slices)
    runs = [
        [
            *("detect", str(tmp_path / f"{name}.nii"), "--slices", f"::{step}"),
            *("--weights", str(trained / "weights.safetensors")),
            *("--out", str(tmp_path / name), "--score-threshold", "0.01"),
            *("--format", ",".join(set(FORMATS) - {"dicom-sr"})),
        ]
        for name, step in (("small", 1), ("large", slices // 4))
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUNS, json.dumps(runs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    volume = slices * 512 * 512 * 2
    assert after - before < 1.25 * volume, f"{(after - before) / volume:.2f} times the voxels"
