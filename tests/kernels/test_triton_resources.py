"""What ptxas makes of the Triton kernels: registers, spills, shared memory, widths of accesses.

For sm_90 float32 and bfloat16 for each odd M, and even M, float16 and mixed types for some; for the
others one of each, and for all the boundaries of dual attention's table, whose kernels need the
most registers. Every case of the tables is what tests/kernels/triton_sweep.py compiles.
``python -m tests.kernels.test_triton_resources`` prints all that is read.
"""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("triton")

from lesionkit.kernels.dual import triton as dual

from tests.kernels.triton_aot import BYTES, compile_all

# Registers a thread may have, in the allocation's steps of 8 and with room for another ptxas; the
# first that matches. Names: op, direction, types of x and logits (rois), M, columns or cells.
REGISTERS = {
    r"contextual forward \w+ \w+ [123] ": 56,
    r"contextual forward (fp32 \w+|bf16 fp32) [579] ": 72,
    r"contextual forward \w+ \w+ [45] ": 72,
    r"contextual forward \w+ \w+ [789] ": 120,
    r"contextual forward fp32 fp32 11 ": 88,
    r"contextual forward fp32 fp32 15 ": 112,
    r"contextual forward \w+ \w+ 1[35] ": 184,
    r"contextual backward fp32 fp32 [123] ": 56,
    r"contextual backward (fp32 \w+|bf16 fp32) [579] ": 152,
    r"contextual backward \w+ \w+ [13] ": 96,
    r"contextual backward \w+ \w+ [45] ": 128,
    r"contextual backward \w+ \w+ [78] ": 208,
    r"contextual backward \w+ \w+ 9 ": 248,
    r"contextual backward \w+ \w+ 1[13] ": 176,
    r"contextual backward \w+ \w+ 15 ": 232,
    r"contextual \w+ \w+ \w+ 16 ": 72,
    r"spatial forward \w+ \w+ \d+ 16384 ": 96,
    r"spatial forward ": 64,
    r"spatial backward \w+ \w+ \d+ 16384 ": 128,
    r"spatial backward \w+ \w+ \d+ 32768 ": 128,
    r"spatial backward ": 88,
    r"dual forward \w+ \w+ [13] ": 80,
    r"dual forward \w+ \w+ 5 (1444|2304) ": 144,
    r"dual forward \w+ \w+ [45] ": 120,
    r"dual forward bf16 bf16 7 2304 ": 160,
    r"dual forward \w+ \w+ 9 (1444|4097) ": 176,
    r"dual forward \w+ \w+ [67] ": 160,
    r"dual forward \w+ \w+ 9 ": 152,
    r"dual backward \w+ \w+ 1 ": 128,
    r"dual backward fp32 fp32 3 1025 ": 168,
    r"dual backward bf16 bf16 5 2304 ": 248,
    r"dual backward fp32 fp32 3 1024": 80,
    r"dual backward fp32 fp32 5 1024": 104,
    r"dual backward (fp32 \w+|bf16 fp32) 3 ": 128,
    r"dual backward fp32 fp32 5 ": 168,
    r"dual backward fp32 fp32 6 ": 200,
    r"dual backward \w+ \w+ 3 1024": 136,
    r"dual backward \w+ \w+ 3 ": 168,
    r"dual backward \w+ \w+ 4 1024": 152,
    r"dual backward \w+ \w+ 5 1024": 184,
    r"dual backward \w+ \w+ 7 1024": 232,
    r"dual backward \w+ \w+ 5 ": 240,
    r"dual backward \w+ \w+ 7 ": 224,
    r"dual backward \w+ \w+ 9 ": 254,
    r"psroi forward ": 64,
    r"psroi backward ": 144,
}
ALIGNED, ODD = 4096, 4095
# Those that loop, but for dual attention's, which loop over ALIGNED cells already.
# Where the choices of dual attention's table change, and planes that no vector fits.
DUAL_BOUNDARIES = (
    *(("bf16", 1, 2304), ("fp32", 3, 1025), ("bf16", 3, 2304), ("fp16", 5, 1444)),
    *(("bf16", 5, 2304), ("bf16", 7, 2304), ("bf16", 9, 1444), ("fp32", 9, 4097)),
)
OTHER_KERNELS = (("contextual", 16, ALIGNED), ("spatial", 3, 32768), ("dual", 3, 1024))


