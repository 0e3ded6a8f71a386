"""Raw SQL through Django's cursor: a write that no compiler explains bumps the tables it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

from .. import conf
from . import collations, rawcontrol, registry, stored, unfinished
from .explained import is_explained
from .pending import Pending, open_transaction, pending
from .rawcontrol import Run
from .rawsql import Kind, classify, text_of, words
from .rawtables import collect_named, temporary
from .transactions import settle


def executed(cursor: Any, sql: Any, run: Run) -> Any:
    """Run a statement given to a cursor, and collect what it may have written."""
    connection = cursor.db
    state = pending(connection)
    if connection.vendor == "sqlite":
        unfinished.opened(cursor)
    if is_explained(state, sql) or not conf.current().profiles:
        return run()
    text = text_of(sql, cursor)
    kind = classify(text)
    run = rawcontrol.committing(connection, state, text, run)
    if kind is Kind.READ:
        if "journal_mode" in text.lower():
            state.wal = None
        if "set_config" in text.lower() and "isolation" in text.lower():
            state.session_snapshot = state.snapshot = True
        if "sql_mode" in text.lower() and words(text)[:1] == ("set",):
            return _mode(connection, run)
        return run()
    state.shadowed |= temporary(text)
    if kind is Kind.WRITE and unfinished.may_wait(connection):
        run = partial(unfinished.finish, cursor, run)
    return _HANDLERS[kind](connection, state, text, run)


def called(connection: Any, run: Run) -> Any:
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
        if name == "copy_from":
            text = f"COPY {text}"
        if name != "copy":
            return _write(connection, state, text, lambda: copy(*args, **kwargs))
        collect_named(connection, text)
        block = copy(*args, **kwargs)
        return block if open_transaction(connection) else _settled(connection, block)

    return collecting


def scripting(cursor: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """``cursor.executescript(sql)`` of SQLite, ``cursor.stream(sql)`` of psycopg."""
    connection = cursor.db

    @wraps(method)
    def collecting(sql: Any, *args: Any, **kwargs: Any) -> Any:
        text = text_of(sql, cursor)
        if not conf.current().profiles or (name == "stream" and classify(text) is Kind.READ):
            return method(sql, *args, **kwargs)
        state = pending(connection)
        if name == "stream":
            rows = partial(method, sql, *args, **kwargs)
            return _write(connection, state, text, lambda: iter(list(rows())))
        state.shadowed |= temporary(text)
        # A script commits what is open before it begins.
        return rawcontrol.mixed(connection, state, text, lambda: method(sql, *args, **kwargs))

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


def _write(connection: Any, state: Pending, text: str, run: Run) -> Any:
    collect_named(connection, text)
    if (
        open_transaction(connection)
        and connection.features.supports_transactions
        and not _commits_itself(connection, text)
    ):
        return run()
    # Never wrapped in a transaction of ours (some statements cannot be): mark, run, bump.
    try:
        return settle(connection, run)
    finally:
        state.forget()


def _ddl(connection: Any, state: Pending, text: str, run: Run) -> Any:
    verb, what, *_ = *words(text), "", ""
    if what == "temporary":
        return run()
    try:
        alone = ";" not in text.rstrip("; \t\r\n")
        if verb == "create" and alone and not registry.current().named_in(text):
            return run()  # a new table, index or type: nothing cached can depend on it
        return _write(connection, state, text, run)
    finally:
        if verb != "truncate":
            collations.forget()


def _mode(connection: Any, run: Run) -> Any:
    """``SET sql_mode`` of MySQL: what Django remembers of it, ``stored`` goes by."""
    try:
        return run()
    finally:
        pending(connection).mode_set = True  # the next connection has the server's again
        stored.forget_mode(connection)


def _commits_itself(connection: Any, text: str) -> bool:
    """Without autocommit, Python begins a transaction of SQLite before these words only."""
    return (
        connection.vendor == "sqlite"
        and not rawcontrol.transaction_open(connection)
        and words(text)[:1] not in (("insert",), ("update",), ("delete",), ("replace",))
    )


_HANDLERS = {Kind.WRITE: _write, Kind.DDL: _ddl, **rawcontrol.HANDLERS}
