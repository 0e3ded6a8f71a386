"""Readers and writers, who use the protocol exactly as the ORM does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cacheops_lite.core.entry import UNKNOWN, Change, MaybeRow
from cacheops_lite.core.protocol import Outcome, ReadPlan

from .cast import Query
from .database import Place, Values
from .local import FOREVER, Actor, Stage
from .ops import Op


class Read(NamedTuple):
    """What a read has answered."""

    name: str
    hit: bool
    value: bytes


class Written(NamedTuple):
    """That a write is over; ``told``: whether the store has been told of it."""

    told: bool


async def through(me: Actor, query: Query, rows: Any = None) -> Outcome:
    """Read a query through the cache; ``rows`` are taken for what the database holds."""

    async def load() -> Any:
        return query.answer(await Op("load") if rows is None else rows)

    return await me.protocol.read(
        me.transport,
        ReadPlan(query.key, query.tables),
        load,
        encode=lambda value: repr(value).encode(),
        decode=bytes,
        dynamic=query.dynamic,
        ttl_ms=FOREVER,
    )


def read(query: Query) -> Stage:
    """Read a query through the cache."""

    async def stage(me: Actor) -> Read:
        outcome = await through(me, query)
        value = outcome.value if outcome.hit else repr(outcome.value).encode()
        return Read(query.name, outcome.hit, value)

    return stage


class Set(NamedTuple):
    """Write a row: its new values (merged into the old ones), or None to delete it."""

    place: Place
    values: Values | None
    #: What the writer learns of the row: all columns, only those of the schemes that it knows
    #: ("known"), or nothing ("unknown").
    knows: str = "all"
    #: Whether the old row is locked before it is read (A18).
    locks: bool = True


class Savepoint(NamedTuple):
    """Statements inside a savepoint that is rolled back."""

    statements: tuple[Set, ...]


async def execute(statement: Set, schemes: Sequence[str] | None) -> tuple[Change, Values | None]:
    """Run one statement inside the transaction; say what it changed, and what the row is now."""
    place, values = statement.place, statement.values

    def narrowed(row: Values | None) -> MaybeRow:
        if statement.knows == "unknown" or (statement.knows == "known" and schemes is None):
            return UNKNOWN
        if row is None:
            return None
        if statement.knows == "known" and schemes is not None:
            columns = {column for scheme in schemes for column in scheme.split(",")}
            return {column: value for column, value in row.items() if column in columns}
        return dict(row)

    if statement.locks:
        old, new = await Op("update", (place, values))
    else:
        old = await Op("select", (place,))
        _, new = await Op("update", (place, values))
    return Change(place[0], narrowed(old), narrowed(new)), new


def write(
    *statements: Set | Savepoint,
    asks: bool = True,
    rollback: bool = False,
    unknown_outcome: bool = False,
    takes_it_for: bool | None = None,
    marks: bool = True,
    bumps: str = "after",
    stores: Query | None = None,
) -> Stage:
    """Change rows in one transaction.

    ``asks``: ask for the schemes first. ``unknown_outcome``: the connection breaks during COMMIT,
    and the caller takes it for ``takes_it_for``. What a sane writer never does: not to mark,
    to bump before the commit, to store what it has written itself.
    """

    async def stage(me: Actor) -> Written:
        protocol, transport = me.protocol, me.transport
        tables = sorted({one.place[0] for one in flat(statements)})
        schemes: Any = dict.fromkeys(tables)
        if asks:
            schemes = await protocol.known_schemes(transport, tables)
        changes: list[Change] = []
        written: dict[Place, Values] = {}
        for statement in statements:
            if isinstance(statement, Savepoint):
                await Op("savepoint")
                for inner in statement.statements:
                    await execute(inner, schemes[inner.place[0]])
                await Op("rollback to savepoint")
            else:
                change, new = await execute(statement, schemes[statement.place[0]])
                changes.append(change)
                written[statement.place] = new or {}
        ticket = None
        if marks:
            ticket = await protocol.mark(transport, changes)
            await protocol.refresh(transport, ticket)
        if bumps == "before" and ticket is not None:
            await protocol.bump(transport, ticket, committed=True)
        elif bumps == "before":
            await protocol.invalidate(transport, changes)
        committed: bool | None = not rollback
        if unknown_outcome:
            await Op("send commit")
            committed = takes_it_for
        else:
            await Op("rollback" if rollback else "commit")
        if bumps == "after" and ticket is not None:
            await protocol.bump(transport, ticket, committed=committed)
        elif bumps == "after":
            await protocol.invalidate(transport, changes)
        if stores is not None:
            await through(me, stores, written)
        return Written(not protocol.overdue)

    return stage


def write_raw(place: Place, values: Values) -> Stage:
    """Run a statement that nobody understands, outside a transaction: mark, run, bump."""

    async def stage(me: Actor) -> Written:
        ticket = await me.protocol.mark(me.transport, [Change(place[0], UNKNOWN, UNKNOWN)])
        await Op("statement", (place, values))
        await me.protocol.bump(me.transport, ticket, committed=True)
        return Written(not me.protocol.overdue)

    return stage


def invalidate(*changes: Change) -> Stage:
    """Tell the cache by hand that rows have changed."""

    async def stage(me: Actor) -> Written:
        await me.protocol.invalidate(me.transport, changes)
        return Written(not me.protocol.overdue)

    return stage


def flat(statements: Sequence[Set | Savepoint]) -> list[Set]:
    found: list[Set] = []
    for statement in statements:
        found += statement.statements if isinstance(statement, Savepoint) else [statement]
    return found
