"""The structure of a query, walked without compiling it, and the parameters that fill it.

Two queries of one *shape* run the same SQL text with other parameters. What was learnt by
compiling the first (SQL, dependencies, how rows become objects) then serves all of them. The walker
knows the common forms; anything else has no shape and is compiled every time.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.core.exceptions import FieldError
from django.db.models import lookups
from django.db.models.expressions import Col, F, OrderBy
from django.db.models.fields import related_lookups
from django.db.models.sql.datastructures import BaseTable, Join
from django.db.models.sql.query import Query
from django.db.models.sql.where import WhereNode

#: Lookups whose SQL is decided by their class, their column and the presence of a value.
_MODULES = frozenset({lookups.__name__, related_lookups.__name__})
SCALARS = frozenset(
    {str, int, decimal.Decimal, datetime.date, datetime.datetime, datetime.time, uuid.UUID}
)
#: Not narrowed by type checkers: the stubs know less of them than we use.
_QUERY: Any = Query
_COL: Any = Col
_EXACT = (lookups.Exact, related_lookups.RelatedExact)
_IN = (lookups.In, related_lookups.RelatedIn)


class Slot(NamedTuple):
    """One leaf of the where tree whose values are parameters."""

    leaf: Any
    values: tuple[Any, ...]
    #: Whether the dependencies can be spelt from these values: an equality of a column.
    equality: bool


class Shape(NamedTuple):
    """A hashable structure, and the slots in the order of the tree."""

    structure: tuple[Any, ...]
    slots: list[Slot]


def shape_of(query: Any) -> Shape | None:
    """The shape of a SELECT query, or ``None`` if the walker does not know all of it."""
    if (
        type(query) is not _QUERY
        or query.combinator
        or query.annotations
        or query.extra_tables
        or query.extra_order_by
        or query.group_by is not None
        or query.distinct_fields
        or query.explain_info is not None
        or query.subquery
        or query.external_aliases
        or query._filtered_relations
        or "get_compiler" in query.__dict__
    ):
        return None
    slots: list[Slot] = []
    where = _where(query.where, slots)
    if where is None:
        return None
    order_by = query.order_by
    if not all(type(item) is str for item in order_by) or not _by_columns(query, order_by):
        return None
    select = query.select
    if select:
        for column in select:
            if type(column) is not _COL:
                return None
        select = tuple((column.alias, column.target) for column in select)
    alias_map = query.alias_map
    joins = _joins(query) if alias_map else ()
    if joins is None:
        return None
    extra = _extra(query) if query.extra else ()
    if extra is None:
        return None
    related = query.select_related
    if query.default_ordering and not order_by:
        # No text comes first: ``order_by()`` could be given the same names, and "?" among them.
        ordering = query.get_meta().ordering or ()
        if not _by_columns(query, ordering):
            return None
        order_by = (None, *map(str, ordering))
    fields, defer = query.deferred_loading
    return Shape(
        (
            query.model, where, joins, select, query.default_cols, order_by,
            query.default_ordering, query.standard_ordering, query.low_mark, query.high_mark,
            query.distinct, related if type(related) is bool else _frozen(related),
            query.max_depth, frozenset(fields), defer, query.values_select,
            tuple(query.selected) if query.selected else None, query.alias_prefix, extra,
        ),
        slots,
    )  # fmt: skip


def _extra(query: Any) -> tuple[Any, ...] | None:
    """``extra(select=…)`` without parameters: what ``prefetch_related`` adds."""
    if any(params for _, params in query.extra.values()):
        return None
    mask = query.extra_select_mask
    return (
        tuple((name, sql) for name, (sql, _) in query.extra.items()),
        None if mask is None else frozenset(mask),
    )


def _frozen(tree: Any) -> Any:
    return tuple((name, _frozen(below)) for name, below in tree.items()) if tree else ()


def _joins(query: Any) -> tuple[Any, ...] | None:
    counts = query.alias_refcount
    if len(query.alias_map) == 1:
        ((alias, table),) = query.alias_map.items()
        if type(table) is BaseTable:
            return ((alias, table.table_name, counts[alias] > 0),)
    found: list[Any] = []
    for alias, table in query.alias_map.items():
        if type(table) is BaseTable:
            found.append((alias, table.table_name, counts[alias] > 0))
        elif type(table) is Join and table.filtered_relation is None:
            found.append(
                (
                    alias,
                    table.table_name,
                    table.join_type,
                    table.parent_alias,
                    table.join_field,
                    table.nullable,
                    counts[alias] > 0,
                )
            )
        else:
            return None
    return tuple(found)


def _where(node: Any, slots: list[Slot]) -> tuple[Any, ...] | None:
    if type(node) is not WhereNode:
        return None
    parts: list[Any] = [node.connector, node.negated]
    for child in node.children:
        kind = type(child)
        part = _where(child, slots) if kind is WhereNode else _leaf(kind, child, slots)
        if part is None:
            return None
        parts.append(part)
    return tuple(parts)


def _by_columns(query: Any, items: Iterable[Any], depth: int = 0) -> bool:
    """Whether all that is ordered by are names of columns, or of models that are ordered so.

    The SQL of a transform (``created__date``) may hang on more than its name: on the time zone of
    the moment, on MySQL.
    """
    for item in items:
        given: Any = item.expression if type(item) is OrderBy else item
        name = getattr(given, "name", None) if type(given) is F else given
        if type(name) is not str:
            return False
        names = name.lstrip("+-").split("__")
        if names in (["?"], ["pk"]):
            continue
        try:
            _, field, _, transforms = query.names_to_path(names, query.get_meta())
        except (FieldError, AttributeError):
            return False
        if transforms:
            return False
        if field.is_relation and names[-1] not in ("pk", getattr(field, "attname", "")):
            model = getattr(field, "related_model", None)
            ordering = model._meta.ordering if model is not None else ()
            if depth > 4 or not _by_columns(Query(model), ordering or (), depth + 1):
                return False
    return True


def _leaf(kind: Any, leaf: Any, slots: list[Slot]) -> tuple[Any, ...] | None:
    if kind.__module__ not in _MODULES or issubclass(kind, lookups.UUIDTextMixin):
        return None  # the latter are others after each time they were compiled
    column = leaf.lhs
    if type(column) is not Col or leaf.bilateral_transforms:
        return None
    head = (kind, column.alias, column.target, column.output_field)
    value = leaf.rhs
    of = type(value)
    if issubclass(kind, lookups.IsNull):
        return (*head, value) if of is bool else None
    if issubclass(kind, _IN):
        return _in(head, leaf, value, slots)
    if value is None:
        return (*head, value)
    if of is bool:  # a part of the SQL with some databases, so queries with the other differ
        slots.append(Slot(leaf, (value,), False))
        return (*head, value)
    if of in SCALARS:
        slots.append(Slot(leaf, (value,), issubclass(kind, _EXACT)))
        return (*head, of)
    if of is tuple or of is list:
        if not all(type(item) in SCALARS for item in value):
            return None
        slots.append(Slot(leaf, tuple(value), False))
        return (*head, of, tuple(map(type, value)))
    return None


def _in(head: tuple[Any, ...], leaf: Any, value: Any, slots: list[Slot]) -> tuple[Any, ...] | None:
    if type(value) not in (list, tuple, set, frozenset):
        return None
    items = tuple(value)
    kinds = set(map(type, items))
    # NULLs and repeated values are left out by the compiler: the text would vary.
    if len(kinds) != 1 or not kinds <= SCALARS or len(set(items)) != len(items):
        return None
    slots.append(Slot(leaf, items, True))
    return (*head, len(items), kinds.pop())


def parameters(slots: Iterable[Slot], compiler: Any, connection: Any) -> list[Any]:
    """The SQL parameters of the slots, as the compiler will make them."""
    found: list[Any] = []
    for slot in slots:
        if not _spoken(slot, connection):
            _, params = slot.leaf.process_rhs(compiler, connection)
            found.extend(params)
    return found


def _spoken(slot: Slot, connection: Any) -> bool:
    """Whether a truth value is in the words of the SQL: ``WHERE active``, not ``active = 1``."""
    return (
        type(slot.leaf.rhs) is bool
        and issubclass(type(slot.leaf), lookups.Exact)
        and getattr(slot.leaf.lhs, "conditional", False)
        and connection.ops.conditional_expression_supported_in_where_clause(slot.leaf.lhs)
    )
