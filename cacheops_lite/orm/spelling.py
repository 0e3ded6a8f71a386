"""What a queryset method was called with -> a hashable that is equal only for equal calls.

``filter(group=3, slug="a")`` is ``("group", int, 3, "slug", str, "a")``. Only what cannot change,
and what Django reads nothing else from: exact types, never a subclass; a value of 1 is not True.
Anything else has no spelling.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Avg, Count, F, Max, Min, Model, Q, Sum, aggregates

from .. import conf
from ..core.memo import Recent

#: Equal values of one of these types are the same text in SQL.
EXACT = frozenset({int, str, bool, type(None), uuid.UUID, datetime.date, bytes})
#: Types with equal values that are written differently (1.0 and 1.00, 0.0 and -0.0).
_BY_TEXT = frozenset({decimal.Decimal, float})
_MANY = frozenset({list, tuple, set, frozenset})
#: Expressions that are what their attributes say.
_EXPRESSIONS = frozenset(
    {Sum, Avg, Count, Min, Max, F, getattr(aggregates, "AggregateFilter", F)}  # Django 6.0
)

#: Values in one call; more of them are not remembered.
MOST = 100


class _Unspelt(Exception):
    pass


def spell(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The call as a hashable; ``None`` if it has no spelling."""
    parts: list[Any] = []
    try:
        for arg in args:
            parts += _positional(model, arg)
        for name, value in kwargs.items():
            kind = type(value)
            parts += (name, kind, value) if kind in EXACT else _named(model, name, value)
    except _Unspelt:
        return None
    return tuple(parts)


def _positional(model: Any, arg: Any) -> tuple[Any, ...]:
    kind = type(arg)
    if kind in EXACT:
        return ("", kind, arg)
    if kind is Q:
        parts: list[Any] = [Q, arg.connector, arg.negated, len(arg.children)]
        for child in arg.children:
            if type(child) is tuple:
                name, value = child
                of = type(value)
                parts += (name, of, value) if of in EXACT else _named(model, name, value)
            else:
                parts += _positional(model, child)
        return tuple(parts)
    if kind is slice:
        if arg.step is not None:
            raise _Unspelt
        return (slice, *_positional(model, arg.start), *_positional(model, arg.stop))
    return ("", *_value(arg))


def _named(model: Any, name: str, value: Any) -> tuple[Any, ...]:
    """One keyword: a lookup and its value, or an alias and its expression."""
    if isinstance(value, Model):
        return (name, type(value), *_referred(model, name, value))
    if type(value) in _MANY and not name.endswith(("__in", "__range")):
        raise _Unspelt  # kept by reference where the column itself holds lists
    return (name, *_value(value))


def _value(value: Any) -> tuple[Any, ...]:
    kind = type(value)
    if kind in EXACT:
        return (kind, value)
    if kind in _BY_TEXT:
        return (kind, repr(value))
    if kind is range:
        if len(value[: MOST + 1]) > MOST:
            raise _Unspelt
        return (kind, value.start, value.stop, value.step)
    if kind is datetime.datetime:
        if value.tzinfo is not datetime.UTC or value.fold:
            raise _Unspelt  # what it means depends on the zone that is active
        return (kind, value)
    if kind in _MANY:
        if len(value) > MOST:
            raise _Unspelt
        return (kind, tuple([_value(item) for item in value]))
    if kind is Q:
        return _positional(None, value)
    if kind in _EXPRESSIONS:
        state = vars(value).items()
        return (kind, *((n, *_attribute(v)) for n, v in state if n != "_constructor_args"))
    raise _Unspelt


def _attribute(value: Any) -> tuple[Any, ...]:
    if type(value) is dict:
        return (dict, *((name, *_value(item)) for name, item in value.items()))
    return _value(value)


#: (model, name of a relation) -> the attribute of the other side that is compared.
_targets: Recent[tuple[Any, str], tuple[Any, str]] = Recent(1024)
conf.on_reset(_targets.clear)
_NOTHING: tuple[Any, str] = (None, "")


def _referred(model: Any, name: str, value: Any) -> tuple[Any, ...]:
    """What a relation reads of an instance that it is compared with."""
    if model is None:
        raise _Unspelt
    found = _targets.get((model, name))
    if found is None:
        found = _target(model, name)
        _targets.set((model, name), found)
    owner, attname = found
    if (
        owner is None
        or not isinstance(value, owner)
        or attname not in value.__dict__
        or not value._is_pk_set()  # Django refuses it, whichever attribute is compared
    ):
        raise _Unspelt
    key = value.__dict__[attname]
    if type(key) not in EXACT or key is None:
        raise _Unspelt
    return (type(key), key)


def _target(model: Any, name: str) -> tuple[Any, str]:
    try:
        field = model._meta.get_field(name)
        targets: Any = field.path_infos[-1].target_fields if field.is_relation else ()
    except (FieldDoesNotExist, AttributeError):
        return _NOTHING
    if len(targets) != 1 or targets[0].remote_field is not None:
        return _NOTHING
    return targets[0].model, targets[0].attname
