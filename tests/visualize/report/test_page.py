import base64
import io
import json
import re

import numpy as np
import pytest

from lesionkit.visualize.report.page import (
    Box,
    Figure,
    Finding,
    Page,
    Slice,
    Table,
    precision_note,
    render,
)
from lesionkit.visualize.report.pixels import LEVELS, encode, shrink, slice_uri

Image = pytest.importorskip("PIL.Image")

EVIL = "</script><script>alert('1')</script>{{title}} & \"x\""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def page(**changes):
    hu = np.full((20, 30), 40, np.int16)
    slices = [
        Slice(EVIL, hu, (1.0, 1.0), [Box((1, 2, 3, 4), "found", 0.5)]),
        Slice("slice 1", hu, (1.0, 1.0), [], window=(-10.0, 10.0)),
    ]
    values = {
        "title": EVIL,
        "facts": [(EVIL, EVIL)],
        "notes": [EVIL],
        "slices": slices,
        "columns": (EVIL,),
        "findings": [Finding((EVIL,), "found", 0, 0), Finding((EVIL,), "found")],
        "parts": [Figure(EVIL, EVIL, PNG), Table(EVIL, (EVIL,), [(EVIL,)], EVIL)],
        "settings": {EVIL: EVIL},
    }
    return Page(**values | changes)


def embedded(html):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(text)


def test_no_text_of_the_user_becomes_markup():
    html = render(page(), 64)
    assert "<script>alert" not in html
    assert html.count("<script") == 2  # the data and the viewer
    assert html.count("</script>") == 2
    assert embedded(html)["slices"][0]["name"] == EVIL
    text = EVIL.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = text.replace('"', "&quot;").replace("'", "&#x27;")
    assert f"<title>{text}</title>" in html  # braces in a value are no place to fill


def test_nothing_is_fetched():
    html = render(page(), 64)
    assert "default-src 'none'" in html
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link(?! rel=\"icon\" href=\"data:)", html)
    assert {address[:15] for address in re.findall(r'(?:src|href)="([^"]*)"', html)} == {
        "data:image/png;",
        "data:,",
    }


def test_rows_without_a_slice_have_no_button():
    html = render(page(), 64)
    assert html.count("<tr data-slice") == 1
    assert html.count('<button type="button" aria-label="Show 1: ') == 1


def test_page_without_slices_has_no_viewer():
    html = render(page(slices=[], findings=[]), 64)
    assert 'id="viewer"' not in html
    assert 'id="data"' in html


@pytest.mark.parametrize(
    "window, first, names",
    [
        (None, 3, ["Lung", "Soft tissue", "Bone", "DICOM"]),
        ((-500.0, 1300.0), 2, ["Lung", "Soft tissue", "Bone", "DICOM"]),
        ((0.0, 80.0), 4, ["Lung", "Soft tissue", "Bone", "DICOM", "Chosen"]),
    ],
)
def test_windows(window, first, names):
    data = embedded(render(page(), 64, window))
    assert data["window"] == first
    assert [entry["name"] for entry in data["windows"]] == names
    assert data["windows"][1]["range"] == [-150, 250]
    if window:
        assert data["windows"][first]["range"] == [*window]


def test_soft_tissue_is_first_where_no_slice_has_a_window():
    slices = [Slice("a", np.zeros((9, 9)), (1, 1))]
    data = embedded(render(page(slices=slices, findings=[]), 64))
    assert (data["window"], len(data["windows"])) == (1, 3)


def test_codes_are_as_precise_as_the_note_says():
    assert len(LEVELS) == 256
    assert (LEVELS[0], LEVELS[-1]) == (-1024, 1550)
    hu = np.arange(-4000, 4001)[None]
    error = np.abs(LEVELS[encode(hu)] - hu)[0]
    hu = hu[0]
    assert error[(hu >= -160) & (hu < 260)].max() <= 1.5
    assert error[(hu >= -1024) & (hu < -160)].max() <= 6
    assert error[(hu >= 260) & (hu <= 1550)].max() <= 15
    assert (LEVELS[encode(np.array([[-3000, 9000]]))] == (-1024, 1550)).all()
    assert "to 3 HU from -160 to 260 HU" in precision_note(64, 64)
    assert "shrunk to 64 pixels a side" in precision_note(64, 65)
    assert "shrunk" not in precision_note(64, 64)


def test_stored_slice_holds_its_codes():
    hu = np.random.default_rng(0).integers(-1024, 1500, (37, 50)).astype(np.int16)
    uri, size = slice_uri(hu, 64)
    assert size == (50, 37)
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as stored:
        assert stored.mode == "L"
        np.testing.assert_array_equal(np.asarray(stored), encode(hu))


def test_shrinking_counts_every_pixel():
    hu = np.zeros((100, 200), np.int16)
    hu[::2] = 100
    small = shrink(hu, 50)
    assert small.shape == (25, 50)
    np.testing.assert_allclose(small, 50, atol=6)
    assert shrink(hu, 200) is not None
    assert shrink(hu, 200).shape == hu.shape
    assert shrink(np.zeros((1, 4000), np.float32), 64).shape == (1, 64)
