"""What the results file keeps, what it says of the targets, and its tables."""

import json

import pytest

from bench.gpu import results
from bench.gpu.points import OPS, Point, planned
from bench.gpu.report import markdown
from bench.gpu.verdicts import COMPILED, OWN, STEPS, verdicts

POINT = planned("spatial")[0]
DEVICE = "Some GPU 80GB"


def row(implementation, microseconds=10.0, point=POINT, direction="forward", **more):
    facts = {"direction": direction, "implementation": implementation}
    if implementation in OWN:
        facts["fraction_of_copy"] = 0.95
    times = {"microseconds": microseconds, "call_microseconds": 5.0}
    return point.facts | facts | times | more


def empty(*runs):
    return {"device": DEVICE, "runs": {run: {"torch": "2.11", "cupy": None} for run in runs}}


def rows_of(result, op="spatial"):
    return {(r["implementation"], r["direction"]): r for r in result[op]["rows"]}


def test_a_point_measured_again_replaces_all_its_rows():
    result = empty("old", "new")
    results.add_point(result, POINT, [row("cuda", 1.0), row("triton", 2.0)], True, "old")
    other = POINT._replace(dtype="float16")
    results.add_point(result, other, [row("cuda", 7.0, other)], True, "old")
    results.add_point(result, POINT, [row("cuda", 3.0)], True, "new")
    found = {(r["dtype"], r["microseconds"], r["run"]) for r in result["spatial"]["rows"]}
    assert found == {("bfloat16", 3.0, "new"), ("float16", 7.0, "old")}


def test_a_cut_measurement_never_replaces_a_whole_one():
    result = empty("old", "new")
    results.add_point(result, POINT, [row("cuda", 1.0)], False, "old")
    assert result["spatial"]["finished"] == []
    results.add_point(result, POINT, [row("cuda", 2.0), row("triton", 2.0)], True, "old")
    results.add_point(result, POINT, [row("cuda", 9.0)], False, "new")
    assert [r["microseconds"] for r in result["spatial"]["rows"]] == [2.0, 2.0]
    assert result["spatial"]["finished"] == [POINT.label]


def test_a_cut_measurement_adds_to_another_cut_one():
    result = empty("a", "b")
    results.add_point(result, POINT, [row("cuda", 1.0), row("triton", 2.0)], False, "a")
    results.add_point(result, POINT, [row("cuda", 3.0)], False, "b")
    found = {name: r["microseconds"] for (name, _), r in rows_of(result).items()}
    assert found == {"cuda": 3.0, "triton": 2.0}


def test_what_is_missing():
    result, points = empty("a"), planned("spatial")[:3]
    results.add_point(result, points[0], [row("cuda", 1.0)], True, "a")
    results.add_point(result, points[1], [row("cuda", point=points[1])], False, "a")
    wrong = row("cuda", point=points[2], error="RuntimeError: out of memory")
    results.add_point(result, points[2], [wrong], True, "a")
    assert results.missing_points(result, points) == points[1:]
    assert results.failures(result, "a") == [
        f"spatial: {points[2].label}: cuda: RuntimeError: out of memory"
    ]
    assert results.failures(result, "b") == []


def test_a_point_is_whole_with_every_expected_backend():
    result = empty("a") | {"backends": ["cuda", "triton"]}
    results.add_point(result, POINT, [row(STEPS)], True, "a")
    assert results.missing_points(result, [POINT]) == [POINT]
    results.add_point(result, POINT, [row("cuda"), row("triton"), row(STEPS)], True, "a")
    assert results.missing_points(result, [POINT]) == []
    results.add_point(result, POINT, [row("cuda", 99.0)], True, "a")
    assert rows_of(result)["cuda", "forward"]["microseconds"] == 10.0
    result["backends"].append("nvrtc")
    assert results.missing_points(result, [POINT]) == [POINT]


def test_a_check_counts_for_the_backends_that_were_there():
    result = empty("a") | {"backends": ["cuda"]}
    passed = {"check": "x.py", "outcome": "passed", "backends": ["cuda"]}
    results.add_check(result, "tests", passed, "a")
    assert results.missing_checks(result, "tests", ["x.py"]) == []
    result["backends"] = ["cuda", "triton"]
    assert results.missing_checks(result, "tests", ["x.py"]) == ["x.py"]


def test_a_check_out_of_time_leaves_an_earlier_outcome():
    result = empty("a", "b")
    for outcome in ("timed out", "passed", "timed out"):
        results.add_check(result, "tests", {"check": "x.py", "outcome": outcome}, "a")
    assert [r["outcome"] for r in result["tests"]["rows"]] == ["passed"]
    results.add_check(result, "tests", {"check": "x.py", "outcome": "failed"}, "b")
    results.add_check(result, "tests", {"check": "y.py", "outcome": "skipped"}, "b")
    checks = ["x.py", "y.py", "z.py"]
    assert results.missing_checks(result, "tests", checks) == checks
    results.add_check(result, "tests", {"check": LACKING, "outcome": "skipped"}, "b")
    assert results.missing_checks(result, "tests", [LACKING]) == []
    assert results.failures(result, "b") == ["tests: x.py: failed"]


def test_saved_and_loaded(tmp_path):
    result = empty("a", "unused")
    results.add_point(result, POINT, [row("cuda", 1.0)], True, "a")
    results.save(result, tmp_path)
    loaded = results.load(DEVICE, tmp_path)
    assert loaded["spatial"] == result["spatial"]
    assert list(loaded["runs"]) == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "Some_GPU_80GB.json",
        "Some_GPU_80GB.md",
    }
    table = (tmp_path / "Some_GPU_80GB.md").read_text()
    assert "- a: torch 2.11\n" in table
    results.add_point(loaded, planned("dual")[0], [row("cuda", 1.0, planned("dual")[0])], True, "b")
    loaded["runs"]["b"] = {"torch": "2.12"}
    results.save(loaded, tmp_path)
    saved = json.loads((tmp_path / "Some_GPU_80GB.json").read_text())
    assert set(saved) == {"device", "runs", "spatial", "dual", "verdicts"}
    assert results.load("another", tmp_path) == {"device": "another", "runs": {}}


