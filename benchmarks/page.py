"""The numbers of a run as tables for docs/benchmarks.rst, which includes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .peers import BASELINE, OURS, PEERS
from .report import ASKED, ASKED_MIXED, number, verdict


def write(result: Mapping[str, Any]) -> str:
    """Tables in reStructuredText of a run's results (``__main__.run``)."""
    peers = [name for name in PEERS if any(one["us"].get(name) for one in each(result))]
    parts = [about(result), times(result, peers)]
    if result["bytes"]:
        parts.append(sizes(result, [name for name in peers if name != "none"]))
    if result["mixed"]:
        parts.append(traffic(result["mixed"]))
    parts += curves(result, [name for name in peers if name != "none"])
    return "\n".join(parts)


def each(result: Mapping[str, Any]) -> Iterator[Any]:
    yield from result["workloads"].values()


def about(result: Mapping[str, Any]) -> str:
    versions = ", ".join(
        f"{name} {version}" for name, version in sorted(result["versions"].items())
    )
    database = {"sqlite": "SQLite in memory", "postgres": "PostgreSQL"}[result["database"]]
    busy = ""
    if result["quantile"] != 0.5:
        busy = (
            f" The machine was busy with other work: of the operations of each round the"
            f" {result['quantile']:.0%} quantile counts, not the median."
        )
    return f"{database}, Python {result['python']}, {versions}.{busy}\n"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def times(result: Mapping[str, Any], peers: Sequence[str]) -> str:
    rows = []
    for name in result["table"]:
        one = result["workloads"][name]
        ratio = one["ratio"].get(OURS)
        cells = [
            "refused" if peer in one["refused"] else number(one["us"].get(peer)) for peer in peers
        ]
        rows.append([name, *cells, f"**{number(ratio)}**", *verdict(ratio, ASKED.get(name))])
    head = ["", *(PEERS[peer].title for peer in peers), "ours to 7.2", "goal", "reached"]
    return table("Microseconds", head, rows)


def sizes(result: Mapping[str, Any], peers: Sequence[str]) -> str:
    rows = []
    for name, one in result["bytes"].items():
        ratio = one[OURS] / one[BASELINE]
        cells = [number(one.get(peer)) for peer in peers]
        rows.append([name, *cells, f"**{number(ratio)}**", *verdict(ratio, ASKED.get(name))])
    head = ["", *(PEERS[peer].title for peer in peers), "ours to 7.2", "goal", "reached"]
    return table("Bytes in the server", head, rows)


def traffic(found: Mapping[str, Any]) -> str:
    rows = []
    for peer, one in found.items():
        ratio = one["ops"] / found[BASELINE]["ops"]
        asked = verdict(ratio, ASKED_MIXED, least=True) if peer == OURS else ("", "")
        cells = [number(one[name]) for name in ("p50", "p99", "write_p50", "write_p99")]
        rows.append([PEERS[peer].title, number(one["ops"]), f"{one['hit_rate']:.0%}", *cells,
                     number(ratio), *asked])  # fmt: skip
    head = ["", "operations per second", "hits", "read p50 (µs)", "p99", "write p50", "p99",
            "to 7.2", "goal", "reached"]  # fmt: skip
    return table("95 reads to 5 writes from several processes", head, rows)


def curves(result: Mapping[str, Any], peers: Sequence[str]) -> Iterator[str]:
    for curve, what in result["curves"].items():
        points = {p: n for p, n in what["points"].items() if n in result["workloads"]}
        if not points:
            continue
        rows = [
            [
                PEERS[peer].title,
                *(number(result["workloads"][n]["us"].get(peer)) for n in points.values()),
            ]
            for peer in peers
        ]
        head = [what["unit"], *(f"{int(point):,}" for point in points)]
        yield table(f"{curve}: microseconds", head, rows)
