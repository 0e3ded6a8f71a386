"""Plain aligned text, at most 100 columns, and the list of claims that were checked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 100


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * min(WIDTH, len(text))}", flush=True)


def say(text: str) -> None:
    print(textwrap.fill(" ".join(text.split()), WIDTH), flush=True)


def step(text: str) -> None:
    """The beginning of a line that ``done()`` ends: a long step shows that it runs."""
    print(f"  {text:<34}", end="", flush=True)


def done(text: str) -> None:
    print(text, flush=True)


def code(text: str) -> None:
    for line in textwrap.dedent(text).strip().splitlines():
        print(f"    {line}"[:WIDTH], flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], right: str = "") -> None:
    """Print a table; ``right`` names the heads of right-aligned columns, separated by spaces.

    The last column takes what is left of the width, folded.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [
        max(len(head), *(len(row[i]) for row in texts)) for i, head in enumerate(heads[:-1])
    ]
    rest = WIDTH - 2 - sum(width + 2 for width in widths)
    aligned = [head in right.split() for head in heads]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells[:-1], widths, aligned, strict=False)
        ]
        return "  " + "  ".join([*padded, cells[-1]]).rstrip()

    print(line(heads))
    print(line(["-" * width for width in widths] + ["-" * min(rest, max(map(len, (heads[-1], *(row[-1] for row in texts)))))]))
    for row in texts:
        first, *more = textwrap.wrap(row[-1], rest) or [""]
        print(line([*row[:-1], first]))
        for extra in more:
            print(line([*("" for _ in widths), extra]))
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
            print(f"  CLAIM FAILED: {text}", flush=True)
