"""The store does not answer, or another caller holds the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cacheops_lite.core.entry import conjunction
from cacheops_lite.core.protocol import (
    Answer,
    Outcome,
    run,
)

from .rig import BOOKS_A, Clock, Process, cat, moved, table

if TYPE_CHECKING:
    from collections.abc import Callable


class TestFailures:
    """The store does not answer."""

    @pytest.mark.parametrize("name", ["mget", "ensure", "set"])
    def test_read(self, process: Process, name: str) -> None:
        """A read falls through to the database, once, whatever fails."""
        process.wire.cut = lambda trip: trip == name
        assert process.read(process.plan(BOOKS_A))[:3] == (b"rows", False, "unavailable")
        assert process.loads == 1

    def test_guard(self, process: Process) -> None:
        """So does one whose guard fails."""
        process.wire.cut = lambda trip: trip == "ensure"
        plan = process.plan(BOOKS_A, table("author", dynamic=True))
        outcome = process.read(plan, dynamic=[("author", conjunction({"id": "1"}))])
        assert outcome == Outcome(b"rows", False, "unavailable", "absent")
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

    def test_bump_out_of_memory_and_replica_lag(
        self, make: Callable[..., Process], clock: Clock
    ) -> None:
        """Where no mark can say that a replica may lag, the gens fall again when the lag is over."""
        process, other = make(replica_lag_ms=2000), make(replica_lag_ms=2000)
        plan = process.plan(BOOKS_A)
        ticket = run(process.protocol.mark(process.wire, [moved("A", "A")]))
        for key in (process.protocol.keys.conj("book", cat("A")), ticket.marked["book"]):
            process.store.evict(*([key] if isinstance(key, bytes) else key))
        process.wire.cut = lambda trip: trip == "bump"
        assert not run(process.protocol.bump(process.wire, ticket, committed=True))
        other.read(plan, b"of a replica that lags")
        assert other.read(plan).hit
        assert process.read(plan).reason == "failed"
        clock.ms += 2000
        process.wire.cut = lambda trip: False
        assert not process.read(plan).hit
        assert not other.read(plan).hit

    def test_out_of_memory_beyond_the_lag(self, make: Callable[..., Process], clock: Clock) -> None:
        """As long as no mark can be made, this process leaves the tables alone."""
        process = make(replica_lag_ms=2000)
        plan = process.plan(BOOKS_A)
        ticket = run(process.protocol.mark(process.wire, [moved("A", "A")]))
        process.wire.cut = lambda trip: trip == "bump"
        run(process.protocol.bump(process.wire, ticket, committed=True))
        for _ in range(3):
            clock.ms += 2000
            assert process.read(plan).reason == "failed"
            assert process.wire.trips == ["bump", "delete"]
            assert process.read(plan).reason == "failed"
            assert process.wire.trips == []
        process.wire.cut = lambda trip: False
        clock.ms += 12_000  # the mark was not evicted
        assert process.read(plan).reason == "pending"
        clock.ms += 2000
        process.read(plan)
        assert process.read(plan).hit

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
        assert process.wire.trips == ["mget", "lock", "mget", "ensure", "set", "unlock"]
        assert process.stamp(process.protocol.keys.lock(plan.entry)) is None

    def test_holder_was_faster(self, process: Process, make: Callable[..., Process]) -> None:
        """Who looked before the holder stored, and locks after it let go, does not compute again."""
        plan = process.plan(BOOKS_A)
        other = make()

        def meanwhile(name: str) -> None:
            if name == "lock" and not other.loads:
                other.read(plan, b"theirs", lock_ms=5000)

        process.wire.meanwhile = meanwhile
        assert process.read(plan, lock_ms=5000) == Outcome(b"theirs", True, "")
        assert process.loads == 0
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
