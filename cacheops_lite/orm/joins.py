"""The tables of one query as a tree of joins, and a condition on it seen from each of its tables.

A row of a joined table can change a result only where it meets the terms on its own table *and*
matches its neighbours, so equalities travel along the joins. An outer join lets a row matter by
its mere presence: it replaces the row of NULLs that stood there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.db.models.fields.related import ForeignKey
from django.db.models.sql.constants import INNER, LOUTER

from ..core import dnf
from . import values, walk
from .where import Condition

Terms = dict[str, str]
Match = dnf.Conjunct[tuple[str, str]]
Options = list[dnf.Conjunct[str]]


class Pair(NamedTuple):
    """``parent.left = child.right`` in an ON clause, by fields."""

    left: Any
    right: Any

    @property
    def alike(self) -> bool:
        """Whether both columns spell their values the same way."""
        return (
            values.kind(self.left) == values.kind(self.right)
            and values.usable(self.left)
            and values.usable(self.right)
        )

    def enforced(self, *, to_parent: bool) -> bool:
        """Whether the database sees to it that the other side's row exists."""
        source, target = (self.right, self.left) if to_parent else (self.left, self.right)
        return (
            isinstance(source, ForeignKey)
            and bool(source.db_constraint)  # type: ignore[attr-defined]
            and source.model._meta.managed
            and target.model._meta.managed
            and source.target_field.column == target.column
            and source.target_field.model._meta.db_table == target.model._meta.db_table
        )


class Alias(NamedTuple):
    """One appearance of a table in a query."""

    name: str
    table: str
    parent: str | None
    outer: bool
    pairs: tuple[Pair, ...]
    restrictions: tuple[Any, ...]  # what else the ON clause says


def tree(alias_map: Mapping[str, Any], used: Mapping[str, Any]) -> dict[str, Alias] | str:
    """The used aliases, parents first, or why they are not understood."""
    found: dict[str, Alias] = {}
    for name in alias_map:
        if name not in used:
            continue
        join = alias_map[name]
        if not type(join).__module__.startswith("django."):
            return f"unknown join {type(join).__qualname__}"
        if join.parent_alias is None:
            found[name] = Alias(name, join.table_name, None, False, (), ())
            continue
        pairs = tuple(Pair(left, right) for left, right in join.join_fields or ())
        if (
            join.join_type not in (INNER, LOUTER)
            or join.parent_alias not in found
            or not all(getattr(field, "column", None) for pair in pairs for field in pair)
        ):
            return f"unknown join of {join.table_name}"
        found[name] = Alias(
            name,
            join.table_name,
            join.parent_alias,
            join.join_type == LOUTER,
            pairs,
            tuple(walk.restrictions(join)),
        )
    return found


def project(
    condition: Condition,
    aliases: Mapping[str, Alias],
    said: Mapping[str, Condition],
    limit: int,
) -> dict[str, Options]:
    """For each alias what must hold of a row of it that matters: one of these conjunctions.

    ``said``: what the ON clauses say beside their equalities. Where no outer join is on the way,
    that is a condition like any other. Behind an outer join it holds of the rows that match, which
    others of its side may be judged by, but no row of the other side.
    """
    outer: set[str] = set()
    for name, alias in aliases.items():
        if alias.outer or alias.parent in outer:
            outer.add(name)
    inner = [said[name] for name in said if name not in outer]
    condition = dnf.conjoin([condition, *inner], limit)
    found: dict[str, Options] = {name: [] for name in aliases}
    for conjunct in condition:
        terms = _project(conjunct, frozenset(), aliases, outer)
        for name in aliases:
            held = [said[one] for one in path(name, aliases) if one in outer and one in said]
            matches = dnf.conjoin(held, limit)
            if len(matches) * len(condition) > limit:
                matches = (frozenset(),)
            for match in matches:
                seen = _project(conjunct, match, aliases, outer) if match else terms
                if name in seen:
                    found[name].append(frozenset(seen[name].items()))
    return found


def _project(
    conjunct: Match, match: Match, aliases: Mapping[str, Alias], outer: set[str]
) -> dict[str, Terms]:
    """The terms on each row under ``conjunct``; with a ``match``, only for what is behind it."""
    strict: dict[str, Terms] = {name: {} for name in aliases}
    nulls: dict[str, set[str]] = {name: set() for name in aliases}
    for (name, column), text in conjunct:
        if text == values.NULL:
            nulls[name].add(column)
        else:
            strict[name][column] = text
    # A term of the WHERE clause that holds shows that the row is there, and so are those on the
    # way to it. One of an ON clause does not: without a match there is a row of NULLs.
    present = {one for name, terms in strict.items() if terms for one in path(name, aliases)}
    usable = {name: nulls[name] for name in aliases if name not in outer or name in present}
    for (name, column), text in match:
        if text == values.NULL:
            usable[name] = usable.get(name, set()) | {column}
        elif strict[name].setdefault(column, text) != text:
            return {}
    if not _exchange(strict, aliases):
        return {}
    carried = _carry_down(strict, aliases)
    found: dict[str, Terms] = {}
    for name, alias in aliases.items():
        if alias.parent is not None and (
            alias.parent not in found
            or any(pair.left.column in nulls[alias.parent] for pair in alias.pairs)
        ):
            continue  # NULL matches no row
        own = carried[name]
        found[name] = own | dict.fromkeys(usable.get(name, set()) - own.keys(), values.NULL)
    return found


def _exchange(strict: dict[str, Terms], aliases: Mapping[str, Alias]) -> bool:
    """Carry equalities up from rows that must be there; False if the terms exclude each other.

    Going up once from the leaves is enough: what comes down again is carried afterwards, and
    siblings learn from each other through the parent.
    """
    for alias in reversed(list(aliases.values())):
        if alias.parent is None:
            continue
        for pair in alias.pairs:
            text = strict[alias.name].get(pair.right.column)
            if text is None or not pair.alike:
                continue
            known = strict[alias.parent].setdefault(pair.left.column, text)
            if known != text:
                return False
    return True


def _carry_down(strict: Mapping[str, Terms], aliases: Mapping[str, Alias]) -> dict[str, Terms]:
    """Add what the parents' terms say about the rows that may match them."""
    carried = {name: dict(terms) for name, terms in strict.items()}
    for alias in aliases.values():
        if alias.parent is None:
            continue
        for pair in alias.pairs:
            text = carried[alias.parent].get(pair.left.column)
            if text is not None and pair.alike:
                carried[alias.name].setdefault(pair.right.column, text)
    return carried


def path(name: str, aliases: Mapping[str, Alias]) -> Iterator[str]:
    """The alias and those on the way to it."""
    current: str | None = name
    while current is not None:
        yield current
        current = aliases[current].parent