def test_table_compares_the_fastest_of_both():
    result = empty("a")
    group = [
        row("cuda", 10.0, peak_bytes=45),
        row("triton", 12.5, fraction_of_copy=0.75, peak_bytes=50),
        row(COMPILED[0], 15.0, peak_bytes=60),
        row(STEPS, 40.0, peak_bytes=100),
        POINT.facts | {"direction": "forward", "implementation": "nvrtc", "error": "no CuPy"},
    ]
    results.add_point(result, POINT, group, True, "a")
    results.add_check(result, "tests", {"check": "x.py", "outcome": "passed", "passed": 5}, "a")
    text = markdown(result | {"verdicts": verdicts(result)})
    (line,) = [line for line in text.splitlines() if line.startswith("| [1")]
    assert "cuda 10.0 (0.95); triton 12.5 (0.75) | 5.0; 5.0 |" in line
    assert "| compiled, collapsed 15.0 | 1.50 | 0.45 of eager | nvrtc: no CuPy | a |" in line
    assert "| x.py | passed, passed 5 | a |" in text
    assert f"Not measured, or not all of it: {planned('spatial')[1].label}; " in text


LACKING = "tests/gpu/test_engine.py"  # what it needs may be missing


def all_measured():
    """A result in which every target is just met."""
    result = empty("a")
    for point in (point for op in OPS for point in planned(op)):
        rows = []
        for direction in ("forward", "backward", "forward + backward"):
            for name in OWN:
                rows.append(
                    row(name, 10.0, point, direction, fraction_of_copy=0.9, peak_bytes=45)
                    | {"call_microseconds": 12.0}
                )
            if point.op == "psroi":
                rows.append(row("torchvision", 40.0, point, direction))
            elif direction != "backward":
                rows += [row(name, 10.0, point, direction) for name in COMPILED]
                rows.append(row(STEPS, 50.0, point, direction, peak_bytes=100))
        results.add_point(result, point, rows, True, "a")
    for part in ("tests", "sanitizer"):
        results.add_check(result, part, {"check": "one", "outcome": "passed"}, "a")
        results.add_check(result, part, {"check": LACKING, "outcome": "skipped"}, "a")
        result[part]["expected"] = ["one", LACKING]
    return result


def outcomes(result, outcome):
    return {
        (row["target"].split(",")[0].split(":")[0], row["implementation"])
        for row in verdicts(result)
        if row["outcome"] == outcome
    }


def test_nothing_is_met_before_it_is_measured():
    assert len(outcomes(empty(), "not measured")) == len(verdicts(empty())) == 15


def test_every_target_can_be_met():
    assert len(outcomes(all_measured(), "met")) == 15


@pytest.mark.parametrize(
    "op, dtype, implementation, change, target",
    [
        ("dual", "float32", "cuda", {"fraction_of_copy": 0.89},
         ("attention of 10 M elements or more", "cuda")),
        ("psroi", "float16", "torchvision", {"microseconds": 39.0}, ("PSROI", "triton")),
        ("spatial", "float16", COMPILED[1], {"microseconds": 9.9},
         ("attention never slower than torch.compile", "nvrtc")),
        ("contextual", "bfloat16", "nvrtc", {"peak_bytes": 46},
         ("peak memory of contextual attention", "nvrtc")),
        ("psroi", "bfloat16", "cuda", {"call_microseconds": 12.1},
         ("a call without gradients", "cuda")),
    ],
)  # fmt: skip
def test_one_figure_fails_a_target(op, dtype, implementation, change, target):
    result = all_measured()
    for each in result[op]["rows"]:
        first = each["shape"] == list(planned(op)[0].shape) and each.get("rois") in (None, 300)
        if first and each["dtype"] == dtype and each["implementation"] == implementation:
            each |= change
    failed = outcomes(result, "not met")
    assert target in failed
    assert {name for name, _ in failed} == {target[0]}


def test_one_figure_that_is_not_there_leaves_a_target_open():
    result = all_measured()
    result["contextual"]["rows"].pop(0)  # forward of cuda
    assert outcomes(result, "not measured") == {
        ("attention of 10 M elements or more", "cuda"),
        ("attention never slower than torch.compile", "cuda"),
        ("a call without gradients", "cuda"),
    }
    result["tests"]["expected"].append("three")
    result["sanitizer"]["rows"][0]["outcome"] = "failed"
    assert ("correct on every backend", "all") in outcomes(result, "not measured")
    assert outcomes(result, "not met") == {("sanitizer clean", "all")}


def test_a_verdict_names_its_worst_figure():
    result = all_measured()
    point = Point("psroi", (1, 2450, 64, 64), "float32", 300)
    for each in result["psroi"]["rows"]:
        if each["implementation"] == "cuda" and each["dtype"] == "float32":
            each["microseconds"] = 8.0 if each["direction"] == "forward" else 16.0
    (verdict,) = [
        v
        for v in verdicts(result)
        if "torchvision" in v["target"] and v["implementation"] == "cuda"
    ]
    worst = f"worst 2.5 (psroi {point.label}, backward); 1 fail of 4 of 4 figures"
    assert verdict["numbers"] == worst
    assert verdict["limit"] == "at least 4"
