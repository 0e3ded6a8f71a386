"""The protocol over the memory store: what it answers, what it sends, what it remembers."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from cacheops_lite.core import ensuring, stamps, state, writing
from cacheops_lite.core.entry import UNKNOWN, Change, Conj, Row, conjunction
from cacheops_lite.core.keys import Keys
from cacheops_lite.core.protocol import (
    Answer,
    CacheProtocol,
    Outcome,
    ReadPlan,
    Reply,
    Script,
    StoreUnavailable,
    TablePlan,
    run,
)
from cacheops_lite.stores.memory import MemoryStore, MemoryTransport

TTL = 60_000


class Clock:
    """Time in ms for the store, in seconds for the process."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class Wire(MemoryTransport):
    """Counts the round trips of a process; can be cut."""

    def __init__(self, store: MemoryStore, clock: Clock) -> None:
        super().__init__(store)
        self.clock = clock
        self.trips: list[str] = []
        self.sent: list[int] = []
        self.cut: Callable[[str], bool] = lambda name: False
        self.meanwhile: Callable[[str], None] = lambda name: None

    def _trip(self, name: str, size: int = 1) -> None:
        self.trips.append(name)
        self.sent.append(size)
        self.meanwhile(name)
        if self.cut(name):
            raise StoreUnavailable(name)

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        self._trip("mget", len(keys))
        return await super().mget(keys)

    async def scripts(self, calls: Sequence[Script]) -> list[Answer]:
        self._trip("+".join(call.name for call in calls), max(len(call.keys) for call in calls))
        return await super().scripts(calls)

    async def set(self, key: bytes, value: bytes, px: int, nx: bool = False) -> bool:
        self._trip("lock" if nx else "set")
        return await super().set(key, value, px, nx)

    async def delete(self, keys: Sequence[bytes]) -> None:
        self._trip("delete", len(keys))
        await super().delete(keys)

    async def sleep(self, seconds: float) -> None:
        self._trip("sleep")
        self.clock.ms += round(seconds * 1000)


