"""The NVRTC route's sources through NVRTC itself, which needs no GPU."""

import re

import pytest
from lesionkit.kernels.common import nvrtc as route

from tests.kernels.nvrtc_launches import expressions

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="no NVRTC: pip install cuda-bindings")

ARCHITECTURES = ["sm_80", "sm_90", "sm_100", "sm_120"]
# CuPy 14 adds these. Without the second NVRTC 13.0 takes generic lambdas for host functions.
CUPY_OPTIONS = ["-ftz=true", "--device-as-default-execution-space"]
HALF, BFLOAT16 = "lesionkit::device::Half", "lesionkit::device::BFloat16"
# The largest of each kernel, and one for any size.
LARGEST = {
    "contextual": ["backward<float, float, 4, 9>", f"backward<{BFLOAT16}, {BFLOAT16}, 8, 9>"],
    "spatial": ["backward<float, 4, 8, true, false>", f"backward_any<float, {HALF}, 4>"],
    "dual": [f"backward<{HALF}, {HALF}, 8, 9>", f"forward<float, {BFLOAT16}, 1, 0>"],
    "psroi": ["forward<float, float>", f"backward<{BFLOAT16}, double>"],
}


def checked(result):
    error, *values = result
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, error
    return values[0] if len(values) == 1 else values


def compiled(kernel: str, names: list[str], architecture: str) -> tuple[list[str], str]:
    """The kernels' names in the binary, and what the compiler says."""
    program = checked(
        nvrtc.nvrtcCreateProgram(route.source(kernel).encode(), b"kernel.cu", 0, [], [])
    )
    for name in names:
        checked(nvrtc.nvrtcAddNameExpression(program, name.encode()))
    options = [*route.OPTIONS, *CUPY_OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    log = b" " * checked(nvrtc.nvrtcGetProgramLogSize(program))
    checked(nvrtc.nvrtcGetProgramLog(program, log))
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    lowered = [checked(nvrtc.nvrtcGetLoweredName(program, name.encode())) for name in names]
    checked(nvrtc.nvrtcDestroyProgram(program))
    return [name.decode() for name in lowered], log.decode()


@pytest.mark.parametrize("kernel", sorted(LARGEST))
def test_every_kernel_that_the_route_asks_for(kernel):
    wanted = expressions(kernel)
    assert {f"lesionkit::{kernel}::{name}" for name in LARGEST[kernel]} <= set(wanted)
    lowered, _ = compiled(kernel, wanted, "compute_80")
    assert len(set(lowered)) == len(wanted)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kernel", sorted(LARGEST))
def test_registers_suffice(kernel, architecture):
    number = int(architecture.removeprefix("sm_"))
    if number not in checked(nvrtc.nvrtcGetSupportedArchs()):
        pytest.skip(f"this NVRTC does not know {architecture}")
    names = [f"lesionkit::{kernel}::{name}" for name in LARGEST[kernel]]
    _, log = compiled(kernel, names, architecture)
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert spills == [("0", "0")] * len(names)
