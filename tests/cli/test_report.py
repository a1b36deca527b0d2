import json
import re
import shutil

import pytest

from lesionkit.data import DeepLesion
from tests import chromium

from .lk import assert_refused, lesionkit, tree

pytest.importorskip("PIL")


def report(folder, out, *options):
    code, printed, err = lesionkit("report", folder, "--out", out, *options)
    assert code == 0, err
    assert {*tree(out)} == {"config.json", "report.html"}
    assert printed.startswith(f"{out / 'report.html'}: ")
    return (out / "report.html").read_text(encoding="utf-8")


def embedded(html):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(text)


def headings(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_evaluation(eval_result, data, tmp_path):
    html = report(eval_result, tmp_path / "out", "--attention", 1)
    dataset = DeepLesion(data)
    slices = embedded(html)["slices"]
    assert [part["name"] for part in slices] == [record.file_name for record in dataset]
    for part, record in zip(slices, dataset, strict=True):
        truth = [box["corners"] for box in part["boxes"] if box["kind"] == "truth"]
        assert truth == [pytest.approx(box, abs=0.01) for box in record.boxes.tolist()]
        assert part["window"] == [*record.lesions[0].window]
    name = dataset[0].file_name
    assert headings(html) == [
        *("Findings", "FROC", "Sensitivity", "Sensitivity by type, %"),
        *("Sensitivity by diameter, %", "Sensitivity by interval, %"),
        f"Contextual attention: first lesion of {name}",
        f"Spatial attention: first lesion of {name}",
        "How it was made",
    ]
    results = json.loads((eval_result / "results.json").read_text())
    assert f"{100 * results['mean_sensitivity']:.1f} %" in html
    assert "95 % interval from" in html


def test_scan(detect_result, series, tmp_path):
    html = report(detect_result, tmp_path / "out", "--window", "lung", "--slices", 5)
    found = json.loads((detect_result / "detections.json").read_text())
    page = embedded(html)
    assert page["window"] == 0
    assert len(page["slices"]) == 5
    searched = {detection["slice"] for detection in found["detections"]}
    shown = {int(re.match(r"slice (\d+), z", part["name"])[1]): part for part in page["slices"]}
    assert searched <= {*shown}
    for number, part in shown.items():
        own = [d for d in found["detections"] if d["slice"] == number]
        assert [box["score"] for box in part["boxes"]] == [
            pytest.approx(d["score"], abs=1e-4) for d in own
        ]
        assert part["edges"] == [*"RALP"]
    assert len(re.findall("<tr data-slice", html)) == len(found["findings"])
    assert f"5 of the {found['scan']['slices']} slices are here" in html
    assert "Contextual attention: finding 1" in html


def test_threshold_and_no_weights(detect_result, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(detect_result, other)
    config = json.loads((other / "config.json").read_text())
    config["arguments"]["weights"] = "gone.safetensors"
    (other / "config.json").write_text(json.dumps(config))
    html = report(other, tmp_path / "out", "--score-threshold", 1, "--slice-size", 32)
    assert "Nothing was found." in html
    assert "Attention is not shown" in html
    assert "shrunk to 32 pixels a side" in html
    assert max(max(part["stored"]) for part in embedded(html)["slices"]) == 32


def test_training(trained, tmp_path):
    html = report(trained, tmp_path / "out")
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert headings(html) == ["Training", "Epochs", "How it was made"]
    for line in lines:
        assert f"<td>{line['loss_class']:.4f}</td>" in html
    assert 'id="viewer"' not in html


def test_demo(eval_result, trained, data, tmp_path):
    """A folder as lesionkit demo leaves it: the data in it, and a plot with no intervals."""
    demo = tmp_path / "demo"
    demo.mkdir()
    names = {record.file_name for record in DeepLesion(data, split="test")}
    found = json.loads((eval_result / "detections.json").read_text())
    found["images"] = [image for image in found["images"] if image["file_name"] in names]
    (demo / "detections.json").write_text(json.dumps(found))
    (demo / "results.json").write_text(json.dumps({"data": "synthetic & <small>"}))
    config = {"lesionkit": "1", "command": "demo", "arguments": {"patients": 3}}
    (demo / "config.json").write_text(json.dumps(config))
    (demo / "data").symlink_to(data)
    shutil.copy(trained / "weights.safetensors", demo)
    html = report(demo, tmp_path / "out")
    assert len(embedded(html)["slices"]) == len(names)
    assert "Data: synthetic &amp; &lt;small&gt;." in html
    assert "FROC" in headings(html)
    assert "Spatial attention" in html


@pytest.mark.skipif(chromium.PATH is None, reason=chromium.MISSING)
def test_pages_open_in_a_browser(eval_result, detect_result, trained, tmp_path):
    pages = {}
    for name, folder in (("eval", eval_result), ("detect", detect_result), ("train", trained)):
        report(folder, tmp_path / name, "--attention", 1)
        pages[name] = tmp_path / name / "report.html"
    browser = chromium.Browser()
    try:
        for name, path in pages.items():
            browser.open(path)
            if name != "train":
                browser.wait("viewer.dataset.slice === String(state.slice)")
                browser.press("n")
                browser.press("1")
                browser.wait("viewer.dataset.window === '0' && state.row !== null")
            pictures = "[...document.images].every(i => i.complete && i.naturalWidth > 500)"
            assert browser.evaluate(pictures), name
            assert browser.evaluate("document.documentElement.scrollWidth") == 1200, name
            assert browser.problems == [], name
            assert [a for a in browser.requests if not a.startswith("data:")] == [path.as_uri()]
    finally:
        browser.close()


def test_refused(eval_result, data, trained, tmp_path):
    out = ("--out", tmp_path / "out")
    assert_refused(lesionkit("report", tmp_path / "none", *out), "none: no such folder")
    assert_refused(
        lesionkit("report", data, *out), "lesionkit synth", "detect, eval, demo or train"
    )
    assert_refused(lesionkit("report", eval_result, *out, "--data", tmp_path / "x"), "x", "--data")
    assert_refused(lesionkit("report", eval_result, *out, "--window", "5"), "--window", "LOW,HIGH")
    last = trained / "last.safetensors"
    if last.is_file():
        result = lesionkit("report", eval_result, *out, "--weights", last)
        assert_refused(result, "not the weights that made the results")
    assert_refused(lesionkit("report", eval_result, *out, "--weights", "no"), "no: no such file")
    assert not (tmp_path / "out").exists()
