"""The end of a transaction: marks before its commit, bumps after it (core/protocol.py).

``settle()`` is the one place where a commit happens, whoever asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from django.db import DatabaseError, IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import conf, counters, engine, pulse, signals
from ..core.protocol import Ticket
from ..exceptions import InvalidationRefused
from . import scope, testcases
from .pending import Note, Pending, open_transaction, pending


class Outbox(Protocol):
    """What keeps invalidations beyond the life of this process (``contrib.outbox``)."""

    def write(self, connection: Any, tables: Iterable[str]) -> str:
        """Leave a note in the current transaction; its name, or ``""`` for none."""

    def delivered(self, connection: Any, name: str) -> None:
        """Remove a note, outside of transactions. Never raises."""


outbox: Outbox | None = None


def settle(connection: BaseDatabaseWrapper, commit: Callable[[], Any]) -> Any:
    """Run ``commit()`` between the marks and the bumps of what is pending, then tell who waits.

    Raises what ``commit`` raises, and ``InvalidationRefused`` (after a rollback) if Redis cannot
    be told and the user asked for that.
    """
    result = settle_only(connection, commit)
    tell_waiting(connection)
    return result


def settle_only(connection: BaseDatabaseWrapper, commit: Callable[[], Any]) -> Any:
    """``settle``; the caller tells who waits, once it knows what transaction they are in."""
    state = pending(connection)
    if not state.changes or not conf.current().enabled:
        return _untold(state, commit)
    cache = engine.current()
    note, ticket = _announce(connection, state, cache)
    try:
        result = commit()
    except BaseException as error:
        cache.bump(ticket, committed=_surely_not_committed(connection, error))
        raise
    notes, saved, causes = state.notes, state.saved, state.causes
    state.forget()
    delivered = cache.bump(ticket, committed=True)
    counters.dropped(causes)
    if note and delivered and outbox is not None:
        state.after.append(partial(outbox.delivered, connection, note))
    state.after += [partial(tell, notes), *saved]
    return result


def tell_waiting(connection: BaseDatabaseWrapper) -> None:
    """Call what waits for a commit, unless ``atomic`` will."""
    state = pending(connection)
    if state.after and (connection.autocommit or not state.by_atomic):
        run_afterwards(connection)


def _untold(state: Pending, commit: Callable[[], Any]) -> Any:
    """Commit what nobody caches; whoever caches it later must drop it first."""
    try:
        result = commit()
    finally:
        if state.changes:  # also if it failed: it may be committed all the same
            engine.distrust(state.tables())
    state.forget()
    return result


def _announce(
    connection: BaseDatabaseWrapper, state: Pending, cache: engine.Engine
) -> tuple[str, Ticket]:
    """Mark what is about to be committed; leave a note of it in the transaction, or ``""``."""
    try:
        note = outbox.write(connection, state.tables()) if outbox is not None else ""
        ticket = cache.mark(state.changes)
        cache.refresh(ticket)
    except BaseException as error:
        if isinstance(error, InvalidationRefused):
            counters.add(counters.events, "refused_commits")
        state.forget()
        _undo(connection)
        raise
    return note, ticket


def _undo(connection: BaseDatabaseWrapper) -> None:
    # ``atomic`` rolls back only after a DatabaseError; turning autocommit on would commit.
    try:
        connection.rollback()
    except DatabaseError:
        connection.close()


def _surely_not_committed(connection: BaseDatabaseWrapper, error: BaseException) -> bool | None:
    """``False`` if the failed commit certainly did not happen, ``None`` if nobody can tell."""
    if isinstance(error, IntegrityError):
        return False
    if isinstance(error, DatabaseError) and connection.connection is not None:
        try:
            if connection.is_usable():
                return False
        except Exception:
            return None
    return None


def run_afterwards(connection: BaseDatabaseWrapper) -> None:
    """Call what waits for a commit: who listens to ``cache_invalidated``, ``cache_on_save``.

    They may ask the database. At the end of ``atomic`` that must wait until autocommit is on
    again: a query before would begin a transaction that nobody ends.
    """
    state = pending(connection)
    while state.after:
        state.after.pop(0)()
    if perf_counter() > pulse.due:
        pulse.beat()


def tell(notes: list[Note]) -> None:
    """Say what was invalidated to who listens to ``cache_invalidated``."""
    if signals.cache_invalidated.has_listeners():
        for model, values in notes:
            signals.cache_invalidated.send_robust(sender=model, obj_dict=values)


def commit_now(connection: BaseDatabaseWrapper) -> None:
    """A change took effect already, or is somebody's word: invalidate what is pending."""
    tell(drop_pending(connection))


def drop_pending(connection: BaseDatabaseWrapper) -> list[Note]:
    """``commit_now``; the caller tells who listens what is returned."""
    state = pending(connection)
    changes, tables, dirty = state.changes, state.tables(), state.dirty
    notes, causes = state.notes, state.causes
    state.forget()
    if changes and conf.current().enabled:
        engine.current().invalidate(changes)
        counters.dropped(causes)
    elif changes:
        engine.distrust(tables)
    scope.wrote(dirty)
    return notes if changes and conf.current().enabled else []


def rolled_back(connection: BaseDatabaseWrapper) -> None:
    """The transaction was rolled back: its changes did not happen, where the database can undo."""
    if not connection.features.supports_transactions:
        commit_now(connection)
    pending(connection).forget()


@contextmanager
def own_transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Make one unit of: reading old rows, one statement, and its commit."""
    if not connection.features.supports_transactions:
        yield
        commit_now(connection)
        return
    if open_transaction(connection):
        yield
        return
    if testcases.absent and testcases.alone(connection):
        # No transaction of ours: its failure would break the test's.
        try:
            yield
        except BaseException:
            pending(connection).forget()
            raise
        commit_in_test(connection)
        return
    with transaction.atomic(using=connection.alias, savepoint=False):
        yield


def commit_in_test(connection: BaseDatabaseWrapper) -> None:
    """Take what is pending as committed, if nothing but a test's own transactions is open."""
    if not connection.needs_rollback and testcases.alone(connection):
        saved = pending(connection).saved
        commit_now(connection)
        for read in saved:
            read()
