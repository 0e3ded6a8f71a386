"""Whether Django alone makes the SQL of a query, and its parameters from the values of a call.

Only then does what was learnt of one call hold for the next. A field, an expression, a join or a
compiler of somebody else's may ask for the tenant or the language of the moment each time; it is
asked each time, then. What such a class does not define is Django's.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import FunctionType
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field
from django.db.models.sql.query import Query

from .. import conf
from . import walk

#: Where functions may come from: Django, and what is put onto it here.
_OURS: Final = ("django.", "cacheops_lite.")

#: What makes the SQL of a field.
_SQL: Final = (
    "select_format", "get_placeholder", "get_placeholder_sql", "get_col", "cached_col",
    "get_lookup", "get_transform", "get_db_converters",
)  # fmt: skip
#: What makes a parameter of a value that a field is compared with.
_VALUES: Final = ("to_python", "get_prep_value", "get_db_prep_value")
#: What a relation says of the joins that follow it.
_JOINS: Final = (
    "get_extra_restriction", "get_joining_fields", "get_joining_columns",
    "get_reverse_joining_fields", "get_reverse_joining_columns",
    "get_path_info", "get_reverse_path_info",
)  # fmt: skip
_QUERIES: Final = ("get_compiler", "add_q", "build_filter", "build_lookup", "join", "resolve_ref")
_COMPILERS: Final = (
    "as_sql", "compile", "get_select", "get_default_columns", "get_from_clause", "get_order_by",
    "execute_sql", "results_iter",
)  # fmt: skip


def query(asked: Any) -> bool:
    """Whether the steps that led to a query would give the same again in another context."""
    grouping = asked.group_by if isinstance(asked.group_by, tuple) else ()
    return (
        _by_django(_kind(asked), _QUERIES)
        and expressions([asked.where, *asked.annotations.values()], values=True)
        and expressions([*asked.select, *grouping], values=False)
        and _joins(asked)
    )


def compiled(compiler: Any) -> bool:
    """Whether compiling a query of this shape gives the same SQL in another context."""
    asked = compiler.query
    return (
        by_django_compiled(type(compiler))
        and _by_django(_kind(asked), _QUERIES)
        and expressions(walk.parts(asked, compiler), values=False)
        and _joins(asked)
    )


def expressions(roots: Iterable[Any], *, values: bool) -> bool:
    """The same of expressions; with ``values``, of the parameters that they give, too."""
    return all(
        query(node)
        if isinstance(node, Query)
        else (_plain(_kind(node)) or not hasattr(node, "as_sql"))
        and all(_field(field, _SQL) and (not values or _prepared(field)) for field in _fields(node))
        for node in walk.nodes(roots)
    )


def by_django_compiled(kind: Any) -> bool:
    """Whether a class of compilers is as Django has it, now."""
    return _by_django(kind, _COMPILERS, kind.as_sql, kind.execute_sql)


def warned(value: Any) -> bool:
    """Whether Django warns, each time, that a moment which it was given had no time zone.

    What it makes of it has the zone of the settings; of what has no other spelling only moments in
    UTC are remembered.
    """
    many = value if isinstance(value, (list, tuple)) else (value,)
    return any(
        type(one) is datetime.datetime and one.tzinfo not in (None, datetime.UTC) for one in many
    )


def _joins(asked: Any) -> bool:
    for table in asked.alias_map.values():
        field = getattr(table, "join_field", None)
        for relation in (field, getattr(field, "field", None)):
            if relation is not None and not _field(relation, _JOINS):
                return False
    return True


def _fields(node: Any) -> Iterator[Any]:
    """The fields that have a say in the SQL of an expression, or in what it is compared with."""
    state = getattr(node, "__dict__", {})
    for name in ("target", "output_field"):
        if isinstance(state.get(name), Field):
            yield state[name]
    for name in ("targets", "sources"):  # of several columns
        yield from state.get(name) or ()


def _prepared(field: Any) -> bool:
    """Whether Django prepares the values of a field, and of those that it hands them to."""
    if not _field(field, _VALUES):
        return False
    try:
        others = {*getattr(field, "foreign_related_fields", ())} - {field}
    except (FieldDoesNotExist, ValueError):  # a relation of another library's
        return False
    items = getattr(field, "base_field", None)
    if isinstance(items, Field):
        others.add(items)
    return all(map(_prepared, others))


def _kind(thing: Any) -> Any:
    return type(thing)


def _field(field: Any, names: tuple[str, ...]) -> bool:
    own = vars(field)
    return _by_django(_kind(field), names) and not any(callable(own.get(name)) for name in names)


@lru_cache(maxsize=4096)
def _by_django(kind: Any, names: tuple[str, ...], *_now: Any) -> bool:
    """Whether Django has defined what a class has under these names."""
    bases = (next((base for base in kind.__mro__ if name in vars(base)), None) for name in names)
    return all(
        base is None or _djangos(base, vars(base)[name])
        for name, base in zip(names, bases, strict=True)
    )


@lru_cache(maxsize=4096)
def _plain(kind: Any) -> bool:
    """Whether an expression's class is all Django's."""
    return all(
        _djangos(base, thing)
        for base in kind.__mro__
        if base is not object
        for thing in vars(base).values()
    )


def _djangos(base: Any, thing: Any) -> bool:
    """Whether a class is Django's, and so is what stands in it: not put there by others."""
    if not base.__module__.startswith(_OURS):
        return False
    while type(thing) is FunctionType:
        if not thing.__globals__["__name__"].startswith(_OURS):
            return False
        thing = getattr(thing, "__wrapped__", None)
    return True


conf.on_reset(_by_django.cache_clear)
conf.on_reset(_plain.cache_clear)
