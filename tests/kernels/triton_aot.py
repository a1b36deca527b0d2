"""Compiles the Triton kernels without a GPU and reads what came out of the machine code.

``python -m tests.kernels.triton_aot CASES RESULTS`` is run in a process of its own, so that neither
the interpreter nor a cache of somebody else is in the way.
"""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
INSTRUCTION = re.compile(
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE
)


def attention(op, direction, x, logits, images, cells):
    """Kernel, constants and options as the launcher chooses them; `cells` are columns of D = 1."""
    module = import_module(f"lesionkit.kernels.{op}.triton")
    sizes = BYTES[x], BYTES[logits]
    if op == "contextual":
        looped = images > module.MOST_UNROLLED
        constants = {"BLOCK": module.block_of(direction, *sizes, images)}
        constants |= {} if looped else {"M": images}
        options = module.OPTIONS
    elif op == "spatial":
        looped, _, numbers = module.launch_of(1000, cells, x != logits)
        constants = {name: numbers[name] for name in ("ROWS", "BLOCK") if name in numbers}
        names = ("num_warps", "maxnreg", "enable_fp_fusion")
        options = {name: numbers[name] for name in names if name in numbers}
    else:
        looped, tile = module.tile_of(direction, images, cells, *sizes)
        names = ("BLOCK", "PLANE_BLOCK", "VECTOR")
        constants = {"M": images} | {name: tile[name] for name in names if name in tile}
        options = {name: tile[name] for name in ("num_warps", "maxnreg") if name in tile}
        options["enable_fp_fusion"] = True
    kernel = getattr(module, ("looped_" if looped else "") + f"{direction}_kernel")
    types = dict.fromkeys(("grad", "x", "y", "dx"), x)
    types |= dict.fromkeys(("logits", "contextual", "spatial"), logits)
    types |= dict.fromkeys(("dlogits", "dcontextual", "dspatial"), logits)
    # As the launcher's call would: sizes of 16 and more are known to be divisible by 16.
    divisible = {"columns", "cells"} if cells % 16 == 0 else set()
    return kernel, types, constants, options, divisible


def psroi(direction, features, rois, convention):
    """As `attention`, with G = 7, maps of 64 x 64 and 50 output channels."""
    module = import_module("lesionkit.kernels.psroi.triton")
    constants = {"SCALE": 1 / 8, "BINS": 7, "RFCN": convention == "rfcn"}
    if direction == "forward":
        kernel, options = module.forward_kernel, module.FORWARD_OPTIONS
        constants["BLOCK"] = module.FORWARD_BLOCK
    else:
        kernel, options = module.backward_kernel, module.BACKWARD_OPTIONS
        constants["CHANNELS"], constants["CELLS"] = module.backward_tile(50, 64 * 64)
        constants["ROIS"] = module.ROI_BLOCK
    types = dict.fromkeys(("features", "pooled", "grad", "grad_features"), features)
    return kernel, types | {"rois": rois}, constants, options, {"cells"}


def compiled(kernel, types, constants, options, divisible, capability):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, attributes = {}, {}
    for number, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in types:
            signature[name] = f"*{types[name]}"
        else:
            real = name.split("_")[-1] in ("scale", "temperature", "inverse")
            signature[name] = "fp32" if real else "i32"
        if name in types or name in divisible:
            attributes[(number,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def resources(binary, folder):
    """Registers, spilled and shared bytes, and how often each kind of instruction stands there."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    cubin = Path(folder) / "kernel.cubin"
    cubin.write_bytes(binary.asm["cubin"])
    usage, sass = (
        subprocess.run([tools / tool, *options, cubin], capture_output=True, text=True, check=True)
        # Without the analysis of data flow, which takes a third of the time and changes comments.
        for tool, *options in (("cuobjdump", "-res-usage"), ("nvdisasm", "-ndf", "-c"))
    )
    numbers = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage.stdout + usage.stderr)
    result = dict(zip(("registers", "stack", "shared"), map(int, numbers.groups()), strict=True))
    counts = {}
    for instruction in INSTRUCTION.findall(sass.stdout):
        kind, *modifiers = instruction.split(".")
        width = next((m for m in modifiers if m in ("128", "64", "U16", "U8")), "32")
        if kind in ("LDG", "STG"):
            kind = f"{kind}.{width}"
        counts[kind] = counts.get(kind, 0) + 1
    ptx = binary.asm["ptx"]
    result["nan_maximum"] = len(re.findall(r"\bmax\.NaN\.f32", ptx))
    result["plain_maximum"] = len(re.findall(r"\bmax\.f32", ptx))
    result["fused"] = len(re.findall(r"\bfma\.", ptx))
    return result | {"instructions": counts}


def compile_all(cases: dict, folder: Path) -> dict:
    """The resources of all cases, by two processes."""
    processes = []
    for part in range(2):
        own = folder / str(part)
        own.mkdir()
        (own / "cases.json").write_text(json.dumps(dict([*cases.items()][part::2])))
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        command = [sys.executable, "-m", "tests.kernels.triton_aot"]
        processes.append(
            subprocess.Popen(
                [*command, own / "cases.json", own / "results.json"],
                cwd=Path(__file__).parents[2],
                env=environment | {"TRITON_CACHE_DIR": str(own / "cache")},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    results = {}
    for part, process in enumerate(processes):
        errors = process.communicate()[1]
        assert process.returncode == 0, errors[-3000:]
        results |= json.loads((folder / str(part) / "results.json").read_text())
    return results


def main(cases_path, results_path):
    results = {}
    for name, (kind, arguments, capability) in json.loads(Path(cases_path).read_text()).items():
        built = compiled(*{"attention": attention, "psroi": psroi}[kind](*arguments), capability)
        results[name] = resources(built, Path(results_path).parent)
    Path(results_path).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
