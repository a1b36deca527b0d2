"""Whether the targets are met: met, not met, or not measured, with the worst figure.

A target is met only if all figures that it speaks of are there and hold, and not met as soon as
one does not.
"""

from collections.abc import Callable, Iterable

from bench.gpu.points import ATTENTION, OPS, Point, label, planned

OWN = ("cuda", "triton", "nvrtc")
STEPS = "eager, the paper's steps"
COMPILED = ("compiled, collapsed", "compiled, the paper's steps")
LARGE = 10_000_000  # elements
# Tests of what a host with a GPU may lack: TensorRT.
OPTIONAL = ("tests/gpu/test_engine.py", "tests/gpu/test_tensorrt_enqueue.py")


def verdicts(result: dict) -> list[dict]:
    """A row for each target and backend: target, implementation, outcome, numbers."""
    table = _table(result)
    found = [_checks(result, "tests"), _checks(result, "sanitizer")]
    everything = [point for op in OPS for point in planned(op)]
    attention = [point for point in everything if point.op in ATTENTION]
    large = [p for p in attention if p.numel >= LARGE and p.dtype in ("float32", "bfloat16")]
    target = [p for p in planned("psroi") if p.shape == (1, 2450, 64, 64) and p.rois == 300]
    for name in OWN:
        found += [
            _judged(
                "attention of 10 M elements or more: 90 % of a copy",
                *(name, 0.9, "at least"),
                _values(large, ("forward", "backward"), _copy(table, name)),
            ),
            _judged(
                "PSROI, stride 8, M = 5, 300 rois: 4 times torchvision",
                *(name, 4.0, "at least"),
                _values(
                    [p for p in target if p.dtype != "bfloat16"],
                    ("forward", "backward"),
                    _faster(table, name, ("torchvision",)),
                ),
            ),
            _judged(
                "attention never slower than torch.compile",
                *(name, 1.0, "at least"),
                _values(
                    attention,
                    ("forward", "forward + backward"),
                    _faster(table, name, COMPILED),
                ),
            ),
            _judged(
                "peak memory of contextual attention, forward + backward: 0.45 of eager",
                *(name, 0.45, "at most"),
                _values(planned("contextual"), ("forward + backward",), _memory(table, name)),
            ),
        ]
    return [
        *found,
        _judged(
            "a call without gradients: 12 microseconds of host time",
            *("cuda", 12.0, "at most"),
            _values(everything, ("forward",), _field(table, "cuda", "call_microseconds")),
        ),
    ]


def _table(result: dict) -> dict[tuple, dict]:
    return {
        (row["op"], label(row), row["direction"], row["implementation"]): row
        for op in OPS
        for row in result.get(op, {"rows": []})["rows"]
    }


def _values(
    points: Iterable[Point], directions: Iterable[str], figure: Callable
) -> dict[str, float | None]:
    """The figure of every point and direction, None where it was not measured."""
    return {
        f"{point.op} {point.label}, {direction}": figure(point, direction)
        for point in points
        for direction in directions
    }


def _field(table: dict, name: str, field: str) -> Callable:
    def figure(point: Point, direction: str) -> float | None:
        return table.get((point.op, point.label, direction, name), {}).get(field)

    return figure


def _copy(table: dict, name: str) -> Callable:
    return _field(table, name, "fraction_of_copy")


def _faster(table: dict, name: str, peers: tuple[str, ...]) -> Callable:
    """The fastest peer's time over ours."""

    def figure(point: Point, direction: str) -> float | None:
        ours, *theirs = (
            _field(table, each, "microseconds")(point, direction) for each in (name, *peers)
        )
        theirs = [time for time in theirs if time is not None]
        return min(theirs) / ours if ours and theirs else None

    return figure


def _memory(table: dict, name: str) -> Callable:
    def figure(point: Point, direction: str) -> float | None:
        ours, eager = (
            _field(table, each, "peak_bytes")(point, direction) for each in (name, STEPS)
        )
        return ours / eager if ours and eager else None

    return figure


def _judged(target: str, name: str, limit: float, way: str, values: dict) -> dict:
    there = {where: value for where, value in values.items() if value is not None}
    worst = min if way == "at least" else max
    holds = [value >= limit if way == "at least" else value <= limit for value in there.values()]
    numbers = f"{len(there)} of {len(values)} figures"
    if there:
        where = worst(there, key=there.get)
        numbers = f"worst {there[where]:.3g} ({where}); {holds.count(False)} fail of {numbers}"
    outcome = "not met" if False in holds else "met" if len(there) == len(values) else None
    return {
        "target": target,
        "implementation": name,
        "outcome": outcome or "not measured",
        "limit": f"{way} {limit:g}",
        "numbers": numbers,
    }


def settled(row: dict, part: str) -> bool:
    """Whether a check passed, or had nothing to run where that is no gap."""
    optional = part == "engine" or row["check"].startswith(OPTIONAL)
    return row["outcome"] == "passed" or (row["outcome"] == "skipped" and optional)


def covered(row: dict, backends: set[str]) -> bool:
    """Whether a check ran with all of these backends there; one of one backend names none."""
    return backends <= {*row.get("backends", backends)}


def _checks(result: dict, part: str) -> dict:
    """Met only if every check that belongs to the part passed, or had nothing to run here."""
    rows = result.get(part, {}).get("rows", [])
    expected = result.get(part, {}).get("expected", [])
    passed, failed, skipped = (
        [row["check"] for row in rows if row["outcome"] == outcome]
        for outcome in ("passed", "failed", "skipped")
    )
    backends = {*result.get("backends", [])}
    whole = passed and set(expected) <= {
        row["check"] for row in rows if settled(row, part) and covered(row, backends)
    }
    numbers = f"{len(passed)} of {len(expected)} checks passed, {len(skipped)} skipped"
    return {
        "target": {"tests": "correct on every backend", "sanitizer": "sanitizer clean"}[part],
        "implementation": "all",
        "outcome": "not met" if failed else "met" if whole else "not measured",
        "limit": "every check",
        "numbers": numbers + (f"; failed: {', '.join(failed)}" if failed else ""),
    }
