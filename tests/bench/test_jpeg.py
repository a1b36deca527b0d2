import sys

import numpy as np
import torch
from PIL import Image

from bench import jpeg


def test_a_result_is_written(tmp_path, monkeypatch):
    """From JPEG files to the table, on noise and for one epoch: whether it runs."""
    rng = np.random.default_rng(0)
    (tmp_path / "jpeg").mkdir()
    for number in range(1, 10):
        name = tmp_path / "jpeg" / f"{number:06d}_01_01_001"
        Image.fromarray(rng.integers(60, 90, (96, 96)).astype(np.uint8)).save(f"{name}.jpg")
        name.with_suffix(".tru").write_text("5 .2 .2 .5 .5\n")
    out = tmp_path / "result.md"
    monkeypatch.setattr(
        sys, "argv", ["jpeg", str(tmp_path / "jpeg"), "--epochs", "1", "--out", str(out)]
    )
    threads = torch.get_num_threads()
    try:
        jpeg.main()
    finally:
        torch.set_num_threads(threads)
    text = out.read_text()
    assert text.startswith("# A detector on real key slices")
    assert "\n| 4 train | 4 | " in text
    assert "\n| 5 test | 5 | " in text
    assert "- training: 1 epochs in " in text
