"""The page in a real browser: it shows what it should, by mouse and by keyboard."""

import numpy as np
import pytest

from lesionkit.visualize.report.page import Box, Finding, Page, Slice, render
from lesionkit.visualize.report.pixels import LEVELS, encode
from tests import chromium

pytest.importorskip("PIL")
pytestmark = pytest.mark.skipif(chromium.PATH is None, reason=chromium.MISSING)

COUNT = 25
NAME = "<script>console.error('run')</script>.png"
WINDOWS = {"1": (-1350, 150), "2": (-150, 250), "3": (-500, 1300), "4": (0, 100)}
GREEN, RED, BLUE = [70, 225, 90], [255, 107, 107], [80, 165, 255]


def page():
    slices = [
        Slice(
            name=f"{NAME} {number}",
            hu=np.full((40, 50), 20 + number, np.int16),  # each another grey
            spacing=(1.0, 1.0),
            boxes=[Box((10, 10, 19, 19), "hit", 0.9), Box((30, 20, 39, 29), "false", 0.3)],
            edges="RALP",
            window=WINDOWS["4"] if number else None,
        )
        for number in range(COUNT)
    ]
    rows = [Finding((NAME, "1"), "hit", place, 0) for place in (4, 8, 8, 20)]
    rows.append(Finding(("elsewhere", "2"), "false"))
    return Page(NAME, [("facts", "x" * 2000)], slices=slices, columns=("a", "b"), findings=rows)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(page(), 64, (-150.0, 250.0)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    browser = chromium.Browser()
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, path):
    """The page, just opened; at the end nothing has gone wrong in it and nothing was fetched."""
    browser.open(path)
    at(browser, 0)
    yield browser
    browser.evaluate("new Promise(requestAnimationFrame)")
    assert browser.problems == []
    fetched = {address for address in browser.requests if not address.startswith("data:")}
    assert fetched == {path.absolute().as_uri()}


def at(browser, place):
    browser.wait(f"viewer.dataset.slice === '{place}' && state.slice === {place}")


def pixel(browser, x, y):
    """The colour on the picture at a place of the slice, in the slice's pixels."""
    return browser.evaluate(
        "(() => { const c = document.getElementById('picture');"
        f"const at = [{x} / 50 * c.width, {y} / 40 * c.height].map(Math.floor);"
        "const dot = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });"
        "dot.drawImage(c, -at[0], -at[1]);"
        "return [...dot.getImageData(0, 0, 1, 1).data].slice(0, 3) })()"
    )


def grey(hu, window):
    """What a window makes of the HU that the page has kept."""
    low, high = window
    kept = LEVELS[encode(np.array(hu))]
    return [round(255 * min(max((kept - low) / (high - low), 0), 1))] * 3


def test_it_loads_and_shows_the_first_slice(opened):
    assert opened.evaluate("document.title") == NAME
    assert NAME in opened.evaluate("document.getElementById('where').textContent")
    assert "(1 of 25), -150 to 250 HU, 1 true positive, 1 false positive" in opened.evaluate(
        "document.getElementById('picture').getAttribute('aria-label')"
    )
    assert pixel(opened, 45.5, 5.5) == grey(20, WINDOWS["2"])
    assert opened.evaluate("document.querySelectorAll('script').length") == 2


def test_boxes_lie_on_their_pixels_and_can_be_hidden(opened):
    assert pixel(opened, 10, 15) == GREEN
    assert pixel(opened, 20, 15) == GREEN  # the end is inclusive
    assert RED in [pixel(opened, 30 + step / 10, 30) for step in range(20)]  # dots
    inside = pixel(opened, 15, 15)
    assert inside == grey(20, WINDOWS["2"])
    opened.press("b")
    opened.wait("viewer.dataset.boxes === 'false'")
    assert pixel(opened, 10, 15) == inside
    assert opened.evaluate("document.getElementById('boxes').checked") is False


def test_keys_scroll_through_the_slices(opened):
    place = 0
    for key, step in (
        ("ArrowDown", 1), ("ArrowRight", 1), ("PageDown", 10), ("ArrowUp", -1), ("ArrowLeft", -1),
        ("PageUp", -10), ("ArrowLeft", 0), ("End", COUNT - 1), ("ArrowDown", 0),
        ("Home", 1 - COUNT),
    ):  # fmt: skip
        opened.press(key)
        place += step
        at(opened, place)
        assert opened.evaluate("+document.getElementById('slider').value") == place
    opened.press("PageDown")
    at(opened, 10)
    assert pixel(opened, 45.5, 5.5) == grey(30, WINDOWS["2"])


