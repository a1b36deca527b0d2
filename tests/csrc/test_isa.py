"""Every instruction set that this processor can run gives the reference's results."""

import os
import subprocess
import sys

import pytest

CHECK = """
import functools
import torch
from tests.ops.attention_contract import FLOATS, inputs, with_gradients
from tests.tolerances import assert_close
import lesionkit

for name, num_logits in (("contextual", 1), ("spatial", 1), ("dual", 2)):
    op = getattr(lesionkit, f"{name}_attention")
    reference = getattr(lesionkit, f"{name}_attention_reference")
    for dtype in FLOATS:
        for shape in ((1, 5, 3, 7, 9), (2, 3, 1, 17, 33)):
            tensors = inputs(num_logits, shape, dtype, ties=dtype == torch.float16)
            tensors[1][0, 1, 0, 2, 3] = -torch.inf
            tensors[1][0, 0, 0, 0, 0] = torch.nan
            oracle = with_gradients(reference, [t.double() for t in tensors])
            for result, expected in zip(with_gradients(op, tensors), oracle, strict=True):
                assert_close(result, expected)

rois = torch.tensor([[0, 3.0, 5, 60, 70], [1, -9, 0, 40, 33], [1, 80, 80, 90, 99]])
for dtype in FLOATS:
    features = torch.randn(2, 18, 11, 13).to(dtype)
    reference = functools.partial(lesionkit.ps_roi_pool_reference, rois=rois, output_size=3)
    oracle = with_gradients(reference, [features.double()])
    op = functools.partial(lesionkit.ps_roi_pool, rois=rois, output_size=3)
    results = with_gradients(op, [features])
    for result, expected in zip(results, oracle, strict=True):
        assert_close(result, expected)
print(torch.ops.lesionkit.cpu_instruction_set())
"""


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_same_results(isa):
    process = subprocess.run(
        [sys.executable, "-c", CHECK],
        env=os.environ | {"LESIONKIT_CPU_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    if isa != "baseline" and process.stdout.strip() != isa:
        pytest.skip(f"this processor has no {isa}: {process.stdout.strip()} ran instead")


def test_unknown_set_is_an_error():
    process = subprocess.run(
        [sys.executable, "-c", CHECK],
        env=os.environ | {"LESIONKIT_CPU_ISA": "avx-512"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode != 0
    expected = 'RuntimeError: LESIONKIT_CPU_ISA must be baseline, avx2 or avx512, got "avx-512"'
    assert expected in process.stderr
