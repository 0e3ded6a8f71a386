"""Why a condition does not narrow what a result depends on, in words for who asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models.expressions import Col, ColPairs, ExpressionWrapper, Subquery
from django.db.models.lookups import IsNull, Lookup
from django.db.models.sql.query import Query

from ..core import dnf
from . import values


class Notes(list[tuple[str, str]]):
    """(table, why) of what was not used of one query; ``tables`` maps its aliases to tables."""

    def __init__(self, tables: Mapping[str, str]) -> None:
        super().__init__()
        self.tables = tables

    def add(self, why: str, alias: str | None = None) -> None:
        """Note it of the table of ``alias``, or of the query's first table."""
        first = next(iter(self.tables.values()), "")
        self.append((self.tables.get(alias or "", first), why))

    def leaf(self, node: Any, *, known: bool, negated: bool) -> None:
        """Note a leaf that was not used."""
        column = getattr(node, "lhs", None)
        while column is not None and not isinstance(column, (Col, ColPairs)):
            column = getattr(column, "lhs", None)
        self.add(why(node, known=known, negated=negated), getattr(column, "alias", None))

    def lost(
        self, parts: Iterable[dnf.Dnf[tuple[str, str]]], found: dnf.Dnf[tuple[str, str]], limit: int
    ) -> None:
        """Note the columns of ``parts`` that did not survive the limit."""
        kept = dnf.keys(found)
        asked = {key for part in parts for key in dnf.keys(part)}
        for alias, column in sorted(asked - kept) if found else ():
            self.add(f"more than {limit} combinations: {column} is left out", alias)


def why(node: Any, *, known: bool, negated: bool) -> str:
    """Why the leaf ``node`` of a WHERE tree was not used.

    ``known``: lookups of its class can be used; ``negated``: it was asked when it is false.
    """
    name = f"{'not ' if negated else ''}{_name(node)}"
    if not isinstance(node, Lookup):
        return f"{name}: not a comparison of a column"
    if isinstance(node.rhs, Query) or hasattr(node.rhs, "query"):
        return f"{name}: compared with a subquery"
    column = node.lhs
    if isinstance(node.rhs, bool) and _is_subquery(column):
        return f"{'not ' if negated else ''}Exists: a subquery of its own"
    if not isinstance(column, (Col, ColPairs)):
        return f"{name}: not a plain column"
    field = column.output_field if isinstance(column, ColPairs) else column.target
    if isinstance(column, Col) and not values.usable(field):
        return f"{name}: {values.why_unusable(field)}"
    if not known:
        return f"{name}: this lookup is not understood"
    if isinstance(node, IsNull):
        return f"{name}: holds for any value"
    if _has_expression(node.rhs):
        return f"{name}: compared with an expression"
    if negated:
        return f"{name}: holds for all values but some"
    return f"{name}: the database may compare this value in its own way"


def _name(node: Any) -> str:
    """What a user calls the condition."""
    if not isinstance(node, Lookup):
        return type(node).__name__
    parts: list[str] = [str(node.lookup_name)]
    lhs: Any = node.lhs
    while lhs is not None:
        if isinstance(lhs, Col):
            parts.append(str(lhs.target.name))
            break
        parts.append(str(getattr(lhs, "lookup_name", None) or type(lhs).__name__.lower()))
        lhs = getattr(lhs, "lhs", None)
    return "__".join(reversed(parts))


def _is_subquery(node: Any) -> bool:
    while isinstance(node, ExpressionWrapper):  # ~Exists is one
        node = node.expression
    return isinstance(node, Subquery)


def _has_expression(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_has_expression, value))
    return hasattr(value, "resolve_expression") or hasattr(value, "as_sql")
