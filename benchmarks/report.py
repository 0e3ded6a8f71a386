"""Numbers to a table that people read, with what is asked of each ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .driver import Measured
from .peers import BASELINE, OURS, PEERS

#: Workload -> our time divided by django-cacheops 7.2's, at most.
ASKED = {
    "get by key, hit": 0.20,
    "get by slug, hit": 0.20,
    "foreign key, hit": 0.20,
    "get of .cache(), hit": 0.35,
    "get by two conditions, hit": 0.35,
    "fetch 1, hit": 0.45,
    "fetch 20, hit": 0.40,
    "fetch 100, hit": 0.40,
    "fetch 1000, hit": 0.40,
    "values_list 100, hit": 0.45,
    "count, hit": 0.45,
    "exists, hit": 0.45,
    "aggregate, hit": 0.45,
    "select_related 20, hit": 0.40,
    "prefetch 20, hit": 0.40,
    "get, miss + store": 0.9,
    "fetch 20, miss + store": 0.9,
    "fetch 100, miss + store": 0.75,
    "save(), nothing cached": 0.6,
    "save(), 1,000 cached": 0.6,
    "save(), 10,000 cached": 0.6,
    "bytes of a get": 0.6,
    "bytes of a fetch of 20": 0.7,
}
#: Of traffic the other way round: our operations per second divided by theirs, at least.
ASKED_MIXED = 2.0
#: 10,000 dependents compared with 1, for ourselves, at most.
ASKED_FLAT = 1.5

Row = Sequence[str]


def number(value: float | None) -> str:
    """Three digits are enough."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def verdict(value: float | None, asked: float | None, least: bool = False) -> tuple[str, str]:
    """What is asked, and whether it is reached."""
    if asked is None:
        return "", ""
    sign = "≥" if least else "≤"
    if value is None:
        return f"{sign} {asked:g}", "?"
    good = value >= asked if least else value <= asked
    return f"{sign} {asked:g}", "yes" if good else "NO"


def table(head: Row, rows: Sequence[Row]) -> None:
    """Print columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        first, *others = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join([first, *others]).rstrip())
    print()


def workloads(found: dict[str, Measured], peers: Sequence[str]) -> None:
    """Microseconds of each peer, and our ratio."""
    rows, notes = [], []
    for name, measured in found.items():
        ratio = measured.ratio(OURS, BASELINE)
        cells = [
            "refused" if peer in measured.refused else number(measured.median(peer))
            for peer in peers
        ]
        rows.append(
            [name, *cells, number(measured.ratio(OURS, "none")), number(ratio),
             *verdict(ratio, ASKED.get(name))]
        )  # fmt: skip
        notes += [
            f"refused: {name}, {PEERS[peer].title}: {why}" for peer, why in measured.refused.items()
        ]
    titles = [PEERS[peer].title for peer in peers]
    table(["µs, median", *titles, "to no cache", "to 7.2", "asked", ""], rows)
    for note in notes:
        print(note)
    one, many = (found.get(f"invalidate_obj, {n}") for n in ("1 dependent", "10,000 dependents"))
    if one and many and (single := one.median(OURS)) and (all_ := many.median(OURS)):
        asked, good = verdict(all_ / single, ASKED_FLAT)
        print(f"invalidate_obj, 10,000 dependents to 1, ours: {number(all_ / single)}"
              f" ({asked}: {good})\n")  # fmt: skip


def sizes(found: dict[str, dict[str, float]], peers: Sequence[str]) -> None:
    """Bytes of each peer in the server, and our ratio."""
    rows = []
    for name, values in found.items():
        ratio = values[OURS] / values[BASELINE] if {OURS, BASELINE} <= set(values) else None
        cells = [number(values.get(peer)) for peer in peers]
        rows.append([name, *cells, number(ratio), *verdict(ratio, ASKED.get(name))])
    table(["in the server", *(PEERS[peer].title for peer in peers), "to 7.2", "asked", ""], rows)


def traffic(found: dict[str, dict[str, float]], processes: int) -> None:
    """Operations per second, and how long they took."""
    rows = []
    for peer, one in found.items():
        ratio = one["ops"] / found[BASELINE]["ops"] if BASELINE in found else None
        asked = verdict(ratio, ASKED_MIXED, least=True) if peer == OURS else ("", "")
        rows.append(
            [PEERS[peer].title, number(one["ops"]), f"{one['hit_rate']:.0%}",
             *(number(one[name]) for name in ("p50", "p99", "write_p50", "write_p99", "errors")),
             number(ratio), *asked]
        )  # fmt: skip
    head = ["ops/s", "hits", "read p50", "p99", "write p50", "p99", "errors", "to 7.2", "asked", ""]
    table([f"95/5, zipf, {processes} processes", *head], rows)


def curves(found: dict[str, Measured], known: dict[str, Any], peers: Sequence[str]) -> None:
    """Microseconds as something grows."""
    for curve, what in known.items():
        points = {point: name for point, name in what["points"].items() if name in found}
        if not points:
            continue
        rows = [
            [PEERS[peer].title, *(number(found[name].median(peer)) for name in points.values())]
            for peer in peers
        ]
        table([f"{curve}, µs by {what['unit']}", *(f"{int(p):,}" for p in points)], rows)
