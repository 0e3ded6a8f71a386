"""Where results of functions are kept: in the engine's store, valid while nothing changes.

Results hang on what the samples depend on, and on a table of the function's own, whose one column
``call`` names its calls: ``func.invalidate(…)`` is a change of the row of one call, and
``func.invalidate_all()`` a change of the whole table. So a result that was begun before an
invalidation is never stored after it, for rows and functions alike.
"""

from __future__ import annotations

import functools
import math
from datetime import timedelta
from time import perf_counter
from typing import Any

from asgiref.sync import sync_to_async

from . import conf, counters, engine, pulse, signals, tags
from .calls import digest
from .core.entry import ANY_ROW, UNKNOWN, Change
from .core.protocol import Outcome, ReadPlan, TablePlan
from .memoize import ALoad, Answer, CacheMiss, Call, Load, Pack, Unstored, as_it_is
from .orm import joining
from .samples import Resolved, Samples

#: "For ever", in seconds: nothing is stored without an end.
NO_TIMEOUT = 365 * 24 * 60 * 60.0


def seconds(timeout: float | timedelta | None) -> float | None:
    """A timeout as a number of seconds; ``None`` for none."""
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    if timeout is not None and (isinstance(timeout, bool) or not math.isfinite(timeout)):
        raise ValueError(f"A timeout is a number of seconds or None, not {timeout!r}.")
    return timeout


class EngineBackend:
    """Keeps results in the engine's store, valid as long as nothing that they hang on changes."""

    def __init__(
        self,
        timeout: float | timedelta | None = None,
        lock: bool | None = None,
        samples: Samples | None = None,
    ) -> None:
        self._timeout = seconds(timeout)
        self._lock = lock
        self._samples = samples

    # -- reading -------------------------------------------------------------------------------

    def read(
        self, call: Call, load: Load, pack: Pack = as_it_is, *, refresh: bool = False
    ) -> Answer:
        """Answer from the store, or load and store."""
        resolved, refusal = self._resolve(call)
        if refusal:
            _count_uncached(call, refusal)
            return Answer(load(), False)
        cache = engine.current()
        reading = _Reading(cache, self._plan(cache, call, resolved), call, pack, refresh)

        def loading() -> Any:
            reading.missed()
            return reading.loaded(load())

        try:
            outcome = cache.read(
                reading.plan, loading, **self._how(resolved, refresh), **reading.codec()
            )
        except _NotStored:
            return reading.answered(_UNSTORABLE._replace(value=reading.value))
        return reading.answered(outcome)

    async def aread(
        self, call: Call, load: ALoad, pack: Pack = as_it_is, *, refresh: bool = False
    ) -> Answer:
        """``read`` for async callers."""
        resolved, refusal = None, ""
        if self._samples is not None or call.tags or joining.ever():
            # The connection that tells belongs to the thread in which async code runs its SQL.
            resolved, refusal = await sync_to_async(self._resolve)(call)
        if refusal:
            _count_uncached(call, refusal)
            return Answer(await load(), False)
        cache = engine.current()
        reading = _Reading(cache, self._plan(cache, call, resolved), call, pack, refresh)

        async def loading() -> Any:
            reading.missed()
            return reading.loaded(await load())

        try:
            outcome = await cache.aread(
                reading.plan, loading, **self._how(resolved, refresh), **reading.codec()
            )
        except _NotStored:
            return reading.answered(_UNSTORABLE._replace(value=reading.value))
        return reading.answered(outcome)

    def _resolve(self, call: Call) -> tuple[Resolved | None, str]:
        """What the samples come to, and why the cache must not be used now."""
        resolved = self._samples.resolved() if self._samples is not None else None
        reason = resolved.refusal() if resolved is not None else ""
        if not reason and (call.tags or joining.ever()):
            names = [_own_table(call), engine.FUNCTIONS, *tags.waiting(call.tags)]
            reason = joining.refusal(names, snapshots=bool(call.tags))
        return resolved, reason

    def _how(self, resolved: Resolved | None, refresh: bool) -> dict[str, Any]:
        timeout, lock = self._timeout, self._lock
        if resolved is not None:
            timeout = resolved.timeout if timeout is None else timeout
            lock = resolved.lock if lock is None else lock
        return {
            "timeout": NO_TIMEOUT if timeout is None else timeout,
            "lock": bool(lock) and not refresh,  # nobody waits for what he will not take
        }

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
        resolved = self._samples.resolved() if self._samples is not None else None
        cache = engine.current()
        plan = self._plan(cache, call, resolved)
        return _found(cache.peek(plan, functools.partial(_decode, cache, plan)))

    async def aget(self, call: Call) -> Any:
        """``get`` for async callers."""
        resolved = await self._aresolved()
        cache = engine.current()
        plan = self._plan(cache, call, resolved)
        decode = functools.partial(_decode, cache, plan)
        return _found(await cache.protocol.peek(cache.async_transport, plan, decode=decode))

    def set(self, call: Call, value: Any) -> None:
        """Store a result for a call; calls that are under way do not replace it."""
        if not conf.current().enabled:
            self.delete(call)
            return
        cache = engine.current()
        cache.invalidate(_changes(cache, call))
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
        resolved = self._samples.resolved() if self._samples is not None else None
        return self._plan(engine.current(), call, resolved).entry.decode("utf-8", "replace")

    # -- all results ---------------------------------------------------------------------------

    def clear(self, calls: Call) -> None:
        """Drop all results of a function."""
        cache = engine.current()
        _drop(cache, _own_table(calls), [Change(_table(cache, calls), UNKNOWN, UNKNOWN)])

    async def aclear(self, calls: Call) -> None:
        """``clear`` for async callers."""
        await sync_to_async(self.clear)(calls)

    async def _aresolved(self) -> Resolved | None:
        return await sync_to_async(self._samples.resolved)() if self._samples is not None else None


