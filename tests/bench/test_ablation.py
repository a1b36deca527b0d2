import json
import sys

import pytest

from bench import ablation


def test_results_say_what_made_them(tmp_path, monkeypatch):
    calls = []

    def made_up(arguments):
        calls.append(arguments)
        for name in ("tables/table3.md", "tables/table3.csv", "tables/table3.png"):
            (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "work" / name).write_text(f"# {name}\n\ntext\n")
        run = tmp_path / "work" / "runs" / "3dce"
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
        return 0

    monkeypatch.setattr(ablation, "lesionkit", made_up)
    options = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["ablation", *options, "--seeds", "2", "training.epochs=1"])
    assert ablation.main() == 0
    (call,) = calls
    assert call[:4] == ["tables", "--out", str(tmp_path / "work"), "--overwrite"]
    assert call[-3:] == ["--seeds", "2", "training.epochs=1"]
    out = tmp_path / "out" / "ablation_synthetic.md"
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["trainings"] == 1
    assert facts["trainings_finished_before"] == 0
    text = out.read_text()
    assert text.startswith("# tables/table3.md\n\n`python -m bench.ablation")
    assert text.endswith("\n\ntext\n")
    assert f"commit {facts['commit']}" in text
    assert out.with_suffix(".csv").read_text() == "# tables/table3.csv\n\ntext\n"
    assert out.with_suffix(".png").exists()


@pytest.mark.parametrize("code", (2, 130))
def test_a_failure_writes_nothing(tmp_path, monkeypatch, code):
    monkeypatch.setattr(ablation, "lesionkit", lambda arguments: code)
    monkeypatch.setattr(sys, "argv", ["ablation", "--out", str(tmp_path / "out")])
    assert ablation.main() == code
    assert not (tmp_path / "out").exists()
