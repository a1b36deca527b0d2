"""Checks an installed wheel from outside the checkout."""

import importlib.util
import os
import shutil
from importlib import metadata, resources

import torch

import lesionkit

assert "site-packages" in lesionkit.__file__, lesionkit.__file__
assert importlib.util.find_spec("lesionkit.kernels"), "lesionkit.kernels is missing"
assert importlib.util.find_spec("kernels") is None, "the wheel must not claim the name `kernels`"
assert resources.files("lesionkit.kernels").joinpath("psroi/bins.h").is_file()
files = [str(path) for path in metadata.files("lesionkit")]
strays = [f for f in files if f.split("/")[0] in ("kernels", "csrc", "tests", "bench")]
assert not strays, strays
assert "cpu" in lesionkit.available_backends(), lesionkit.available_backends()
if shutil.which("nvcc") and torch.version.cuda:
    assert "cuda" in lesionkit.available_backends("cuda"), lesionkit.available_backends("cuda")
if shutil.which("nvcc") and os.environ.get("TENSORRT_INCLUDE_DIR"):
    for name in ("liblesionkit_tensorrt.so", "liblesionkit_tensorrt_register.so"):
        assert resources.files("lesionkit").joinpath(name).is_file(), name
for op in ("contextual", "spatial", "dual", "psroi"):
    for source in ("kernel.cuh", "triton.py", "nvrtc.py"):
        assert resources.files(f"lesionkit.kernels.{op}").joinpath(source).is_file(), (op, source)

x = torch.randn(1, 3, 4, 8, 8)
assert torch.equal(lesionkit.ContextualAttention(4, init="zero")(x), x)
rois = torch.tensor([[0, 0, 0, 15.0, 15.0]])
assert lesionkit.ps_roi_pool(torch.ones(1, 8, 4, 4), rois, 2).eq(1).all()
print("wheel", metadata.version("lesionkit"), "with backends", *lesionkit.available_backends())
