"""Many scans in one run of ``lesionkit detect``: a folder each, and a summary of all."""

import csv
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionkit.cli.options import check_outside
from lesionkit.cli.output import CONFIG, UNFINISHED, check_output
from lesionkit.errors import InputError
from lesionkit.files import atomic_write, reading
from lesionkit.version import __version__

if TYPE_CHECKING:
    from lesionkit.cli.detect import Search

FORMAT = "lesionkit-worklist-1"
SUMMARY = "summary.json"
TABLE = "summary.csv"
Listed = tuple[Path, str | None]  # a scan and its series


def read_worklist(file: Path) -> list[Listed]:
    """The scans that a file lists: a path a line, or CSV with the columns path and series.

    Lines that are empty or begin with # are passed over. Paths are relative to the file's folder.
    Raises InputError for a file that lists none or cannot be read.
    """
    remedy = "give a text file with the path of a scan on each line"
    with reading(file, remedy):
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"--worklist {file}: is no UTF-8 text; {remedy}") from None
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    columns = [column.strip().lower() for column in next(csv.reader(lines[:1]), [])]
    if "path" in columns:
        rows = list(csv.DictReader(lines[1:], fieldnames=columns))
        listed = [((row["path"] or "").strip(), (row.get("series") or "").strip()) for row in rows]
    else:
        listed = [(line.strip(), "") for line in lines]
    if any(not path for path, _ in listed):
        raise InputError(f"--worklist {file}: a row without a path; fill it in or remove it")
    if not listed:
        raise InputError(f"--worklist {file}: lists no scan; {remedy}")
    return [(file.parent / path, series or None) for path, series in listed]


def search_all(
    load: Callable[[], "Search"], listed: Sequence[Listed], out: Path, overwrite: bool
) -> int:
    """Search scans one after another; returns how many could not be.

    Scans that an earlier run has finished with the same model and options are left as they are,
    unless ``overwrite``. The summary is written after each scan, so that it is there whenever the
    run ends.

    Raises InputError before any scan is searched: the list names one twice, or ``out`` holds what
    these results may not replace.
    """
    names = folder_names(listed)
    for scan, _ in listed:
        check_outside(out, scan)
    before = _summary(out)
    search = load()
    entries = []
    for (scan, series), name in zip(listed, names, strict=True):
        done = not overwrite and _is_done(out / name, search, scan, series)
        earlier = before.get(name, {}) if done else {}
        entry = {"scan": str(scan), "series": series, "folder": name}
        entry["status"] = "done" if done else "waiting"
        entry |= {"findings": earlier.get("findings"), "slices": earlier.get("slices")}
        entries.append({**entry, "error": None})
    kept = sum(entry["status"] == "done" for entry in entries)
    if kept:
        print(f"{kept} of {len(entries)} scans are done already", flush=True)
    _write(out, search, entries)
    for number, (entry, (scan, series)) in enumerate(zip(entries, listed, strict=True), 1):
        if entry["status"] == "done":
            continue
        _search(search, scan, series, out / entry["folder"], overwrite, entry)
        if entry["status"] == "done":
            said = f"{entry['findings']} findings on {entry['slices']} slices"
        else:
            said = "failed"
        print(f"[{number}/{len(entries)}] {entry['folder']}: {said}", flush=True)
        _write(out, search, entries)
    failed = [entry for entry in entries if entry["status"] == "failed"]
    print(f"{len(entries) - len(failed)} of {len(entries)} scans searched: {out / SUMMARY}")
    for entry in failed:
        line = " ".join(f"{entry['scan']}: {entry['error']}".split())
        print(f"lesionkit: error: {line}", file=sys.stderr)
    return len(failed)


def _search(
    search: "Search",
    scan: Path,
    series: str | None,
    folder: Path,
    overwrite: bool,
    entry: dict[str, Any],
) -> None:
    from lesionkit.cli.detect import search_scan

    # A run that was killed while its results moved has left a list with files missing.
    replace = overwrite or (folder / CONFIG).exists()
    try:
        findings, slices = search_scan(search, scan, series, folder, replace, continues=True)
    except (InputError, OSError, FloatingPointError) as error:
        entry |= {"status": "failed", "error": str(error)}
    except Exception as error:  # a fault of ours must not cost the other scans
        said = f"{type(error).__name__}: {error}"
        entry |= {"status": "failed", "error": said, "trace": traceback.format_exc()}
    else:
        entry |= {"status": "done", "findings": len(findings), "slices": slices}