def dual_tile(direction, x, logits, images, cells):
    return dual.tile_of(direction, images, cells, BYTES[x], BYTES[logits])


def all_cases():
    cases = {}

    def add(kind, arguments, capability=90):
        op = ("psroi",) if kind == "psroi" else ()
        name = " ".join(map(str, (*op, *arguments, f"sm_{capability}")))
        cases[name] = (kind, arguments, capability)

    for direction in ("forward", "backward"):
        for dtype in ("fp32", "bf16"):
            for images in (1, 3, 5, 7, 9, 15, 16):
                add("attention", ("contextual", direction, dtype, dtype, images, ALIGNED))
            for cells in (64, 1024, 4096, 16384, 32768, ODD):
                add("attention", ("spatial", direction, dtype, dtype, 3, cells))
            for images in (3, 5, 7, 9):
                for cells in (1024, 4096):
                    if cells == 4096 or not dual_tile(direction, dtype, dtype, images, cells)[0]:
                        add("attention", ("dual", direction, dtype, dtype, images, cells))
        for x, logits in (("fp16", "fp16"), ("fp32", "bf16"), ("bf16", "fp32")):
            for op, images in (("contextual", 9), ("spatial", 3), ("dual", 3)):
                add("attention", (op, direction, x, logits, images, ALIGNED))
        add("attention", ("dual", direction, "fp32", "bf16", 9, ALIGNED))
        add("attention", ("contextual", direction, "fp32", "fp32", 3, ODD))
        for dtype, images in (
            *(("fp16", images) for images in (3, 4, 13)),
            *(("bf16", 8), ("fp32", 2), ("fp32", 11)),
        ):
            add("attention", ("contextual", direction, dtype, dtype, images, ALIGNED))
        for cells in (64, 16384):
            add("attention", ("spatial", direction, "fp16", "fp16", 3, cells))
        for dtype, images, cells in (("fp16", 4, 1024), ("fp16", 5, ALIGNED), ("fp32", 6, ALIGNED)):
            add("attention", ("dual", direction, dtype, dtype, images, cells))
        for dtype, rois in (("fp32", "fp32"), ("fp32", "fp64"), ("bf16", "fp32")):
            add("psroi", (direction, dtype, rois, "rfcn"))
        add("psroi", (direction, "fp16", "fp64", "torchvision"))
        for capability in (80, 90, 100, 120):
            for dtype, images, cells in DUAL_BOUNDARIES:
                add("attention", ("dual", direction, dtype, dtype, images, cells), capability)
        for capability in (80, 100, 120):
            for op in ("contextual", "spatial", "dual"):
                images = 3 if op == "dual" else 9
                add("attention", (op, direction, "bf16", "bf16", images, ALIGNED), capability)
            add("attention", ("contextual", direction, "fp32", "fp32", 9, ALIGNED), capability)
            for op, images, cells in OTHER_KERNELS:
                add("attention", (op, direction, "bf16", "bf16", images, cells), capability)
            add("attention", ("spatial", direction, "bf16", "bf16", 3, 16384), capability)
            add("psroi", (direction, "fp32", "fp32", "rfcn"), capability)
    return cases


CASES = all_cases()


def in_order(cases):
    """The longest first."""
    return dict(sorted(cases.items(), key=lambda case: "dual backward" not in case[0]))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return compile_all(in_order(CASES), tmp_path_factory.mktemp("triton"))


