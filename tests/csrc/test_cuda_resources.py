"""What each CUDA kernel costs on each architecture, read from the library's machine code."""

import re

import pytest

from tests.csrc import cuda_tools

pytestmark = [
    pytest.mark.skipif(
        not cuda_tools.LIBRARY.exists(),
        reason="liblesionkit_cuda.so is not built: no nvcc, or LESIONKIT_CUDA=0",
    ),
    pytest.mark.skipif(
        cuda_tools.find_cuobjdump() is None,
        reason="no cuobjdump: neither the CUDA toolkit's nor Triton's",
    ),
]

# Registers a thread may have, in the allocation's steps of 8. Types are written as their bytes.
# Arguments: contextual and dual have the types of x and logits, N, M (0 and _any: any number of
# images); spatial the type, N, vectors a thread, edges, warp.
REGISTERS = {
    r"contextual::forward<4, 4, 4, (3|5)>": 40,
    r"contextual::forward<4, 4, 4, (7|9)>": 64,
    r"contextual::forward<2, 2, 8, (3|5)>": 56,
    r"contextual::forward<2, 2, 8, (7|9)>": 96,
    r"contextual::backward<4, 4, 4, 3>": 64,
    r"contextual::backward<4, 4, 4, 5>": 96,
    r"contextual::backward<4, 4, 4, (7|9)>": 128,
    r"contextual::backward<2, 2, 8, 3>": 96,
    r"contextual::backward<2, 2, 8, 5>": 128,
    r"contextual::backward<2, 2, 8, 7>": 168,
    r"contextual::backward<2, 2, 8, 9>": 254,
    r"contextual::(for|back)ward_any<.*>": 64,
    r"spatial::forward<., ., 1, \w+, \w+>": 40,
    r"spatial::forward<., ., 2, \w+, \w+>": 48,
    r"spatial::forward<4, 4, 4, \w+, \w+>": 64,
    r"spatial::forward<2, 8, 4, \w+, \w+>": 72,
    r"spatial::forward<4, 4, 8, \w+, \w+>": 104,
    r"spatial::backward<., ., 1, \w+, \w+>": 48,
    r"spatial::backward<., ., 2, \w+, \w+>": 64,
    r"spatial::backward<4, 4, 4, \w+, \w+>": 80,
    r"spatial::backward<2, 8, 4, \w+, \w+>": 128,
    r"spatial::backward<4, 4, 8, \w+, \w+>": 128,
    r"spatial::(for|back)ward_any<.*>": 64,
    r"dual::forward<4, 4, 4, (3|5)>": 112,
    r"dual::forward<4, 4, 4, (7|9)>": 160,
    r"dual::forward<2, 2, 8, (3|5)>": 128,
    r"dual::forward<2, 2, 8, (7|9)>": 192,
    r"dual::backward<4, 4, 4, (3|5)>": 128,
    r"dual::backward<4, 4, 4, (7|9)>": 160,
    r"dual::backward<2, 2, 8, (3|5|7)>": 160,
    r"dual::backward<2, 2, 8, 9>": 232,
    r"dual::forward<., ., ., 0>": 80,
    r"dual::backward<., ., ., 0>": 112,
    r"psroi::forward<., .>": 64,
    r"psroi::backward<., .>": 128,
}
BYTES = {"float": "4", "Half": "2", "BFloat16": "2", "double": "8"}


def in_bytes(kernel):
    return re.sub("|".join(BYTES), lambda found: BYTES[found[0]], kernel)


@pytest.fixture(params=cuda_tools.ARCHITECTURES, ids="sm_{}".format)
def arch(request):
    if request.param not in cuda_tools.architectures():
        pytest.skip(f"the nvcc that built the library did not know sm_{request.param}")
    return request.param


@pytest.fixture(params=(80, 90, 100, 120), ids="sm_{}".format)
def sass(request):
    if request.param not in cuda_tools.architectures():
        pytest.skip(f"the nvcc that built the library did not know sm_{request.param}")
    return cuda_tools.instructions(request.param)


def test_every_kernel_within_its_registers(arch):
    kernels = cuda_tools.resources(arch)
    unused = set(REGISTERS)
    for kernel, used in kernels.items():
        rows = [row for row in REGISTERS if re.fullmatch(row, in_bytes(kernel))]
        assert len(rows) == 1, f"{kernel} matches {rows}"
        unused -= set(rows)
        assert used["REG"] <= REGISTERS[rows[0]], kernel
    assert not unused


def test_nothing_spills(arch):
    for kernel, used in cuda_tools.resources(arch).items():
        assert (used["STACK"], used["LOCAL"]) == (0, 0), kernel


def test_shared_memory(arch):
    reserved = 0 if arch < 90 else 1024  # by the system, and counted
    limits = {"contextual": 0, "dual": 0, "spatial": 3 * 32 * 4, "psroi": 48 << 10}
    for kernel, used in cuda_tools.resources(arch).items():
        shared = used["SHARED"] - (reserved if used["SHARED"] else 0)
        assert shared <= limits[kernel.partition("::")[0]], kernel


def accesses(counts, *kinds):
    """Bits of each access of global memory, and how often."""
    found = {}
    for instruction, count in counts.items():
        name, *modifiers = instruction.split(".")
        if name in kinds:
            widths = [int(m) for m in modifiers if m in ("64", "128")]
            bits = widths[0] if widths else 16 if "U16" in modifiers else 32
            found[bits] = found.get(bits, 0) + count
    return found


