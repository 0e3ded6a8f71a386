"""What one connection has changed and not yet committed, and what is known of its transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from copy import copy
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.entry import UNKNOWN, Change
from . import scope, testcases

#: What ``cache_invalidated`` says: a model, and values by attribute name or None.
Note = tuple[Any, dict[str, Any] | None]

#: Past this many changed rows of one table in one transaction, the whole table is dropped.
ROWS_PER_TABLE = 1000


#: What goes on where a commit may have been none.
_UNFINISHED = (
    "causes", "changes", "counts", "dirty", "everything", "notes", "raw", "saved", "savepoints",
    "snapshot",
)  # fmt: skip


class Pending:
    """What one connection has changed and not yet committed."""

    __slots__ = (
        "after", "by_atomic", "causes", "changes", "changing", "counts", "cursors", "dirty",
        "everything", "explained", "manual", "mode_set", "names", "notes", "raw", "saved",
        "savepoints", "session_snapshot", "shadowed", "snapshot", "uncommitted", "wal",
        "write_locked",
    )  # fmt: skip

    def __init__(self) -> None:
        #: What compilers are running and tell of themselves: the texts of each one's statements.
        self.explained: list[Container[str]] = []
        #: What to call when the last commit is over.
        self.after: list[Callable[[], None]] = []
        #: ``atomic`` has switched autocommit off, and will switch it on again.
        self.by_atomic = False
        #: All transactions may read from an old snapshot, see ``snapshot`` (None: not asked yet).
        self.session_snapshot: bool | None = None
        #: Raw SQL has switched autocommit off: each transaction begins by itself.
        self.manual = False
        #: Tables in whose place only this connection sees temporary ones.
        self.shadowed: frozenset[str] = frozenset()
        #: MySQL: reads show what others may take back (None: nobody has looked).
        self.uncommitted: bool | None = None
        self.mode_set = False
        #: SQLite in WAL mode: cursors that may hold an old snapshot open.
        self.cursors: Any = None
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of the next transaction."""
        self.changes: list[Change] = []
        #: How many changes there are per table, to fall back to the table past a limit.
        self.counts: dict[str, int] = {}
        #: (table, what is done to it) -> how many changes, for `counters`; what a savepoint takes
        #: back stays counted.
        self.causes: dict[tuple[str, str], int] = {}
        #: Tables written in this transaction, under their plain names.
        self.dirty: set[str] = set()
        #: Tables of many-to-many relations between the signals that tell of a change -> whether a
        #: statement has written there since, the innermost change last.
        self.changing: dict[str, list[bool]] = {}
        #: Raw SQL that names no table we know: every table is dirty.
        self.everything = False
        #: Number of changes and notes when each savepoint began.
        self.savepoints: dict[str, tuple[int, int]] = {}
        #: What ``cache_invalidated`` is to say.
        self.notes: list[Note] = []
        #: Callbacks after the bump (``cache_on_save``).
        self.saved: list[Callable[[], None]] = []
        #: It was begun by raw SQL, behind Django's back.
        self.raw = self.manual
        #: Reads may come from a snapshot older than the stamps (REPEATABLE READ and stronger).
        self.snapshot = False
        #: SQLite: the open savepoints, the first of which began the transaction.
        self.names: list[str] = []
        #: SQLite: the journal is a write-ahead log (None: not asked yet).
        self.wal: bool | None = None
        #: SQLite: this transaction holds the write lock already.
        self.write_locked = False

    def add(self, change: Change) -> None:
        """Add a change under the name that its keys carry."""
        count = self.counts[change.table] = self.counts.get(change.table, 0) + 1
        if count <= ROWS_PER_TABLE:
            self.changes.append(change)
        elif count == ROWS_PER_TABLE + 1:
            # Earlier rows stay listed: a savepoint may be rolled back to a moment before this one.
            self.changes.append(Change(change.table, UNKNOWN, UNKNOWN))

    def wrote(self, tables: set[str]) -> None:
        """A statement wrote these tables, or did not find what it would have written."""
        self.dirty |= tables
        for table in self.changing.keys() & tables:
            self.changing[table][-1] = True

    def tables(self) -> set[str]:
        """The tables of all changes, under the names that their keys carry."""
        return {change.table for change in self.changes}

    def savepoint_began(self, sid: str | None) -> None:
        """Remember how much had been collected."""
        if sid:
            self.savepoints[sid] = (len(self.changes), len(self.notes))

    def savepoint_rolled_back(self, sid: str | None) -> None:
        """Forget what was collected since; the tables stay dirty (coarse, and safe)."""
        if sid and sid in self.savepoints:
            changes, notes = self.savepoints[sid]
            del self.changes[changes:], self.notes[notes:]
            self.counts = Counter(change.table for change in self.changes)
            self.changing.clear()  # who was between two signals has failed

    def savepoint_released(self, sid: str | None) -> None:
        """Nobody can roll back to it any more."""
        if sid:
            self.savepoints.pop(sid, None)

    def forget(self) -> None:
        """The transaction is over."""
        if self.dirty:
            scope.wrote(self.dirty)
        self._begin()

    def unfinished(self) -> dict[str, Any]:
        """What ``resume`` needs, if the transaction may not be over after all."""
        return {name: copy(getattr(self, name)) for name in _UNFINISHED}

    def resume(self, unfinished: dict[str, Any]) -> None:
        """The transaction was forgotten, and may go on."""
        for name, value in unfinished.items():
            setattr(self, name, value)

    def reconnected(self) -> None:
        """The connection is another one."""
        self.manual = False
        self.forget()
        self.session_snapshot = None
        self.uncommitted = None
        self.mode_set = False
        self.shadowed = frozenset()
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
