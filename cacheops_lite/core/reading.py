"""READ: one MGET for a hit; stamps, load and store for a miss. Told as a whole in `protocol`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import reduce
from typing import Any

from ..exceptions import StoreUnavailable
from . import stamps
from .ensuring import Ensuring, Shape, Verdict, View
from .entry import Conj
from .plans import Asked, Outcome, ReadPlan, Reply, Script, Transport
from .servers import in_both, server_at
from .writing import Writing

Load = Callable[[], Awaitable[Any]]
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
Dynamic = Callable[[Any], Iterable[tuple[str, Conj]]]

#: Keys asked for in one command.
CHUNK = 1000
#: How often a waiter looks for the result of the caller that holds the lock, in seconds.
POLL = 0.02


class Reading(Ensuring, Writing):
    """Answers from the cache, or loads and stores."""

    async def read(
        self,
        transport: Transport,
        plan: ReadPlan,
        load: Load,
        *,
        encode: Encode,
        decode: Decode,
        ttl_ms: int,
        dynamic: Dynamic | None = None,
        lock_ms: int = 0,
        lock_wait_ms: int = 0,
    ) -> Outcome:
        """Answer from the cache, or call ``load`` (once) and store what it returns for ``ttl_ms``.

        ``dynamic`` tells from the value the dependencies that the plan could not name. With
        ``lock_ms`` only one caller loads, the others wait for it at most ``lock_wait_ms``. Errors
        of the store never get out, those of ``load``, ``dynamic`` and ``encode`` do; an error of
        ``decode`` is a miss.
        """
        if self.overdue and not await self._settled(transport, plan):
            return Outcome(await load(), False, "failed", "failed")
        shape = self._shape(plan)
        lock = b""
        try:
            view = await self._look(transport, shape)
            outcome = self._answer(shape, view, decode)
            if not outcome.hit and lock_ms > 0:
                view, outcome, lock = await self._queue(
                    transport, shape, decode, lock_ms, lock_wait_ms
                )
        except StoreUnavailable:
            return Outcome(await load(), False, "unavailable", "unavailable")
        try:
            if outcome.hit:
                return outcome
            return await self._fill(
                transport, shape, view, outcome.reason, load, encode, dynamic, ttl_ms
            )
        finally:
            if lock:
                await self._release(transport, shape, lock)

    async def peek(self, transport: Transport, plan: ReadPlan, *, decode: Decode) -> Outcome:
        """Tell what a read would find: a hit, or a miss and its reason (value None)."""
        if any(table.table in self.overdue for table in plan.tables):
            return Outcome(None, False, "failed")
        shape = self._shape(plan)
        try:
            return self._answer(shape, await self._look(transport, shape), decode)
        except StoreUnavailable:
            return Outcome(None, False, "unavailable")

    async def _settled(self, transport: Transport, plan: ReadPlan) -> bool:
        """Settle what is due; tell whether this plan may use the cache."""
        await self.settle(transport)
        return not any(table.table in self.overdue for table in plan.tables)

    # -- looking

    def _shape(self, plan: ReadPlan) -> Shape:
        shape = self.shapes.get(plan.entry)
        if shape is None or (shape.plan is not plan and shape.plan != plan):
            shape = Shape(plan, self)
            self.shapes.set(plan.entry, shape)
        return shape

    async def _look(self, transport: Transport, shape: Shape) -> View:
        keys, verdict = shape.asked, shape.verdict
        reply = await self._mget(transport, keys)
        raw, server = reply.values[0], reply.server
        if (
            verdict is not None
            and raw is not None
            and verdict.asked is keys
            and verdict.server == server
            and verdict.values == reply.values[1:]
            and raw.startswith(verdict.head)
            and stamps.is_whole(raw)
        ):
            return View(raw, None, {}, server, raw[len(verdict.head) :])
        values = dict(zip(keys, reply.values, strict=True))
        entry = stamps.parse_entry(raw) if raw is not None else None
        if entry is not None:
            # The entry, not the memo, says what it depends on (A14). Two looks are safe.
            rest = [key for key in entry.stamps if key not in values]
            if rest:
                reply = await self._mget(transport, rest)
                values.update(zip(rest, reply.values, strict=True))
                server = in_both(server, reply.server)
        return View(raw, entry, values, server)

    async def _mget(self, transport: Transport, keys: list[bytes]) -> Reply:
        if len(keys) <= CHUNK:
            return await transport.mget(keys)
        replies = [
            await transport.mget(keys[start : start + CHUNK])
            for start in range(0, len(keys), CHUNK)
        ]
        server = reduce(in_both, (reply.server for reply in replies))
        return Reply([value for reply in replies for value in reply.values], server)

    def _answer(self, shape: Shape, view: View, decode: Decode) -> Outcome:
        if view.payload is not None:
            try:
                return Outcome(decode(view.payload), True, "")
            except Exception:
                return Outcome(None, False, "undecodable")
        reason = self._invalid(shape, view)
        if reason or view.entry is None:
            return Outcome(None, False, reason)
        try:
            value = decode(view.entry.payload)
        except Exception:
            return Outcome(None, False, "undecodable")
        self._learn(shape, view.entry.stamps)
        self._judge(shape, view)
        return Outcome(value, True, "")

    def _judge(self, shape: Shape, view: View) -> None:
        """Remember a hit, if a single look shows all that decided it."""
        asked = shape.asked
        if view.raw is None or view.entry is None or view.values.keys() != set(asked):
            return
        head = view.raw[: len(view.raw) - len(view.entry.payload)]
        values = [view.values[key] for key in asked[1:]]
        shape.verdict = Verdict(asked, values, view.server, head)

    def _invalid(self, shape: Shape, view: View) -> str:
        """Say why the entry may not be answered; ``""`` if it may."""
        if view.raw is None:
            return "absent"
        if view.entry is None:
            return "undecodable"
        found, values = view.entry.stamps, view.values
        for key, stamp in found.items():
            value = values[key]
            if value != stamp or not stamps.is_stamp(value):
                return "pending" if stamps.is_pending(value) else "stamp"
        for gen in shape.gens.values():
            if gen not in found:
                return "plan"
            if not self.own(found[gen], server_at(view.server, gen)):
                return "foreign"
        for key, any_row in shape.required:
            if key not in found and any_row not in found:
                return "plan"
        return ""

    def _learn(self, shape: Shape, depends: dict[bytes, bytes]) -> None:
        """Remember which keys to ask for besides, so that the next hit takes one MGET."""
        more = [key for key in depends if key not in shape.known]
        if more != shape.more:
            shape.more = more
            shape.asked = Asked([*shape.fetched, *more])
            self.shapes.set(shape.plan.entry, shape)  # it weighs more

    # -- waiting for another caller

    async def _queue(
        self,
        transport: Transport,
        shape: Shape,
        decode: Decode,
        lock_ms: int,
        wait_ms: int,
    ) -> tuple[View, Outcome, bytes]:
        """Take the lock, or wait for the answer of its holder; return its token if it was taken."""
        lock = self.keys.lock(shape.plan.entry)
        token = self.token()
        until = self.monotonic() + wait_ms / 1000
        held = True  # as far as anybody knows, until the store has answered
        try:
            while True:
                held = await transport.set(lock, token, lock_ms, nx=True)
                # After the lock, also after the first: its last holder stored before it let go.
                view = await self._look(transport, shape)
                outcome = self._answer(shape, view, decode)
                left = until - self.monotonic()
                if held or outcome.hit or left <= 0:
                    break
                await transport.sleep(min(POLL, left))
                held = True
        except BaseException:
            if held:
                await self._release(transport, shape, token)
            raise
        if held:
            return view, outcome, token
        return view, outcome if outcome.hit else outcome._replace(reason="locked"), b""

    async def _release(self, transport: Transport, shape: Shape, token: bytes) -> None:
        try:
            await transport.scripts([Script("unlock", [self.keys.lock(shape.plan.entry)], [token])])
        except StoreUnavailable:
            return  # the lock runs out by itself

    # -- filling

    async def _fill(
        self,
        transport: Transport,
        shape: Shape,
        view: View,
        reason: str,
        load: Load,
        encode: Encode,
        dynamic: Dynamic | None,
        ttl_ms: int,
    ) -> Outcome:
        """Fix the stamps, load, store under them. A bump meanwhile leaves it dead on arrival."""
        try:
            fixed = await self._fix(transport, shape, view, ttl_ms)
        except StoreUnavailable:
            return Outcome(await load(), False, "unavailable", reason)
        value = await load()
        if fixed.refused:
            return Outcome(value, False, fixed.refused, reason)
        try:
            told = dynamic(value) if dynamic is not None else ()
            depends, refused = await self._complete(transport, shape, fixed, told, ttl_ms)
            if refused:
                return Outcome(value, False, refused, reason)
            data = stamps.pack_entry(depends, encode(value))
            await transport.set(shape.plan.entry, data, ttl_ms)
        except StoreUnavailable:
            return Outcome(value, False, "unavailable", reason)
        self._learn(shape, depends)
        return Outcome(value, False, reason)
