import csv
import io

import numpy as np
import pytest

from lesionkit.evaluation import froc
from lesionkit.models import PRESETS
from lesionkit.tables import Variant, draw_curves, needed, table_lines, to_csv, to_markdown
from lesionkit.tables.lines import group_means
from lesionkit.tables.published import SENSITIVITY
from lesionkit.tables.variants import variants_of

from .made_up import detections, images

RECORDS = images()
NONE, C, S, BOTH = (Variant(15, c, s) for c, s in ((0, 0), (1, 0), (0, 1), (1, 1)))


@pytest.fixture(scope="module")
def runs():
    shares = {NONE: 0.5, S: 0.7, BOTH: 0.9}
    return {
        variant: [detections(RECORDS, share, seed) for seed in (1, 2)]
        for variant, share in shares.items()
    }


def cells(text, *starts):
    """The cells of the first row of Markdown that starts so, before the gains."""
    head = "| " + " | ".join(starts) + " |"
    line = next(line for line in text.splitlines() if line.startswith(head))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_variants():
    assert Variant.of(PRESETS["3dce_cs_att"]) == Variant(9, True, True)
    assert Variant.of(PRESETS["improved_rfcn"]).name == "improved R-FCN"
    assert [v.name for v in variants_of(3)] == ["3DCE", "3DCE + C_Att", "3DCE + S_Att", BOTH.name]
    every = needed((1, 2, 3))
    assert len(every) == len(set(every)) == len({v.slug for v in every}) == 9
    for variant in every:
        assert Variant.of(variant.detector(PRESETS["tiny"])) == variant
        assert Variant.of(variant.detector(PRESETS[variant.preset])) == variant


def test_the_gains_that_the_paper_reports():
    """Both modules' gain and their row are reported apart, and must agree."""
    gains = {C: (1.0, 0.8), S: (6.0, 1.5), BOTH: (7.8, 2.3)}
    for variant, wanted in gains.items():
        ours, baseline = SENSITIVITY[variant][0], SENSITIVITY[NONE][0]
        np.testing.assert_allclose([ours[r] - baseline[r] for r in (0.5, 4.0)], wanted, atol=1e-9)


def test_ablation(runs):
    lines = table_lines(3, runs, RECORDS)
    text = to_markdown(3, lines)
    wanted = np.mean([froc(d, [r.boxes for r in RECORDS]).sensitivity for d in runs[S]], axis=0)
    ours = cells(text, "3DCE + S_Att", "15", "2")[3:9]
    assert [cell.split()[0] for cell in ours] == [f"{100 * value:.1f}" for value in wanted]
    assert cells(text, "3DCE + C_Att", "15")[2:] == ["-"] * 8  # no run, and said so
    assert "| *Tao et al. 2019* |  |  | *63.0* | - | - | *85.2* | - | - | - |" in text
    assert "*+7.8* | - | - | *+2.3*" in text
    gain = [line.gain for line in lines]
    assert gain[0] is None
    assert gain[1] is None
    np.testing.assert_allclose(
        gain[2].value, lines[2].measured.sensitivity - lines[0].measured.sensitivity
    )


def test_csv_has_every_figure(runs):
    lines = table_lines(3, runs, RECORDS)
    rows = list(csv.DictReader(io.StringIO(to_csv(3, lines))))
    both = [row for row in rows if row["detector"] == BOTH.name]
    assert [row["fp_per_image"] for row in both] == ["0.5", "1", "2", "4", "8", "16", "mean"]
    assert [row["paper"] for row in both] == ["70.8", "78.6", "83.9", "87.5", "89.9", "91.4", ""]
    low, high = lines[3].measured.interval[:, 3]
    for key, value in (("low", low), ("high", high), ("gain", lines[3].gain.value[3])):
        assert float(both[3][key]) == pytest.approx(100 * value, abs=0.006)
    assert len(both[3]["of_seed"].split()) == int(both[3]["seeds"]) == 2
    (missing,) = [r for r in rows if r["detector"] == C.name and r["fp_per_image"] == "4"]
    assert (missing["sensitivity"], missing["paper"]) == ("", "86.0")


def test_groups(runs):
    lines = table_lines(2, runs, RECORDS)
    of = {(line.group, line.variant): line.measured for line in lines}
    assert of["liver", NONE].num_lesions == of["lung", NONE].num_lesions == 20
    assert of["bone", NONE] is None
    assert of["<10 mm", BOTH].num_lesions == 4  # 8 and 9 mm, in two images each
    assert of["<2.5 mm", BOTH].num_lesions == 20
    text = to_markdown(2, lines)
    assert cells(text, "type", "liver")[2] == "20"
    assert cells(text, "type", "bone")[2:] == ["0", "-", "-", "-", "-"]
    assert "*85.4*" in text
    assert "*87.6*" in text
    mean = next(m for m in group_means(lines) if (m.grouping, m.variant) == ("type", BOTH))
    livers, lungs = (of[name, BOTH].sensitivity[0] for name in ("liver", "lung"))
    assert mean.ours == pytest.approx(50 * (livers + lungs))


def test_slices(runs):
    lines = table_lines(1, runs, RECORDS, slices=(15, 27))
    assert [line.variant.slices for line in lines] == [3, 15, 27, 15, 27]
    text = to_markdown(1, lines)
    assert "*62.5*" in text  # 27 slices, from 3DCE's log
    assert cells(text, "3DCE_CS_Att", "27")[2] == "-"
    rows = list(csv.DictReader(io.StringIO(to_csv(1, lines))))
    assert {row["paper_source"] for row in rows if row["slices"] == "27"} == {
        "log of 3DCE (Yan et al. 2018)",
        "",
    }


def test_curves_are_drawn(runs, tmp_path):
    from PIL import Image

    draw_curves(tmp_path / "a.png", table_lines(3, runs, RECORDS), "Table 3")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (700, 500)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50


def test_no_run_at_all():
    assert "no run" in to_markdown(2, table_lines(2, {}, RECORDS))
    assert "*63.0*" in to_markdown(3, table_lines(3, {}, RECORDS))
