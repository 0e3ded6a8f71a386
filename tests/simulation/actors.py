"""Readers and writers, who use the protocol exactly as the ORM does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from cacheops_lite.core.entry import UNKNOWN, Change, MaybeRow

from .database import Place, Values
from .world import FOREVER, Actor, Op, Violation

Stage = Callable[[Actor], Coroutine[Any, Any, None]]


def read(name: str) -> Stage:
    """Read a query through the cache."""

    async def stage(me: Actor) -> None:
        world = me.world
        query = world.queries[name]

        async def load() -> Any:
            return await Op("load", lambda: query.answer(world.database.visible))

        outcome = await me.protocol.read(
            me.transport,
            world.plans[name],
            load,
            encode=lambda value: repr(value).encode(),
            decode=bytes,
            dynamic=query.dynamic,
            ttl_ms=FOREVER,
        )
        if outcome.hit:
            world.judge(name, outcome.value, me.required, me.at_start)
        elif world.database.replica is None and repr(outcome.value).encode() not in {
            query.encoded(rows) for rows in world.database.versions[me.at_start :]
        }:
            raise Violation(f"{name} was loaded and is wrong")

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


async def execute(me: Actor, statement: Set, schemes: Sequence[str] | None) -> Change:
    """Run one statement inside the transaction; say what it changed."""
    database = me.world.database
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

    def update() -> tuple[Values | None, Values | None]:
        old = database.lock(me.name, place)
        new = None if values is None else {**(old or {}), **values}
        database.write(me.name, place, new)
        me.transaction = "open"
        return old, new

    def blocked() -> bool:
        return database.blocked(me.name, place)

    if statement.locks:
        old, new = await Op("update", update, blocked=blocked)
    else:
        old = await Op("select", lambda: database.seen(me.name, place))
        _, new = await Op("update", update, blocked=blocked)
    return Change(place[0], narrowed(old), narrowed(new))


def write(
    *statements: Set | Savepoint,
    asks: bool = True,
    rollback: bool = False,
    unknown_outcome: bool = False,
    treat_unknown_as: bool | None = None,
    raw: bool = False,
    without_mark: bool = False,
    bump_before: bool = False,
) -> Stage:
    """Change rows in one transaction.

    ``asks``: ask for the schemes first. ``unknown_outcome``: the connection breaks during COMMIT,
    and the caller takes it for ``treat_unknown_as``. ``raw``: a statement outside a transaction.
    """

    async def stage(me: Actor) -> None:
        world, database = me.world, me.world.database
        protocol, transport = me.protocol, me.transport
        tables = sorted({one.place[0] for one in flat(statements)})
        schemes = dict.fromkeys(tables, None) if not asks else {}
        if asks:
            schemes = await protocol.known_schemes(transport, tables)  # type: ignore[assignment]
        changes: list[Change] = []
        for statement in statements:
            if isinstance(statement, Savepoint):
                await Op("savepoint", lambda: database.savepoint(me.name))
                for inner in statement.statements:
                    await execute(me, inner, schemes[inner.place[0]])
                await Op("rollback to", lambda: database.rollback_to_savepoint(me.name))
            else:
                changes.append(await execute(me, statement, schemes[statement.place[0]]))
        if without_mark:
            ticket = None
        else:
            ticket = await protocol.mark(transport, changes, _started=me) if False else await marked(me, changes)
            await protocol.refresh(transport, ticket)
        if bump_before and ticket is not None:
            await protocol.bump(transport, ticket, committed=True)

        def commit() -> int:
            me.transaction = "committed"
            version = database.commit(me.name, world.now)
            me.process.own_version = version
            return version

        def send_commit() -> int:
            database.in_flight.append(me.name)
            me.transaction = "unknown"
            return 0

        def undo() -> int:
            me.transaction = "rolled back"
            database.rollback(me.name)
            return 0

        if unknown_outcome:
            version, committed = await Op("commit", send_commit), treat_unknown_as
        elif rollback:
            version, committed = await Op("rollback", undo), False
        else:
            version, committed = await Op("commit", commit), True
        if ticket is None:
            await protocol.invalidate(transport, changes)
        elif not bump_before:
            await protocol.bump(transport, ticket, committed=committed)
        if not protocol.overdue:
            world.required = max(world.required, version)

    return stage


async def marked(me: Actor, changes: list[Change]) -> Any:
    """Mark, and let the demons know whose token it is."""
    draw = me.protocol.token

    def token() -> bytes:
        me.token = draw()
        return me.token

    me.protocol.token = token  # type: ignore[method-assign]
    try:
        return await me.protocol.mark(me.transport, changes)
    finally:
        me.protocol.token = draw  # type: ignore[method-assign]


def flat(statements: Sequence[Set | Savepoint]) -> list[Set]:
    found: list[Set] = []
    for statement in statements:
        found += statement.statements if isinstance(statement, Savepoint) else [statement]
    return found
