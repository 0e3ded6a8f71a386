"""Cursors of SQLite that are not read to their end: they hold a snapshot, or a commit, open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any
from weakref import WeakSet

from . import rawcontrol
from .pending import pending


def opened(cursor: Any) -> None:
    """A statement is given to a cursor, which may keep an old snapshot open until it is closed."""
    state = pending(cursor.db)
    if state.cursors is None:
        state.cursors = WeakSet()
    state.cursors.add(cursor)
    if type(cursor.cursor) is _Fetched:
        cursor.cursor = cursor.cursor.read


def closed(cursor: Any) -> None:
    """A cursor was closed: it holds no snapshot any more."""
    cursors = pending(cursor.db).cursors
    if cursors is not None:
        cursors.discard(cursor)


def may_wait(connection: Any) -> bool:
    """Whether a write commits by itself, and with RETURNING not before its last row is read."""
    return connection.vendor == "sqlite" and not rawcontrol.transaction_open(connection)


def finish(cursor: Any, run: Callable[[], Any]) -> Any:
    """Run a statement to the end of its rows, which the cursor then gives from memory."""
    result = run()
    if cursor.cursor.description is not None:
        cursor.cursor = _Fetched(cursor.cursor)
    return result


class _Fetched:
    """A cursor that was read to its end, and gives its rows all the same."""

    def __init__(self, read: Any) -> None:
        self.read = read
        self.rows = iter(read.fetchall())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.read, name)

    def __iter__(self) -> Iterator[Any]:
        yield from self.rows

    def fetchone(self) -> Any:
        return next(self.rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return list(islice(self.rows, self.read.arraysize if size is None else size))

    def fetchall(self) -> list[Any]:
        return list(self.rows)
