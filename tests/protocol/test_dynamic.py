"""Dependencies that only the result knows, and the guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cacheops_lite.core import ensuring
from cacheops_lite.core.entry import Change, Conj, conjunction
from cacheops_lite.core.protocol import (
    ReadPlan,
    run,
)

from .rig import BOOKS_A, Process, moved, table

if TYPE_CHECKING:
    from collections.abc import Callable


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
        assert process.wire.trips == ["mget", "ensure", "set"]
        assert process.read(plan).hit

    def test_keys_of_the_dead_entry(self, process: Process, make: Callable[..., Process]) -> None:
        """A process without a memo learns the likely keys from the dead entry."""
        plan = self.plan(process)
        process.read(plan, dynamic=self.authors("1"))
        process.write(moved("A", "A"))
        other = make()
        other.read(plan, dynamic=self.authors("1"))
        assert other.wire.trips == ["mget", "mget", "ensure", "set"]

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
