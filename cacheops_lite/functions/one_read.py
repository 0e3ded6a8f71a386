"""One read of a function's result: values to stored bytes and back, counted and told.

``through`` is the flow of a read, written once for sync and async callers: a sync transport never
suspends it.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import Any

from .. import counters, engine, pulse
from ..core.protocol import Outcome, ReadPlan
from ..orm import scope
from .backend import Answer, CacheMiss, Call, Pack, Unstored, as_it_is, tell
from .lease import Lease
from .refresh import Kept, Refresh

_UNSTORABLE = Outcome(None, False, "unstorable", "unstorable")
_STALE = Outcome(None, True, "")


class _Stale(Exception):
    """Ends a read with the last value, while somebody else computes the next."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _NotStored(Exception):
    """Ends a read whose value must not be stored."""


class OneRead:
    """A read that is about to happen. ``timeout`` in seconds."""

    def __init__(
        self,
        cache: engine.Engine,
        plan: ReadPlan,
        call: Call,
        pack: Pack,
        timeout: float,
        *,
        lock: bool = False,
        refresh: bool = False,
        policy: Refresh | None = None,
        tables: Iterable[str] = (),
        unpack: Pack = as_it_is,
    ) -> None:
        self._unpack = unpack
        #: What the request scope drops it by.
        self._tables = tuple(tables)
        self._data = b""
        self._cache, self._plan, self._call, self._pack = cache, plan, call, pack
        self._timeout, self._lock, self._refresh, self._policy = timeout, lock, refresh, policy
        self._kept: Kept | None = None
        self._value: Any = None
        self._line = line(call)
        self._began = policy.clock() if policy is not None else 0.0
        self._started = self._computing = perf_counter()

    async def through(self, transport: Any, load: Callable[[], Awaitable[Any]]) -> Answer:
        """Answer from what the request has read, or from the store, or load and store."""
        memo = scope.active()
        if memo is None:
            return await self._through(transport, load)
        key = self._plan.entry
        give = None if self._refresh else memo.find(key)
        if give is not None:
            with suppress(CacheMiss):
                return self._answered(Outcome(self._unpack(give()), True, ""))
        ticket = memo.begin(key, self._tables)
        answer = await self._through(transport, load)
        if self._data:
            memo.keep(ticket, functools.partial(_value, self._cache, self._plan, self._data))
        return answer

    async def _through(self, transport: Any, load: Callable[[], Awaitable[Any]]) -> Answer:
        policy = self._policy
        lease = Lease(self._cache, transport, self._plan.entry) if policy is not None else None

        async def loading() -> Any:
            if policy is not None and lease is not None and policy.invalidated:
                await self._offer(policy, lease)
            return await self._compute(load)

        try:
            # Nobody waits for what he will not take, nor where the lease decides who computes.
            waits = self._lock and not self._refresh and not (policy and policy.invalidated)
            outcome = await self._cache.aread(
                transport,
                self._plan,
                loading,
                encode=self._encode,
                decode=self._decode,
                timeout=self._timeout + (policy.stale if policy is not None else 0),
                lock=waits,
            )
            if outcome.hit and policy is not None and lease is not None:
                due = self._kept is not None and policy.due(self._kept)
                if due and await lease.take():
                    return await self._again().through(transport, load)
        except _NotStored:
            outcome = _UNSTORABLE._replace(value=self._value)
        except _Stale as last:
            outcome = _STALE._replace(value=last.value)
        finally:
            if lease is not None:
                await lease.release()
        return self._answered(outcome)

    def _again(self) -> OneRead:
        return OneRead(
            self._cache, self._plan, self._call, self._pack, self._timeout,
            refresh=True, policy=self._policy, tables=self._tables, unpack=self._unpack,
        )  # fmt: skip

    async def _offer(self, policy: Refresh, lease: Lease) -> None:
        """End this read with the last value, if it may be answered and somebody computes."""
        if self._refresh:
            return
        last = await lease.last()
        if last is None or last[1] >= policy.invalidated:
            return
        try:
            kept = self._cache.codec.bytes_to_object(last[0], self._plan.entry)
        except Exception:
            return  # it is no longer understood
        if isinstance(kept, Kept) and not policy.ended(kept) and not await lease.take():
            raise _Stale(kept.value)

    async def _compute(self, load: Callable[[], Awaitable[Any]]) -> Any:
        tell(self._call, hit=False)
        if self._policy is not None:
            self._began = self._policy.clock()
        self._computing = perf_counter()
        with scope.apart():
            self._value = await load()
        self._line.computed += 1
        self._line.compute_seconds += perf_counter() - self._computing
        return self._value

    def _encode(self, value: Any) -> bytes:
        try:
            packed = self._pack(value)
        except Unstored:
            raise _NotStored from None
        if self._policy is not None:
            took = perf_counter() - self._computing
            packed = self._policy.keep(packed, self._began, took, self._timeout)
        data = self._cache.codec.object_to_bytes(packed, self._plan.entry)
        self._line.stored_bytes += len(data)
        self._data = data
        return data

    def _decode(self, data: bytes) -> Any:
        if self._refresh:
            raise CacheMiss  # whatever is there, load
        stored = self._cache.codec.bytes_to_object(data, self._plan.entry)
        if isinstance(stored, Kept):
            if self._policy is not None and self._policy.ended(stored):
                raise CacheMiss
            self._kept, stored = stored, stored.value
        value = self._unpack(stored)
        self._line.hit_bytes += len(data)
        self._data = data
        return value

    def _answered(self, outcome: Outcome) -> Answer:
        """The end of a read."""
        if outcome.hit:
            finished = perf_counter()
            self._line.hits += 1
            self._line.hit_seconds += finished - self._started
            tell(self._call, hit=True)
        else:
            finished = self._line.missed(outcome, self._started)
        if finished > pulse.due:
            pulse.beat()
        return Answer(outcome.value, outcome.hit)


def line(call: Call) -> counters.Line:
    """Where reads of a function are counted."""
    return counters.line(call.family, "call")


def count_uncached(call: Call, reason: str) -> None:
    """Count a call that did not ask the store."""
    counters.add(line(call).uncached, reason, counters.MOST_REASONS)


def decoder(cache: engine.Engine, plan: ReadPlan) -> Callable[[bytes], Any]:
    """What makes a value of stored bytes, outside of a read."""
    return functools.partial(_value, cache, plan)


def _value(cache: engine.Engine, plan: ReadPlan, data: bytes) -> Any:
    stored = cache.codec.bytes_to_object(data, plan.entry)
    return stored.value if isinstance(stored, Kept) else stored
