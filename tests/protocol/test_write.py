"""Writing: marks, bumps, what they cost, and which schemes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cacheops_lite.core import stamps
from cacheops_lite.core.entry import UNKNOWN, Change, Row, conjunction
from cacheops_lite.core.protocol import (
    run,
)

from .rig import ALL_BOOKS, BOOKS_A, BOOKS_B, Clock, Process, cat, moved, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheops_lite.stores.memory import MemoryStore


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
