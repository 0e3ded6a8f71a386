"""Rows that outlive their writer: left before a commit, removed after its bump, else delivered.

A row is written in the transaction whose changes it names, so it is there exactly if they are.
Redis is told after the commit, and then the row is deleted:

- dies before the commit: no row, nothing to tell;
- dies between commit and bump: the row stays, somebody else tells;
- dies between bump and deletion: it is told twice, which costs misses.

Delivering drops every result of the tables. It is right at any time after the commit: what was
stored before it is dead then, and what is stored later was read later. So deliverers need no lock
and no clock. In order not to be told what living writers are about to tell themselves, a process
delivers the rows that it has seen at two looks; after an outage and by the command, all of them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from time import monotonic
from typing import Any

from django.db import DatabaseError, connections, router, transaction

from cacheops_lite import conf, engine, pulse, signals
from cacheops_lite.exceptions import StoreUnavailable
from cacheops_lite.orm import collations, registry, transactions
from cacheops_lite.orm.explained import unheeded
from cacheops_lite.orm.pending import open_transaction

from .models import Undelivered

logger = logging.getLogger("cacheops_lite")

TABLE = Undelivered._meta.db_table
#: Rows taken at one go.
BATCH = 500

#: Alias -> the ids that the last look of this process has seen, and not delivered.
_seen: dict[str, set[str]] = {}
#: Aliases of which all rows are due: Redis was away, what is there has waited long enough.
_all_due: set[str] = set()
#: Alias of a database without the table -> until when (monotonic) that is believed.
_absent: dict[str, float] = {}
conf.on_reset(_absent.clear)
collations.on_forget(_absent.clear)


class Outbox:
    """What ``orm.transactions`` asks for at each commit."""

    def write(self, connection: Any, tables: Iterable[str]) -> str:
        """Leave a row for changed tables, in the current transaction; ``""`` if this is off."""
        if conf.current().outbox_interval is None or not usable(connection):
            return ""
        try:
            return _insert(connection, set(tables))
        except DatabaseError:
            connection._cacheops_outbox = False  # look again whether the table is there
            raise

    def delivered(self, connection: Any, name: str) -> None:
        """Redis was told: remove the row. Never raises; what stays is told again."""
        if connection.in_atomic_block or not connection.get_autocommit():
            return  # it would hold a lock, and might be taken back
        try:
            _delete(connection, [name])
        except DatabaseError as error:
            logger.debug("cacheops_lite: a row of the outbox stays: %r", error)


def keep(tables: set[str]) -> None:
    """Leave a row for an invalidation by hand: any database will do, they are all looked at.

    Raises the ``DatabaseError`` of one if no other takes it.
    """
    failure: DatabaseError | None = None
    for alias in connections:
        connection = connections[alias]
        try:
            if not open_transaction(connection) and OUTBOX.write(connection, tables):
                return
        except DatabaseError as error:
            failure = error
    if failure is not None:
        raise failure


OUTBOX = Outbox()


def usable(connection: Any) -> bool:
    """Whether this database has the table of the outbox; if not, it is asked now and then."""
    if getattr(connection, "_cacheops_outbox", False):
        return True
    if monotonic() < _absent.get(connection.alias, 0):
        return False
    if not router.allow_migrate_model(connection.alias, Undelivered):
        return False
    with unheeded(connection) as cursor:
        found = TABLE in connection.introspection.table_names(cursor)
    connection._cacheops_outbox = found
    if not found:
        _absent[connection.alias] = monotonic() + (conf.current().outbox_interval or 0)
    return found


def _quoted(connection: Any) -> str:
    return str(connection.ops.quote_name(TABLE))


def _insert(connection: Any, tables: set[str]) -> str:
    name = os.urandom(16).hex()
    with unheeded(connection) as cursor:
        cursor.execute(
            f"INSERT INTO {_quoted(connection)} (id, tables) VALUES (%s, %s)",  # noqa: S608
            [name, json.dumps(sorted(tables))],
        )
    return name


def _delete(connection: Any, names: list[str]) -> None:
    with unheeded(connection) as cursor:
        places = ", ".join(["%s"] * len(names))
        cursor.execute(
            f"DELETE FROM {_quoted(connection)} WHERE id IN ({places})",  # noqa: S608
            names,
        )


# -- delivering --------------------------------------------------------------------------------


def look() -> None:
    """Deliver what has waited since the last look."""
    for alias in connections:
        _deliver_of(alias, alias in _all_due)


def deliver() -> int:
    """Deliver all rows of all databases; returns how many.

    What cannot be delivered, because Redis does not answer, stays, and this process does not trust
    its tables until then.
    """
    _absent.clear()
    return sum(_deliver_of(alias, True) for alias in connections)


def _deliver_of(alias: str, everything: bool) -> int:
    connection = connections[alias]
    if connection.in_atomic_block or open_transaction(connection):
        return 0  # this thread is at something else
    opened = connection.connection is None
    done = 0
    seen, now = _seen.get(alias, set()), set[str]()
    try:
        while usable(connection):
            rows = _batch(alias)
            now |= rows.keys()
            _seen[alias] = now
            due = rows if everything else {name: rows[name] for name in rows if name in seen}
            if due:
                if not _told(_tables(due.values())):
                    _fold(alias)
                    return done
                _delete(connection, list(due))
                now -= due.keys()
                done += len(due)
            if len(rows) < BATCH or not due:
                break
        _all_due.discard(alias)
    except DatabaseError as error:
        logger.warning("cacheops_lite: the outbox of %r cannot be used: %r", alias, error)
    finally:
        if opened:
            connection.close()
    return done


def _batch(alias: str) -> dict[str, str]:
    """Ids and texts of some rows; those of the last look are likely among them."""
    rows = Undelivered.objects.using(alias).order_by("pk")
    return dict(rows.values_list("id", "tables")[:BATCH])


def _fold(alias: str) -> None:
    """Redis is away: one row for many that wait, or the table would grow with the outage.

    Two processes may fold the same rows, and a row may be that of a living writer: then it is
    told once more.
    """
    while len(rows := _batch(alias)) == BATCH:
        with transaction.atomic(using=alias, durable=True):
            _insert(connections[alias], _tables(rows.values()))
            _delete(connections[alias], list(rows))


def _tables(texts: Iterable[str]) -> set[str]:
    """The tables in rows; all for a row that is not ours: whoever wrote it meant something."""
    tables: set[str] = set()
    for text in texts:
        try:
            tables.update(map(str, json.loads(text)))
        except (TypeError, ValueError):
            tables |= registry.current().tracked
    return tables


def _told(tables: set[str]) -> bool:
    """Drop the tables; whether Redis has been told."""
    cache = engine.current()
    try:
        cache.ping()
    except StoreUnavailable:
        cache.distrust(tables)
        return False
    return cache.invalidate_tables(tables, told=True)


# -- now and then ------------------------------------------------------------------------------


def _interval() -> float | None:
    settings = conf.current()
    return settings.outbox_interval if settings.active else None


def _found_again(reachable: bool, **kwargs: Any) -> None:
    if reachable:
        _all_due.update(connections)
        pulse.hurry("outbox")


def install() -> None:
    """Let commits leave rows, and processes look for those that stayed."""
    transactions.outbox = OUTBOX
    if keep not in engine.owed:
        engine.owed.append(keep)
    pulse.register("outbox", look, _interval)
    signals.cache_reachable.connect(_found_again, dispatch_uid="cacheops_lite.outbox")