def test_contextual_is_whole_vectors_and_no_exchange(sass):
    pattern = r"contextual::(for|back)ward<(\w+), \2, [48], (\d)>"
    kernels = {kernel: re.fullmatch(pattern, kernel) for kernel in sass}
    kernels = {kernel: found for kernel, found in kernels.items() if found}
    assert len(kernels) == 2 * 3 * 4
    for kernel, found in kernels.items():
        images = int(found[3])
        loads, stores = (2, 1) if found[1] == "for" else (3, 2)
        assert accesses(sass[kernel], "LDG", "LD") == {128: loads * images}, kernel
        assert accesses(sass[kernel], "STG", "ST") == {128: stores * images}, kernel
    for kernel, counts in sass.items():
        if kernel.startswith("contextual::"):
            exchange = ("BAR", "SHFL", "LDS", "STS", "LDL", "STL", "ATOM", "RED")
            assert not [name for name in counts if name.startswith(exchange)], kernel


def test_spatial_reads_whole_vectors_once(sass):
    kernels = {
        kernel: re.fullmatch(r"spatial::(for|back)ward<\w+, [48], (\d), false, (\w+)>", kernel)
        for kernel in sass
    }
    kernels = {kernel: found for kernel, found in kernels.items() if found}
    assert len(kernels) == 2 * (5 + 4 + 4)
    for kernel, found in kernels.items():
        vectors = int(found[2])
        loads, stores = (2, 1) if found[1] == "for" else (3, 2)
        assert accesses(sass[kernel], "LDG", "LD") == {128: loads * vectors}, kernel
        assert accesses(sass[kernel], "STG", "ST") == {128: stores * vectors}, kernel
        barriers = sum(n for name, n in sass[kernel].items() if name.startswith("BAR"))
        assert barriers == (0 if found[3] == "true" else stores), kernel


def test_dual_reads_in_vectors(sass):
    # Besides, each kernel has a narrow path for the edges of odd planes.
    seen = 0
    for kernel in sass:
        found = re.fullmatch(r"dual::(for|back)ward<(\w+), \2, [48], ([3579])>", kernel)
        if found:
            seen += 1
            images = int(found[3])
            loads, stores = (3, 1) if found[1] == "for" else (4, 3)
            assert accesses(sass[kernel], "LDG", "LD")[128] >= loads * images, kernel
            assert accesses(sass[kernel], "STG", "ST")[128] >= stores * images, kernel
            assert 64 not in accesses(sass[kernel], "LDG", "LD", "STG", "ST"), kernel
    assert seen == 2 * 3 * 4


# Bits of PSROI's reads and writes, by the bytes of the features and of the rois. A bin's cells, a
# roi's numbers and the gradients of a map's rois lie apart: each is read by itself. What flows are
# the forward's results, neighbours of which are written by a warp's lanes side by side, and the
# backward's maps, whole vectors but for maps of odd size.
PSROI_ACCESSES = {
    "psroi::forward<4, 4>": ({32}, {32}),
    "psroi::forward<4, 8>": ({32, 64}, {32}),
    "psroi::forward<2, 4>": ({16, 32}, {16}),
    "psroi::forward<2, 8>": ({16, 64}, {16}),
    "psroi::backward<4, 4>": ({32}, {32, 128}),
    "psroi::backward<4, 8>": ({32, 64}, {32, 128}),
    "psroi::backward<2, 4>": ({16, 32}, {16, 32, 128}),
    "psroi::backward<2, 8>": ({16, 64}, {16, 32, 128}),
}


def test_psroi_writes_maps_in_vectors(sass):
    kernels = [kernel for kernel in sass if kernel.startswith("psroi::")]
    assert len(kernels) == 2 * 3 * 2
    for kernel in kernels:
        loads, stores = PSROI_ACCESSES[in_bytes(kernel)]
        assert accesses(sass[kernel], "LDG", "LD").keys() == loads, kernel
        assert accesses(sass[kernel], "STG", "ST").keys() == stores, kernel


def test_kernels_for_any_size_use_vectors(sass):
    # 128 bits of the wider type; scalars are for the edges of odd planes.
    pattern = r"(\w+)::(for|back)ward(?:_any<(.), (.), ([48])>|<(.), (.), ([48]), 0>)"
    kernels = {kernel: re.fullmatch(pattern, in_bytes(kernel)) for kernel in sass}
    kernels = {kernel: found for kernel, found in kernels.items() if found}
    assert {found[1] for found in kernels.values()} == {"contextual", "spatial", "dual"}
    for kernel, found in kernels.items():
        x, logits, lanes = (int(number) for number in found.groups()[2:] if number)
        assert max(x, logits) * lanes == 16, kernel
        for read, sizes in (
            ("LDG", {x, logits}),
            ("STG", {x} if found[2] == "for" else {x, logits}),
        ):
            bits = {8 * size * lanes for size in sizes}
            if found[1] != "contextual":
                bits |= {8 * size for size in sizes}
            assert accesses(sass[kernel], read, read[:2]).keys() == bits, kernel


def test_no_atomics_anywhere(sass):
    # To any memory; REDUX, a sum over a warp's registers, is none.
    for kernel, counts in sass.items():
        assert not [name for name in counts if re.match(r"ATOM|RED(?!UX)", name)], kernel
