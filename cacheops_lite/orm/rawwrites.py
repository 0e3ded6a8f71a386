"""Raw SQL through Django's cursor: a write that no compiler explains bumps the tables it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any
from weakref import WeakSet

from .. import conf
from ..core.entry import UNKNOWN, Change
from ..exceptions import InvalidationRefused
from . import collations, registry
from .collecting import collect, collect_everything
from .pending import Pending, open_transaction, pending
from .rawsql import Kind, classify, commits_in_mysql, text_of, words
from .targets import targets
from .transactions import commit_now, rolled_back, settle

#: Databases where DDL commits what is pending, whatever Django thinks.
_DDL_COMMITS = frozenset({"mysql", "oracle"})

#: Statements that change what a table is, not what its rows are, or only as they say.
_DEFINITIONS = frozenset({"create", "alter", "drop", "rename", "reindex", "refresh", "cluster"})


def executed(cursor: Any, sql: Any, run: Callable[[], Any]) -> Any:
    """Run a statement given to a cursor, and collect what it may have written."""
    connection = cursor.db
    state = pending(connection)
    if connection.vendor == "sqlite":
        _watch_cursor(state, cursor)
    told = state.explained and isinstance(sql, str) and sql in state.explained[-1]
    if told or not conf.current().profiles:
        return run()
    text = text_of(sql, cursor)
    kind = classify(text)
    if kind is Kind.READ:
        if "journal_mode" in text.lower():
            state.wal = None
        return _committing(connection, state, text, run)()
    return _HANDLERS[kind](connection, state, text, _committing(connection, state, text, run))


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
        if name == "copy_from":
            text = f"COPY {text}"
        if name != "copy":
            return _write(connection, state, text, lambda: copy(*args, **kwargs))
        _collect(connection, text)
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
        # A script commits what is open before it begins.
        return _mixed(connection, state, text, lambda: method(sql, *args, **kwargs))

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
    if not named or _reaches_beyond(text, known):
        collect_everything(connection, "raw SQL")
        return
    reached = set(named)
    for table in named:
        reached |= known.deletion_reaches(table)
    for table in sorted(reached):
        if table in known.tracked or known.dependents(table):
            model = known.models[table][0]._meta.concrete_model if table in known.models else None
            change = Change(table, UNKNOWN, UNKNOWN)
            collect(connection, [change], cause="raw SQL", model=model)


def _reaches_beyond(text: str, known: registry.Registry) -> bool:
    """Whether more than the tables that it names may change: a view, a partition, a procedure."""
    said = words(text)
    if said and said[0] in _DEFINITIONS:
        return False
    written = targets(text)
    return (
        written is None
        # Django remakes a table of SQLite under this name, and then renames it.
        or not all(known.named_in(table.removeprefix("new__")) for table in written)
        or {"truncate", "cascade"} <= set(said)
    )


def _write(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    _collect(connection, text)
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


def _ddl(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    verb, what, *_ = *words(text), "", ""
    if what == "temporary":
        return run()
    try:
        if verb == "create" and not registry.current().named_in(text):
            return run()  # a new table, index or type: nothing cached can depend on it
        return _write(connection, state, text, run)
    finally:
        if verb != "truncate":
            collations.forget()


def _begin(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    result = run()
    if not open_transaction(connection):
        state.raw = True
    return result


def _isolation(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    said = words(text)
    strong = not {"committed", "uncommitted"} & set(said)
    if said[0] != "set":
        result = _begin(connection, state, text, run)
    else:
        result = run()
        if said[1] != "transaction":
            state.session_snapshot = strong  # from now on
    state.snapshot = strong
    return result


def _commit(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    result = settle(connection, run)
    _chain(connection, state, text)
    return result


def _rollback(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    result = run()
    rolled_back(connection)
    _chain(connection, state, text)
    return result


def _chain(connection: Any, state: Pending, text: str) -> None:
    """``COMMIT AND CHAIN`` begins another transaction."""
    if words(text)[-2:] == ("and", "chain") and not open_transaction(connection):
        state.raw = True


def _prepared(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    collect_everything(connection, "raw SQL")
    return settle(connection, run)


def _mixed(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    """Several statements in one, which begin and end transactions as they like."""
    _collect(connection, text)
    try:
        return _perhaps_committing(connection, state, run)
    finally:
        if _transaction_open(connection) is False:
            state.forget()
        else:
            state.raw = state.raw or not open_transaction(connection)
            state.snapshot = True  # nobody has read at which level it was begun
        if "isolation" in text.lower():
            state.session_snapshot = True


def _perhaps_committing(connection: Any, state: Pending, run: Callable[[], Any]) -> Any:
    """Run what may commit all that is pending, or some of it, or nothing, also if it fails.

    So it is told as a commit, and stays pending for the next one.
    """
    unfinished = state.unfinished()
    try:
        result = settle(connection, run)
    except InvalidationRefused:
        raise  # it was not run, and what was pending was rolled back
    except BaseException:
        commit_now(connection)
        state.resume(unfinished)
        raise
    state.resume(unfinished)
    return result


def _savepoint(connection: Any, state: Pending, text: str, run: Callable[[], Any]) -> Any:
    """A savepoint of SQLite outside a transaction begins one, and its release is the commit."""
    if connection.vendor != "sqlite":
        return run()
    verb, name, names = words(text)[0], words(text)[-1], state.names
    if verb == "savepoint":
        begins = not _transaction_open(connection)
        result = run()
        if begins:
            state.raw = not open_transaction(connection)
        if begins or names:
            names.append(name)
        return result
    if name not in names:
        result = run()
        if verb == "release" and not _transaction_open(connection):
            commit_now(connection)  # a script had begun it
        return result
    place = len(names) - 1 - names[::-1].index(name)
    if verb == "release" and place == 0:
        return settle(connection, run)
    result = run()
    del names[place + (verb == "rollback") :]
    return result


def _transaction_open(connection: Any) -> bool | None:
    """What the driver says; ``None`` if it does not."""
    raw = connection.connection
    if connection.vendor == "sqlite":
        return bool(raw is not None and raw.in_transaction)
    status = getattr(getattr(raw, "info", None), "transaction_status", None)
    return None if status is None else int(status) != 0


def _commits_itself(connection: Any, text: str) -> bool:
    """Without autocommit, Python begins a transaction of SQLite before these words only."""
    return (
        connection.vendor == "sqlite"
        and not _transaction_open(connection)
        and words(text)[:1] not in (("insert",), ("update",), ("delete",), ("replace",))
    )


def _committing(
    connection: Any, state: Pending, text: str, run: Callable[[], Any]
) -> Callable[[], Any]:
    """``run``, told to the cache as the commit that it may be: some statements of MySQL are one."""
    if (
        connection.vendor in _DDL_COMMITS
        and open_transaction(connection)
        and commits_in_mysql(text)
    ):
        return partial(_perhaps_committing, connection, state, run)
    return run


_HANDLERS: dict[Kind, Callable[[Any, Pending, str, Callable[[], Any]], Any]] = {
    Kind.WRITE: _write,
    Kind.DDL: _ddl,
    Kind.BEGIN: _begin,
    Kind.ISOLATION: _isolation,
    Kind.COMMIT: _commit,
    Kind.ROLLBACK: _rollback,
    Kind.SAVEPOINT: _savepoint,
    Kind.MIXED: _mixed,
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
