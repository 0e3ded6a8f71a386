"""The changes of a connection, from the statement that made them to the bump after their commit.

Each connection carries one ``Pending``: the changes collected since the last commit, the tables
that this transaction has written (its own reads of them bypass the cache), and where each
savepoint began. ``commit()`` is the one place where marks and bumps happen (protocol.md, COMMIT).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from django.db import DatabaseError, IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import conf, counters, engine, pulse, signals
from ..core.entry import UNKNOWN, Change
from ..exceptions import InvalidationRefused
from . import registry, scope, testcases

logger = logging.getLogger("cacheops_lite")

#: Past this many changed rows of one table in one transaction, the whole table is dropped.
ROWS_PER_TABLE = 1000


class Outbox(Protocol):
    """What keeps invalidations beyond the life of this process (``contrib.outbox``)."""

    def write(self, connection: Any, tables: Iterable[str]) -> str:
        """Leave a note in the current transaction; its name, or ``""`` for none."""

    def delivered(self, connection: Any, name: str) -> None:
        """Remove a note, outside of transactions. Never raises."""


outbox: Outbox | None = None

_muted: ContextVar[int] = ContextVar("cacheops_lite_no_invalidation", default=0)


class Pending:
    """What one connection has changed and not yet committed."""

    __slots__ = (
        "after", "by_atomic", "causes", "changes", "counts", "cursors", "dirty", "everything",
        "explained", "names", "notes", "raw", "saved", "savepoints", "session_snapshot",
        "snapshot", "wal", "write_locked",
    )  # fmt: skip

    def __init__(self) -> None:
        self.changes: list[Change] = []
        #: How many changes there are per table, to fall back to the table past a limit.
        self.counts: dict[str, int] = {}
        #: (table, what is done to it) -> how many changes, for `counters`; what a savepoint takes
        #: back stays counted.
        self.causes: dict[tuple[str, str], int] = {}
        #: Tables written in this transaction, under their plain names.
        self.dirty: set[str] = set()
        #: Raw SQL that names no table we know: every table is dirty.
        self.everything = False
        #: Number of changes and notes when each savepoint began.
        self.savepoints: dict[str, tuple[int, int]] = {}
        #: What ``cache_invalidated`` is to say: (model, values by attribute name or None).
        self.notes: list[tuple[Any, dict[str, Any] | None]] = []
        #: Callbacks after the bump (``cache_on_save``).
        self.saved: list[Callable[[], None]] = []
        #: What to call when the last commit is over.
        self.after: list[Callable[[], None]] = []
        #: ``atomic`` has switched autocommit off, and will switch it on again.
        self.by_atomic = False
        #: What compilers are running and tell of themselves: the texts of each one's statements.
        self.explained: list[Container[str]] = []
        #: A transaction was begun by raw SQL, behind Django's back.
        self.raw = False
        #: Reads may come from a snapshot older than the stamps (REPEATABLE READ and stronger).
        self.snapshot = False
        #: The same for all transactions of this connection (None: not asked yet).
        self.session_snapshot: bool | None = None
        #: SQLite: the open savepoints, the first of which began the transaction.
        self.names: list[str] = []
        #: SQLite: the journal is a write-ahead log (None: not asked yet).
        self.wal: bool | None = None
        #: SQLite: this transaction holds the write lock already.
        self.write_locked = False
        #: SQLite in WAL mode: cursors that may hold an old snapshot open.
        self.cursors: Any = None

    def forget(self) -> None:
        """The transaction is over."""
        if self.dirty:
            scope.wrote(self.dirty)
        self.changes = []
        self.counts = {}
        self.causes = {}
        self.dirty = set()
        self.everything = False
        self.savepoints = {}
        self.notes = []
        self.saved = []
        self.raw = False
        self.snapshot = False
        self.names = []
        self.wal = None
        self.write_locked = False

    def unfinished(self) -> dict[str, Any]:
        """What ``resume`` needs, if the transaction may not be over after all."""
        names = ("changes", "counts", "dirty", "everything", "raw", "snapshot")
        return {name: getattr(self, name) for name in names}

    def resume(self, unfinished: dict[str, Any]) -> None:
        """The transaction was forgotten, and may go on."""
        for name, value in unfinished.items():
            setattr(self, name, value)

    def reconnected(self) -> None:
        """The connection is another one."""
        self.forget()
        self.session_snapshot = None
        self.cursors = None


def pending(connection: BaseDatabaseWrapper) -> Pending:
    """The pending changes of a connection, made at first use."""
    try:
        return connection._cacheops_pending  # type: ignore[attr-defined,no-any-return]
    except AttributeError:
        state = connection._cacheops_pending = Pending()  # type: ignore[attr-defined]
        return state


def open_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether what is written now becomes visible only at a later commit."""
    if testcases.absent and testcases.alone(connection):
        return False
    return (
        connection.in_atomic_block
        or (connection.connection is not None and not connection.autocommit)
        or pending(connection).raw
    )


class muting:  # noqa: N801 - a namespace of three functions
    """Suspend collecting (``no_invalidation``): ``leave(enter())``."""

    @staticmethod
    def enter() -> Token[int]:
        """Changes made from here on invalidate nothing."""
        return _muted.set(_muted.get() + 1)

    @staticmethod
    def active() -> bool:
        """Whether changes invalidate nothing now."""
        return bool(_muted.get())

    @staticmethod
    def leave(token: Token[int]) -> None:
        """Collect again."""
        _muted.reset(token)


# -- collecting --------------------------------------------------------------------------------