class Process:
    """A process: its protocol, its wire, and loads that are counted."""

    counter = itertools.count(1)

    def __init__(self, store: MemoryStore, clock: Clock, **options: Any) -> None:
        def random(size: int) -> bytes:
            return b"".join(next(self.counter).to_bytes(8) for _ in range(size // 8))

        self.clock = clock
        self.store = store
        self.protocol = CacheProtocol("c:", monotonic=clock.monotonic, random=random, **options)
        self.wire = Wire(store, clock)
        self.loads = 0

    def plan(self, *tables: TablePlan, name: str = "ab") -> ReadPlan:
        return ReadPlan(self.protocol.keys.entry(tables[0].table, name), tables)

    def read(
        self,
        plan: ReadPlan,
        value: bytes = b"rows",
        *,
        during: Callable[[], Any] = lambda: None,
        dynamic: Iterable[tuple[str, Conj]] | None = None,
        **options: Any,
    ) -> Outcome:
        async def load() -> bytes:
            self.loads += 1
            during()
            return value

        self.wire.trips.clear()
        self.wire.sent.clear()
        settings = {"encode": bytes, "decode": bytes, "ttl_ms": TTL, **options}
        told = None if dynamic is None else (lambda value: dynamic)
        return run(self.protocol.read(self.wire, plan, load, dynamic=told, **settings))

    def write(self, *changes: Change, committed: bool | None = True) -> None:
        self.wire.trips.clear()
        self.wire.sent.clear()
        ticket = run(self.protocol.mark(self.wire, changes))
        run(self.protocol.bump(self.wire, ticket, committed=committed))

    def stamp(self, key: bytes) -> bytes | None:
        return self.store.get(key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock, server_id=b"server1")


@pytest.fixture
def make(store: MemoryStore, clock: Clock) -> Callable[..., Process]:
    return lambda **options: Process(store, clock, **options)


@pytest.fixture
def process(make: Callable[..., Process]) -> Process:
    return make()


def cat(value: str) -> Conj:
    return conjunction({"cat": value})


def table(name: str = "book", *conjs: Conj, dynamic: bool = False) -> TablePlan:
    return TablePlan(name, conjs, dynamic)


BOOKS_A = table("book", cat("A"))
BOOKS_B = table("book", cat("B"))
ALL_BOOKS = table("book", ())


def moved(old: str, new: str, name: str = "book") -> Change:
    return Change(name, {"id": "1", "cat": old}, {"id": "1", "cat": new})


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


class TestDynamic:
    """Dependencies that only the result knows."""

    @staticmethod
    def plan(process: Process) -> ReadPlan:
        return process.plan(BOOKS_A, table("author", dynamic=True))

    @staticmethod
    def authors(*ids: str) -> list[tuple[str, Conj]]:
        return [("author", conjunction({"id": one})) for one in ids]

    def test_trips(self, process: Process, make: Callable[..., Process]) -> None:
        """New keys cost a guard; the memo makes the next hit one MGET, elsewhere it is two."""
        plan = self.plan(process)
        process.read(plan, dynamic=self.authors("1", "7"))
        assert process.wire.trips == ["mget", "ensure+ensure", "ensure", "set"]
        assert process.read(plan).hit
        assert process.wire.trips == ["mget"]
        other = make()
        assert other.read(plan).hit
        assert other.wire.trips == ["mget", "mget"]
        assert other.read(plan).hit
        assert other.wire.trips == ["mget"]

    def test_no_guard_for_known_keys(self, process: Process) -> None:
        """Keys that the dead entry named are ensured before the load and need no guard."""
        plan = self.plan(process)
        process.read(plan, dynamic=self.authors("1", "7"))
        process.write(moved("A", "A"))
        process.read(plan, dynamic=self.authors("1"))
        assert process.wire.trips == ["mget", "ensure+ensure", "set"]
        assert process.read(plan).hit

    def test_keys_of_the_dead_entry(self, process: Process, make: Callable[..., Process]) -> None:
        """A process without a memo learns the likely keys from the dead entry."""
        plan = self.plan(process)
        process.read(plan, dynamic=self.authors("1"))
        process.write(moved("A", "A"))
        other = make()
        other.read(plan, dynamic=self.authors("1"))
        assert other.wire.trips == ["mget", "mget", "ensure+ensure", "set"]

    def test_invalidation(self, process: Process) -> None:
        """The result falls with the rows that it showed, not with others."""
        plan = self.plan(process)
        process.read(plan, dynamic=self.authors("1"))
        process.write(Change("author", {"id": "2"}, {"id": "2"}))
        assert process.read(plan).hit
        process.write(Change("author", {"id": "1"}, {"id": "1"}))
        assert not process.read(plan).hit

    def test_guard(self, process: Process, make: Callable[..., Process]) -> None:
        """A write of the joined table during the load keeps the result out (A1)."""
        plan = self.plan(process)
        change = Change("author", {"id": "1"}, {"id": "1"})
        outcome = process.read(plan, during=lambda: make().write(change), dynamic=self.authors("1"))
        assert outcome.reason == "moved"
        assert process.stamp(plan.entry) is None

    def test_guard_pending(self, process: Process, make: Callable[..., Process]) -> None:
        """So does one that is in flight."""
        plan = self.plan(process)
        other = make()
        change = Change("author", {"id": "1"}, {"id": "1"})
        outcome = process.read(
            plan,
            during=lambda: run(other.protocol.mark(other.wire, [change])),
            dynamic=self.authors("1"),
        )
        assert outcome.reason == "moved"
        assert process.read(plan, dynamic=self.authors("1")).reason == "pending"
        assert process.stamp(plan.entry) is None

    def test_no_rows(self, process: Process) -> None:
        """A result that told no dependency still depends on its gens."""
        plan = self.plan(process)
        process.read(plan, dynamic=[])
        assert process.wire.trips == ["mget", "ensure+ensure", "set"]
        assert process.read(plan).hit
        run(process.protocol.drop_tables(process.wire, ["author"]))
        assert not process.read(plan).hit

    def test_widened_by_the_caller(self, process: Process) -> None:
        """A table told with the empty conjunction is depended on as a whole."""
        plan = self.plan(process)
        process.read(plan, dynamic=[("author", ())])
        assert process.read(plan).hit
        process.write(Change("author", None, {"id": "5"}))
        assert not process.read(plan).hit

    def test_too_many(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """Past the limit a table is depended on as a whole."""
        monkeypatch.setattr(ensuring, "MOST_STAMPS", 3)
        plan = self.plan(process)
        process.read(plan, dynamic=self.authors("1", "2", "3", "4"))
        assert process.read(plan).hit
        assert process.wire.sent == [5]
        process.write(Change("author", None, {"id": "5"}))
        assert not process.read(plan).hit

    @pytest.mark.parametrize("name", ["book", "publisher"])
    def test_undeclared(self, process: Process, name: str) -> None:
        """A dependency on a table that the plan does not call dynamic keeps the result out."""
        plan = self.plan(process)
        outcome = process.read(plan, dynamic=[(name, conjunction({"id": "1"}))])
        assert outcome.reason == "undeclared"
        assert process.stamp(plan.entry) is None

    def test_changing_authors(self, process: Process) -> None:
        """Each store lists its own keys; those of an older memo do not count (A14)."""
        plan = self.plan(process)
        process.read(plan, dynamic=self.authors("1", "7"))
        process.write(moved("A", "A"))
        process.read(plan, dynamic=self.authors("1", "8"))
        assert process.read(plan).hit
        process.write(Change("author", {"id": "7"}, {"id": "7"}))
        assert process.read(plan).hit
        process.write(Change("author", {"id": "8"}, {"id": "8"}))
        assert not process.read(plan).hit


class TestWrite:
    """Marks, bumps, and what they cost."""

    def test_steady_state(self, process: Process) -> None:
        """A write costs two round trips once the schemes are known."""
        process.read(process.plan(BOOKS_A))
        process.write(moved("A", "B"))
        assert process.wire.trips == ["mark", "mark", "bump"]
        process.write(moved("A", "B"))
        assert process.wire.trips == ["mark", "bump"]
        assert process.wire.sent == [2 + 3, 2 + 3]

    def test_tables_together(self, process: Process) -> None:
        """Several tables are marked in one round trip."""
        process.write(moved("A", "B"), Change("author", None, {"id": "1"}))
        assert process.wire.trips == ["mark+mark", "bump+bump"]

    def test_nothing(self, process: Process) -> None:
        """A transaction that changed nothing sends nothing."""
        process.write()
        assert process.wire.trips == []

    @pytest.mark.parametrize(
        ("old", "new", "falls"),
        [
            (None, {"cat": "A"}, "A"),
            ({"cat": "B"}, None, "B"),
            ({"cat": "A"}, {"cat": "B"}, "AB"),
            ({"cat": "C"}, {"cat": "D"}, ""),
            ({"cat": "C"}, {}, "AB"),
            ({"id": "1"}, {"cat": "C"}, "AB"),
            (UNKNOWN, {"cat": "C"}, "AB"),
            (UNKNOWN, UNKNOWN, "AB"),
        ],
    )
    def test_what_falls(
        self, process: Process, old: Row | None, new: Row | None, falls: str
    ) -> None:
        """Insert, delete, move; unknown values drop the table."""
        plans = {"A": process.plan(BOOKS_A, name="a"), "B": process.plan(BOOKS_B, name="b")}
        for plan in plans.values():
            process.read(plan)
        everything = process.plan(ALL_BOOKS, name="all")
        process.read(everything)
        process.write(Change("book", old, new))
        fallen = "".join(name for name, plan in plans.items() if not process.read(plan).hit)
        assert fallen == falls
        assert not process.read(everything).hit

    def test_rollback(self, process: Process) -> None:
        """A write that was not committed leaves no marks behind."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.write(moved("A", "B"), committed=False)
        assert not any(stamps.is_pending(value) for value, _ in process.store.data.values())
        process.read(plan)
        assert process.read(plan).hit

    def test_outcome_unknown(self, process: Process, clock: Clock) -> None:
        """The marks stay, this process leaves the table alone, then drops the gen (B5)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        gen = process.stamp(process.protocol.keys.gen("book"))
        process.write(moved("A", "B"), committed=None)
        assert process.wire.trips == ["mark", "mark"]
        assert process.read(plan).reason == "failed"
        assert process.wire.trips == []
        assert stamps.is_pending(process.stamp(process.protocol.keys.conj("book", cat("A"))))
        clock.ms += 10_001
        assert not process.read(plan).hit
        assert process.read(plan).hit
        assert process.stamp(process.protocol.keys.gen("book")) != gen

    def test_new_scheme_between_mark_and_bump(
        self, process: Process, make: Callable[..., Process], clock: Clock
    ) -> None:
        """What came into use during the write is bumped too."""
        process.protocol.schemes.set("book", ())
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        clock.ms += 10_001  # the marks run out before the commit
        other = make()
        plan = other.plan(BOOKS_A)
        other.read(plan)
        assert other.read(plan).hit
        run(process.protocol.bump(process.wire, ticket, committed=True))
        assert not other.read(plan).hit

    @pytest.mark.parametrize("lost", ["gen", "schemes"])
    @pytest.mark.parametrize("moment", ["before the mark", "before the bump"])
    def test_lost_schemes(self, process: Process, lost: str, moment: str) -> None:
        """A gen whose schemes are lost is dropped, at mark and at bump (A2)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.protocol.forget()
        key = getattr(process.protocol.keys, lost)("book")
        if moment == "before the mark":
            process.store.evict(key)
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        process.store.evict(key)
        run(process.protocol.bump(process.wire, ticket, committed=True))
        assert not process.read(plan).hit

    def test_gen_of_another_server(self, process: Process, store: MemoryStore) -> None:
        """A write under one server drops the gen that another one made (A8)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        store.server_id = b"server2"
        process.write(moved("A", "B"))
        store.server_id = b"server1"
        assert not process.read(plan).hit

    def test_refresh(self, process: Process, clock: Clock) -> None:
        """Marks are renewed right before the commit if half of their time has passed."""
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        key = process.protocol.keys.conj("book", ())
        clock.ms += 5000
        run(process.protocol.refresh(process.wire, ticket))
        assert process.wire.trips == ["mark"]
        clock.ms += 1
        run(process.protocol.refresh(process.wire, ticket))
        assert process.wire.trips == ["mark", "mark"]
        assert process.store.pttl(key) == 10_000

    def test_refresh_finds_new_schemes(
        self, process: Process, make: Callable[..., Process], clock: Clock
    ) -> None:
        """Renewing marks looks for schemes that have come into use since."""
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        clock.ms += 5001
        other = make()
        assert other.read(other.plan(BOOKS_A)).reason == "young"
        run(process.protocol.refresh(process.wire, ticket))
        clock.ms += 5001  # the first mark would be over
        assert other.read(other.plan(BOOKS_A)).reason == "pending"

    def test_replica_lag(self, make: Callable[..., Process], clock: Clock) -> None:
        """The mark lives on after the commit for as long as a replica may lag (A17)."""
        process = make(replica_lag_ms=2000)
        plan = process.plan(BOOKS_A)
        process.read(plan)
        ticket = run(process.protocol.mark(process.wire, [moved("A", "A")]))
        assert process.store.pttl(process.protocol.keys.conj("book", ())) == 12_000
        run(process.protocol.bump(process.wire, ticket, committed=True))
        assert process.read(plan).reason == "pending"
        clock.ms += 1999
        assert process.read(plan).reason == "pending"
        clock.ms += 1
        process.read(plan)
        assert process.read(plan).hit

    def test_replica_lag_and_rollback(self, make: Callable[..., Process]) -> None:
        """What was not committed cannot lag."""
        process = make(replica_lag_ms=2000)
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.write(moved("A", "A"), committed=False)
        process.read(plan)
        assert process.read(plan).hit

    def test_invalidate(self, process: Process, make: Callable[..., Process]) -> None:
        """Outside a transaction: one BUMP of what is known, a second one for what it finds."""
        process.read(process.plan(BOOKS_A))
        other = make()
        assert run(other.protocol.invalidate(other.wire, [moved("A", "C")]))
        assert other.wire.trips == ["bump", "bump"]
        assert not process.read(process.plan(BOOKS_A)).hit
        other.wire.trips.clear()
        run(other.protocol.invalidate(other.wire, [moved("A", "C")]))
        assert other.wire.trips == ["bump"]
        assert not process.read(process.plan(BOOKS_A)).hit

    def test_drop_tables(self, process: Process) -> None:
        """A dropped table takes every result that depends on it along, and no other."""
        plan = process.plan(BOOKS_A, table("author", ()))
        other = process.plan(table("author", ()), name="authors")
        process.read(plan)
        process.read(other)
        process.wire.trips.clear()
        assert run(process.protocol.drop_tables(process.wire, ["book"]))
        assert process.wire.trips == ["bump"]
        assert not process.read(plan).hit
        assert process.read(other).hit


class TestLimits:
    """What is bounded, and how."""

    def test_many_keys_are_split(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keys are sent in portions, all in one round trip; every one is marked."""
        monkeypatch.setattr(process.protocol, "chunk", 4)
        process.read(process.plan(BOOKS_A))
        changes = [moved(f"o{number}", f"n{number}") for number in range(5)]
        process.write(*changes)
        ticket = run(process.protocol.mark(process.wire, changes))
        assert process.wire.trips == ["mark", "mark+mark+mark", "bump+bump+bump", "mark+mark+mark"]
        assert max(process.wire.sent) == 2 + 4
        for number in range(5):
            for side in "on":
                key = process.protocol.keys.conj("book", cat(f"{side}{number}"))
                assert stamps.is_pending(process.stamp(key))
        run(process.protocol.bump(process.wire, ticket, committed=True))

    def test_any_row_is_in_the_first_portion(
        self, process: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The schemes that count are those read together with the any-row mark (B4)."""
        monkeypatch.setattr(process.protocol, "chunk", 1)
        process.read(process.plan(BOOKS_A))
        sent: list[Script] = []
        original = process.wire.scripts

        async def scripts(calls: Sequence[Script]) -> list[Answer]:
            sent.extend(calls)
            return await original(calls)

        monkeypatch.setattr(process.wire, "scripts", scripts)
        process.write(moved("A", "B"))
        assert sent[0].keys[2:] == [process.protocol.keys.conj("book", ())]
        answers = [Answer([b"s1first", b"s1first"], b"x"), Answer([b"s1last", b"s1last"], b"x")]

        async def canned(calls: Sequence[Script]) -> list[Answer]:
            return answers[: len(calls)]

        monkeypatch.setattr(process.wire, "scripts", canned)
        seen = run(process.protocol._send(process.wire, "mark", {"t": [b"1", b"2"]}, []))
        assert seen["t"].gen == b"s1first"

    def test_too_many_keys(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """Past a limit the gen stands in for the keys."""
        monkeypatch.setattr(writing, "MOST_KEYS", 5)
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.write(*[moved(f"o{number}", f"n{number}") for number in range(5)])
        assert process.read(plan).reason in ("stamp", "foreign")
        process.write(*[moved(f"o{number}", f"n{number}") for number in range(5)])
        assert process.wire.trips == ["mark", "mark", "bump"]
        assert process.wire.sent[-1] == 2 + 2

    def test_many_keys_of_one_read(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look at very many keys takes several MGETs."""
        from cacheops_lite.core import reading

        monkeypatch.setattr(reading, "CHUNK", 4)
        plan = process.plan(table("book", *[cat(str(number)) for number in range(6)]))
        process.read(plan)
        assert process.wire.trips == ["mget", "mget", "ensure", "set"]
        assert process.read(plan).hit

    def test_server_change_between_two_looks(
        self, process: Process, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Values that came from two servers are not put together."""
        from cacheops_lite.core import reading

        monkeypatch.setattr(reading, "CHUNK", 4)
        plan = process.plan(table("book", *[cat(str(number)) for number in range(6)]))
        process.read(plan)

        def switch(name: str) -> None:
            if len(process.wire.trips) == 2:
                store.server_id = b"server2"

        process.wire.meanwhile = switch
        assert process.read(plan).reason == "foreign"

    def test_many_conjunctions(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """A query with too many conjunctions depends on the table as a whole."""
        monkeypatch.setattr(ensuring, "MOST_STAMPS", 3)
        plan = process.plan(table("book", *[cat(str(number)) for number in range(4)]))
        process.read(plan)
        assert process.read(plan).hit
        assert process.wire.sent == [3]
        process.write(moved("X", "Y"))
        assert not process.read(plan).hit

    def test_too_many_schemes(self, make: Callable[..., Process]) -> None:
        """Past 64 schemes of a table readers widen to the any-row conjunction."""
        process = make()
        for number in range(state.MOST_SCHEMES):
            conj = conjunction({f"column{number}": "1"})
            process.read(process.plan(table("book", conj), name=str(number)))
        plan = process.plan(BOOKS_A)
        process.read(plan)
        assert process.wire.trips == ["mget", "ensure", "ensure", "set"]
        assert process.read(plan).hit
        assert process.read(plan).hit
        assert process.wire.trips == ["mget"]
        other = make()
        assert other.read(plan).hit
        row = {f"column{number}": "1" for number in range(state.MOST_SCHEMES)}
        process.write(Change("book", None, row))
        assert not process.read(plan).hit
        assert process.wire.trips == ["mget", "ensure", "set"]
        assert process.read(plan).hit
        assert len(run(process.protocol.known_schemes(process.wire, ["book"]))["book"] or ()) == 64

    def test_full_is_forgotten_with_the_gen(self, process: Process) -> None:
        """A new gen starts with no schemes, so there is room again."""
        for number in range(state.MOST_SCHEMES):
            conj = conjunction({f"column{number}": "1"})
            process.read(process.plan(table("book", conj), name=str(number)))
        plan = process.plan(BOOKS_A)
        process.read(plan)
        run(process.protocol.drop_tables(process.wire, ["book"]))
        process.read(plan)
        assert process.stamp(process.protocol.keys.conj("book", cat("A"))) is not None
        assert process.read(plan).hit

    def test_full_for_dynamic_keys(self, process: Process) -> None:
        """Dynamic dependencies widen in the same way, behind the same guard."""
        for number in range(state.MOST_SCHEMES):
            conj = conjunction({f"column{number}": "1"})
            process.read(process.plan(table("author", conj), name=str(number)))
        plan = process.plan(BOOKS_A, table("author", dynamic=True))
        told = [("author", conjunction({"id": "1"})), ("author", conjunction({"id": "2"}))]
        for _ in range(2):
            process.read(plan, dynamic=told)
            assert process.read(plan).hit
            process.write(Change("author", UNKNOWN, UNKNOWN))
            assert not process.read(plan, dynamic=told).hit
            process.write(moved("A", "A"))

    def test_memo_is_bounded(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process remembers a limited number of plans."""
        monkeypatch.setattr(process.protocol.shapes, "size", 3)
        for number in range(10):
            process.read(process.plan(BOOKS_A, name=str(number)))
        assert len(process.protocol.shapes) == 3
        assert process.read(process.plan(BOOKS_A, name="0")).hit


class TestSchemes:
    """What a process knows of the schemes in use."""

    def known(self, process: Process, *tables: str) -> dict[str, tuple[str, ...] | None]:
        process.wire.trips.clear()
        return run(process.protocol.known_schemes(process.wire, tables))

    def test_asked_once(self, process: Process) -> None:
        """Schemes are asked for in one MGET for all tables, then remembered."""
        plan = table("book", conjunction({"cat": "A", "id": "1"}), cat("B"))
        process.read(process.plan(plan))
        assert self.known(process, "book", "author") == {"book": ("cat", "cat,id"), "author": ()}
        assert process.wire.trips == ["mget"]
        assert self.known(process, "book", "author") == {"book": ("cat", "cat,id"), "author": ()}
        assert process.wire.trips == []

    def test_learnt_from_writes(self, process: Process, make: Callable[..., Process]) -> None:
        """Each mark and bump brings what is remembered up to date."""
        assert self.known(process, "book") == {"book": ()}
        other = make()
        other.read(other.plan(BOOKS_A))
        process.write(moved("A", "B"))
        assert self.known(process, "book") == {"book": ("cat",)}

    def test_used_before(self, process: Process) -> None:
        """Schemes of a gen that was dropped are still told: they will be in use again."""
        process.read(process.plan(BOOKS_A))
        run(process.protocol.drop_tables(process.wire, ["book"]))
        assert self.known(process, "book") == {"book": ("cat",)}
        assert process.protocol.schemes.get("book") == ()
        process.protocol.forget()
        assert self.known(process, "book") == {"book": ()}

    def test_unavailable(self, process: Process) -> None:
        """None where the store was asked in vain, and nothing is remembered of that."""
        process.wire.cut = lambda name: True
        assert self.known(process, "book") == {"book": None}
        process.wire.cut = lambda name: False
        assert self.known(process, "book") == {"book": ()}

    def test_odd_columns(self, process: Process) -> None:
        """Column names of any kind are told as they are."""
        plan = table("book", conjunction({"ä b=c": "A", "%": "{}"}))
        process.read(process.plan(plan))
        assert self.known(process, "book") == {"book": ("%,ä b=c",)}
        process.write(Change("book", None, {"%": "{}", "ä b=c": "B"}))
        assert process.read(process.plan(plan)).hit
        process.write(Change("book", None, {"%": "{}", "ä b=c": "A"}))
        assert not process.read(process.plan(plan)).hit

    def test_forget(self, process: Process) -> None:
        """`forget` makes the process ask again."""
        self.known(process, "book")
        process.protocol.forget()
        self.known(process, "book")
        assert process.wire.trips == ["mget"]


class TestFailures:
    """The store does not answer."""

    @pytest.mark.parametrize("name", ["mget", "ensure", "set"])
    def test_read(self, process: Process, name: str) -> None:
        """A read falls through to the database, once, whatever fails."""
        process.wire.cut = lambda trip: trip == name
        assert process.read(process.plan(BOOKS_A)) == Outcome(b"rows", False, "unavailable")
        assert process.loads == 1

    def test_guard(self, process: Process) -> None:
        """So does one whose guard fails."""
        process.wire.cut = lambda trip: trip == "ensure"
        plan = process.plan(BOOKS_A, table("author", dynamic=True))
        outcome = process.read(plan, dynamic=[("author", conjunction({"id": "1"}))])
        assert outcome == Outcome(b"rows", False, "unavailable")
        assert process.loads == 1

    def test_mark(self, process: Process) -> None:
        """A failed mark is told by the ticket; the gens are deleted if that goes through (C6)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.wire.cut = lambda trip: trip == "mark"
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        assert ticket.failed == {"book"}
        assert process.stamp(process.protocol.keys.gen("book")) is None
        assert process.read(plan).reason == "failed"
        process.wire.cut = lambda trip: False
        run(process.protocol.bump(process.wire, ticket, committed=True))
        process.read(plan)
        assert process.read(plan).hit

    def test_degraded_commit(self, process: Process, make: Callable[..., Process]) -> None:
        """What others stored while a write could not be marked falls with its bump."""
        process.wire.cut = lambda trip: True
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        other = make()
        plan = other.plan(BOOKS_A)
        other.read(plan)
        assert other.read(plan).hit
        process.wire.cut = lambda trip: False
        run(process.protocol.bump(process.wire, ticket, committed=True))
        assert not other.read(plan).hit

    def test_refused_commit(self, process: Process) -> None:
        """A write that was refused for its mark owes nothing once its marks are gone."""
        process.wire.cut = lambda trip: True
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        process.wire.cut = lambda trip: False
        run(process.protocol.bump(process.wire, ticket, committed=False))
        assert not process.protocol.overdue

    def test_bump(self, process: Process, make: Callable[..., Process]) -> None:
        """A failed bump never raises; it is made good before the cache is trusted again."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        ticket = run(process.protocol.mark(process.wire, [moved("A", "A")]))
        process.store.evict(process.protocol.keys.conj("book", cat("A")))
        process.wire.cut = lambda trip: True
        run(process.protocol.bump(process.wire, ticket, committed=True))
        assert process.read(plan).reason == "failed"
        assert process.read(process.plan(table("author", ()))).reason == "unavailable"
        process.wire.cut = lambda trip: False
        outcome = process.read(plan)
        assert not outcome.hit
        assert process.wire.trips[0] == "bump"
        assert not process.protocol.overdue

    def test_bump_out_of_memory(self, process: Process) -> None:
        """Where scripts are refused but DEL works, the gens are deleted (C6)."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        ticket = run(process.protocol.mark(process.wire, [moved("A", "A")]))
        process.wire.cut = lambda trip: trip == "bump"
        run(process.protocol.bump(process.wire, ticket, committed=True))
        assert process.stamp(process.protocol.keys.gen("book")) is None
        assert not process.protocol.overdue

    def test_invalidate(self, process: Process) -> None:
        """A failed invalidation says so, and is made good later."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.wire.cut = lambda trip: True
        assert not run(process.protocol.invalidate(process.wire, [moved("A", "A")]))
        assert process.read(plan).reason == "failed"
        process.wire.cut = lambda trip: False
        assert not process.read(plan).hit
        assert process.read(plan).hit

    def test_refresh(self, process: Process, clock: Clock) -> None:
        """A failed refresh is told by the ticket, like a failed mark."""
        ticket = run(process.protocol.mark(process.wire, [moved("A", "B")]))
        clock.ms += 6000
        process.wire.cut = lambda trip: True
        run(process.protocol.refresh(process.wire, ticket))
        assert ticket.failed == {"book"}

    def test_forget_keeps_debts(self, process: Process) -> None:
        """`forget` does not forgive overdue invalidations."""
        process.wire.cut = lambda trip: True
        run(process.protocol.drop_tables(process.wire, ["book"]))
        process.protocol.forget()
        assert process.read(process.plan(BOOKS_A)).reason == "failed"

    def test_other_errors_of_bump(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cancelled mark leaves the tables alone until its marks are over."""

        async def cancelled(*args: Any) -> list[Answer]:
            raise KeyboardInterrupt

        monkeypatch.setattr(process.wire, "scripts", cancelled)
        with pytest.raises(KeyboardInterrupt):
            run(process.protocol.mark(process.wire, [moved("A", "B")]))
        assert "book" in process.protocol.overdue


class TestLocks:
    """One caller computes, the others wait for it."""

    def test_holder(self, process: Process) -> None:
        """The first caller takes the lock and gives it back after storing."""
        plan = process.plan(BOOKS_A)
        process.read(plan, lock_ms=5000)
        assert process.wire.trips == ["mget", "lock", "ensure", "set", "unlock"]
        assert process.stamp(process.protocol.keys.lock(plan.entry)) is None

    def test_hit_takes_no_lock(self, process: Process) -> None:
        """A hit costs one MGET with locks too."""
        plan = process.plan(BOOKS_A)
        process.read(plan)
        assert process.read(plan, lock_ms=5000).hit
        assert process.wire.trips == ["mget"]

    def test_waiter(self, process: Process, make: Callable[..., Process]) -> None:
        """A waiter answers with what the holder stored."""
        plan = process.plan(BOOKS_A)
        other = make()
        polls = iter(range(3))

        def meanwhile(name: str) -> None:
            if name == "sleep" and next(polls) == 2:
                other.store.evict(lock)
                other.read(plan, b"theirs")

        lock = process.protocol.keys.lock(plan.entry)
        process.store.set(lock, b"theirs", 5000)
        process.wire.meanwhile = meanwhile
        outcome = process.read(plan, lock_ms=5000, lock_wait_ms=5000)
        assert outcome == Outcome(b"theirs", True, "")
        assert process.loads == 0
        assert process.stamp(lock) is None

    def test_waiter_gives_up(self, process: Process, clock: Clock) -> None:
        """A waiter waits no longer than told, then computes, and leaves the lock alone."""
        plan = process.plan(BOOKS_A)
        lock = process.protocol.keys.lock(plan.entry)
        process.store.set(lock, b"theirs", 60_000)
        started = clock.ms
        outcome = process.read(plan, lock_ms=5000, lock_wait_ms=1000)
        assert outcome == Outcome(b"rows", False, "locked")
        assert clock.ms - started == 1000
        assert process.stamp(lock) == b"theirs"
        assert process.read(plan).hit

    def test_dead_holder(self, process: Process, clock: Clock) -> None:
        """When the holder died its lock runs out, and a waiter takes over."""
        plan = process.plan(BOOKS_A)
        lock = process.protocol.keys.lock(plan.entry)
        process.store.set(lock, b"theirs", 300)
        started = clock.ms
        assert process.read(plan, lock_ms=5000, lock_wait_ms=5000).reason == "absent"
        assert 300 <= clock.ms - started < 400
        assert process.stamp(lock) is None

    def test_lost_lock(self, process: Process) -> None:
        """A holder whose lock ran out does not release the next holder's."""
        plan = process.plan(BOOKS_A)
        lock = process.protocol.keys.lock(plan.entry)
        process.read(plan, during=lambda: process.store.set(lock, b"theirs", 5000), lock_ms=5000)
        assert process.stamp(lock) == b"theirs"

    @pytest.mark.parametrize("name", ["lock", "unlock"])
    def test_unavailable(self, process: Process, name: str) -> None:
        """A lock that cannot be had or given back does not keep the value from the caller."""
        process.wire.cut = lambda trip: trip == name
        assert process.read(process.plan(BOOKS_A), lock_ms=5000).value == b"rows"
        assert process.loads == 1


class TestKeys:
    """The spelling of keys."""

    KEYS = Keys("c:")

    def every(self, name: str) -> Iterator[bytes]:
        yield self.KEYS.gen(name)
        yield self.KEYS.schemes(name)
        yield self.KEYS.conj(name, ())
        yield self.KEYS.conj(name, conjunction({"a{": "}", "b": "{}"}))
        yield self.KEYS.conj(name, conjunction({"a": "x" * 1000}))
        yield self.KEYS.entry(name, "0" * 32)
        yield self.KEYS.lock(self.KEYS.entry(name, "0" * 32))

    @pytest.mark.parametrize("name", ["book", "a{b}c", "}{", "", '"odd".name', "x" * 500, "日本"])
    def test_one_slot(self, name: str) -> None:
        """All keys of a table have one hash tag, whatever the names and values."""
        keys = list(self.every(name))
        tags = {key[key.index(b"{") + 1 : key.index(b"}")] for key in keys}
        assert len(tags) == 1
        assert tags != {b""}
        assert len(set(keys)) == len(keys)
        assert all(len(key) < 250 for key in keys)

    def test_tables_differ(self) -> None:
        """Two tables never share a key."""
        names = ["book", "Book", "a{b", "a}b", "a%7Bb", "a%b", "", "%", "x" * 500, "x" * 501]
        assert len({self.KEYS.gen(name) for name in names}) == len(names)

    def test_conjunctions_differ(self) -> None:
        """Values with separators are not taken for other conjunctions."""
        rows = [{"a": "1"}, {"a": "1&b=2"}, {"a": "1", "b": "2"}, {"a=1&b": "2"}, {"a": "#"}, {}]
        rows += [{"a": ""}, {"a": "x" * 300}, {"a": "x" * 301}, {"a": "é"}, {"a": "%C3%A9"}]
        assert len({self.KEYS.conj("t", conjunction(row)) for row in rows}) == len(rows)

    @pytest.mark.parametrize(
        "row", [{}, {"a": "1"}, {"a": "x" * 300, "b": "y"}, {"a,b": "#", "=": "&"}, {"#": "1"}]
    )
    def test_scheme_of(self, row: dict[str, str]) -> None:
        """The scheme of a conjunction can be read from its key, hashed or not."""
        from cacheops_lite.core.keys import scheme_columns, scheme_text

        conj = conjunction(row)
        scheme = self.KEYS.scheme_of("t", self.KEYS.conj("t", conj))
        assert scheme == scheme_text(conj)
        assert scheme_columns(scheme) == tuple(sorted(row))

    def test_scheme_of_others(self) -> None:
        """Keys of other tables and kinds have no scheme here."""
        assert self.KEYS.scheme_of("t", self.KEYS.conj("u", ())) is None
        assert self.KEYS.scheme_of("t", self.KEYS.gen("t")) is None
        assert self.KEYS.scheme_of("t", b"\xff") is None

    def test_surrogates(self) -> None:
        """Even text that is not valid unicode has a key."""
        assert self.KEYS.conj("t", conjunction({"a": "\udc80"}))
        assert self.KEYS.conj("t", conjunction({"a": "\udc80" * 300}))

    @pytest.mark.parametrize("prefix", ["{", "a}", "}{", "{}", "x{y"])
    def test_bad_prefix(self, prefix: str) -> None:
        """A prefix that would scatter a table over slots is refused."""
        with pytest.raises(ValueError, match="hash tag"):
            Keys(prefix)

    def test_tagged_prefix(self) -> None:
        """A prefix with a whole hash tag is fine: all keys share its slot."""
        assert Keys("{app}:").gen("book") == b"{app}:gen:{book}"


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


def test_stored_format() -> None:
    """The bytes of an entry are pinned: what one release stored, the next one reads or refuses."""
    packed = stamps.pack_entry({b"gen:{t}": b"s1x", b"conj:{t}:": b"s2"}, b"payload")
    assert packed == b"\x01\x00\x02\x00\x07\x00\x03\x00\x09\x00\x02gen:{t}s1xconj:{t}:s2payload"
    assert stamps.parse_entry(packed) == ({b"gen:{t}": b"s1x", b"conj:{t}:": b"s2"}, b"payload")


def test_scheme_values() -> None:
    """Schemes are read as written; what is malformed counts as missing."""
    gen = b"s1server" + b"0" * 16
    assert stamps.parse_schemes(gen + b" a=0 b,c=17") == (gen, ("a", "b,c"))
    assert stamps.parse_schemes(gen) == (gen, ())
    for value in (None, b"", b"x", gen + b" a", gen + b" a=x", gen + b" =1", gen + b"  "):
        assert stamps.parse_schemes(value) is None
