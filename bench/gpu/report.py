"""The results file as tables to read."""

from bench.gpu.points import CHECKS, OPS, planned
from bench.gpu.verdicts import OWN, STEPS


def markdown(result: dict) -> str:
    """The targets, the checks, the figures of each op, and the runs that they are of."""
    lines = [f"# {result['device']}", "", "## Targets", ""]
    lines += ["| target | implementation | outcome | limit | numbers |", "|---|---|---|---|---|"]
    fields = ("target", "implementation", "outcome", "limit", "numbers")
    lines += [_cells(*(row[name] for name in fields)) for row in result["verdicts"]]
    for part in CHECKS:
        if part in result:
            lines += ["", f"## {part}", "", "| check | outcome | run |", "|---|---|---|"]
            lines += [_check(row) for row in result[part]["rows"]]
    for op in OPS:
        if op in result:
            lines += ["", f"## {op}", "", *_table(op, result[op])]
    lines += ["", "## Runs", ""]
    for name, run in result["runs"].items():
        facts = ", ".join(f"{key} {value}" for key, value in run.items() if value is not None)
        lines.append(f"- {name}: {facts}")
    return "\n".join(lines) + "\n"


def _cells(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _check(row: dict) -> str:
    more = [
        f"{key} {value}" for key, value in row.items() if key not in ("check", "outcome", "run")
    ]
    return _cells(row["check"], ", ".join([row["outcome"], *more]), row["run"])


def _table(op: str, part: dict) -> list[str]:
    lines = [
        "Kernel times in microseconds, L2 cache cold; share: of a copy of as many bytes; call: what"
        " a call from Python costs the host, of ours.",
        "",
        "| shape | type | direction | ours (share) | call | fastest peer | ratio | peak memory "
        "| errors | run |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_line(group) for group in _groups(part["rows"])),
    ]
    missing = [point.label for point in planned(op) if point.label not in part["finished"]]
    if missing:
        lines += ["", f"Not measured, or not all of it: {'; '.join(missing)}."]
    return lines


def _groups(rows: list[dict]) -> list[list[dict]]:
    """Rows of one shape, type and direction."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        key = (str(row["shape"]), row.get("rois"), row["dtype"], row["direction"])
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _line(group: list[dict]) -> str:
    first = group[0]
    shape = str(first["shape"]) + (f", {first['rois']} rois" if "rois" in first else "")
    own = [row for row in group if row["implementation"] in OWN and "microseconds" in row]
    peers = [row for row in group if row["implementation"] not in OWN and "microseconds" in row]
    ours = "; ".join(
        f"{row['implementation']} {row['microseconds']:.1f} ({row['fraction_of_copy']:.2f})"
        for row in own
    )
    calls = "; ".join(f"{row['call_microseconds']:.1f}" for row in own)
    best = min(peers, key=lambda row: row["microseconds"], default=None)
    peer = f"{best['implementation']} {best['microseconds']:.1f}" if best else "none"
    fastest = min((row["microseconds"] for row in own), default=None)
    ratio = f"{best['microseconds'] / fastest:.2f}" if best and fastest else ""
    wrong = "; ".join(f"{row['implementation']}: {row['error']}" for row in group if "error" in row)
    runs = ", ".join(sorted({row["run"] for row in group}))
    figures = ours or "none", calls, peer, ratio, _memory(group)
    return _cells(shape, first["dtype"], first["direction"], *figures, wrong, runs)


def _memory(group: list[dict]) -> str:
    """Ours as a fraction of eager's, the paper's steps."""
    peaks = {row["implementation"]: row.get("peak_bytes") for row in group}
    eager = peaks.get(STEPS)
    if not eager:
        return ""
    ours = [peaks[name] / eager for name in OWN if peaks.get(name)]
    return f"{min(ours):.2f} of eager" if ours else ""
