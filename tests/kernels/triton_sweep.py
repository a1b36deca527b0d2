"""Every Triton kernel that the launch tables can ask for, compiled: spills, registers, widths.

``python -m tests.kernels.triton_sweep FOLDER`` compiles, what matters
most first, and goes on where it stopped; ``--summarize`` puts what the folder holds into
triton_resources.json beside this file, under the version of Triton. A case is a kernel with its
constants, options and types: sizes that share all of them are compiled once. Of the sizes, all that
lie beside a boundary of a table are there, and some that are no powers of 2.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import triton

from tests.kernels import triton_aot

CAPABILITIES = (90, 80, 120, 100)
TYPES = [("bf16", "bf16"), ("fp32", "fp32"), ("fp16", "fp16")]
TYPES += [("fp32", "bf16"), ("bf16", "fp32"), ("fp16", "fp32"), ("fp32", "fp16")]
OPS = ("dual", "contextual", "spatial")
NAMED = (49, 1024, 1444, 2304, 4095, 4096)
TABLE = Path(__file__).with_name("triton_resources.json")


def near(boundaries: list[int]) -> set[int]:
    """Just below, at and above each: multiples of 16, where vectors fit, and others."""
    sizes = {size + step for size in boundaries for step in (-1, 0, 1)}
    sizes |= {size // 16 * 16 + step for size in boundaries for step in (-16, 0, 16)}
    return {size for size in sizes if size > 0} | set(NAMED)


def sizes_of(op: str, images: int, logits_bytes: int) -> list[int]:
    powers = [2**n for n in range(17)]
    if op == "contextual":
        return [4096, 4095]
    if op == "spatial":
        return sorted(near(powers))
    # Dual attention counts its spatial logits' bytes, too.
    return sorted(near([*powers, *(limit // (images * logits_bytes) for limit in (2**15, 2**16))]))


def attention_cases(op: str, direction: str, types: tuple[str, str]) -> Iterator[tuple]:
    images = {"contextual": range(1, 17), "spatial": (3,), "dual": range(1, 10)}[op]
    seen = set()
    for count in sorted(images, key=lambda m: (m % 2 == 0, m)):
        for cells in sizes_of(op, count, triton_aot.BYTES[types[1]]):
            arguments = (op, direction, *types, count, cells)
            kernel, _, constants, options, divisible = triton_aot.attention(*arguments)
            key = (kernel.fn.__name__, str(constants), str(options), bool(divisible))
            if key not in seen:
                seen.add(key)
                yield arguments


def psroi_cases() -> Iterator[tuple]:
    features, rois = ("fp32", "bf16", "fp16"), ("fp32", "fp64")
    for arguments in product(("backward", "forward"), features, rois, ("rfcn", "torchvision")):
        yield "psroi", *arguments


def all_cases() -> list[tuple[tuple, int]]:
    """Arguments of `triton_aot.attention` or of its `psroi`, and the capability.

    First what detectors use: one type, an odd number of images, planes of 30 x 30 and more.
    """
    found = [
        case
        for op, direction, types in product(OPS, ("forward", "backward"), TYPES)
        for case in attention_cases(op, direction, types)
    ]
    cases = list(product([*found, *psroi_cases()], CAPABILITIES))
    random.Random(0).shuffle(cases)  # so that what is cut is a sample of each rank

    def rank(case: tuple) -> int:
        arguments, _ = case
        if arguments[0] == "psroi":
            return 0
        op, _, x, logits, images, cells = arguments
        small = op == "dual" and cells < 900
        return 2 * (x != logits) + 2 * (images % 2 == 0) + small

    return sorted(cases, key=rank)


def name_of(case: tuple, capability: int) -> str:
    return " ".join(map(str, (*case, f"sm_{capability}")))


def compiled(case: tuple, capability: int, folder: str) -> dict:
    """Registers, bytes of stack and of shared memory, and accesses of global memory by width."""
    op, *arguments = case
    parts = triton_aot.psroi(*arguments) if op == "psroi" else triton_aot.attention(*case)
    found = triton_aot.resources(triton_aot.compiled(*parts, capability), folder)
    counts = found["instructions"].items()
    widths = {kind: count for kind, count in counts if kind[:4] in ("LDG.", "STG.")}
    return {name: found[name] for name in ("registers", "stack", "shared")} | {"accesses": widths}


def results_of(folder: Path, version: str) -> dict[str, dict]:
    """What earlier runs, and other parts, compiled with this Triton."""
    lines = [
        json.loads(line)
        for path in sorted(folder.glob(f"triton-{version}-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return {line.pop("case"): line for line in lines}


def sweep(folder: Path, part: int, parts: int, minutes: float) -> None:
    version = triton.__version__
    done, end = results_of(folder, version), time.time() + 60 * minutes
    path = folder / f"triton-{version}-{part}.jsonl"
    with path.open("a") as output, tempfile.TemporaryDirectory() as temporary:
        for case, capability in all_cases()[part::parts]:
            name = name_of(case, capability)
            if name in done:
                continue
            if time.time() > end:
                return
            row = {"case": name} | compiled(case, capability, temporary)
            output.write(json.dumps(row) + "\n")
            output.flush()
            if row["stack"]:
                print(f"spills {row['stack']} bytes: {name}", flush=True)


def family_of(case: tuple) -> str:
    op, direction, x, logits, *_ = case
    if op == "psroi":
        return f"psroi {direction}"
    return f"{op} {direction} {x if x == logits else 'mixed'}"


def summary(results: dict[str, dict]) -> dict[str, dict]:
    """By family: cases compiled of all, most registers, cases that spill, widths in bits.

    The widths are those of sizes that vectors fit; where a looped backward computes ties again it
    reads single numbers.
    """
    table: dict[str, dict] = {}
    for case, capability in all_cases():
        empty = {"compiled": 0, "of": 0, "registers": 0, "spilling": [], "widths": []}
        row = table.setdefault(family_of(case), empty)
        row["of"] += 1
        name = name_of(case, capability)
        found = results.get(name)
        if found is None:
            continue
        row["compiled"] += 1
        row["registers"] = max(row["registers"], found["registers"])
        if found["stack"]:
            row["spilling"].append(f"{name}: {found['stack']}")
        if case[0] != "psroi" and case[-1] % 16 == 0:
            widths = {int(kind.split(".")[1].lstrip("U")) for kind in found["accesses"]}
            row["widths"] = sorted(widths.union(row["widths"]))
    return dict(sorted(table.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of what was compiled, a line a case")
    parser.add_argument("--part", type=int, default=0, help="of --parts processes, from 0")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--summarize", action="store_true", help="into triton_resources.json")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not arguments.summarize:
        sweep(arguments.folder, arguments.part, arguments.parts, arguments.minutes)
        return
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    table[triton.__version__] = summary(results_of(arguments.folder, triton.__version__))
    unfinished = TABLE.with_name(TABLE.name + ".unfinished")
    unfinished.write_text(json.dumps(table, indent=1) + "\n")
    unfinished.replace(TABLE)


if __name__ == "__main__":
    main()
