"""Where results of functions are kept: in the engine's store, valid while nothing changes.

Results hang on what the samples depend on, and on a table of the function's own, whose one column
``call`` names its calls: ``func.invalidate(…)`` is a change of the row of one call, and
``func.invalidate_all()`` a change of the whole table. So a result that was begun before an
invalidation is never stored after it, for rows and functions alike.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async

from .. import conf, counters, engine
from ..core.entry import ANY_ROW, UNKNOWN, Change
from ..core.protocol import Outcome, ReadPlan, TablePlan
from ..orm import joining, scope
from . import tags
from .backend import Answer, CacheMiss, Call, Pack, as_it_is
from .calls import digest
from .colours import ALoad, Load, finish
from .one_read import OneRead, count_uncached, decoder
from .refresh import Refresh
from .samples import Resolved, Source
from .times import NO_TIMEOUT, seconds


class EngineBackend:
    """Keeps results in the engine's store, valid as long as nothing that they hang on changes."""

    def __init__(
        self,
        timeout: float | timedelta | None = None,
        lock: bool | None = None,
        samples: Source | None = None,
        policy: Refresh | None = None,
    ) -> None:
        self._timeout = seconds(timeout)
        self._lock = lock
        self._samples = samples
        self._policy = policy

    # -- reading -------------------------------------------------------------------------------

    def read(
        self,
        call: Call,
        load: Load,
        pack: Pack = as_it_is,
        *,
        refresh: bool = False,
        unpack: Pack = as_it_is,
    ) -> Answer:
        """Answer from the store, or load and store.

        ``unpack`` makes a value of what was stored, or raises ``CacheMiss``.
        """
        resolved, refusal = self._resolve(call)
        if refusal:
            count_uncached(call, refusal)
            return Answer(load(), False)
        cache = engine.current()
        reading = self._reading(cache, call, resolved, pack, refresh, unpack)
        return finish(functools.partial(reading.through, cache.transport), load)

    async def aread(
        self,
        call: Call,
        load: ALoad,
        pack: Pack = as_it_is,
        *,
        refresh: bool = False,
        unpack: Pack = as_it_is,
    ) -> Answer:
        """``read`` for async callers."""
        resolved, refusal = None, ""
        if self._samples is not None or call.tags or joining.ever():
            # The connection that tells belongs to the thread in which async code runs its SQL.
            resolved, refusal = await sync_to_async(self._resolve)(call)
        if refusal:
            count_uncached(call, refusal)
            return Answer(await load(), False)
        cache = engine.current()
        reading = self._reading(cache, call, resolved, pack, refresh, unpack)
        return await reading.through(cache.async_transport, load)

    def _resolved(self) -> Resolved | None:
        return self._samples.resolved() if self._samples is not None else None

    def _resolve(self, call: Call) -> tuple[Resolved | None, str]:
        """What the samples come to, and why the cache must not be used now."""
        resolved = self._resolved()
        reason = resolved.refusal() if resolved is not None else ""
        if not reason and (call.tags or joining.ever()):
            reason = joining.refusal(_names(call, None), snapshots=bool(call.tags))
        return resolved, reason

    def _reading(
        self,
        cache: engine.Engine,
        call: Call,
        resolved: Resolved | None,
        pack: Pack,
        refresh: bool,
        unpack: Pack,
    ) -> OneRead:
        timeout, lock = self._timeout, self._lock
        if resolved is not None:
            timeout = resolved.timeout if timeout is None else timeout
            lock = resolved.lock if lock is None else lock
        return OneRead(
            cache,
            self._plan(cache, call, resolved),
            call,
            pack,
            NO_TIMEOUT if timeout is None else timeout,
            lock=bool(lock),
            refresh=refresh,
            policy=self._policy,
            tables=_names(call, resolved),
            unpack=unpack,
        )

    def _plan(self, cache: engine.Engine, call: Call, resolved: Resolved | None) -> ReadPlan:
        table = _table(cache, call)
        own = TablePlan(table, ((("call", call.digest),),))
        all_functions = TablePlan(engine.FUNCTIONS, (ANY_ROW,))
        samples = tuple(resolved.plans(cache)) if resolved is not None else ()
        # A prefix function may tell tenants apart by the tables: each has an entry of its own.
        tables = () if isinstance(conf.current().prefix, str) else tuple(p.table for p in samples)
        kind = resolved.digest if resolved is not None else ""
        name = digest((call.digest, call.variant, kind, *tables))
        depends = (own, all_functions, *tags.plans(cache, call.tags), *samples)
        return ReadPlan(cache.entry_key(table, bytes.fromhex(name)), depends)

    # -- one result ----------------------------------------------------------------------------

    def get(self, call: Call) -> Any:
        """The stored result of a call. Raises ``CacheMiss``."""
        cache = engine.current()
        plan = self._plan(cache, call, self._resolved())
        return _found(cache.peek(plan, decoder(cache, plan)))

    async def aget(self, call: Call) -> Any:
        """``get`` for async callers."""
        resolved = await sync_to_async(self._resolved)() if self._samples is not None else None
        cache = engine.current()
        plan = self._plan(cache, call, resolved)
        decode = decoder(cache, plan)
        return _found(await cache.protocol.peek(cache.async_transport, plan, decode=decode))

    def set(self, call: Call, value: Any) -> None:
        """Store a result for a call; calls that are under way do not replace it."""
        if not conf.current().enabled:
            self.delete(call)
            return
        cache = engine.current()
        cache.invalidate(_changes(cache, call))
        scope.wrote([_own_table(call)])
        self.read(call, lambda: value, refresh=True)

    async def aset(self, call: Call, value: Any) -> None:
        """``set`` for async callers."""

        async def load() -> Any:
            return value

        if not conf.current().enabled:
            await self.adelete(call)
            return
        cache = engine.current()
        await cache.ainvalidate(_changes(cache, call))
        scope.wrote([_own_table(call)])
        await self.aread(call, load, refresh=True)

    def delete(self, call: Call) -> None:
        """Drop the results of a call, in every variant."""
        cache = engine.current()
        _drop(cache, _own_table(call), _changes(cache, call))

    async def adelete(self, call: Call) -> None:
        """``delete`` for async callers."""
        await sync_to_async(self.delete)(call)

    def key(self, call: Call) -> str:
        """The key of the entry."""
        return self._plan(engine.current(), call, self._resolved()).entry.decode("utf-8", "replace")

    # -- all results ---------------------------------------------------------------------------

    def clear(self, calls: Call) -> None:
        """Drop all results of a function."""
        cache = engine.current()
        _drop(cache, _own_table(calls), [Change(_table(cache, calls), UNKNOWN, UNKNOWN)])

    async def aclear(self, calls: Call) -> None:
        """``clear`` for async callers."""
        await sync_to_async(self.clear)(calls)


