"""Why a read must not use the cache now: what its transaction has written, or what it may see.

A read whose snapshot of the database may be older than the stamps is neither answered from the
cache nor stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import scope, testcases
from .own_cursor import own_cursor
from .pending import Pending, pending

#: Variables of MySQL and MariaDB that name the level of a session.
_LEVELS: Final = ("transaction_isolation", "tx_isolation")


def read_refusal(alias: str, tables: Iterable[str]) -> str:
    """Why a read of ``tables`` must not use the cache now; ``""`` if it may."""
    connection = connections[alias]
    state: Pending | None = connection.__dict__.get("_cacheops_pending")
    if state is None:
        state = pending(connection)
    if state.dirty and (state.everything or not state.dirty.isdisjoint(tables)):
        return "the current transaction has written a table of this query"
    if state.shadowed and not state.shadowed.isdisjoint(tables):
        return "a temporary table of this connection stands in the place of one of this query"
    if scope.shunned(tables):
        return "the rows are read for a result that hangs on their fingerprint"
    if connection.vendor == "mysql" and _reads_uncommitted(connection, state):
        return "the connection reads what is not committed (isolation level)"
    inside = connection.in_atomic_block or state.raw or _manual(connection)
    if inside and (connection.needs_rollback or connection.closed_in_transaction):
        return "the transaction is broken; the database says so"
    if not inside or (testcases.absent and testcases.alone(connection)):
        if state.cursors and connection.vendor == "sqlite" and is_wal(connection):
            return "an open cursor may keep an old snapshot (SQLite, WAL)"
        return ""
    if state.snapshot or _snapshot_isolation(connection, state):
        return "the transaction may read from an old snapshot (isolation level)"
    if connection.vendor == "sqlite" and is_wal(connection):
        return "the transaction reads from a snapshot (SQLite, WAL)"
    return ""


def _reads_uncommitted(connection: BaseDatabaseWrapper, state: Pending) -> bool:
    # What others roll back later is never bumped. (PostgreSQL has no such level.)
    if state.uncommitted is None:
        level = connection.settings_dict["OPTIONS"].get("isolation_level", "read committed")
        # Where Django is not to set it, the server or an ``init_command`` has.
        state.uncommitted = "uncommitted" in str(level or _level_of_mysql(connection)).lower()
    return state.uncommitted


def _level_of_mysql(connection: BaseDatabaseWrapper) -> str:
    try:
        with own_cursor(connection) as cursor:
            cursor.execute("SHOW VARIABLES WHERE Variable_name IN %s", [_LEVELS])
            return " ".join(str(row[1]) for row in cursor.fetchall())
    except Exception:  # there is no connection, or not now
        return "uncommitted"


def _manual(connection: BaseDatabaseWrapper) -> bool:
    return connection.connection is not None and not connection.autocommit


def _snapshot_isolation(connection: BaseDatabaseWrapper, state: Pending) -> bool:
    if state.session_snapshot:
        return True
    level = getattr(connection, "isolation_level", None)
    if connection.vendor == "postgresql":
        name = getattr(level, "name", str(level)).upper().replace(" ", "_")
        if name not in ("READ_COMMITTED", "READ_UNCOMMITTED", "NONE", "1", "0"):
            return True
        return "isolation_level" not in connection.settings_dict["OPTIONS"] and _asked(
            connection, state
        )
    if connection.vendor == "mysql":
        return level != "read committed"
    return connection.vendor != "sqlite"


def _asked(connection: BaseDatabaseWrapper, state: Pending) -> bool:
    """PostgreSQL: the level that its own configuration gives to this session."""
    if state.session_snapshot is None:
        try:
            with connection.connection.cursor() as cursor:
                cursor.execute("SHOW default_transaction_isolation")
                level = str(cursor.fetchone()[0])
        except Exception:  # the transaction has failed, or there is none yet
            return True
        state.session_snapshot = level not in ("read committed", "read uncommitted")
    return state.session_snapshot


def is_wal(connection: BaseDatabaseWrapper) -> bool:
    """Whether this SQLite database keeps a write-ahead log."""
    state = pending(connection)
    if state.wal is None:
        raw = connection.connection
        if raw is None:
            return False
        row = raw.execute("PRAGMA journal_mode").fetchone()
        state.wal = bool(row) and str(row[0]).lower() == "wal"
    return state.wal
