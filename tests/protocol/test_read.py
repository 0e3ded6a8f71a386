"""Reading: hits, misses, what they cost, and what happens meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from cacheops_lite.core import stamps, state
from cacheops_lite.core.entry import Change, conjunction
from cacheops_lite.core.protocol import Outcome, run
from cacheops_lite.exceptions import StoreUnavailable

from .rig import BOOKS_A, BOOKS_B, TTL, Clock, Process, cat, moved, table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from cacheops_lite.core.protocol import Reply
    from cacheops_lite.stores.memory import MemoryStore


class TestRead:
    """Hits, misses, and what they cost."""

    def test_hit_is_one_mget(self, process: Process) -> None:
        """P3: a hit costs one MGET and nothing else."""
        plan = process.plan(BOOKS_A)
        assert process.read(plan) == Outcome(b"rows", False, "absent")
        assert process.read(plan, b"other") == Outcome(b"rows", True, "")
        assert process.wire.trips == ["mget"]
        assert process.wire.sent == [3]
        assert process.loads == 1

    def test_hit_in_another_process(self, make: Callable[..., Process]) -> None:
        """A process that never saw the query hits with one MGET too."""
        one, two = make(), make()
        one.read(one.plan(BOOKS_A))
        assert two.read(two.plan(BOOKS_A)).hit
        assert two.wire.trips == ["mget"]

    def test_miss_is_three_trips(self, process: Process) -> None:
        """A miss on an empty server: look, ensure, store."""
        process.read(process.plan(BOOKS_A))
        assert process.wire.trips == ["mget", "ensure", "set"]

    def test_miss_with_living_stamps_is_two_trips(self, process: Process) -> None:
        """Where the look found all stamps, made under the living gen, ENSURE is left out."""
        process.read(process.plan(BOOKS_A, name="one"))
        process.read(process.plan(BOOKS_A, name="two"))
        assert process.wire.trips == ["mget", "set"]
        assert process.read(process.plan(BOOKS_A, name="two")).hit

    def test_miss_after_a_write_is_two_trips(self, process: Process) -> None:
        """A write leaves a new stamp where it found one: the next miss needs no ENSURE."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.write(moved("A", "A"))
        assert process.read(plan).reason == "stamp"
        assert process.wire.trips == ["mget", "set"]
        assert process.read(plan).hit

    def test_stamps_for_shorter_lives_need_ensure(self, process: Process, clock: Clock) -> None:
        """An entry does not die early with a stamp that was made for one that lives shorter."""
        process.read(process.plan(BOOKS_A, name="short"), ttl_ms=TTL // 100)
        process.write(moved("A", "A"))
        plan = process.plan(BOOKS_A, name="long")
        process.read(plan)
        assert process.wire.trips == ["mget", "ensure", "set"]
        # Once is enough: the stamp that was made then serves both.
        for name, ttl in (("short", TTL // 100), ("long", TTL)):
            process.write(moved("A", "A"))
            process.read(process.plan(BOOKS_A, name=name), ttl_ms=ttl)
            assert process.wire.trips == ["mget", "set"]
        clock.ms += TTL - 1
        assert process.read(plan).hit

    def test_a_key_that_is_only_written_goes(self, process: Process, clock: Clock) -> None:
        """Writes renew a stamp for the time that it had left, not for ever."""
        process.read(process.plan(BOOKS_A))
        (key,) = (key for key in process.store.data if key.endswith(b"cat=A"))
        for _ in range(25):
            process.write(moved("A", "A"))
            clock.ms += TTL // 10
        assert process.store.get(key) is None

    def test_stamps_of_an_older_gen_need_ensure(self, process: Process) -> None:
        """A stamp that carries another gen is as good as missing (A3)."""
        process.read(process.plan(BOOKS_A, name="one"))
        process.store.evict(process.protocol.keys.gen("book"))
        process.read(process.plan(BOOKS_B, name="two"))
        process.read(process.plan(BOOKS_A, name="three"))
        assert process.wire.trips == ["mget", "ensure", "set"]
        process.write(moved("A", "A"))
        assert not process.read(process.plan(BOOKS_A, name="three")).hit

    def test_tables_together(self, process: Process) -> None:
        """A query over several tables costs the same trips: scripts are sent together."""
        plan = process.plan(BOOKS_A, table("author", ()))
        process.read(plan)
        assert process.wire.trips == ["mget", "ensure+ensure", "set"]
        assert process.read(plan).hit
        process.write(Change("author", None, {"id": "9"}))
        assert process.read(plan) == Outcome(b"rows", False, "stamp")

    def test_value_none(self, process: Process) -> None:
        """A value may be None: a hit is told by the outcome, not by the value."""
        plan = process.plan(BOOKS_A)
        options: dict[str, Any] = {"encode": lambda value: b"", "decode": lambda data: None}
        process.read(plan, **options)
        assert process.read(plan, **options) == Outcome(None, True, "")

    def test_load_error(self, process: Process) -> None:
        """An error of the load gets out, nothing is stored, the lock is free."""

        def fail() -> None:
            raise LookupError

        plan = process.plan(BOOKS_A)
        with pytest.raises(LookupError):
            process.read(plan, during=fail, lock_ms=1000)
        assert process.stamp(plan.entry) is None
        assert process.stamp(process.protocol.keys.lock(plan.entry)) is None

    @pytest.mark.parametrize("error", [StoreUnavailable, asyncio.CancelledError])
    @pytest.mark.parametrize("at", ["the lock", "the look after it"])
    def test_lock_of_a_read_that_failed(
        self, process: Process, at: str, error: type[BaseException]
    ) -> None:
        """Whoever took the lock and comes no further lets it go: nobody waits for its answer."""
        plan = process.plan(BOOKS_A)
        take, seen = process.wire.set, process.wire.mget

        async def lock(*args: Any, **kwargs: Any) -> bool:
            taken = await take(*args, **kwargs)
            if at == "the lock" and taken:
                raise error  # and the answer is lost
            return taken

        async def look(keys: Sequence[bytes]) -> Reply:
            if at == "the look after it" and "lock" in process.wire.trips:
                raise error
            return await seen(keys)

        process.wire.set, process.wire.mget = lock, look  # type: ignore[method-assign]
        if error is StoreUnavailable:
            assert process.read(plan, lock_ms=1000) == Outcome(
                b"rows", False, "unavailable", "unavailable"
            )
        else:
            with pytest.raises(error):
                process.read(plan, lock_ms=1000)
        assert process.wire.trips[-1] == "unlock"
        assert process.stamp(process.protocol.keys.lock(plan.entry)) is None

    def test_waiting_for_a_lock_that_failed(self, process: Process) -> None:
        """Whoever did not take the lock leaves it alone."""
        plan = process.plan(BOOKS_A)
        lock = process.protocol.keys.lock(plan.entry)
        process.store.set(lock, b"another's", 1000)
        process.wire.cut = lambda name: name == "sleep"
        process.read(plan, lock_ms=1000, lock_wait_ms=1000)
        assert process.wire.trips[-1] == "sleep"
        assert process.stamp(lock) == b"another's"

    def test_encode_error(self, process: Process) -> None:
        """An error of encode gets out: it is the caller's."""

        def encode(value: Any) -> bytes:
            raise LookupError

        with pytest.raises(LookupError):
            process.read(process.plan(BOOKS_A), encode=encode)

    def test_decode_error(self, process: Process) -> None:
        """What cannot be decoded is a miss, and is overwritten."""

        def decode(data: bytes) -> Any:
            if data == b"bad":
                raise ValueError
            return data

        plan = process.plan(BOOKS_A)
        process.read(plan, b"bad")
        assert process.read(plan, b"good", decode=decode) == Outcome(b"good", False, "undecodable")
        assert process.read(plan, decode=decode) == Outcome(b"good", True, "")

    @pytest.mark.parametrize(
        "value",
        [b"", b"\x01", b"\x01\xff\xff", b"\x02\x00\x00rows", b"\x01\x00\x01\x00\x05\x00\x05ab"],
    )
    def test_malformed_entry(self, process: Process, value: bytes) -> None:
        """A truncated entry or one of another format is a miss, and is overwritten."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.store.set(plan.entry, value)
        assert process.read(plan).reason == "undecodable"
        assert process.read(plan).hit

    def test_entry_that_names_too_little(self, process: Process) -> None:
        """An entry counts only if it names the gen and every static dependency (A14)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        entry = stamps.parse_entry(process.stamp(plan.entry) or b"")
        assert entry is not None
        for key in entry.stamps:
            rest = {name: stamp for name, stamp in entry.stamps.items() if name != key}
            process.store.set(plan.entry, stamps.pack_entry(rest, b"forged"))
            assert process.read(plan) == Outcome(b"rows", False, "plan")

    def test_other_plan(self, process: Process) -> None:
        """One entry key asked for with other dependencies is a miss."""
        process.read(process.plan(BOOKS_A))
        assert process.read(process.plan(BOOKS_B)).reason == "plan"
        assert process.read(process.plan(BOOKS_B)).hit

    def test_foreign_gen(self, process: Process, store: MemoryStore) -> None:
        """After a fail-over nothing of the other server is answered, all is made anew (A8)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        store.server_id = b"server2"
        assert process.read(plan).reason == "foreign"
        assert process.read(plan).hit

    def test_other_version(self, process: Process, make: Callable[..., Process]) -> None:
        """Code of another version shares the keys, and neither answers from the other (A9)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        other = make()
        other.protocol.version = b"2"
        assert other.read(plan).reason == "foreign"
        assert other.read(plan).hit
        assert process.read(plan).reason == "foreign"
        assert process.read(plan).hit
        other.write(moved("A", "A"))
        assert not process.read(plan).hit

    def test_peek(self, process: Process) -> None:
        """Peeking tells hit or why not, and changes nothing."""
        plan = process.plan(BOOKS_A)

        def peek() -> Outcome:
            return run(process.protocol.peek(process.wire, plan, decode=bytes))

        assert peek() == Outcome(None, False, "absent")
        assert process.store.data == {}
        process.read(plan)
        assert peek() == Outcome(b"rows", True, "")
        process.wire.cut = lambda name: True
        assert peek() == Outcome(None, False, "unavailable")
        assert process.loads == 1

    def test_expiry(self, process: Process, clock: Clock) -> None:
        """An entry lives as long as asked for."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        clock.ms += TTL - 1
        assert process.read(plan).hit
        clock.ms += 1
        assert process.read(plan).reason == "absent"

    def test_stamps_outlive_entries(self, process: Process, clock: Clock) -> None:
        """An entry that was stored under living stamps does not die early with them."""
        process.read(process.plan(BOOKS_A, name="one"))
        clock.ms += TTL - 1
        plan = process.plan(BOOKS_A, name="two")
        process.read(plan)
        assert process.wire.trips == ["mget", "set"]
        clock.ms += TTL - 1
        assert process.read(plan).hit

    def test_everything_expires(self, process: Process, clock: Clock) -> None:
        """P4: nothing in the store is without a time to live."""
        process.read(process.plan(BOOKS_A), lock_ms=1000)
        process.write(moved("A", "B"))
        run(process.protocol.mark(process.wire, [moved("A", "B")]))
        assert all(until is not None for _, until in process.store.data.values())
        clock.ms += 8 * state.DAY_MS
        process.store.expire()
        assert process.store.data == {}


class TestRaces:
    """What happens between the stamps and the store."""

    def test_write_during_load(self, process: Process, make: Callable[..., Process]) -> None:
        """An entry whose rows were changed during the load is dead on arrival."""
        plan = process.plan(BOOKS_A)
        process.read(plan, during=lambda: make().write(moved("A", "A")))
        assert process.read(plan, b"new") == Outcome(b"new", False, "stamp")

    def test_mark_before_read(self, process: Process, make: Callable[..., Process]) -> None:
        """While a write is in flight its conj is neither answered nor stored."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        other = make()
        ticket = run(other.protocol.mark(other.wire, [moved("A", "A")]))
        assert process.read(plan).reason == "pending"
        assert process.wire.trips == ["mget", "ensure"]
        run(other.protocol.bump(other.wire, ticket, committed=True))
        assert process.read(plan).reason == "stamp"
        assert process.read(plan).hit

    def test_young(self, process: Process, make: Callable[..., Process], clock: Clock) -> None:
        """A scheme first used during a write is not stored before its mark is over (B1)."""
        other = make()
        ticket = run(other.protocol.mark(other.wire, [moved("A", "A")]))
        plan = process.plan(BOOKS_A)
        assert process.read(plan).reason == "young"
        run(other.protocol.bump(other.wire, ticket, committed=True))
        assert process.read(plan).reason == "young"
        clock.ms += 10_000
        assert process.read(plan).reason == "absent"
        assert process.read(plan).hit

    def test_unrelated(self, process: Process, make: Callable[..., Process]) -> None:
        """P2: results of other conjunctions stay hits, during the write and after it."""
        process.read(process.plan(BOOKS_A))
        plan = process.plan(BOOKS_B, name="b")
        process.read(plan)
        other = make()
        ticket = run(other.protocol.mark(other.wire, [moved("A", "C")]))
        assert process.read(plan).hit
        run(other.protocol.bump(other.wire, ticket, committed=True))
        assert process.read(plan).hit
        assert not process.read(process.plan(BOOKS_A)).hit

    def test_two_conjunctions(self, process: Process) -> None:
        """A result that depends on several conjunctions falls with any of them."""
        plan = process.plan(table("book", cat("A"), conjunction({"cat": "B", "id": "1"})))
        process.read(plan)
        process.write(Change("book", None, {"cat": "B", "id": "2"}))
        assert process.read(plan).hit
        process.write(Change("book", None, {"cat": "B", "id": "1"}))
        assert not process.read(plan).hit


class TestRun:
    """Finishing coroutines that never suspend."""

    def test_result(self) -> None:
        """The result comes back, errors come out."""

        async def fine() -> int:
            return 5

        async def broken() -> int:
            raise LookupError

        assert run(fine()) == 5
        with pytest.raises(LookupError):
            run(broken())

    def test_suspended(self) -> None:
        """A coroutine that suspends is a bug, and is told so instead of hanging."""

        class Never:
            def __await__(self) -> Iterator[None]:
                yield

        async def suspends() -> None:
            never: Awaitable[None] = Never()  # type: ignore[assignment]
            await never

        with pytest.raises(RuntimeError, match="suspended"):
            run(suspends())