@pytest.mark.parametrize("name", CASES)
def test_registers_and_spills(built, name):
    result = built[name]
    assert result["stack"] == 0
    assert result["registers"] <= next(
        limit for pattern, limit in REGISTERS.items() if re.match(pattern, name)
    )


def accesses(result, prefix):
    """Numbers of global loads or stores by width in bits."""
    counts = result["instructions"]
    widths = {"128": 128, "64": 64, "32": 32, "U16": 16, "U8": 8}
    found = {bits: counts.get(f"{prefix}.{width}", 0) for width, bits in widths.items()}
    return {bits: count for bits, count in found.items() if count}


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("contextual")])
def test_contextual_moves_each_tensor_once_in_vectors(built, name):
    result = built[name]
    _, direction, x, logits, images, columns, _ = name.split()
    assert result["shared"] == 0
    assert not {"BAR", "SHFL", "LDS", "STS", "ATOMG", "REDG"} & result["instructions"].keys()
    images, loads, stores = int(images), accesses(result, "LDG"), accesses(result, "STG")
    tensors = {"forward": (2, 1), "backward": (3, 2)}[direction]
    many = direction == "backward" and 9 < images <= 15
    if int(columns) % 16:
        assert set(loads) == set(stores) == {32}
    elif images > 15:  # looped: each tensor is read more than once
        assert set(loads) | set(stores) == ({128} if x == logits else {64, 128})
    elif x == logits:
        bits = 64 if many and x != "fp32" else 128
        assert (loads, stores) == ({bits: tensors[0] * images}, {bits: tensors[1] * images})
    elif x == "fp32":  # 64 bits of the 16-bit logits beside 128 of x
        assert loads == {128: (tensors[0] - 1) * images, 64: images}
    else:
        assert min(*loads, *stores) == 64


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(("spatial", "dual"))])
def test_planes_are_read_in_vectors(built, name):
    """Scalars only where ties are computed again, or where the extent is odd."""
    op, direction, x, logits, images, cells, _ = name.split()
    result = built[name]
    loads, stores = accesses(result, "LDG"), accesses(result, "STG")
    if int(cells) % 16:
        assert set(loads) == set(stores) == {8 * (4 if x == "fp32" else 2)}
        return
    if op == "spatial":
        looped = int(cells) > 16384
        if not looped and x == logits:
            vectors = {"forward": 2, "backward": 3}[direction] * BYTES[x]
            vectors *= 2 if cells == "16384" else 1
            assert loads == {128: vectors}
        again, narrow = 16, False
    else:
        looped, tile = dual_tile(direction, x, logits, int(images), int(cells))
        again = int(images) * tile["BLOCK"] // (32 * tile["num_warps"])
        narrow = x != logits or tile.get("VECTOR", 8) * BYTES[x] < 16
    if direction == "backward" and looped:
        # Of x, the gradient and dual's contextual logits, where a cell is computed again.
        scalars = [sum(n for bits, n in w.items() if bits <= 32) for w in (loads, stores)]
        assert scalars == [(2 if op == "spatial" else 3) * again, again]
        loads, stores = ({bits for bits in w if bits > 32} for w in (loads, stores))
    assert min(min(loads), min(stores)) >= (64 if narrow else 128)
    assert result["shared"] <= 1024


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("psroi")])
def test_maxima_propagate_nan(built, name):
    result = built[name]
    assert result["plain_maximum"] == 0
    if not name.startswith("contextual") or name.split()[4] != "1":
        assert result["nan_maximum"] > 0


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("psroi")])
def test_psroi_rounds_once_adds_without_atomics_and_stores_in_vectors(built, name):
    result = built[name]
    assert result["fused"] == 0
    assert not {"ATOM", "ATOMG", "RED", "REDG"} & result["instructions"].keys()
    if name.startswith("psroi backward"):
        assert set(accesses(result, "STG")) == {128}


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        for case, numbers in sorted(compile_all(in_order(CASES), Path(folder)).items()):
            print(f"{case}: {json.dumps(numbers)}")
