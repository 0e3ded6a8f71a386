"""What is bounded, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacheops_lite.core import ensuring, memo, reading, stamps, state, touching
from cacheops_lite.core import keys as keys_module
from cacheops_lite.core.entry import UNKNOWN, Change, conjunction
from cacheops_lite.core.keys import Keys
from cacheops_lite.core.protocol import (
    Answer,
    Script,
    run,
)

from .rig import BOOKS_A, Process, cat, moved, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from cacheops_lite.stores.memory import MemoryStore


class TestLimits:
    """What is bounded, and how."""

    def test_what_grows_or_shrinks_is_remembered_once(self) -> None:
        """A value that was set last is the one that is found, however large it and others are."""
        remembered: memo.Sized[str, list[int]] = memo.Sized(9, lambda _, value: len(value), 16)
        sizes = [1, 17, 2, 18, 19, 3]
        for size in sizes:
            remembered.set("a", [0] * size)
            assert remembered.get("a") == [0] * size
            assert len(remembered) == 1

    def test_tables_of_many_tenants(self) -> None:
        """The names of tables that a function of ``CACHEOPS_PREFIX`` makes do not pile up."""
        keys = Keys("")
        for tenant in range(keys_module.REMEMBERED + 500):
            assert keys.gen(f"{tenant}:book") == b"gen:{%d:book}" % tenant
        assert len(keys._tags) <= keys_module.REMEMBERED
        assert keys.gen("0:book") == b"gen:{0:book}"

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
        monkeypatch.setattr(touching, "MOST_KEYS", 5)
        plan = process.plan(BOOKS_A)
        process.read(plan)
        process.write(*[moved(f"o{number}", f"n{number}") for number in range(5)])
        assert process.read(plan).reason in ("stamp", "foreign")
        process.write(*[moved(f"o{number}", f"n{number}") for number in range(5)])
        assert process.wire.trips == ["mark", "mark", "bump"]
        assert process.wire.sent[-1] == 2 + 2

    def test_many_keys_of_one_read(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look at very many keys takes several MGETs."""
        monkeypatch.setattr(reading, "CHUNK", 4)
        plan = process.plan(table("book", *[cat(str(number)) for number in range(6)]))
        process.read(plan)
        assert process.wire.trips == ["mget", "mget", "ensure", "set"]
        assert process.read(plan).hit

    def test_server_change_between_two_looks(
        self, process: Process, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Values that came from two servers are not put together."""
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
        assert process.wire.trips == ["mget", "set"]
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
        monkeypatch.setattr(process.protocol.shapes.small, "size", 3)
        for number in range(10):
            process.read(process.plan(BOOKS_A, name=str(number)))
        assert len(process.protocol.shapes) == 3
        assert process.read(process.plan(BOOKS_A, name="0")).hit

    def test_memo_holds_few_large_plans(
        self, process: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Plans with many conjunctions are counted apart, and do not crowd the others out."""
        shapes = process.protocol.shapes
        monkeypatch.setattr(shapes.large, "size", 2)
        process.read(process.plan(BOOKS_A, name="small"))
        conjs = [conjunction({"id": str(number)}) for number in range(100)]
        for number in range(5):
            plan = process.plan(table("book", *conjs), name=str(number))
            process.read(plan)
            assert process.read(plan).hit
        assert (len(shapes.small), len(shapes.large), len(shapes)) == (1, 2, 3)
        assert process.read(process.plan(table("book", *conjs), name="0")).hit
