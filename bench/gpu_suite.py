"""Everything that needs a GPU, in one command: python -m bench.gpu_suite

Builds the CUDA library if it is missing or older than its sources, then takes the core of each
part: some tests of every backend, compute-sanitizer on a small case of each kernel, and the sizes
that matter most. In the time that is left it runs all tests marked `gpu`, the sanitizer over all
cases, and measures the other sizes. What is found goes to bench/results/<device>.json after every
step, with a table beside it; what a run does not reach stays as earlier runs found it. Stops when
the time is up: call it again with --missing for the rest, or split it by parts, shapes and types.

Exits with 3 if there is no GPU, with 1 if a check fails, something cannot be measured, or a backend
is missing: `cuda`, `triton` and, where CuPy is installed, `nvrtc` must be there.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

from bench.gpu import checks, command_line, machine, points, pytest_runs, results

# In their order; of the time that is left when its turn comes, against those behind it.
SHARES = {"core tests": 4, "core sanitizer": 2, "core measurements": 4}
SHARES |= {"measurements": 4, "tests": 4, "sanitizer": 3, "engine": 2}


def main() -> int:
    arguments = command_line.parse(__doc__.splitlines()[0])
    # Set where the build starts this program anew: the time counts from the first start.
    deadline = float(os.environ.get(checks.DEADLINE, time.time() + 60 * arguments.minutes))
    # Inductor's own processes, each with a torch of its own, cost more than these small graphs.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    if not arguments.dry_run:
        if not torch.cuda.is_available():
            print("bench.gpu_suite needs a CUDA device, and PyTorch finds none", file=sys.stderr)
            return 3
        if "build" in arguments.parts:
            checks.build(deadline)
    import lesionkit

    backends = lesionkit.available_backends("cpu" if arguments.dry_run else "cuda")
    backends = [name for name in backends if name != "reference"]
    expected = backends if arguments.dry_run else machine.expected_backends()
    absent = machine.absent(expected, backends)
    if absent and not arguments.allow_missing and {*arguments.parts} - {"build", "engine"}:
        print("Backends are missing:", *absent, sep="\n  ", file=sys.stderr)
        print("--allow-missing goes on without them.", file=sys.stderr)
        return 1
    command = " ".join(["python -m bench.gpu_suite", *sys.argv[1:]])
    run = machine.describe() | {"backends": ", ".join(backends), "command": command}
    name = run["date"]
    result = {"device": run["device"], "runs": {}}
    if not arguments.dry_run:
        result = results.load(run["device"], arguments.results)
    result["runs"][name] = run
    result["backends"] = expected

    def keep() -> None:
        if not arguments.dry_run:
            results.save(result, arguments.results)

    parts = {"measurements"} if arguments.points else set()
    if not arguments.dry_run:
        parts |= {*arguments.parts}
    todo = [part for part in SHARES if part.removeprefix("core ") in parts]
    for position, part in enumerate(todo):
        shares = [SHARES[each] for each in todo[position:]]
        until = time.time() + (deadline - time.time()) * shares[0] / sum(shares)
        part, core = part.removeprefix("core "), part.startswith("core ")
        if part == "measurements":
            first = points.core(arguments.points)
            wanted = first if core else [p for p in arguments.points if p not in first]
            if arguments.missing:
                wanted = results.missing_points(result, wanted)
            measure(result, wanted, until, name, keep, compiled=not arguments.dry_run)
        else:
            if part == "tests":
                every, at_once = pytest_runs.core_tests() if core else pytest_runs.test_checks(), 1

                def run_one(check: str, seconds: float) -> dict:
                    # Those that passed before an earlier run's time was up are not run again.
                    done = results.passed_tests(result, check) if arguments.missing else []
                    return pytest_runs.tests(check, seconds, done) | {"backends": backends}

            elif part == "engine":
                every, run_one, at_once = checks.engine_checks(), checks.engine, 1
            else:
                every, run_one = checks.sanitizer_checks(expected, core), checks.sanitizer
                at_once = len(checks.TOOLS)
            others = [
                each
                for each in result.get(part, {}).get("expected", [])
                if each.endswith(" core") != core
            ]
            result.setdefault(part, {"rows": []})["expected"] = [*others, *every]
            wanted = results.missing_checks(result, part, every) if arguments.missing else every
            if part == "sanitizer":
                wanted = [check for check in wanted if check.split()[1] in backends]
            check(result, part, wanted, run_one, at_once, until, name, keep)
    return _conclude(result, name, arguments)


def check(
    result: dict,
    part: str,
    names: list[str],
    run_one: Callable[[str, float], dict],
    at_once: int,
    until: float,
    run: str,
    keep: Callable[[], None],
) -> None:
    """Run checks, some at once, none of them longer than twice its share of the time."""

    def outcome(name: str) -> dict:
        if left < 1:
            return {"check": name, "outcome": results.TIMED_OUT}
        try:
            return run_one(name, min(left, 2 * left * len(group) / behind))
        except Exception as error:  # such as no memory for another process
            return {"check": name, "outcome": "failed", "reason": str(error)}

    for start in range(0, len(names), at_once):
        group, behind = names[start : start + at_once], len(names) - start
        left = until - time.time()
        with ThreadPoolExecutor(at_once) as pool:
            for row in pool.map(outcome, group):
                results.add_check(result, part, row, run)
                keep()


def measure(
    result: dict,
    wanted: Iterable[points.Point],
    until: float,
    run: str,
    keep: Callable[[], None],
    compiled: bool = True,
) -> None:
    """Measure point after point while there is time."""
    from bench.gpu.timing import alive, described

    for point in wanted:
        if time.time() >= until:
            return
        rows, finished = [], False
        try:
            module = import_module(f"bench.gpu.{'psroi' if point.op == 'psroi' else 'attention'}")
            for row in module.rows(point, compiled):
                rows.append(row)
                print(json.dumps(row), flush=True)
                if time.time() >= until:
                    break
            else:
                finished = True
        except Exception as error:  # of what the implementations share, such as their inputs
            everything = {"direction": "all", "implementation": "all", "error": described(error)}
            rows.append(point.facts | everything)
        results.add_point(result, point, rows, finished, run)
        keep()
        if any("error" in row for row in rows) and not alive():
            print("The device no longer answers this process.", file=sys.stderr)
            return


def _conclude(result: dict, run: str, arguments: argparse.Namespace) -> int:
    """Print what was found; the exit code."""
    if arguments.dry_run:
        print(results.markdown(result | {"verdicts": results.verdicts(result)}))
        print("Dry run on the CPU: these figures mean nothing, and nothing was written.")
    else:
        for row in results.verdicts(result):
            print(f"{row['outcome']}: {row['target']}, {row['implementation']}: {row['numbers']}")
    left = results.missing_points(result, arguments.points)
    if left:
        print(f"NOT MEASURED: {len(left)} of {len(arguments.points)} points", file=sys.stderr)
    failed = results.failures(result, run)
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
