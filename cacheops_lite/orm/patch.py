"""The only room that assigns onto Django: ``install()`` and ``uninstall()`` are mirror images.

Every assignment is a row of ``_assignments()``: an object, an attribute, and what it becomes,
given what was there. Nothing here decides anything; the functions called do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

from django.db import connections as all_connections
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import Model, QuerySet, query, signals
from django.db.models.deletion import Collector
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from django.db.models.manager import BaseManager
from django.db.models.query_utils import RegisterLookupMixin
from django.db.models.sql import compiler as compilers
from django.db.models.sql.constants import ROW_COUNT

from . import (
    by_hand,
    choices,
    connections,
    follow,
    lazy,
    prefetched,
    queryset,
    rawwrites,
    reads,
    registry,
    roots,
    shortcut,
    singles,
    testcases,
    transactions,
    unfinished,
    writes,
)
from .pending import pending

_MISSING = object()

#: (object, attribute, what stood in its ``__dict__``), in the order of installation.
_installed: list[tuple[Any, str, Any]] = []
#: The same for what is there in tests only.
_installed_in_tests: list[tuple[Any, str, Any]] = []

Wrapper = Callable[..., Any]


def install() -> None:
    """Put caching onto Django's classes. Calling it twice changes nothing."""
    _put(_assignments(), _installed)


def uninstall() -> None:
    """Leave Django as it was found."""
    _take_back(_installed)


def install_in_tests() -> None:
    """From here on the transactions of a ``TestCase`` count as absent."""
    _put(_assignments_in_tests(), _installed_in_tests)
    testcases.absent = True
    for connection in all_connections.all(initialized_only=True):
        transactions.commit_in_test(connection)


def uninstall_in_tests() -> None:
    """They count again; what they have written is not read from the cache before their end."""
    testcases.absent = False
    _take_back(_installed_in_tests)
    for connection in all_connections.all(initialized_only=True):
        if testcases.alone(connection):
            state = pending(connection)
            state.dirty |= registry.current().tracked
            state.everything = True


def _put(
    rows: Iterator[tuple[Any, str, Callable[[Any], Any]]], installed: list[tuple[Any, str, Any]]
) -> None:
    if installed:
        return
    for target, name, make in rows:
        before = vars(target).get(name, _MISSING)
        original = getattr(target, name, None)
        installed.append((target, name, before))
        setattr(target, name, make(original))


def _take_back(installed: list[tuple[Any, str, Any]]) -> None:
    while installed:
        target, name, before = installed.pop()
        if before is _MISSING:
            delattr(target, name)
        else:
            setattr(target, name, before)


def _around(function: Wrapper) -> Callable[[Wrapper], Wrapper]:
    """A method that calls ``function(original, self, …)``."""

    def make(original: Wrapper) -> Wrapper:
        @wraps(original)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return function(original, self, *args, **kwargs)

        return method

    return make


def _new(function: Any) -> Callable[[Any], Wrapper]:
    """A method or a descriptor that replaces what was there, or was not there before."""
    return lambda original: function


def _through_queryset(name: str) -> Callable[[Any], Wrapper]:
    """A manager method that calls the queryset's."""

    def make(original: Any) -> Wrapper:
        @wraps(getattr(choices, name))
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self.get_queryset(), name)(*args, **kwargs)

        return method

    return make