def collect(
    connection: BaseDatabaseWrapper,
    changes: Iterable[Change],
    *,
    cause: str,
    model: Any = None,
    values: dict[str, Any] | None = None,
) -> None:
    """Add changes, with the tables that change along (``depends_on``).

    ``cause`` names in a word what made them, for who reads the counters.
    """
    state = pending(connection)
    known = registry.current()
    muted = _muted.get()
    tables = set()
    for change in changes:
        tables.add(change.table)
        if not muted:
            add(state, qualified(connection.alias, change))
            _count(state, change, cause)
    for table in list(tables):
        for dependent in known.dependents(table):
            tables.add(dependent)
            if not muted:
                change = Change(dependent, UNKNOWN, UNKNOWN)
                add(state, qualified(connection.alias, change))
                _count(state, change, "depends_on")
    state.dirty |= tables
    scope.wrote(tables)
    if tables and not muted and model is not None and len(state.notes) < ROWS_PER_TABLE:
        state.notes.append((model, values))


def _count(state: Pending, change: Change, cause: str) -> None:
    known = change.old is not UNKNOWN and change.new is not UNKNOWN
    key = (change.table, cause if known else f"{cause} (whole table)")
    state.causes[key] = state.causes.get(key, 0) + 1


def qualified(alias: str, change: Change) -> Change:
    """The change under the table name that keys carry now: a prefix function may look around."""
    if isinstance(conf.current().prefix, str):
        return change
    return change._replace(table=engine.current().table(change.table, alias))


def add(state: Pending, change: Change) -> None:
    """Add one change under the name that its keys carry."""
    table = change.table
    count = state.counts[table] = state.counts.get(table, 0) + 1
    if count <= ROWS_PER_TABLE:
        state.changes.append(change)
    elif count == ROWS_PER_TABLE + 1:
        # Earlier rows stay listed: a savepoint may be rolled back to a moment before this one.
        state.changes.append(Change(table, UNKNOWN, UNKNOWN))


def collect_everything(connection: BaseDatabaseWrapper, cause: str = "raw SQL") -> None:
    """Raw SQL changed we do not know what: every tracked table is unknown."""
    collect(
        connection,
        [Change(table, UNKNOWN, UNKNOWN) for table in sorted(registry.current().tracked)],
        cause=cause,
    )
    pending(connection).everything = True


def collect_all(connection: BaseDatabaseWrapper) -> set[str]:
    """``invalidate_all()`` joins a transaction; the names of all that its commit will drop."""
    state = pending(connection)
    before = len(state.changes)
    collect_everything(connection, "invalidate_all()")
    add(state, Change(engine.FUNCTIONS, UNKNOWN, UNKNOWN))
    state.notes.append((None, None))
    return {change.table for change in state.changes[before:]}


# -- the end of a transaction ------------------------------------------------------------------


def settle(connection: BaseDatabaseWrapper, commit: Callable[[], Any]) -> Any:
    """Run ``commit()`` between the marks and the bumps of what is pending.

    Raises what ``commit`` raises, and ``InvalidationRefused`` (after a rollback) if Redis cannot
    be told and the user asked for that.
    """
    state = pending(connection)
    if not state.changes:
        result = commit()
        state.forget()
        return result
    if not conf.current().enabled:
        result = commit()
        engine.distrust({change.table for change in state.changes})
        state.forget()
        return result
    cache = engine.current()
    try:
        note = _note(connection, state.changes)
        ticket = cache.mark(state.changes)
        cache.refresh(ticket)
    except BaseException as error:
        if isinstance(error, InvalidationRefused):
            counters.add(counters.events, "refused_commits")
        state.forget()
        _undo(connection)
        raise
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
    state.after += [partial(_tell, notes), *saved]
    if connection.autocommit or not state.by_atomic:
        run_afterwards(connection)
    return result


def _note(connection: BaseDatabaseWrapper, changes: Iterable[Change]) -> str:
    """Leave a note of what this commit owes, in the same transaction."""
    if outbox is None:
        return ""
    return outbox.write(connection, {change.table for change in changes})


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


def _tell(notes: list[tuple[Any, dict[str, Any] | None]]) -> None:
    if signals.cache_invalidated.has_listeners():
        for model, values in notes:
            signals.cache_invalidated.send_robust(sender=model, obj_dict=values)


def commit_now(connection: BaseDatabaseWrapper) -> None:
    """A change took effect already, or is somebody's word: invalidate what is pending."""
    state = pending(connection)
    changes, notes, causes = state.changes, state.notes, state.causes
    dirty = state.dirty
    state.forget()
    if changes and conf.current().enabled:
        engine.current().invalidate(changes)
        counters.dropped(causes)
        _tell(notes)
    elif changes:
        engine.distrust({change.table for change in changes})
    scope.wrote(dirty)


def rolled_back(connection: BaseDatabaseWrapper) -> None:
    """The transaction was rolled back: its changes did not happen, where the database can undo."""
    state = pending(connection)
    if state.changes and not connection.features.supports_transactions:
        commit_now(connection)
    state.forget()


def savepoint_began(connection: BaseDatabaseWrapper, sid: str | None) -> None:
    """Remember how much had been collected."""
    if sid:
        state = pending(connection)
        state.savepoints[sid] = (len(state.changes), len(state.notes))


def savepoint_rolled_back(connection: BaseDatabaseWrapper, sid: str | None) -> None:
    """Forget what was collected since; the tables stay dirty (coarse, and safe)."""
    state = pending(connection)
    if sid and sid in state.savepoints:
        changes, notes = state.savepoints[sid]
        del state.changes[changes:], state.notes[notes:]
        state.counts = Counter(change.table for change in state.changes)


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
