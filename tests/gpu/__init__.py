"""Tests on a CUDA device; `pytest -m gpu` runs them alone."""

import pytest
import torch

import lesionkit

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BACKENDS = [name for name in lesionkit.available_backends("cuda") if name != "reference"]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
