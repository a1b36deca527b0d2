"""What a page says, and its HTML."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

import numpy as np

from lesionkit.version import __version__
from lesionkit.visualize.report.pixels import LEVELS, PRECISION, data_uri, slice_uri
from lesionkit.visualize.windows import WINDOWS, window_range

KINDS = {
    "truth": "ground truth",
    "hit": "true positive",
    "false": "false positive",
    "found": "detection",
}


@dataclass(frozen=True)
class Box:
    """corners: xyxy in pixels of the slice, inclusive ends. kind: key of ``KINDS``."""

    corners: tuple[float, float, float, float]
    kind: str
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Slice:
    """One picture of the viewer.

    Attributes:
        name: what it is called.
        hu: [H, W].
        spacing: mm between columns and between rows.
        boxes: drawn on it.
        edges: letters of the patient's sides at its left, top, right and bottom; "" unknown.
        window: HU that its scanner or radiologist chose, low and high.
    """

    name: str
    hu: np.ndarray
    spacing: tuple[float, float]
    boxes: Sequence[Box] = ()
    edges: Sequence[str] = ("", "", "", "")
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Finding:
    """A row of the findings table; ``slice`` and ``box`` are places in the page's lists."""

    cells: Sequence[str]
    kind: str
    slice: int | None = None
    box: int | None = None


@dataclass(frozen=True)
class Figure:
    """A picture as PNG and the text that says what is on it; ``width`` in the page's pixels."""

    title: str
    text: str
    png: bytes
    width: int = 1160


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(eq=False)
class Page:
    """All that a page shows, from top to bottom.

    Attributes:
        slices: an iterable, since slices take memory; in the order of the viewer.
        notes: of what is left out or has been done to the slices.
    """

    title: str
    facts: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)
    slices: Iterable[Slice] = ()
    columns: Sequence[str] = ()
    findings: list[Finding] = field(default_factory=list)
    start: int = 0
    parts: list[Figure | Table] = field(default_factory=list)
    settings: object = None


def render(page: Page, side: int, window: tuple[float, float] | None = None) -> str:
    """The HTML of a page, with slices of at most ``side`` pixels a side.

    ``window`` is the one shown first; by default each slice's own, or soft tissue.
    """
    slices = [_slice_data(part, side) for part in page.slices]
    windows = [{"name": name.capitalize(), "range": window_range(name)} for name in WINDOWS]
    first = list(WINDOWS).index("soft tissue")
    if any(part["window"] for part in slices):
        first = len(windows)
        windows.append({"name": "DICOM", "range": None})
    if window is not None:
        ranges = [entry["range"] for entry in windows]
        first = ranges.index(window) if window in ranges else len(windows)
        if first == len(windows):
            windows.append({"name": "Chosen", "range": window})
    data = {
        "slices": slices,
        "windows": windows,
        "window": first,
        "start": page.start,
        "levels": LEVELS.tolist(),
    }
    values = {
        "title": escape(page.title),
        "css": _file("page.css"),
        "script": _file("page.js"),
        # Within a script, only "<" could end it early.
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "facts": "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in page.facts
        ),
        "notes": "".join(f"<li>{escape(note)}</li>" for note in page.notes),
        "viewer": _viewer(page, windows, len(slices)) if slices else "",
        "parts": "".join(
            _figure(part) if isinstance(part, Figure) else _table(part) for part in page.parts
        ),
        "settings": escape(json.dumps(page.settings, indent=1, ensure_ascii=False)),
        "version": escape(__version__),
    }
    # In one pass, so that no value is searched for names.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _file("page.html"))


def _file(name: str) -> str:
    return files("lesionkit.visualize.report").joinpath(name).read_text(encoding="utf-8")


def _slice_data(part: Slice, side: int) -> dict:
    uri, (width, height) = slice_uri(part.hu, side)
    rows, columns = part.hu.shape
    return {
        "name": part.name,
        "image": uri,
        "stored": [width, height],
        "size": [columns, rows],
        "spacing": part.spacing,
        "edges": part.edges,
        "window": part.window,
        "boxes": [
            {
                "corners": [round(float(value), 2) for value in box.corners],
                "kind": box.kind,
                "score": None if box.score is None else round(float(box.score), 4),
            }
            for box in part.boxes
        ],
    }


def _viewer(page: Page, windows: Sequence[dict], count: int) -> str:
    buttons = "".join(
        f'<button type="button" data-window="{place}" aria-pressed="false" '
        f'aria-keyshortcuts="{place + 1}"><kbd>{place + 1}</kbd> {escape(entry["name"])} '
        f"<span>{_range_text(entry['range'])}</span></button>"
        for place, entry in enumerate(windows)
    )
    kinds = {finding.kind for finding in page.findings}
    shown = [kind for kind in KINDS if kind in kinds or (kind == "truth" and "hit" in kinds)]
    if "false" in kinds:
        shown = ["truth", "hit", "false"]
    legend = "".join(f"<li>{_mark(kind)} {KINDS[kind]}</li>" for kind in shown)
    return (
        _file("viewer.html")
        .replace("{{buttons}}", buttons)
        .replace("{{legend}}", legend)
        .replace("{{last}}", str(count - 1))
        .replace("{{findings}}", _findings(page))
    )


def _range_text(window: tuple[float, float] | None) -> str:
    return "each its own" if window is None else f"{window[0]:g} to {window[1]:g} HU"


def _mark(kind: str) -> str:
    return f'<span class="mark {kind}" aria-hidden="true"></span>'


def _findings(page: Page) -> str:
    if not page.findings:
        return "<p>Nothing was found.</p>"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("#", *page.columns))
    rows = []
    for number, finding in enumerate(page.findings, 1):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in finding.cells)
        first, where = str(number), ""
        if finding.slice is not None:
            label = escape(f"Show {number}: {', '.join(finding.cells)}", quote=True)
            first = f'<button type="button" aria-label="{label}">{number}</button>'
            where = f' data-slice="{finding.slice}" data-box="{finding.box}"'
        rows.append(f"<tr{where}><td>{_mark(finding.kind)} {first}</td>{cells}</tr>")
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Findings">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(figure: Figure) -> str:
    text = escape(figure.text, quote=True)
    return (
        f'<figure><h2>{escape(figure.title)}</h2><img src="{data_uri(figure.png)}" '
        f'width="{figure.width}" alt="{text}"><figcaption>{text}</figcaption></figure>'
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<section><h2>{escape(table.title)}</h2><table class=numbers><thead><tr>{head}</tr>"
        f"</thead><tbody>{rows}</tbody></table>{note}</section>"
    )


def precision_note(side: int, longest: int) -> str:
    """What has been done to the slices of a page."""
    shrunk = f"shrunk to {side} pixels a side and " if longest > side else ""
    return f"Slices are {shrunk}rounded {PRECISION}: for looking, not for measuring."
