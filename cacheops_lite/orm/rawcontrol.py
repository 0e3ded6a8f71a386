"""Transactions that raw SQL begins and ends, behind Django's back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from ..exceptions import InvalidationRefused
from .collecting import collect_everything
from .pending import Pending, open_transaction
from .rawsql import Kind, commits_in_mysql, words
from .rawtables import collect_named
from .transactions import (
    commit_now,
    drop_pending,
    rolled_back,
    settle,
    settle_only,
    tell,
    tell_waiting,
)

Run = Callable[[], Any]

#: Databases where DDL commits what is pending, whatever Django thinks.
_DDL_COMMITS = frozenset({"mysql", "oracle"})


def transaction_open(connection: Any) -> bool | None:
    """What the driver says; ``None`` if it does not."""
    raw = connection.connection
    if connection.vendor == "sqlite":
        return bool(raw is not None and raw.in_transaction)
    status = getattr(getattr(raw, "info", None), "transaction_status", None)
    return None if status is None else int(status) != 0


def _begin(connection: Any, state: Pending, text: str, run: Run) -> Any:
    result = run()
    if not open_transaction(connection):
        state.raw = True
    return result


def _isolation(connection: Any, state: Pending, text: str, run: Run) -> Any:
    said = words(text)
    strong = not {"committed", "uncommitted"} & set(said)
    if "uncommitted" in said:
        state.uncommitted = True  # perhaps for one transaction only: until the next word on it
    elif said[1:2] != ("transaction",):
        state.uncommitted = None
    if said[0] != "set":
        result = _begin(connection, state, text, run)
    else:
        result = run()
        if said[1] != "transaction":
            state.session_snapshot = strong or None  # from now on; or perhaps, so ask again
    state.snapshot = strong
    return result


def _commit(connection: Any, state: Pending, text: str, run: Run) -> Any:
    snapshot = state.snapshot
    result = settle_only(connection, run)
    _chain(connection, state, text, snapshot)
    tell_waiting(connection)
    return result


def _rollback(connection: Any, state: Pending, text: str, run: Run) -> Any:
    snapshot = state.snapshot
    result = run()
    rolled_back(connection)
    _chain(connection, state, text, snapshot)
    return result


def _chain(connection: Any, state: Pending, text: str, snapshot: bool) -> None:
    """``COMMIT AND CHAIN`` begins another transaction, of the same isolation level."""
    if words(text)[-2:] == ("and", "chain"):
        state.raw = state.raw or not open_transaction(connection)
        state.snapshot = snapshot


def _autocommit(connection: Any, state: Pending, text: str, run: Run) -> Any:
    """``SET autocommit`` of MySQL: off, each statement begins a transaction; on, it commits."""
    said = words(text)
    values = [value for word, value in pairwise(said) if word == "autocommit"]
    if "global" in said or not values:
        return run()
    off = state.manual or not connection.autocommit
    state.manual = values[-1] not in ("1", "on", "true")
    if not state.manual:
        # What is on already stays on, and commits nothing.
        return settle(connection, run) if off else _perhaps_committing(connection, state, run)
    result = run()
    state.raw = state.raw or not open_transaction(connection)
    return result


def _prepared(connection: Any, state: Pending, text: str, run: Run) -> Any:
    collect_everything(connection, "raw SQL")
    return settle(connection, run)


def mixed(connection: Any, state: Pending, text: str, run: Run) -> Any:
    """Several statements in one, which begin and end transactions as they like."""
    collect_named(connection, text)
    try:
        return _perhaps(connection, state, run)
    finally:
        if transaction_open(connection) is False:
            state.forget()
        else:
            state.raw = state.raw or not open_transaction(connection)
            state.snapshot = True  # nobody has read at which level it was begun
        if "isolation" in text.lower():
            state.session_snapshot = True
            state.uncommitted = state.uncommitted or "uncommitted" in text.lower()
        tell_waiting(connection)


def _perhaps_committing(connection: Any, state: Pending, run: Run) -> Any:
    """Run what may commit all that is pending, or some of it, or nothing, also if it fails."""
    try:
        return _perhaps(connection, state, run)
    finally:
        tell_waiting(connection)


def _perhaps(connection: Any, state: Pending, run: Run) -> Any:
    """It is told as a commit, and stays pending for the next one.

    Who waits for the commit may read: not before it is known again what that must not be stored.
    """
    unfinished = state.unfinished()
    try:
        result = settle_only(connection, run)
    except InvalidationRefused:
        raise  # it was not run, and what was pending was rolled back
    except BaseException:
        state.after.append(partial(tell, drop_pending(connection)))
        state.resume(unfinished)
        raise
    state.resume(unfinished)
    return result


def _savepoint(connection: Any, state: Pending, text: str, run: Run) -> Any:
    """A savepoint of SQLite outside a transaction begins one, and its release is the commit."""
    if connection.vendor != "sqlite":
        return run()
    verb, name, names = words(text)[0], words(text)[-1], state.names
    if verb == "savepoint":
        begins = not transaction_open(connection)
        result = run()
        if begins:
            state.raw = not open_transaction(connection)
        if begins or names:
            names.append(name)
        return result
    if name not in names:
        result = run()
        if verb == "release" and not transaction_open(connection):
            commit_now(connection)  # a script had begun it
        return result
    place = len(names) - 1 - names[::-1].index(name)
    if verb == "release" and place == 0:
        return settle(connection, run)
    result = run()
    del names[place + (verb == "rollback") :]
    return result


def committing(connection: Any, state: Pending, text: str, run: Run) -> Run:
    """``run``, told to the cache as the commit that it may be: some statements of MySQL are one."""
    if (
        connection.vendor in _DDL_COMMITS
        and open_transaction(connection)
        and commits_in_mysql(text)
    ):
        return partial(_perhaps_committing, connection, state, run)
    return run


#: How each kind of statement is run: with its connection, what is pending there, and its text.
HANDLERS: dict[Kind, Callable[[Any, Pending, str, Run], Any]] = {
    Kind.BEGIN: _begin,
    Kind.ISOLATION: _isolation,
    Kind.COMMIT: _commit,
    Kind.ROLLBACK: _rollback,
    Kind.SAVEPOINT: _savepoint,
    Kind.AUTOCOMMIT: _autocommit,
    Kind.MIXED: mixed,
    Kind.PREPARED: _prepared,
}