def _assignments() -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    for name in (
        "cache", "nocache", "inplace", "cloning", "invalidated_update", "cache_explain",
    ):  # fmt: skip
        yield QuerySet, name, _new(getattr(choices, name))
        yield BaseManager, name, _through_queryset(name)
    yield RegisterLookupMixin, "_clear_cached_class_lookups", _lookups_changed
    for name in ("register_lookup", "_unregister_lookup"):
        yield RegisterLookupMixin, name, _lookups_of_a_field_changed(name)
    yield QuerySet, "_query", _new(lazy.OwnQuery())
    yield BaseManager, "get_queryset", _around(roots.begin)
    for name in lazy.STEPS:
        yield QuerySet, name, _around(lazy.step(name))
    for name in ("__getstate__", "__deepcopy__"):
        yield QuerySet, name, _around(lazy.materialized)
    yield QuerySet, "_clone", _around(queryset.clone)
    yield QuerySet, "_fetch_all", _around(queryset.fetch_all)
    yield QuerySet, "get", _around(queryset.get)
    yield QuerySet, "first", _around(queryset.one_end)
    yield QuerySet, "last", _around(queryset.one_end)
    yield QuerySet, "count", _around(queryset.count)
    yield QuerySet, "exists", _around(queryset.exists)
    yield QuerySet, "aggregate", _around(queryset.aggregate)
    yield ForwardManyToOneDescriptor, "get_object", _around(follow.get_object)
    yield query, "prefetch_one_level", _around(prefetched.one_level)
    yield compilers.SQLCompiler, "execute_sql", _around(singles.execute_sql)
    yield compilers.SQLInsertCompiler, "execute_sql", _around(_insert)
    yield compilers.SQLUpdateCompiler, "execute_sql", _around(_update)
    if hasattr(compilers.SQLUpdateCompiler, "execute_returning_sql"):  # Django 6.0
        yield compilers.SQLUpdateCompiler, "execute_returning_sql", _around(_update_returning)
    yield compilers.SQLDeleteCompiler, "execute_sql", _around(_delete)
    yield CursorWrapper, "execute", _around(_execute)
    yield CursorWrapper, "executemany", _around(_execute)
    yield CursorWrapper, "callproc", _around(_callproc)
    yield CursorWrapper, "close", lambda original: _close_cursor
    yield CursorWrapper, "__getattr__", _around(_cursor_attribute)
    yield BaseDatabaseWrapper, "commit", _around(connections.commit)
    yield BaseDatabaseWrapper, "rollback", _around(connections.rollback)
    yield BaseDatabaseWrapper, "close", _around(connections.close)
    yield BaseDatabaseWrapper, "connect", _around(connections.connect)
    yield BaseDatabaseWrapper, "set_autocommit", _around(connections.set_autocommit)
    yield BaseDatabaseWrapper, "run_and_clear_commit_hooks", _around(connections.commit_hooks)
    yield BaseDatabaseWrapper, "savepoint", _around(connections.savepoint)
    yield BaseDatabaseWrapper, "savepoint_rollback", _around(connections.savepoint_rollback)
    yield BaseDatabaseWrapper, "savepoint_commit", _around(connections.savepoint_commit)
    yield Model, "save_base", _around(by_hand.saving)
    yield Collector, "delete", _around(by_hand.deleting)
    # On the signal objects, not as receivers: Django asks ``has_listeners()`` to choose its fast
    # paths, and must not find us there.
    yield signals.post_save, "send", partial(_hearing, by_hand.saved)
    yield signals.post_delete, "send", partial(_hearing, by_hand.deleted)
    yield signals.m2m_changed, "send", partial(_hearing, by_hand.m2m_changed)


def _assignments_in_tests() -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    yield transaction.Atomic, "__exit__", _around(connections.leave_atomic)


def _lookups_changed(original: Any) -> Any:
    """Another lookup: the same arguments may mean another query from now on."""

    @wraps(original)
    def changed(cls: Any) -> None:
        original.__func__(cls)
        _forget_shapes()

    return classmethod(changed)


def _lookups_of_a_field_changed(name: str) -> Callable[[Any], Any]:
    """The same for one that only one instance of a field is given, which clears no cache."""

    def make(original: Any) -> Any:
        both = vars(RegisterLookupMixin)[name]  # `original` is bound to the class already

        @wraps(both.instance_method)
        def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = both.instance_method(self, *args, **kwargs)
            _forget_shapes()
            return found

        return type(both)(both.class_method, changed)

    return make


def _forget_shapes() -> None:
    for room in (lazy, shortcut, follow, reads):
        room.reset()


def _hearing(heard: Callable[..., None], original: Wrapper) -> Wrapper:
    @wraps(original)
    def send(sender: Any, **named: Any) -> Any:
        responses = original(sender, **named)
        heard(sender, **named)
        return responses

    return send


# -- statements --------------------------------------------------------------------------------


def _insert(original: Wrapper, self: Any, returning_fields: Any = None) -> Any:
    return writes.insert(self, original, returning_fields)


def _update(original: Wrapper, self: Any, result_type: Any) -> Any:
    # The number of rows is asked for always: it proves which rows were touched.
    instance = by_hand.current_instance(self.query.model)
    return writes.update(self, lambda: original(self, ROW_COUNT), instance)


def _update_returning(original: Wrapper, self: Any, returning_fields: Any) -> Any:
    if not returning_fields or not self.connection.features.can_return_rows_from_update:
        return original(self, returning_fields)  # goes through execute_sql
    instance = by_hand.current_instance(self.query.model)
    run = partial(original, self, returning_fields)
    return writes.update(self, run, instance, returning=True)


def _delete(original: Wrapper, self: Any, result_type: Any = ROW_COUNT, **kwargs: Any) -> Any:
    return writes.delete(self, original, result_type, by_hand.deleted_instance(self.query.model))


# -- cursors -----------------------------------------------------------------------------------


def _execute(original: Wrapper, self: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
    return rawwrites.executed(self, sql, lambda: original(self, sql, *args, **kwargs))


def _callproc(original: Wrapper, self: Any, procname: str, *args: Any, **kwargs: Any) -> Any:
    return rawwrites.called(self.db, lambda: original(self, procname, *args, **kwargs))


def _close_cursor(self: Any) -> Any:
    unfinished.closed(self)
    return self.cursor.close()


def _cursor_attribute(original: Wrapper, self: Any, name: str) -> Any:
    attribute = original(self, name)
    if name.startswith("copy") and callable(attribute):
        return rawwrites.copying(self, name, attribute)
    if name in ("executescript", "stream"):
        return rawwrites.scripting(self, name, attribute)
    return attribute
