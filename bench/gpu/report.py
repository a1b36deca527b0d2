"""The results file as a table to read."""

OWN = ("cuda", "triton", "nvrtc")


def markdown(result: dict) -> str:
    """For each op what it was measured with, and a table: ours, the copy, the fastest peer."""
    lines = [f"# {result['device']}", ""]
    lines += ["Kernel times in microseconds, L2 cache cold; share: of a copy of as many bytes."]
    for op in ("contextual", "spatial", "dual", "psroi"):
        if op in result:
            run = ", ".join(f"{k} {v}" for k, v in result[op]["run"].items() if v is not None)
            lines += ["", f"## {op}", "", f"Measured with {run}.", "", *_table(result[op]["rows"])]
            if not result[op]["complete"]:
                lines += ["", "Not complete: the time was up."]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict]) -> list[str]:
    lines = []
    for row in rows:
        if row["direction"] == "host":
            calls = ", ".join(f"{name} {us:.1f}" for name, us in row["call_microseconds"].items())
            lines += [f"Host time of a call without a gradient, microseconds: {calls}.", ""]
    timed = [row for row in rows if row["direction"] != "host"]
    lines += ["| shape | type | direction | ours (share) | fastest peer | ratio | peak memory |"]
    lines += ["|---|---|---|---|---|---|---|"]
    return lines + [_line(group) for group in _groups(timed)]


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
    best = min(peers, key=lambda row: row["microseconds"], default=None)
    peer = f"{best['implementation']} {best['microseconds']:.1f}" if best else "none"
    fastest = min((row["microseconds"] for row in own), default=None)
    ratio = f"{best['microseconds'] / fastest:.2f}" if best and fastest else ""
    wrong = [f"{row['implementation']}: {row['error']}" for row in group if "error" in row]
    cells = [shape, first["dtype"], first["direction"], ours or "none", peer, ratio, _memory(group)]
    return f"| {' | '.join(cells)} |" + (f" {'; '.join(wrong)}" if wrong else "")


def _memory(group: list[dict]) -> str:
    """Ours as a fraction of eager's, the paper's steps."""
    peaks = {row["implementation"]: row.get("peak_bytes") for row in group}
    eager = peaks.get("eager, the paper's steps")
    if not eager:
        return ""
    ours = [peaks[name] / eager for name in OWN if peaks.get(name)]
    return f"{min(ours):.2f} of eager" if ours else ""
