"""The arguments of bench.gpu_suite."""

import argparse
from pathlib import Path

from bench.gpu import machine, points

PARTS = ("build", "tests", "sanitizer", *points.OPS, "engine")


def parse(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--shape", nargs="+", default=[], help="of the ops, as 1x5x512x64x64")
    parser.add_argument("--dtype", nargs="+", default=[], help="of the ops, as bfloat16")
    parser.add_argument("--missing", action="store_true", help="what the results lack, no more")
    parser.add_argument("--allow-missing", action="store_true", help="backends, which stay open")
    parser.add_argument("--minutes", type=float, default=9.0, help="leave out what does not fit")
    parser.add_argument("--results", type=Path, default=machine.ROOT / "bench" / "results")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU, no results")
    arguments = parser.parse_args()
    ops = [op for op in points.OPS if op in arguments.parts]
    try:
        arguments.points = points.select(
            points.in_turn(ops, small=arguments.dry_run), arguments.shape, arguments.dtype
        )
    except ValueError as error:
        parser.error(str(error))
    return arguments
