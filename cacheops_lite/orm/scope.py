"""What one request has read: the same query again costs nothing, and gives the same rows.

A scope keeps rows as they came from the cache or the database when they were first asked for. What
the request writes drops what was read of the tables, when the statement runs and again when it is
committed; a read that was under way at either moment is not kept. So a request never sees less than
it has written itself, nor less than the database held when it first looked.

A scope is found through a context variable: coroutines and ``sync_to_async`` threads of a request
share it, threads that it starts otherwise have none. When the request ends the scope is closed, and
what still runs in its context reads on without it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

from ..core.forks import new_lock

#: Results that a scope keeps at most, and rows of one result.
MOST: Final = 2000
MOST_ROWS: Final = 5000

_SHARED: Final = frozenset({
    type(None), bool, int, float, str, bytes, Decimal, UUID, datetime.date, datetime.datetime,
    datetime.time, datetime.timedelta,
})  # fmt: skip


class _Kept(NamedTuple):
    tables: frozenset[str]
    #: Gives the value; a new one each time where somebody could change it.
    give: Callable[[], Any]


class Ticket(NamedTuple):
    """What a read is about to look at, and how much had been written then."""

    key: bytes
    tables: frozenset[str]
    written: int


class Scope:
    """The memo of one request; ``parent`` is the scope around it, which hears of its writes."""

    def __init__(self, parent: Scope | None = None) -> None:
        self.parent = parent
        self.closed = False
        self._lock = new_lock(self)
        self._kept: dict[bytes, _Kept] = {}
        #: How many writes there were so far, and the number of the last one of each table.
        self._writes = 0
        self._last: dict[str, int] = {}
        self._last_of_all = 0

    def find(self, key: bytes) -> Callable[[], Any] | None:
        """What gives the value that was kept under a key."""
        kept = self._kept.get(key)
        return None if kept is None or self.closed else kept.give

    def begin(self, key: bytes, tables: Iterable[str]) -> Ticket:
        """A read begins; hand the ticket to ``keep``."""
        return Ticket(key, frozenset(tables), self._writes)

    def keep(self, ticket: Ticket, give: Callable[[], Any]) -> None:
        """Keep what a read gave, if none of its tables was written since it began."""
        with self._lock:
            last = max((self._last.get(table, 0) for table in ticket.tables), default=0)
            if self.closed or max(last, self._last_of_all) > ticket.written:
                return
            if len(self._kept) >= MOST:
                self._kept.pop(next(iter(self._kept)))
            self._kept[ticket.key] = _Kept(ticket.tables, give)

    def wrote(self, tables: Iterable[str] | None) -> None:
        """Drop what was read of some tables, or (``None``) of all."""
        scope: Scope | None = self
        while scope is not None:
            scope._drop(tables)
            scope = scope.parent

    def _drop(self, tables: Iterable[str] | None) -> None:
        with self._lock:
            self._writes += 1
            if tables is None:
                self._last_of_all = self._writes
                self._kept.clear()
                return
            touched = set(tables)
            self._last.update(dict.fromkeys(touched, self._writes))
            gone = [key for key, kept in self._kept.items() if not touched.isdisjoint(kept.tables)]
            for key in gone:
                del self._kept[key]

    def close(self) -> None:
        """The request is over."""
        with self._lock:
            self.closed = True
            self._kept.clear()


_active: ContextVar[Scope | None] = ContextVar("cacheops_lite_scope", default=None)


def active() -> Scope | None:
    """The scope of the request that runs here, if any."""
    scope = _active.get()
    return None if scope is None or scope.closed else scope


def wrote(tables: Iterable[str] | None) -> None:
    """Tables were written here, or (``None``) nobody knows which."""
    scope = _active.get()
    if scope is not None:
        scope.wrote(tables)


@contextmanager
def request_scope() -> Iterator[Scope]:
    """Remember what is read inside: a request, a task, a command.

    For sync and async code; inside another one it is a scope of its own.
    """
    scope = Scope(active())
    token = _active.set(scope)
    try:
        yield scope
    finally:
        _active.reset(token)
        scope.close()


#: Tables that must not be read from the cache here.
_shunned: ContextVar[frozenset[str]] = ContextVar("cacheops_lite_shunned", default=frozenset())


@contextmanager
def uncached(tables: Iterable[str]) -> Iterator[None]:
    """Inside, what depends on these tables is neither answered from the cache nor stored."""
    token = _shunned.set(_shunned.get().union(tables))
    try:
        yield
    finally:
        _shunned.reset(token)


def shunned(tables: Iterable[str]) -> bool:
    """Whether one of these tables must not be read from the cache here."""
    found = _shunned.get()
    return bool(found) and not found.isdisjoint(tables)


@contextmanager
def apart() -> Iterator[None]:
    """For computing what others will be answered with: it must not be made of what was read before.

    The memo of a request may be older than the stamps under which the result is stored.
    """
    if active() is None:
        yield
        return
    with request_scope():
        yield


def giver(rows: list[tuple[Any, ...]]) -> Callable[[], list[tuple[Any, ...]]] | None:
    """What gives these rows again and again; ``None`` if they are too many to keep."""
    if len(rows) > MOST_ROWS:
        return None
    if all(type(value) in _SHARED for row in rows for value in row):
        shared = tuple(rows)
        return lambda: list(shared)
    try:
        original = deepcopy(rows)
    except Exception:
        return None  # whatever it is, nobody shares it
    return lambda: deepcopy(original)