def _found(outcome: Outcome) -> Any:
    if not outcome.hit:
        raise CacheMiss(outcome.reason)
    return outcome.value


def _table(cache: engine.Engine, call: Call) -> str:
    return cache.table(_own_table(call), func=call.func)


def _own_table(call: Call) -> str:
    return f"func:{call.family}"


def _names(call: Call, resolved: Resolved | None) -> Iterator[str]:
    """What a result hangs on, under the names that transactions and request scopes know."""
    yield from (_own_table(call), engine.FUNCTIONS, *tags.waiting(call.tags))
    for found in resolved.tables.values() if resolved is not None else ():
        yield from found


def _changes(cache: engine.Engine, call: Call) -> list[Change]:
    row = {"call": call.digest}
    return [Change(_table(cache, call), row, row)]


def _drop(cache: engine.Engine, table: str, changes: list[Change]) -> None:
    """Drop results now, and again at the commits of the transactions that are open.

    What a transaction writes is seen by others only after its commit, so what they compute until
    then must go too. While caching is off the store is left alone, and so are these tables
    afterwards, until they were dropped.
    """
    if not conf.current().enabled:
        cache.distrust({change.table for change in changes})
        return
    cache.invalidate(changes)
    whole = changes[0].old is UNKNOWN
    name = table.removeprefix("func:")
    counters.dropped({(name, "invalidate_all()" if whole else "invalidate()"): 1})
    joining.join(changes, [table])
    scope.wrote([table])


def invalidate_functions() -> None:
    """Drop the results of all cached functions, views and fragments.

    Not those in ``file_cache`` or in a ``RedisCache`` with a client of its own.
    """
    _drop(engine.current(), engine.FUNCTIONS, [Change(engine.FUNCTIONS, UNKNOWN, UNKNOWN)])
