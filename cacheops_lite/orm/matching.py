"""What the condition of a write says of its rows: one by its key; the same ones if asked again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models.expressions import Col
from django.db.models.lookups import Exact
from django.db.models.sql.query import Query

from . import volatile, walk

#: Keys whose value in a statement is the value of the row that it finds, and their bits.
_PLAIN_KEYS = {"AutoField": 31, "BigAutoField": 63, "SmallAutoField": 15, "UUIDField": 0}


def key_of(query: Any, model: Any) -> Any | None:
    """The primary key that is all of a statement's condition; ``None`` if there is more to it."""
    children, pk = query.where.children, model._meta.pk
    if len(children) != 1 or query.where.negated or len(query.alias_map) > 1:
        return None
    leaf = children[0]
    exact = isinstance(leaf, Exact) and type(leaf).__module__ == Exact.__module__
    if not exact or type(leaf.lhs) is not Col or leaf.lhs.target is not pk:
        return None
    return leaf.rhs if is_plain_key(pk, leaf.rhs) else None


def is_plain_key(pk: Any, key: Any) -> bool:
    """Whether a value of the primary key ``pk`` is in a statement what it is in the row."""
    bits = _PLAIN_KEYS.get(pk.get_internal_type())
    if bits is None or not type(pk).__module__.startswith("django."):
        return False
    if type(key) is int:
        return -(1 << bits) <= key < 1 << bits  # else Django asks nobody
    return type(key) is UUID


def single_table(query: Any) -> bool:
    """Whether the conditions look only at the table that is written."""
    active = [alias for alias, count in query.alias_refcount.items() if count]
    return (
        len(active) <= 1
        and not query.extra_tables
        and not query.combinator
        and query.group_by is None
        and not query.is_sliced
        and not any(isinstance(node, Query) for node in _conditions(query))
    )


def same_rows_again(query: Any) -> bool:
    """Whether the conditions hold for the same rows when they are asked again at once."""
    return not any(
        volatile.why_expression(node) or volatile.own_sql(node) for node in _conditions(query)
    )


def _conditions(query: Any) -> Iterator[Any]:
    """All that the WHERE clause is made of, and the annotations that it may refer to."""
    return walk.nodes([query.where, *query.annotations.values()])
