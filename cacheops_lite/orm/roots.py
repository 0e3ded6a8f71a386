"""Where chains of calls begin: a manager gives a queryset at the root of its model.

Only of classes whose methods are Django's own, and of a Django whose querysets have the attributes
that we know: all others are made as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from django.db.models.sql.query import Query

from .. import conf
from ..core.memo import Recent
from .nodes import Node

#: The attributes of a queryset: what a clone starts anew, what it takes over, Django 6.1's.
_FRESH = {"_result_cache": None, "_prefetch_done": False, "_defer_next_filter": False,
          "_deferred_filter": None}  # fmt: skip
_TAKEN = {"model", "_db", "_hints", "_query", "_sticky_filter", "_for_write", "_fields",
          "_prefetch_related_lookups", "_known_related_objects", "_iterable_class"}  # fmt: skip
_LATER = {"_fetch_mode", "_cloning_enabled"}
_SET = {*_FRESH, *_TAKEN, *_LATER, "_cacheops", "_cacheops_node"}

#: Methods that write, or that only end in others: a queryset class may have its own.
_FREE = frozenset(
    """__doc__ __module__ __dict__ __weakref__ __firstlineno__ __static_attributes__
    as_manager create acreate bulk_create abulk_create bulk_update abulk_update get_or_create
    aget_or_create update_or_create aupdate_or_create delete adelete update aupdate
    __class_getitem__ _query cache nocache inplace cloning invalidated_update cache_explain
    """.split()
)

#: (queryset class, model) -> where its chains begin; a text if they are not followed.
_roots: Recent[tuple[Any, Any], Node | str] = Recent(1024)
_NEVER = "never"


def begin(original: Callable[..., Any], manager: Any) -> Any:
    """``get_queryset()`` of a manager: a queryset at the root of its model."""
    kind, model = manager._queryset_class, manager.model
    root = _roots.get((kind, model))
    if root is None:
        try:
            root = _root(kind, model)
        except ImproperlyConfigured:
            # A queryset is no reading: check, and whoever reads or writes, say what is wrong. The
            # admin makes some while the apps are loaded, when nobody could hear it.
            return original(manager)
        _roots.set((kind, model), root)
    if type(root) is str:
        return original(manager)
    state: dict[str, Any] = {
        "model": model,
        "_db": manager._db,
        "_hints": manager._hints or {},
        "_sticky_filter": False,
        "_for_write": False,
        "_prefetch_related_lookups": (),
        "_known_related_objects": {},
        "_iterable_class": ModelIterable,
        "_fields": None,
        "_cacheops_node": root,
        **NEW,
    }
    return queryset_of(kind, state)


#: What a new queryset has besides, filled by ``_root``.
NEW: dict[str, Any] = {}


def _root(kind: Any, model: Any) -> Node | str:
    settings = conf.current()
    if not settings.active or model is None or model.__module__ == "__fake__":
        return _NEVER
    profile = settings.profile(model._meta.label_lower)
    if profile is None or not profile.configured or not _ordinary(kind):
        return _NEVER
    plain: Any = QuerySet
    found = plain(model)
    names = set(vars(found))
    if names - _LATER != {*_FRESH, *_TAKEN} or type(found._query) is not Query:
        return _NEVER  # another Django than we know
    NEW.update({name: vars(found)[name] for name in names & _LATER}, **_FRESH)
    node = Node(found._query, ModelIterable, None)
    node.root = True
    return node


def _ordinary(kind: Any) -> bool:
    """Whether a queryset class has Django's own methods (ours, once installed)."""
    return (
        all(
            getattr(kind, name) is getattr(QuerySet, name)
            for name in vars(QuerySet)
            if name not in _FREE and callable(getattr(QuerySet, name))
        )
        and all(
            next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
            is vars(QuerySet)[name]
            for name in ("query", "db", "ordered", "_query")
        )
        and _made_plainly(kind)
    )


def _made_plainly(kind: Any) -> bool:
    """Whether making one, and setting what we set, does nothing else."""
    return (
        type(kind).__call__ is type.__call__
        and all(
            getattr(kind, name) is getattr(object, name)
            for name in ("__new__", "__setattr__", "__getattribute__")
        )
        and not any(
            hasattr(type(thing), "__set__")
            for base in kind.__mro__
            for name, thing in vars(base).items()
            if name in _SET
        )
    )


def queryset_of(kind: Any, state: dict[str, Any]) -> Any:
    """A queryset with these attributes."""
    queryset = object.__new__(kind)
    queryset.__dict__ = state
    return queryset


def reset() -> None:
    """Look anew where chains begin."""
    _roots.clear()
