"""What a statement did joins the changes of its transaction, unless invalidation is suspended."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .. import conf, engine
from ..core.entry import UNKNOWN, Change
from . import registry, scope
from .pending import ROWS_PER_TABLE, pending

#: How many ``no_invalidation`` blocks are open in this context.
_suspended: ContextVar[int] = ContextVar("cacheops_lite_no_invalidation", default=0)


def suspend() -> None:
    """Changes made from here on invalidate nothing."""
    _suspended.set(_suspended.get() + 1)


def resume() -> None:
    """Take one ``suspend`` back."""
    _suspended.set(max(0, _suspended.get() - 1))


def suspended() -> bool:
    """Whether changes invalidate nothing now."""
    return bool(_suspended.get())


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
    state, known = pending(connection), registry.current()
    made = list(changes)
    tables = {change.table for change in made}
    along = {other for table in tables for other in known.dependents(table)}
    if not suspended():
        for change in made:
            _add(connection, change, cause)
        for table in along:
            _add(connection, Change(table, UNKNOWN, UNKNOWN), "depends_on")
        if tables and model is not None and len(state.notes) < ROWS_PER_TABLE:
            state.notes.append((model, values))
    tables |= along
    state.wrote(tables)
    scope.wrote(tables)


def _add(connection: BaseDatabaseWrapper, change: Change, cause: str) -> None:
    """Add a change under the name that its table's keys carry now, and count it."""
    state = pending(connection)
    known = change.old is not UNKNOWN and change.new is not UNKNOWN
    key = (change.table, cause if known else f"{cause} (whole table)")
    state.causes[key] = state.causes.get(key, 0) + 1
    if not isinstance(conf.current().prefix, str):  # a function, which may look around
        change = change._replace(table=engine.current().table(change.table, connection.alias))
    state.add(change)


def collect_everything(connection: BaseDatabaseWrapper, cause: str) -> None:
    """Somebody changed we do not know what: every tracked table is unknown."""
    tracked = sorted(registry.current().tracked)
    collect(connection, [Change(table, UNKNOWN, UNKNOWN) for table in tracked], cause=cause)
    pending(connection).everything = True


def collect_all(connection: BaseDatabaseWrapper) -> set[str]:
    """``invalidate_all()`` joins a transaction; the names of all that its commit will drop."""
    state = pending(connection)
    before = len(state.changes)
    collect_everything(connection, "invalidate_all()")
    state.add(Change(engine.FUNCTIONS, UNKNOWN, UNKNOWN))
    state.notes.append((None, None))
    return {change.table for change in state.changes[before:]}
