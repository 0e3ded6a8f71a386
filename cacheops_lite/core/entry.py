"""The frozen types that travel the stairs: conjunctions, rows and changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, Literal, NamedTuple

#: Terms joined by AND, sorted by column: ``(("category_id", "3"), ("published", "1"))``.
#: The empty conjunction holds for any row of its table.
Conj = tuple[tuple[str, str], ...]

#: What is known of one row: column -> canonical text. A missing column is unknown.
Row = Mapping[str, str]

ANY_ROW: Final[Conj] = ()


class _Unknown(Enum):
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


#: Nothing is known of the rows: every result of the table may be affected.
UNKNOWN: Final = _Unknown.UNKNOWN

MaybeRow = Row | None | Literal[_Unknown.UNKNOWN]


class Change(NamedTuple):
    """What one write did to one row of one table; ``None`` means that there was no such row."""

    table: str
    old: MaybeRow
    new: MaybeRow


def conjunction(terms: Mapping[str, str] | Iterable[tuple[str, str]]) -> Conj:
    """Spell terms as a conjunction: sorted by column."""
    return tuple(sorted(dict(terms).items()))
