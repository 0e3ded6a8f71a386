"""``get()`` by one value on an untouched manager: answered from the key, without a Query.

``User.objects.get(pk=1)``, following a foreign key, ``request.user``. The first one goes the long
way and shows its shape; the next ones fill it. Same entry, same dependencies, same result. What is
not exactly that form goes the long way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.models import Q, QuerySet
from django.db.models.query import MAX_GET_RESULTS, ModelIterable
from django.db.models.sql.query import Query

from .. import conf
from ..core.memo import Recent
from . import lazy
from .shapes import SCALARS, Shape, Slot

#: Methods that must be Django's own (ours, once installed) for the short way to be the same.
_METHODS = ("get", "filter", "_filter_or_exclude", "_filter_or_exclude_inplace", "order_by",
            "_chain", "_clone", "_fetch_all", "__len__", "__iter__")  # fmt: skip


class Known(NamedTuple):
    """What the long way showed: the key of its shape, and the lookup that held the value."""

    key: Any
    lookup: Any
    column: Any
    kind: type


#: Not narrowed by type checkers: the stubs know less of it than we use.
_QUERY: Any = Query

_known: Recent[Any, Known] = Recent(2048)
_ordinary: dict[Any, bool] = {}


def reset() -> None:
    """Forget what was learnt."""
    _known.clear()
    _ordinary.clear()


conf.on_reset(reset)


def condition(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any] | None:
    """The one (lookup, scalar) that ``get()`` was asked for, or ``None``."""
    if kwargs:
        if args or len(kwargs) != 1:
            return None
        ((name, value),) = kwargs.items()
    elif len(args) == 1 and type(args[0]) is Q:
        q = args[0]
        if q.negated or len(q.children) != 1 or type(q.children[0]) is not tuple:
            return None
        name, value = q.children[0]
    else:
        return None
    return (name, value) if type(value) in SCALARS else None


def untouched(queryset: Any) -> bool:
    """Whether this is what a plain manager gives: every row, all columns, nothing chosen."""
    node = lazy.node_of(queryset)
    if node is not None:
        return node.root and _plain_attributes(queryset)
    query = queryset.query
    return (
        type(query) is _QUERY
        and not query.where.children
        and not query.alias_map
        and not query.annotations
        and query.select_related is False
        and not query.select
        and query.default_cols
        and not query.deferred_loading[0]
        and query.high_mark is None
        and not query.low_mark
        and not query.distinct
        and not query.combinator
        and not query.extra
        and not query.extra_tables
        and query.group_by is None
        and not query._filtered_relations
        and not query.distinct_fields
        and _plain_attributes(queryset)
        and _is_ordinary(type(queryset))
    )


def _plain_attributes(queryset: Any) -> bool:
    return (
        queryset._iterable_class is ModelIterable
        and not queryset._prefetch_related_lookups
        and not queryset._known_related_objects
        and not queryset._sticky_filter
    )


def _is_ordinary(kind: Any) -> bool:
    try:
        return _ordinary[kind]
    except KeyError:
        found = all(getattr(kind, name) is getattr(QuerySet, name) for name in _METHODS)
        _ordinary[kind] = found
        return found


def known(queryset: Any, using: str, agnostic: bool, name: str, value: Any) -> Known | None:
    """What was learnt of this form of ``get()``."""
    return _known.get((queryset.model, using, agnostic, name, type(value)))


def learn(
    queryset: Any, using: str, agnostic: bool, name: str, value: Any, key: Any, shape: Shape
) -> None:
    """Remember the shape that the long way had, if it is the plain one."""
    if len(shape.slots) != 1:
        return
    slot = shape.slots[0]
    if not slot.equality or len(slot.values) != 1:
        return
    _known.set(
        (queryset.model, using, agnostic, name, type(value)),
        Known(key, type(slot.leaf), slot.leaf.lhs, type(slot.values[0])),
    )


def slot_for(form: Known, value: Any) -> Slot | None:
    """The slot that the long way would have. Raises what Django raises for a wrong value."""
    leaf = form.lookup(form.column, value)
    if type(leaf.rhs) is not form.kind:
        return None
    return Slot(leaf, (leaf.rhs,), True)


def end_query(queryset: Any, name: str) -> Any:
    """The query that ``first()`` or ``last()`` makes."""
    if queryset.ordered:
        ordered = queryset if name == "first" else queryset.reverse()
    else:
        ordered = queryset.order_by("pk" if name == "first" else "-pk")
    return ordered[:1].query


def long_query(queryset: Any, args: Any, kwargs: Any) -> Any:
    """The query that ``get(*args, **kwargs)`` makes."""
    clone = queryset.filter(*args, **kwargs)
    query = queryset.query
    if query.can_filter() and not query.distinct_fields:
        clone = clone.order_by()
    clone.query.set_limits(high=MAX_GET_RESULTS)
    return clone.query
