"""Rows of plain models -> instances, directly: the same that ``Model.from_db`` would build.

Only for models whose ``__init__``, ``from_db``, ``__setattr__`` and field descriptors are Django's
own, that have no ``pre_init`` or ``post_init`` listeners, and only where each row is one instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django
from django.db.models import Model, signals
from django.db.models.base import ModelState
from django.db.models.fields.files import FileDescriptor
from django.db.models.query import ModelIterable
from django.db.models.query_utils import DeferredAttribute

_FETCH_MODES = django.VERSION >= (6, 1)


def builder(queryset: Any, produce: Any) -> Callable[[list[tuple[Any, ...]]], list[Any]] | None:
    """A function from rows to instances for this queryset, or ``None`` if it takes the slow way.

    What can change between two calls (signal listeners, known related objects) is looked at here.
    """
    info = produce.klass_info
    if (
        queryset._iterable_class is not ModelIterable
        or info is None
        or info.get("related_klass_infos")
        or produce.annotation_col_map
        or queryset._known_related_objects
    ):
        return None
    model = info["model"]
    if signals.pre_init.has_listeners(model) or signals.post_init.has_listeners(model):
        return None
    first, last = info["select_fields"][0], info["select_fields"][-1] + 1
    if first != 0 or last != len(produce.select):
        return None
    names = [column[0].target.attname for column in produce.select]
    if not _plain(model, names):
        return None
    using = queryset.db
    fetch_mode = queryset._fetch_mode if _FETCH_MODES else None
    if fetch_mode is not None and fetch_mode.track_peers:
        return None
    return _make(model, names, using, fetch_mode)


def _make(
    model: Any, names: list[str], using: str, fetch_mode: Any
) -> Callable[[list[tuple[Any, ...]]], list[Any]]:
    new = model.__new__

    def build(rows: list[tuple[Any, ...]]) -> list[Any]:
        found: list[Any] = []
        append = found.append
        for row in rows:
            instance = new(model)
            state = ModelState()
            state.adding = False
            state.db = using
            if fetch_mode is not None:
                state.fetch_mode = fetch_mode
            data = instance.__dict__
            data["_state"] = state
            data.update(zip(names, row, strict=True))
            append(instance)
        return found

    return build


_plain_models: dict[tuple[Any, ...], bool] = {}


def _plain(model: Any, names: list[str]) -> bool:
    key = (model, *names)
    try:
        return _plain_models[key]
    except KeyError:
        found = _plain_models[key] = _is_plain(model, names)
        return found


def _is_plain(model: Any, names: list[str]) -> bool:
    if (
        model.__init__ is not Model.__init__
        or model.__new__ is not object.__new__
        or model.__setattr__ is not object.__setattr__
        or model.from_db.__func__ is not vars(Model)["from_db"].__func__
    ):
        return False
    # ``__init__`` fills fields in the order of the model; a row may bring them in another.
    order = [field.attname for field in model._meta.concrete_fields if field.attname in set(names)]
    if order != names:
        return False
    for name in names:
        descriptor = getattr(model, name, None)
        raw = next((vars(base)[name] for base in model.__mro__ if name in vars(base)), descriptor)
        if not isinstance(raw, DeferredAttribute):
            return False
        if hasattr(type(raw), "__set__") and not _sets_plainly(type(raw)):
            return False
    return True


def _sets_plainly(kind: Any) -> bool:
    from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute

    return kind in (FileDescriptor, ForeignKeyDeferredAttribute)
