"""Following a foreign key: ``item.author`` answered from the key, without a manager or a ``Q``.

Django's way (a manager with hints, its queryset, a ``Q``, ``get()``) is taken the first time, and
tells under which name its ``get()`` is remembered; what changes in that name from then on is the
key alone. Same entry, same dependencies, same instance. A descriptor, a field or a manager with
methods of its own always goes Django's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import router
from django.db.models import ForeignObject, Q
from django.db.models.fields.related import RelatedField
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from django.db.models.manager import BaseManager

from .. import conf
from ..core.memo import Recent
from . import build, lazy, reads, rows, shortcut
from .spelling import EXACT


class Path(NamedTuple):
    """How the objects of one foreign key are asked for."""

    model: Any
    label: str
    manager: Any
    attname: str
    #: The call of ``get()`` as its answer is remembered by, but for the type and the value.
    call: tuple[Any, ...]


#: Descriptor -> its path; a text if it is not followed.
_paths: Recent[Any, Path | str] = Recent(4096)
_NEVER = "never"


def reset() -> None:
    """Forget all paths."""
    _paths.clear()


conf.on_reset(reset)


def get_object(original: Callable[..., Any], self: Any, instance: Any) -> Any:
    """``ForwardManyToOneDescriptor.get_object``: from the key where this was asked before."""
    settings = conf.current()
    if not settings.active:
        return original(self, instance)
    path = _paths.get(self)
    if path is None:
        path = _path(self, instance)
        _paths.set(self, path)
    if type(path) is str:
        return original(self, instance)
    found = _found(path, settings, self, instance)
    # Of none or several Django says what is wrong.
    return found[0] if found is not None and len(found) == 1 else original(self, instance)


def _found(path: Any, settings: Any, descriptor: Any, instance: Any) -> list[Any] | None:
    """The objects with the key that the instance has, or ``None`` to ask as Django does."""
    model, label, manager, attname, call = path
    profile = settings.profile(label)
    value = getattr(instance, attname)
    kind = type(value)
    if (
        profile is None
        or "get" not in profile.ops
        or kind not in EXACT
        or model._meta.base_manager is not manager
    ):
        return None
    using = manager._db or router.db_for_read(model, instance=instance)

    def queryset() -> Any:
        return descriptor.get_queryset(instance=instance).using(using)

    def query() -> Any:
        asked = descriptor.field.get_reverse_related_filter(instance)
        return shortcut.long_query(queryset(), (asked,), {})

    place = ((*call, kind, value), using, profile.db_agnostic)
    got = reads.rows_at(place, model, using, profile, query, lambda: reads.packing(queryset()))
    if got is None:
        return None
    found = build.instances(*got, using, getattr(instance._state, "fetch_mode", None))
    return found if found is not None else rows.produce(queryset(), *got)


def _path(descriptor: Any, instance: Any) -> Path | str:
    field = descriptor.field
    model = field.remote_field.model
    manager = model._meta.base_manager
    if not (
        _own(descriptor, ForwardManyToOneDescriptor, "get_queryset")
        and _own(field, RelatedField, "get_reverse_related_filter")
        and _own(field, ForeignObject, "get_extra_descriptor_filter")
        and all(
            _own(manager, BaseManager, name) for name in ("get_queryset", "all", "db_manager", "db")
        )
        and len(field.related_fields) == 1
    ):
        return _NEVER
    queryset = descriptor.get_queryset(instance=instance)
    node = lazy.node_of(queryset)
    if node is None or not shortcut.untouched(queryset):
        return _NEVER
    local, remote = field.related_fields[0]
    call = lazy.call_key(queryset, node, "get", (Q((remote.attname, 0)),), {})
    if call is None or call[-2:] != (int, 0):
        return _NEVER
    return Path(model, model._meta.label_lower, manager, local.attname, call[:-2])


def _own(thing: Any, owner: Any, name: str) -> bool:
    """Whether a method is the one that its class has from Django (ours, once installed)."""
    return name not in vars(thing) and getattr(type(thing), name) is getattr(owner, name)
