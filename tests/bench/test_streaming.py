import pytest

from bench import streaming


def test_small(monkeypatch, tmp_path):
    for name, value in (("PRESET", "tiny"), ("SIDE", 64), ("IMAGES", 3), ("RESULTS", tmp_path)):
        monkeypatch.setattr(streaming, name, value)
    arguments = "streaming --device cpu --positions 6 --samples 2"
    monkeypatch.setattr("sys.argv", arguments.split())
    with pytest.raises(SystemExit):
        streaming.main()
    text = (tmp_path / "streaming_cpu.md").read_text()
    assert "| images through the backbone | 8 |" in text
    assert "| of sample by sample | 18 |" in text
    (line,) = [line for line in text.splitlines() if "difference of boxes" in line]
    assert float(line.split("|")[2]) < 1e-3
    assert "python -m bench.streaming --device cpu --positions 6 --samples 2`" in text
