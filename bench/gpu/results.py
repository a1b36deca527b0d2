"""The results file: rows of every part, each of the run that it was last measured in.

A run adds to the file. Rows of the same size, type, direction and implementation are replaced, and
only by what is complete: a size whose measurement was cut or lacks a backend, or a check that ran
out of time, leaves what an earlier run found. `backends` are those that a complete size has.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from bench.gpu.points import CHECKS, OPS, Point, label
from bench.gpu.report import markdown
from bench.gpu.verdicts import covered, settled, verdicts

KEY = ("op", "shape", "rois", "dtype", "direction", "implementation", "check")
TIMED_OUT = "timed out"


def path_of(device: str, folder: Path) -> Path:
    return folder / f"{device.replace(' ', '_').replace('/', '_')}.json"


def load(device: str, folder: Path) -> dict:
    """The device's results, empty if there are none."""
    path = path_of(device, folder)
    return json.loads(path.read_text()) if path.exists() else {"device": device, "runs": {}}


def add_point(result: dict, point: Point, rows: list[dict], finished: bool, run: str) -> None:
    """Put a point's rows into the results; `finished` tells that the measurement was not cut."""
    part = result.setdefault(point.op, {"finished": [], "rows": []})
    finished = finished and _covers(rows, result.get("backends", []))
    if point.label in part["finished"] and not finished:
        return
    kept = part["rows"]
    if finished:
        kept = [row for row in kept if label(row) != point.label]
        part["finished"] = sorted({*part["finished"], point.label})
    part["rows"] = _merged(kept, [row | {"run": run} for row in rows])


def add_check(result: dict, part: str, row: dict, run: str) -> None:
    """Put the outcome of a test file or of a tool of the sanitizer into the results."""
    rows = result.setdefault(part, {"rows": []})["rows"]
    before = next((old for old in rows if old["check"] == row["check"]), None)
    if before and before["outcome"] != TIMED_OUT and row["outcome"] == TIMED_OUT:
        return
    result[part]["rows"] = _merged(rows, [row | {"run": run}])


def missing_points(result: dict, points: Iterable[Point]) -> list[Point]:
    """Those that the results have not, or not all of, or with errors."""
    backends = result.get("backends", [])
    return [point for point in points if not _whole(result.get(point.op), point, backends)]


def missing_checks(result: dict, part: str, checks: Iterable[str]) -> list[str]:
    """Those that did not pass yet, on all backends that are expected now."""
    rows, backends = result.get(part, {"rows": []})["rows"], {*result.get("backends", [])}
    done = {row["check"] for row in rows if settled(row, part) and covered(row, backends)}
    return [check for check in checks if check not in done]


def passed_tests(result: dict, check: str) -> list[str]:
    """Those of a check that passed before its time was up."""
    rows = result.get("tests", {"rows": []})["rows"]
    return next((row.get("passed_tests", []) for row in rows if row["check"] == check), [])


def save(result: dict, folder: Path) -> None:
    """Write the JSON, with the verdicts on the targets, and its table."""
    parts = [result[name] for name in (*CHECKS, *OPS) if name in result]
    used = {row["run"] for part in parts for row in part["rows"]}
    result["runs"] = {name: run for name, run in result["runs"].items() if name in used}
    result["verdicts"] = verdicts(result)
    folder.mkdir(parents=True, exist_ok=True)
    target = path_of(result["device"], folder)
    for path, text in (
        (target, json.dumps(result, indent=1) + "\n"),
        (target.with_suffix(".md"), markdown(result)),
    ):
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)


def failures(result: dict, run: str) -> list[str]:
    """What went wrong in this run."""
    found = []
    for part in (name for name in (*CHECKS, *OPS) if name in result):
        for row in result[part]["rows"]:
            if row["run"] != run:
                continue
            if row.get("outcome", "passed") not in ("passed", "skipped"):
                found.append(f"{part}: {row['check']}: {row['outcome']}")
            if "error" in row:
                found.append(f"{part}: {label(row)}: {row['implementation']}: {row['error']}")
    return found


def _whole(part: dict | None, point: Point, backends: Iterable[str]) -> bool:
    if part is None or point.label not in part["finished"]:
        return False
    rows = [row for row in part["rows"] if label(row) == point.label]
    return _covers(rows, backends) and all("error" not in row for row in rows)


def _covers(rows: list[dict], backends: Iterable[str]) -> bool:
    """Whether every direction has a row of every backend."""
    found = {(row["direction"], row["implementation"]) for row in rows}
    ways = {row["direction"] for row in rows}
    return bool(rows) and all((way, name) in found for way in ways for name in backends)


def _merged(before: list[dict], new: list[dict]) -> list[dict]:
    rows = {tuple(str(row.get(name)) for name in KEY): row for row in [*before, *new]}
    return list(rows.values())
