"""Raw SQL through Django's cursor: a write that no compiler explains bumps the tables it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from weakref import WeakSet

from .. import conf
from ..core.entry import UNKNOWN, Change
from . import registry
from .rawsql import Kind, classify, text_of
from .transactions import (
    Pending,
    collect,
    collect_everything,
    open_transaction,
    pending,
    rolled_back,
    settle,
)

#: Databases where DDL commits what is pending, whatever Django thinks.
_DDL_COMMITS = frozenset({"mysql", "oracle"})


def executed(cursor: Any, sql: Any, run: Callable[[], Any]) -> Any:
    """Run a statement given to a cursor, and collect what it may have written."""
    connection = cursor.db
    state = pending(connection)
    if connection.vendor == "sqlite":
        _watch_cursor(state, cursor)
    if state.explained or not conf.current().profiles:
        return run()
    text = text_of(sql, cursor)
    kind = classify(text)
    if kind is Kind.READ:
        if "journal_mode" in text.lower():
            state.wal = None
        return run()
    return _HANDLERS[kind](connection, state, text, run)


def called(connection: Any, procname: str, run: Callable[[], Any]) -> Any:
    """Run a stored procedure: nobody can tell what it writes."""
    if not conf.current().profiles:
        return run()
    return _write(connection, pending(connection), "", run)


def copying(cursor: Any, name: str, copy: Callable[..., Any]) -> Callable[..., Any]:
    """``cursor.copy(sql)`` (psycopg: a context manager), ``copy_from``, ``copy_expert``."""
    connection = cursor.db

    @wraps(copy)
    def collecting(*args: Any, **kwargs: Any) -> Any:
        state = pending(connection)
        text = " ".join(text_of(arg, cursor) for arg in args if not hasattr(arg, "read"))
        if name == "copy_to" or not conf.current().profiles:
            return copy(*args, **kwargs)
        if name != "copy_from" and classify(text) is Kind.READ:
            return copy(*args, **kwargs)
        if name != "copy":
            return _write(connection, state, text, lambda: copy(*args, **kwargs))
        _collect(connection, text)
        block = copy(*args, **kwargs)
        return block if open_transaction(connection) else _settled(connection, block)

    return collecting


@contextmanager
def _settled(connection: Any, block: Any) -> Iterator[Any]:
    """A COPY outside a transaction takes effect when its block ends."""
    try:
        with ExitStack() as stack:
            value = block.__enter__()
            stack.push(block)
            yield value
            stack.pop_all()
        settle(connection, lambda: block.__exit__(None, None, None))
    finally:
        pending(connection).forget()


def _collect(connection: Any, text: str) -> None:
    known = registry.current()
    named = known.named_in(text)
    if not named:
        collect_everything(connection)
        return
    reached = set(named)
    for table in named:
        reached |= known.deletion_reaches(table)
    for table in sorted(reached):
        if table in known.tracked or known.dependents(table):
            model = known.models[table][0]._meta.concrete_model if table in known.models else None
            collect(connection, [Change(table, UNKNOWN, UNKNOWN)], model=model)


def _write(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    _collect(connection, text)
    if open_transaction(connection) and connection.features.supports_transactions:
        return run()
    # Never wrapped in a transaction of ours (some statements cannot be): mark, run, bump.
    try:
        return settle(connection, run)
    finally:
        state.forget()


def _ddl(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    if connection.vendor in _DDL_COMMITS and open_transaction(connection):
        _collect(connection, text)
        return settle(connection, run)
    if text.lstrip().lower().startswith("create") and not registry.current().named_in(text):
        return run()  # a new table, index or type: nothing cached can depend on it
    return _write(connection, state, text, run)


def _begin(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    result = run()
    if not open_transaction(connection):
        state.raw = True
    return result


def _isolation(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    result = _begin(connection, state, text, run) if "set" not in text.lower() else run()
    state.snapshot = True
    return result


def _commit(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    return settle(connection, run)


def _rollback(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    result = run()
    rolled_back(connection)
    return result


def _prepared(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    collect_everything(connection)
    return settle(connection, run)


_HANDLERS: dict[Kind, Callable[[Any, Pending, str, Callable[[], Any]], Any]] = {
    Kind.WRITE: _write,
    Kind.DDL: _ddl,
    Kind.BEGIN: _begin,
    Kind.ISOLATION: _isolation,
    Kind.COMMIT: _commit,
    Kind.ROLLBACK: _rollback,
    Kind.PREPARED: _prepared,
}


def _watch_cursor(state: Pending, cursor: Any) -> None:
    """Remember a cursor that may keep an old snapshot of a SQLite database open until closed."""
    if state.cursors is None:
        state.cursors = WeakSet()
    state.cursors.add(cursor)


def closed(cursor: Any) -> None:
    """A cursor was closed: it holds no snapshot any more."""
    cursors = pending(cursor.db).cursors
    if cursors is not None:
        cursors.discard(cursor)