def folder_names(listed: Sequence[Listed]) -> list[str]:
    """A folder name for each scan: its own, with as many of its parents as tell it from others.

    A series follows where one scan is listed with several. Raises InputError for a scan that is
    listed twice, and for scans whose names come out the same.
    """
    paths = [Path(os.path.abspath(scan)) for scan, _ in listed]
    if twice := [key for key, n in Counter((p, s) for p, (_, s) in zip(paths, listed, strict=True))
                 .items() if n > 1]:  # fmt: skip
        path, series = twice[0]
        of = f", series {series}" if series else ""
        raise InputError(f"{path}{of}: is listed twice; list each scan once")
    folders = Counter(set(paths))
    depths = dict.fromkeys(folders, 1)

    def name(path: Path) -> str:
        parts = path.parts[1:] or ("root",)
        return "_".join([*parts[-depths[path] : -1], _stem(parts[-1])])

    while True:
        counts = Counter(name(path) for path in folders)
        shared = [p for p in folders if counts[name(p)] > 1 and depths[p] < len(p.parts) - 1]
        if not shared:
            break
        for path in shared:
            depths[path] += 1
    several = {path for path, count in Counter(paths).items() if count > 1}
    names = [
        f"{name(path)}_{series or 'series'}" if path in several else name(path)
        for path, (_, series) in zip(paths, listed, strict=True)
    ]
    for made, (scan, _) in zip(names, listed, strict=True):
        reserved = made.startswith(UNFINISHED) or made in (CONFIG, SUMMARY, TABLE) or "/" in made
        if reserved or sum(made.lower() == other.lower() for other in names) > 1:
            raise InputError(
                f"{scan}: its results would go into a folder {made}, which is taken; rename the "
                "scan or search it in a run of its own"
            )
    return names


def _stem(name: str) -> str:
    lower = name.lower()
    for suffix in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm"):
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _is_done(folder: Path, search: "Search", scan: Path, series: str | None) -> bool:
    """Whether an earlier run has finished a scan with the same model and options.

    Raises InputError if the folder holds anything else that these results may not replace.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        files = config["files"]
        same = _essence(config) == _essence(search.config(scan, series))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        check_output(folder, False, "detect", search.writes)
        return False
    if not same:
        raise InputError(
            f"--out {folder}: was searched with another model or other options; name another "
            "folder or add --overwrite"
        )
    return all((folder / file).is_file() for file in files)


def _essence(config: dict[str, Any]) -> list[Any]:
    """What makes the results: not the device, and the model by its content."""
    arguments = {k: v for k, v in config["arguments"].items() if k not in ("device", "weights")}
    arguments["scan"] = os.path.abspath(arguments["scan"])
    return [config["command"], arguments, config["weights_sha256"]]


def _summary(out: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run says of its scans, by folder.

    Raises InputError if ``out`` is no folder for the results of many scans.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    if os.path.lexists(out / CONFIG):
        raise InputError(f"--out {out}: holds the results of one run; name another folder")
    if not os.path.lexists(out / SUMMARY):
        if os.path.lexists(out / TABLE):
            raise InputError(f"--out {out}: holds a {TABLE} of something else; name another folder")
        return {}
    try:
        content = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError
        return {entry["folder"]: entry for entry in content["scans"]}
    except (OSError, ValueError, LookupError, TypeError):
        raise InputError(
            f"--out {out}: holds a {SUMMARY} that lesionkit detect did not write; name another "
            "folder"
        ) from None


def _write(out: Path, search: "Search", entries: Sequence[dict[str, Any]]) -> None:
    config = search.config(Path(), None)
    arguments = {k: v for k, v in config["arguments"].items() if k not in ("scan", "series")}
    content = {
        "format": FORMAT,
        "lesionkit": __version__,
        "arguments": arguments,
        "weights_sha256": search.sha256,
        "scans": list(entries),
    }
    with atomic_write(out / SUMMARY) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    columns = ("scan", "series", "folder", "status", "findings", "slices", "error")
    with (
        atomic_write(out / TABLE) as path,
        open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(entries)