class _NotStored(Exception):
    """Ends a read whose value must not be stored."""


_UNSTORABLE = Outcome(None, False, "unstorable", "unstorable")


class _Reading:
    """One read: turns values into stored bytes and back, counts and tells ``cache_read``."""

    def __init__(
        self, cache: engine.Engine, plan: ReadPlan, call: Call, pack: Pack, refresh: bool
    ) -> None:
        self.plan = plan
        self.value: Any = None
        self._cache, self._call, self._pack, self._refresh = cache, call, pack, refresh
        self._line = _line(call)
        self._started = self._computing = perf_counter()

    def codec(self) -> dict[str, Any]:
        """The two functions that the engine asks for."""
        return {"encode": self._encode, "decode": self._decode}

    def _encode(self, value: Any) -> bytes:
        try:
            packed = self._pack(value)
        except Unstored:
            raise _NotStored from None
        data = self._cache.codec.object_to_bytes(packed, self.plan.entry)
        self._line.stored_bytes += len(data)
        return data

    def _decode(self, data: bytes) -> Any:
        if self._refresh:
            raise CacheMiss  # whatever is there, load
        self._line.hit_bytes += len(data)
        return _decode(self._cache, self.plan, data)

    def missed(self) -> None:
        """The function is about to be called."""
        self._tell(hit=False)
        self._computing = perf_counter()

    def loaded(self, value: Any) -> Any:
        """Note what the function returned."""
        self._line.computed += 1
        self._line.compute_seconds += perf_counter() - self._computing
        self.value = value
        return value

    def answered(self, outcome: Outcome) -> Answer:
        """The end of a read."""
        if outcome.hit:
            finished = perf_counter()
            self._line.hits += 1
            self._line.hit_seconds += finished - self._started
            self._tell(hit=True)
        else:
            finished = self._line.missed(outcome, self._started)
        if finished > pulse.due:
            pulse.beat()
        return Answer(outcome.value, outcome.hit)

    def _tell(self, *, hit: bool) -> None:
        if signals.cache_read.has_listeners():
            signals.cache_read.send(sender=None, func=self._call.func, hit=hit)


def _line(call: Call) -> counters.Line:
    return counters.line(call.family, "call")


def _count_uncached(call: Call, reason: str) -> None:
    counters.add(_line(call).uncached, reason, counters.MOST_REASONS)


def _decode(cache: engine.Engine, plan: ReadPlan, data: bytes) -> Any:
    return cache.codec.bytes_to_object(data, plan.entry)


def _found(outcome: Outcome) -> Any:
    if not outcome.hit:
        raise CacheMiss(outcome.reason)
    return outcome.value


def _table(cache: engine.Engine, call: Call) -> str:
    return cache.table(_own_table(call), func=call.func)


def _own_table(call: Call) -> str:
    return f"func:{call.family}"


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


def invalidate_functions() -> None:
    """Drop the results of all cached functions, views and fragments."""
    _drop(engine.current(), engine.FUNCTIONS, [Change(engine.FUNCTIONS, UNKNOWN, UNKNOWN)])