def test_keys_switch_the_window(opened):
    opened.press("ArrowDown")
    at(opened, 1)
    for key, window in WINDOWS.items():
        opened.press(key)
        opened.wait(f"viewer.dataset.window === '{int(key) - 1}'")
        assert pixel(opened, 45.5, 5.5) == grey(21, window)
        pressed = opened.evaluate(
            "[...document.querySelectorAll('[aria-pressed=true]')].map(b => b.dataset.window)"
        )
        assert pressed == [str(int(key) - 1)]
    opened.press("9")
    opened.press("ArrowUp")
    at(opened, 0)  # which has no window of its own
    assert pixel(opened, 45.5, 5.5) == grey(20, WINDOWS["2"])
    opened.evaluate("document.querySelector('[data-window=\"2\"]').click()")
    opened.wait("viewer.dataset.window === '2'")


def test_wheel_slider_and_a_window_of_another_size(opened):
    x, y = opened.evaluate(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        "(document.getElementById('picture').getBoundingClientRect())"
    )
    opened.wheel(x, y, 100)
    at(opened, 1)
    opened.evaluate(
        "(slider => { slider.value = 17; slider.dispatchEvent(new Event('input')) })"
        "(document.getElementById('slider'))"
    )
    at(opened, 17)
    assert opened.evaluate("document.documentElement.scrollWidth") == 1200
    before = opened.evaluate("document.getElementById('picture').width")
    opened.evaluate("document.body.style.width = '700px', dispatchEvent(new Event('resize'))")
    opened.wait(f"document.getElementById('picture').width < {before}")
    assert pixel(opened, 45.5, 5.5) == grey(37, WINDOWS["2"])


def test_findings_lead_to_their_slices(opened):
    current = "[...document.querySelectorAll('tbody tr')].map(r => r.getAttribute('aria-current'))"
    opened.evaluate("document.querySelectorAll('tr[data-slice]')[1].children[1].click()")
    at(opened, 8)
    assert opened.evaluate(current) == [None, "true", None, None, None]
    assert opened.evaluate("document.querySelectorAll('tr.here').length") == 2
    for key, place in (("n", 8), ("n", 20), ("n", 20), ("p", 8), ("p", 8), ("p", 4)):
        opened.press(key)
        at(opened, place)
    opened.press("ArrowDown")
    at(opened, 5)
    assert opened.evaluate(current) == [None] * 5
    assert (
        opened.evaluate("document.querySelectorAll('tbody tr')[4].querySelector('button')") is None
    )


def test_tab_goes_through_all_controls_and_focus_is_seen(opened):
    seen = []
    for _ in range(12):
        opened.press("Tab")
        seen.append(
            opened.evaluate(
                "(e => e.id || e.dataset.window || e.getAttribute('aria-label'))"
                "(document.activeElement)"
            )
        )
        style = "(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.activeElement))"
        assert opened.evaluate(style) == ["solid", "3px"]
    assert seen[:8] == ["viewer", "0", "1", "2", "3", "slider", "boxes", "Findings"]
    assert seen[8] == f"Show 1: {NAME}, 1"
    opened.press("Tab", shift=True)
    opened.press("Enter")
    at(opened, 8)
    opened.press("ArrowDown")  # in the table, arrows do what they do in tables
    opened.evaluate("new Promise(requestAnimationFrame)")
    at(opened, 8)


def test_everything_has_a_name(opened):
    nameless = opened.evaluate(
        "[...document.querySelectorAll('button, input, canvas, img, [role], [tabindex]')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.alt || e.textContent.trim()"
        " || e.labels?.length || e.role === 'status'))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []
    assert opened.evaluate("document.documentElement.lang") == "en"


def test_scores_do_not_cover_each_other(opened):
    places = opened.evaluate(
        "(() => { const taken = []; for (let i = 0; i < 5; i++) taken.push([...freePlace("
        "{ width: 300, height: 200 }, [100 + i, 80 - i, 60, 40], [30, 16], taken), 30, 16]);"
        "return taken })()"
    )
    for number, (x, y, width, height) in enumerate(places):
        assert 0 <= x <= 300 - width
        assert 0 <= y <= 200 - height
        for a, b, c, d in places[:number]:
            assert x >= a + c or a >= x + width or y >= b + d or b >= y + height
    corner = "freePlace({ width: 300, height: 200 }, [290, -20, 60, 10], [30, 16], [])"
    assert opened.evaluate(corner) == [270, 0]
