"""Everything that needs a GPU, in one command: python -m bench.gpu_suite

Builds the CUDA library if it is missing or older than its sources, runs the tests marked `gpu`,
runs compute-sanitizer over a small case of every kernel, and measures. What is measured goes to
bench/results/<device>.json, with a table beside it; figures of parts that are not run again stay.
Exits with 3 if there is no GPU, with 1 if a part fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from bench.gpu.report import markdown

ROOT = Path(__file__).parents[1]
MEASURES = ("contextual", "psroi", "spatial", "dual")
PARTS = ("build", "tests", "sanitizer", *MEASURES)
BUILT = "LESIONKIT_GPU_SUITE_BUILT"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


def main() -> int:
    arguments = _parse()
    import torch

    there = torch.cuda.is_available()
    if not there and not arguments.dry_run:
        print("bench.gpu_suite needs a CUDA device, and PyTorch finds none", file=sys.stderr)
        return 3
    if "build" in arguments.parts and not arguments.dry_run:
        build()
    from bench.gpu.timing import describe

    # Each part names what it was measured with: the file keeps parts of several runs.
    run = describe() | {"date": f"{datetime.now(UTC):%Y-%m-%d}", "command": _command()}
    result = {"device": run["device"]}
    failed = []
    if "tests" in arguments.parts and not arguments.dry_run:
        failed += _run("tests", [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"])
    if "sanitizer" in arguments.parts and not arguments.dry_run:
        failed += sanitizer()
    measured = [part for part in MEASURES if part in arguments.parts]
    for position, part in enumerate(measured):
        left = arguments.seconds - time.perf_counter()
        share = left / (len(measured) - position)
        result[part] = {"run": run} | measure(part, share, small=arguments.dry_run)
        if not arguments.dry_run:
            save(result, arguments.results)
    if arguments.dry_run:
        print(markdown(result))
        print("Dry run on the CPU: these figures mean nothing, and nothing was written.")
    for part in failed:
        print(f"FAILED: {part}", file=sys.stderr)
    return 1 if failed else 0


def _command() -> str:
    return " ".join(["python -m bench.gpu_suite", *sys.argv[1:]])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--minutes", type=float, default=9.0, help="leave out what does not fit")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU, no results")
    arguments = parser.parse_args()
    arguments.seconds = time.perf_counter() + 60 * arguments.minutes
    return arguments


def build() -> None:
    """Install in place, unless that is done and the libraries are newer than every source."""
    sources = [path for folder in ("csrc", "kernels") for path in (ROOT / folder).rglob("*.*")]
    newest = max(path.stat().st_mtime for path in [*sources, ROOT / "setup.py"])
    libraries = [ROOT / "lesionkit" / f"liblesionkit_{name}.so" for name in ("cpu", "cuda")]
    built = all(path.exists() and path.stat().st_mtime >= newest for path in libraries)
    if built and find_spec("lesionkit.kernels"):
        return
    if os.environ.get(BUILT):
        raise SystemExit("lesionkit was installed, but not from this checkout")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    if _run("build", [*install, "-e", str(ROOT)], {"LESIONKIT_CUDA": "1"}):
        raise SystemExit("the CUDA library was not built")
    # Only a new process sees the package that was installed.
    os.execve(sys.executable, sys.orig_argv, os.environ | {BUILT: "1"})


def sanitizer() -> list[str]:
    """The tools that found something, over every backend that runs here."""
    import lesionkit

    program = shutil.which("compute-sanitizer")
    if program is None:
        print("compute-sanitizer is not on the PATH")
        return ["sanitizer"]
    failed = []
    for backend in lesionkit.available_backends("cuda"):
        if backend == "reference":
            continue
        for tool in TOOLS:
            command = [program, "--tool", tool, "--error-exitcode", "9"]
            if tool == "initcheck":
                # The caching allocator hands out parts of blocks that are larger than asked for.
                command += ["--track-unused-memory", "no"]
            command += [sys.executable, "-m", "bench.gpu.sanitize", backend]
            uncached = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
            failed += _run(f"sanitizer: {tool}, {backend}", command, uncached)
    return failed


def measure(part: str, seconds: float, small: bool) -> dict:
    """Rows of one op, as many as fit into `seconds`."""
    if part == "psroi":
        from bench.gpu.psroi import rows

        options = {"maps": 49, "cases": [(1, 16, 1 / 8, 4)]} if small else {}
        found = rows(**options)
    else:
        from bench.gpu.attention import rows

        options = {"channels": 2, "shapes": [(1, 3, 8)], "compiled": False} if small else {}
        found = rows(part, **options)
    return _within(found, seconds)


def _within(rows: Iterable[dict], seconds: float) -> dict:
    start, taken = time.perf_counter(), []
    for row in rows:
        taken.append(row)
        print(json.dumps(row), flush=True)
        if time.perf_counter() - start > seconds:
            return {"rows": taken, "complete": False}
    return {"rows": taken, "complete": True}


def save(result: dict, folder: Path) -> None:
    """Write the JSON and its table, keeping what the file holds of other parts."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{str(result['device']).replace(' ', '_')}.json"
    before = json.loads(target.read_text()) if target.exists() else {}
    merged = before | result
    for path, text in (
        (target, json.dumps(merged, indent=1) + "\n"),
        (target.with_suffix(".md"), markdown(merged)),
    ):
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)


def _run(part: str, command: list[str], environment: dict[str, str] | None = None) -> list[str]:
    """The part's name if its command fails."""
    print(f"== {part}", flush=True)
    start = time.perf_counter()
    code = subprocess.run(
        command, cwd=ROOT, env=os.environ | (environment or {}), check=False
    ).returncode
    print(f"== {part}: exit {code} after {time.perf_counter() - start:.0f} s", flush=True)
    return [part] if code else []


if __name__ == "__main__":
    raise SystemExit(main())
