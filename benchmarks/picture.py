"""The ratios as a picture: plain SVG that needs nothing to be drawn or seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .peers import BASELINE, OURS, PEERS

WIDTH, LEFT, RIGHT, LINE, TOP = 960, 260, 30, 22, 84
COLOURS = {
    "none": "#9aa0a6",
    "cacheops": "#5f6368",
    "insideout": "#b08968",
    "cachalot": "#c77dff",
    "ours": "#0a7d4f",
}
#: Ratios are drawn between these, on a logarithmic scale.
LOW, HIGH = 0.05, 5.0
STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5]


def draw(result: Mapping[str, Any]) -> str:
    """SVG text of a run's results (``__main__.run``)."""
    rows: list[tuple[str, dict[str, float]]] = [
        (name, {p: r for p, r in result["workloads"][name]["ratio"].items() if r})
        for name in result["table"]
    ]
    for name, found in result["bytes"].items():
        if base := found.get(BASELINE):
            rows.append((name, {peer: value / base for peer, value in found.items()}))
    if base := result["mixed"].get(BASELINE):
        ratios = {peer: base["ops"] / one["ops"] for peer, one in result["mixed"].items()}
        rows.append(("mixed traffic, time of one operation", ratios))
    rows = [(name, ratios) for name, ratios in rows if ratios]
    height = TOP + LINE * len(rows) + 40
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        text(16, 26, f"Time and space, {PEERS[BASELINE].title} = 1 (less is better)", size=16),
        text(16, 46, about(result), size=11, colour="#5f6368"),
        *legend({peer for _, ratios in rows for peer in ratios}),
        *grid(height),
    ]
    for index, (name, ratios) in enumerate(rows):
        parts += row(TOP + LINE * index + LINE / 2 + 6, name, ratios)
    return "\n".join([*parts, "</svg>", ""])


def about(result: Mapping[str, Any]) -> str:
    """On what it was measured."""
    names = ("django", "redis", "hiredis")
    found = ", ".join(f"{name} {result['versions'].get(name, '?')}" for name in names)
    database = {"sqlite": "SQLite in memory", "postgres": "PostgreSQL"}[result["database"]]
    return f"{database}; {found}; one machine, unix sockets; medians of interleaved rounds"


def across(ratio: float) -> float:
    """Where a ratio lies between left and right."""
    part = math.log(min(max(ratio, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def text(
    x: float, y: float, what: str, *, anchor: str = "start", size: int = 13, colour: str = "#202124"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}">{escape(what)}</text>'
    )


def legend(peers: set[str]) -> Sequence[str]:
    parts, x = [], 16.0
    for name in (name for name in COLOURS if name in peers):
        title = PEERS[name].title
        parts += [
            f'<circle cx="{x + 5:.1f}" cy="62" r="5" fill="{COLOURS[name]}"/>',
            text(x + 15, 66, title),
        ]
        x += 34 + 7.2 * len(title)
    return parts


def grid(height: float) -> Sequence[str]:
    parts = []
    for step in STEPS:
        x, colour = across(step), "#5f6368" if step == 1 else "#e3e5e8"
        parts += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 30}" stroke="{colour}"/>',
            text(x, height - 14, f"{step:g}×", anchor="middle", size=11, colour="#5f6368"),
        ]
    return parts


def row(y: float, name: str, ratios: Mapping[str, float]) -> Sequence[str]:
    parts = [text(LEFT - 14, y + 4, name, anchor="end")]
    if OURS in ratios:
        x, one = across(ratios[OURS]), across(1)
        parts.append(
            f'<line x1="{x:.1f}" x2="{one:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{COLOURS[OURS]}" stroke-width="2" stroke-opacity="0.4"/>'
        )
    for peer in (peer for peer in COLOURS if peer in ratios):
        title = f"{PEERS[peer].title}: {ratios[peer]:.2f}"
        parts.append(
            f'<circle cx="{across(ratios[peer]):.1f}" cy="{y:.1f}" '
            f'r="{6 if peer == OURS else 4.5}" fill="{COLOURS[peer]}">'
            f"<title>{escape(title)}</title></circle>"
        )
    return parts
