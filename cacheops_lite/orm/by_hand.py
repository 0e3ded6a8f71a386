"""Changes that people announce: invalidation by call, and signals that other libraries send.

What Django itself saves and deletes is explained by its statements, so a signal counts only when
no statement of ours belongs to it: it was sent by hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any

from django.db import connections, router
from django.db.models import Model

from .. import conf, engine, signals
from ..core.entry import UNKNOWN, Change
from . import instances, registry, scope
from .collecting import collect, collect_all, suspended
from .pending import open_transaction, pending
from .transactions import commit_now

logger = logging.getLogger("cacheops_lite")


class Deletion:
    """A collector that is deleting, with all that it goes through."""

    def __init__(self, collector: Any) -> None:
        self.instances: Mapping[Any, Collection[Any]] = collector.data

    @cached_property
    def ids(self) -> frozenset[int]:
        """Which instances they are, whatever they are equal to."""
        return frozenset(id(one) for instances in self.instances.values() for one in instances)


#: Instances that Django is saving, and what it is deleting, in this context.
_saving: ContextVar[tuple[Any, ...]] = ContextVar("cacheops_lite_saving", default=())
_deleting: ContextVar[tuple[Deletion, ...]] = ContextVar("cacheops_lite_deleting", default=())


def saving(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``Model.save_base``: its signals are explained by its statements."""
    token = _saving.set((*_saving.get(), self))
    try:
        result = original(self, *args, **kwargs)
    finally:
        _saving.reset(token)
    _cache_on_save(self)
    return result


def _cache_on_save(instance: Any) -> None:
    """Read a saved object again, after its commit, if its profile asks for that.

    By the ordinary way of a miss: what the instance holds may be outdated by then (A10).
    """
    settings = conf.current()
    profile = settings.profile(instance._meta.label_lower) if settings.active else None
    if profile is None or not profile.cache_on_save:
        return
    field = "pk" if profile.cache_on_save is True else str(profile.cache_on_save)
    model, alias, value = type(instance), instance._state.db, getattr(instance, field)

    def read() -> None:
        try:
            model._default_manager.using(alias).cache(ops="get").get(**{field: value})
        except (model.DoesNotExist, model.MultipleObjectsReturned):
            pass
        except Exception:
            # It is saved: who saved it has nothing to do about this.
            logger.exception("cacheops_lite: %s could not be read again", model._meta.label_lower)

    if open_transaction(connections[alias]):
        pending(connections[alias]).saved.append(read)
    else:
        read()


def deleting(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``Collector.delete``: its signals are explained by its statements."""
    token = _deleting.set((*_deleting.get(), Deletion(self)))
    try:
        return original(self, *args, **kwargs)
    finally:
        _deleting.reset(token)


def current_instance(model: Any) -> Any | None:
    """The instance that Django is saving now, if it is one of ``model``'s rows."""
    stack = _saving.get()
    return stack[-1] if stack and isinstance(stack[-1], model) else None


def deleted_instance(model: Any) -> Any | None:
    """The instance that Django is deleting now, if it is the only one of ``model``."""
    stack = _deleting.get()
    instances = stack[-1].instances.get(model, ()) if stack else ()
    return next(iter(instances)) if len(instances) == 1 else None


def saved(sender: Any, instance: Any = None, using: str | None = None, **kwargs: Any) -> None:
    """``post_save`` was sent."""
    if instance is not None and not any(one is instance for one in _saving.get()):
        announce(instance, using)


def deleted(sender: Any, instance: Any = None, using: str | None = None, **kwargs: Any) -> None:
    """``post_delete`` was sent."""
    if instance is not None and not any(id(instance) in one.ids for one in _deleting.get()):
        announce(instance, using)


def m2m_changed(
    sender: Any,
    action: str = "",
    using: str | None = None,
    pk_set: Any = None,
    instance: Any = None,
    **kwargs: Any,
) -> None:
    """``m2m_changed`` was sent (``sender`` is the through model).

    Django sends it before and after its statements, of whatever rows.
    """
    table = sender._meta.db_table
    if not conf.current().profiles or table not in registry.current().tracked:
        return
    alias = using or router.db_for_write(sender, instance=instance)
    changing = pending(connections[alias]).changing
    if not action.startswith("post_"):
        changing.setdefault(table, []).append(False)
        return
    before = changing.get(table, [])
    explained = bool(before) and before.pop()
    if not before:
        changing.pop(table, None)
    if not explained and (pk_set is None or pk_set):
        take(alias, [Change(table, UNKNOWN, UNKNOWN)], sender, None)


# -- by call -----------------------------------------------------------------------------------


def announce(instance: Model, using: str | None = None) -> None:
    """Invalidate every result that a row with this instance's values may belong to.

    What is not on the instance is unknown, and drops what was cached by it. In a transaction this
    takes effect at the commit, else at once.
    """
    if not conf.current().profiles:
        return
    alias = using or instance._state.db or router.db_for_write(type(instance), instance=instance)
    known = registry.current()
    tables: dict[str, Change] = {}
    for model in (type(instance), *type(instance)._meta.get_parent_list()):
        concrete = model._meta.concrete_model
        table = concrete._meta.db_table if concrete is not None else ""
        if table in known.tracked and table not in tables:
            row = instances.row_of(concrete, instance)
            tables[table] = Change(table, row, row)
    if tables:
        take(alias, tables.values(), type(instance), instances.note_of(instance))


def drop_model(model: type[Model], using: str | None = None) -> None:
    """Invalidate everything that depends on the table of a model, and on its parents' tables."""
    known = registry.current()
    alias = using or router.db_for_write(model)
    tables = {model._meta.db_table, *(p._meta.db_table for p in model._meta.get_parent_list())}
    changes = [
        Change(table, UNKNOWN, UNKNOWN) for table in sorted(tables) if table in known.tracked
    ]
    if changes:
        take(alias, changes, model, None)


def drop_all() -> None:
    """Invalidate everything: every tracked table, under every alias, and all functions.

    Open transactions take it along to their commits.
    """
    settings = conf.current()
    unused = not settings.profiles and settings.redis is None and settings.sentinel is None
    if unused or suspended():
        return
    cache = engine.current()
    tables = registry.current().tracked
    names = {cache.table(table, alias) for alias in connections for table in tables}
    names.add(engine.FUNCTIONS)
    waiting = [one for one in connections.all(initialized_only=True) if open_transaction(one)]
    for connection in waiting:
        names -= collect_all(connection)
    if names and settings.enabled:
        cache.invalidate_tables(sorted(names))
    elif names:
        engine.distrust(names)
    scope.wrote(None)
    if not waiting:
        signals.cache_invalidated.send_robust(sender=None, obj_dict=None)


def take(
    alias: str, changes: Iterable[Change], model: Any = None, note: dict[str, Any] | None = None
) -> None:
    """Let changes join the current transaction, or invalidate at once if there is none."""
    connection = connections[alias]
    collect(connection, changes, cause="by hand", model=model, values=note)
    if not open_transaction(connection):
        commit_now(connection)
