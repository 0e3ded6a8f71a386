"""What was counted, as text for people: one line for each model and op, and the reasons below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_HEAD = ("what", "op", "calls", "hits", "a hit", "a miss", "stored", "each")


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a report as ``stats.read()`` and ``stats.snapshot()`` give it."""
    reads = sorted(report["reads"], key=lambda item: -item["calls"])
    if not reads and not report["drops"]:
        yield "Nothing was counted."
    if reads:
        yield from _table([_HEAD, *map(_row, reads)])
    for title, key in (
        ("Misses", "misses"),
        ("Loaded and not stored", "refused"),
        ("The cache was not asked", "uncached"),
    ):
        yield from _section(
            title,
            (
                (times, f"{item['name']} {item['op']}: {reason}")
                for item in reads
                for reason, times in item[key].items()
            ),
        )
    yield from _section(
        "Invalidations",
        ((item["changes"], f"{item['name']}: {item['cause']}") for item in report["drops"]),
    )
    saved = [item for item in reads if item.get("saved_seconds") is not None]
    if saved:
        yield ""
        yield "Time (seconds)"
        for item in saved:
            yield (
                f"  {item['name']}: computed {item['computed']} times in "
                f"{item['compute_seconds']:.2f}, saved {item['saved_seconds']:.2f}"
            )
    yield from _section(
        "Events", ((times, name.replace("_", " ")) for name, times in report["events"].items())
    )


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    missed = sum(item["misses"].values())
    return (
        item["name"],
        item["op"],
        str(item["calls"]),
        "-" if item["hit_ratio"] is None else f"{item['hit_ratio']:.1%}",
        _milliseconds(item["hit_seconds"], item["hits"]),
        _milliseconds(item["miss_seconds"], missed),
        str(item["stored"]),
        f"{item['stored_bytes'] // item['stored']} B" if item["stored"] else "-",
    )


def _milliseconds(seconds: float, times: int) -> str:
    return f"{1000 * seconds / times:.2f} ms" if times else "-"


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        texts = (
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(texts).rstrip()


def _section(title: str, items: Iterable[tuple[int, str]]) -> Iterator[str]:
    found = sorted(items, key=lambda item: (-item[0], item[1]))
    if found:
        yield ""
        yield title
        for times, text in found:
            yield f"  {times:>9}  {text}"
