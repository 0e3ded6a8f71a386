"""Rows -> results, directly: the same that Django's iterables would make of them.

Instances only of models whose ``__init__``, ``from_db``, ``__setattr__`` and field descriptors are
Django's own and that have no ``pre_init`` or ``post_init`` listeners; with what ``select_related``
joins by plain relations, and annotations. For each form of row a function is written once that
fills the ``__dict__`` of each instance; everything else takes the slow, exact way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from types import FunctionType
from typing import Any

import django
from django.db.models import Model, signals
from django.db.models.base import ModelState
from django.db.models.fields.files import FileDescriptor
from django.db.models.fields.mixins import FieldCacheMixin
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    ValuesIterable,
    ValuesListIterable,
)
from django.db.models.query_utils import DeferredAttribute

_FETCH_MODES = django.VERSION >= (6, 1)

Rows = list[tuple[Any, ...]]


class Produce:
    """What turns rows into results without a compiler: what the compiler found out."""

    def __init__(self, compiler: Any) -> None:
        self.select = compiler.select
        self.klass_info = compiler.klass_info
        self.annotation_col_map = compiler.annotation_col_map
        self.col_count = compiler.col_count
        query = compiler.query
        #: The keys of ``values()``.
        self.names = tuple(query.selected or ()) or (
            *query.extra_select, *query.values_select, *query.annotation_select
        )  # fmt: skip
        #: The models of each row, if they are plain.
        self.models: tuple[Any, ...] = ()
        self._build: Callable[..., list[Any]] | None = None
        self._written = False

    @property
    def build(self) -> Callable[..., list[Any]] | None:
        """``build(rows, using, fetch_mode)``; ``None`` if rows are no plain instances."""
        if not self._written:
            writer = _Writer(self)
            self._build = writer.function() if self.klass_info else None
            self.models = tuple(writer.models)
            self._written = True
        return self._build


def directly(queryset: Any, produce: Produce, rows: Rows) -> list[Any] | None:
    """The results of a queryset, or ``None`` if they take the slow way.

    What can change between two calls (signal listeners, known related objects) is looked at here.
    """
    kind = queryset._iterable_class
    if kind is ValuesListIterable:
        return rows
    if kind is FlatValuesListIterable:
        return [row[0] for row in rows]
    if kind is ValuesIterable:
        names = produce.names
        return [dict(zip(names, row, strict=False)) for row in rows]
    if kind is not ModelIterable:
        return None
    known = queryset._known_related_objects
    if known and not (
        produce.build and _attributes(queryset, known) <= set(_columns(produce))
    ):  # fmt: skip
        return None
    found = instances(produce, rows, queryset.db, queryset._fetch_mode if _FETCH_MODES else None)
    if known and found is not None:
        _relate(queryset, known, found)
    return found


def instances(produce: Produce, rows: Rows, using: str, fetch_mode: Any) -> list[Any] | None:
    """Instances as a queryset without known related objects gives them, or ``None`` as above."""
    build = produce.build
    if build is None or _listened(produce.models):
        return None
    if fetch_mode is not None and fetch_mode.track_peers:
        return None
    return build(rows, using, fetch_mode)


def _listened(models: tuple[Any, ...]) -> bool:
    before, after = signals.pre_init, signals.post_init
    if not before.receivers and not after.receivers:
        return False
    return any(before.has_listeners(model) or after.has_listeners(model) for model in models)


# -- known related objects ---------------------------------------------------------------------


def _attributes(queryset: Any, known: Any) -> set[str]:
    return {name for field in known for name in _from(queryset, field)}


def _from(queryset: Any, field: Any) -> list[str]:
    return [
        field.attname if name == "self" else queryset.model._meta.get_field(name).attname
        for name in field.from_fields
    ]


def _columns(produce: Produce) -> list[str]:
    return [produce.select[i][0].target.attname for i in produce.klass_info["select_fields"]]


def _relate(queryset: Any, known: Any, found: list[Any]) -> None:
    """Give each instance the objects that it was reached from, as ``ModelIterable`` does."""
    for field, objects in known.items():
        key_of = attrgetter(*_from(queryset, field))
        for instance in found:
            if field.is_cached(instance):
                continue
            other = objects.get(key_of(instance))
            if other is not None:
                setattr(instance, field.name, other)


# -- instances ---------------------------------------------------------------------------------


class _Writer:
    """Writes the function that makes instances of rows; ``models`` are those it makes."""

    def __init__(self, produce: Produce) -> None:
        self.produce = produce
        self.models: list[Any] = []
        self.names: dict[str, Any] = {"State": ModelState, "new": object.__new__}
        self.count = 0

    def function(self) -> Callable[..., list[Any]] | None:
        lines = self._instance(self.produce.klass_info)
        if lines is None or not self._annotate(lines):
            return None
        columns = "".join(f"c{i}, " for i in range(len(self.produce.select)))
        source = [
            "def build(rows, using, fetch_mode):",
            "    found = []",
            "    append = found.append",
            f"    for {columns}in rows:",
            *(f"        {line}" for line in lines),
            "        append(i0)",
            "    return found",
        ]
        # Nothing but numbers, and names that are attributes of a model.
        exec("\n".join(source), self.names)  # noqa: S102
        function: Callable[..., list[Any]] = self.names["build"]
        return function

    def _instance(self, info: Any) -> list[str] | None:
        """The lines that make one instance, with what hangs on it."""
        number = self.count
        self.count += 1
        model, places = info["model"], info["select_fields"]
        if info.get("from_parent") or list(places) != list(range(places[0], places[-1] + 1)):
            return None
        attnames = [self.produce.select[place][0].target.attname for place in places]
        if not _is_plain(model, attnames):
            return None
        self.models.append(model)
        self.names[f"model{number}"] = model
        lines = [
            f"s{number} = State()",
            f"s{number}.adding = False",
            f"s{number}.db = using",
            *([f"s{number}.fetch_mode = fetch_mode"] if _FETCH_MODES else []),
            f"i{number} = new(model{number})",
            f"d = i{number}.__dict__",
            f"d['_state'] = s{number}",
            *(f"d['{name}'] = c{place}" for name, place in zip(attnames, places, strict=True)),
        ]
        for below in info.get("related_klass_infos", ()):
            more = self._related(below, number)
            if more is None:
                return None
            lines += more
        return lines

    def _related(self, info: Any, parent: int) -> list[str] | None:
        """The lines that make a joined instance, or None, and hang it on its parent."""
        number = self.count
        local, remote = _cached_as(info["local_setter"]), info["remote_setter"]
        lines = self._instance(info)
        if lines is None or local is None:
            return None
        key = info["model"]._meta.pk_fields[0].attname
        place = next(
            (i for i in info["select_fields"] if self.produce.select[i][0].target.attname == key),
            None,
        )
        if place is None:
            return None
        self.names[f"name{number}"] = local
        tail = [f"s{parent}.fields_cache[name{number}] = i{number}"]
        if _cached_as(remote) is not None:
            self.names[f"remote{number}"] = remote
            tail += [f"if i{number} is not None:", f"    remote{number}(i{number}, i{parent})"]
        elif not _does_nothing(info, remote):
            return None
        return [
            f"if c{place} is None:",
            f"    i{number} = None",
            "else:",
            *(f"    {line}" for line in lines),
            *tail,
        ]

    def _annotate(self, lines: list[str]) -> bool:
        lines.append("d = i0.__dict__")
        for name, place in (self.produce.annotation_col_map or {}).items():
            if not name.isidentifier() or hasattr(self.models[0], name):
                return False
            lines.append(f"d['{name}'] = c{place}")
        return True


def _cached_as(setter: Any) -> str | None:
    """The name under which a setter puts an object into the cache of relations."""
    if getattr(setter, "__func__", None) is not FieldCacheMixin.set_cached_value:
        return None
    name: str = setter.__self__.cache_name
    return name


def _does_nothing(info: Any, setter: Any) -> bool:
    """Whether this is the lambda that Django has for relations which are not unique."""
    return (
        type(setter) is FunctionType
        and setter.__name__ == "<lambda>"
        and setter.__module__ == "django.db.models.sql.compiler"
        and not info["reverse"]
        and not info["field"].unique
    )


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
    return order == names and all(map(str.isidentifier, names)) and all(_descriptors(model, names))


def _descriptors(model: Any, names: list[str]) -> Iterator[bool]:
    """Whether each attribute of a row may go straight into ``__dict__``."""
    for name in names:
        raw = next((vars(base)[name] for base in model.__mro__ if name in vars(base)), None)
        yield isinstance(raw, DeferredAttribute) and (
            not hasattr(type(raw), "__set__") or _sets_plainly(type(raw))
        )


def _sets_plainly(kind: Any) -> bool:
    from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute

    return kind in (FileDescriptor, ForeignKeyDeferredAttribute)
