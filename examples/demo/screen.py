"""Plain aligned text, at most 100 columns, and the list of claims that were checked."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

WIDTH = 100


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * min(WIDTH, len(text))}", flush=True)


def say(text: str) -> None:
    print(textwrap.fill(" ".join(text.split()), WIDTH), end="\n\n", flush=True)


def step(text: str) -> None:
    """The beginning of a line that ``done()`` ends: a long step shows that it runs."""
    print(f"  {text:<36}", end="", flush=True)


def done(text: str) -> None:
    print(text, flush=True)


def body(function: Callable[..., Any]) -> None:
    """Show the code of a function: what is shown is what runs."""
    lines = inspect.getsource(function).splitlines()[1:]
    print(textwrap.indent(textwrap.dedent("\n".join(lines)), "    ") + "\n", flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], align: str) -> None:
    """Print a table; ``align`` has "l" or "r" for each column.

    The last column takes what is left of the width, folded.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    widths[-1] = min(widths[-1], WIDTH - 2 - sum(width + 2 for width in widths[:-1]))
    for row in (heads, ["-" * width for width in widths], *texts):
        first, *more = textwrap.wrap(row[-1], widths[-1], break_on_hyphens=False) or [""]
        for cells in ([*row[:-1], first], *([""] * (len(row) - 1) + [line] for line in more)):
            padded = (
                cell.rjust(width) if side == "r" else cell.ljust(width)
                for cell, width, side in zip(cells, widths, align, strict=True)
            )
            print(("  " + "  ".join(padded)).rstrip())
    print(flush=True)


class Claims:
    """What the demo says; each claim is checked, and the failed ones are kept."""

    def __init__(self) -> None:
        self.held = 0
        self.failed: list[str] = []

    def check(self, text: str, holds: object) -> None:
        if holds:
            self.held += 1
        else:
            self.failed.append(text)
