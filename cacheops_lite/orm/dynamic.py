"""Tables that a query reaches only by a key which its rows show: the result tells their rows.

A row of such a table changes the result only if its key is among those shown, provided that

* the table decides neither which rows come nor how many nor in which order they are cut,
* every matched row is shown: nothing is grouped or combined,
* the join loses no row: it is an outer one, or a foreign key that the database enforces.

If nothing but the key is looked at, such a table does not matter at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models.expressions import Col, ColPairs

from . import values, walk
from .joins import Alias, Pair

Column = tuple[str, str]


@dataclass(frozen=True)
class Dynamic:
    """For every row of the result, ``{column: row[index]}`` is a dependency on ``table``.

    ``field`` spells the value (``values.text(field, row[index])``); NULL matches no row.
    """

    table: str
    column: str
    index: int
    field: Any


def find(compiler: Any, aliases: Mapping[str, Alias]) -> dict[str, Dynamic | None]:
    """alias -> how its rows are known from the result; None where no row of it matters."""
    query = compiler.query
    if query.combinator or query.distinct_fields or query.extra_tables or len(aliases) < 2:
        return {}
    reading = _Finder(compiler, aliases)
    return {name: found for name in aliases for found in reading.found(name)}


class _Finder:
    def __init__(self, compiler: Any, aliases: Mapping[str, Alias]) -> None:
        query = compiler.query
        self.compiler = compiler
        self.aliases = aliases
        self.enforced = bool(compiler.connection.features.supports_foreign_keys)
        self.sliced = bool(query.is_sliced)
        self.every = walk.columns(walk.parts(query, compiler))
        self.deciding = walk.columns([query.where])
        if self.sliced:
            self.deciding |= walk.columns(walk.ordering(query, compiler))
        conditions = walk.columns(alias.restrictions for alias in aliases.values())
        self.deciding |= conditions
        self.every |= conditions
        for alias in aliases.values():
            for pair in alias.pairs:
                self.every |= {
                    (str(alias.parent), pair.left.column),
                    (alias.name, pair.right.column),
                }
        folded = query.group_by is not None or any(
            getattr(node, trait, False)
            for node in (query.where, *query.annotation_select.values())
            for trait in ("contains_aggregate", "contains_over_clause", "set_returning")
        )
        self.shown = {} if folded else self._shown()

    def _shown(self) -> dict[Column, int]:
        """(alias, column) -> position in the rows, as far as positions can be told."""
        shown: dict[Column, int] = {}
        for index, (expression, *_) in enumerate(self.compiler.select or ()):
            if isinstance(expression, ColPairs):
                break  # several columns in the SQL, one in the row
            if type(expression) is not Col or not values.usable(expression.target):
                continue
            if any(map(values.converts, (expression.target, expression.output_field))):
                continue  # the rows show something else than what the tables are joined by
            column = (expression.alias, str(expression.target.column))
            if values.kind(expression.output_field) == values.kind(expression.target):
                shown.setdefault(column, index)
        return shown

    def found(self, name: str) -> Iterator[Dynamic | None]:
        """At most one answer for the alias ``name``."""
        for column, keys in self._keys(self.aliases[name]):
            index = next((self.shown[key] for key in keys if key in self.shown), None)
            if (name, column) in keys and not self._beside(self.every, name, column):
                yield None
            elif index is not None:
                field = self.compiler.select[index][0].target
                yield Dynamic(self.aliases[name].table, column, index, field)
            else:
                continue
            return

    def _keys(self, alias: Alias) -> Iterator[tuple[str, list[Column]]]:
        """(column of the alias, the columns equal to it in every row), if nothing else holds it."""
        narrowing = [
            child
            for child in self.aliases.values()
            if child.parent == alias.name and not self._neutral(child)
        ]
        if alias.parent is not None and alias.outer:
            if (
                not narrowing
                and not self._beside(self.deciding, alias.name, None)
                and (self._unique(alias) or not self.sliced)
            ):
                for pair in alias.pairs:
                    if pair.alike:
                        yield pair.right.column, [(alias.parent, pair.left.column)]
            return
        # An inner join: all that holds on to the row must do so by one column, and one of them
        # must be a foreign key, which finds a row whatever else is in it.
        edges: list[tuple[str, Pair, Any, Any, bool]] = []
        for child in narrowing:
            if child.outer or child.restrictions or len(child.pairs) != 1:
                return
            pair = child.pairs[0]
            enforced = pair.enforced(to_parent=True)
            edges.append((child.name, pair, pair.left, pair.right, enforced))
        if alias.parent is not None:
            if alias.restrictions or len(alias.pairs) != 1:
                return
            pair = alias.pairs[0]
            enforced = pair.enforced(to_parent=False)
            edges.append((alias.parent, pair, pair.right, pair.left, enforced))
        held = {own.column for _, _, own, _, _ in edges}
        if len(held) != 1 or not self.enforced or not any(edge[-1] for edge in edges):
            return
        (column,) = held
        if self._beside(self.deciding, alias.name, column) or not all(
            pair.alike for _, pair, *_ in edges
        ):
            return
        yield (
            column,
            [(alias.name, column), *((other, his.column) for other, _, _, his, _ in edges)],
        )

    def _neutral(self, alias: Alias) -> bool:
        """Whether joining ``alias`` neither drops a row nor decides anything."""
        return (
            not self._beside(self.deciding, alias.name, None)
            and (alias.outer or self._always_found(alias))
            and (self._unique(alias) or not self.sliced)
            and all(
                self._neutral(child)
                for child in self.aliases.values()
                if child.parent == alias.name
            )
        )

    def _always_found(self, alias: Alias) -> bool:
        return (
            self.enforced
            and len(alias.pairs) == 1
            and not alias.restrictions
            and alias.pairs[0].enforced(to_parent=False)
        )

    def _unique(self, alias: Alias) -> bool:
        return any(pair.right.unique and pair.right.model._meta.managed for pair in alias.pairs)

    @staticmethod
    def _beside(used: set[Column], name: str, column: str | None) -> bool:
        """Whether a column of the alias other than ``column`` is among those ``used``."""
        return any(alias == name and other != column for alias, other in used)
