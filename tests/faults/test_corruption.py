"""Every stored value with any bit flipped or cut at any place: a miss, and never stale afterwards.

These run the protocol over the store in memory, whose scripts are held to Redis' by the store
contract: so each damage of each value can be tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cacheops_lite.core.entry import conjunction
from cacheops_lite.core.protocol import ReadPlan
from cacheops_lite.stores.memory import MemoryStore
from tests.protocol.rig import ALL_BOOKS, Clock, Process, cat, moved, table

CATEGORY = table("book", cat("A"), conjunction({"cat": "A", "day": "1"}))
PLANS = {
    "by category": (CATEGORY,),
    "any row": (ALL_BOOKS,),
    "two tables": (CATEGORY, table("author", conjunction({"id": "7"}))),
    "dynamic": (CATEGORY, table("author", dynamic=True)),
}
KINDS = ["q", "gen", "schemes", "conj"]


def damages(value: bytes) -> Iterator[bytes]:
    """Each bit flipped; cut at each place from either side; a byte more."""
    for index in range(len(value)):
        for bit in range(8):
            yield value[:index] + bytes([value[index] ^ 1 << bit]) + value[index + 1 :]
    for size in range(len(value)):
        yield value[:size]
        yield value[size + 1 :]
    yield value + b"\0"
    yield value + b" "
    yield value + b"0"


class Library:
    """A store with one cached result, which every round starts with."""

    def __init__(self, name: str) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.dynamic = [("author", conjunction({"id": "7"}))] if name == "dynamic" else None
        self.plan = ReadPlan(b"c:q:{book}:ab", PLANS[name])
        # What else is in use: schemes that other results brought.
        other = self.process()
        other.read(other.plan(table("book", conjunction({"day": "1"})), name="cd"))
        other.read(other.plan(table("author", conjunction({"name": "Ann"})), name="ef"))
        assert not self.read(self.process(), b"old").hit
        assert self.read(self.process(), b"old").hit
        self.start = dict(self.store.data)

    def process(self) -> Process:
        """A process that remembers nothing."""
        return Process(self.store, self.clock)

    def read(self, process: Process, value: bytes) -> Any:
        return process.read(self.plan, value, dynamic=self.dynamic)

    def again(self, key: bytes, value: bytes) -> None:
        """Everything as at the start, but for one value."""
        self.store.data = dict(self.start)
        self.store.data[key] = (value, self.start[key][1])


QUICK = {("by category", kind) for kind in KINDS} | {("dynamic", "q"), ("dynamic", "schemes")}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if (name, kind) in QUICK else pytest.mark.slow)
        for name in PLANS
        for kind in KINDS
    ],
)
def test_any_damage_of_any_value(name: str, kind: str) -> None:
    """A damaged entry is a miss; any other damage is a miss or harmless, also to the next writers."""
    library = Library(name)
    kinds = {key: key.split(b":")[1].decode() for key in library.start}
    keys = [
        key
        for key in kinds
        if kinds[key] == kind != "q" or (key == library.plan.entry and kind == "q")
    ]
    assert keys
    writes = [moved("A", "B")]
    if kind != "q":
        writes += [moved("B", "A"), moved("A", "A")]
    for key in keys:
        original = library.start[key][0]
        for value in damages(original):
            library.again(key, value)
            outcome = library.read(library.process(), b"old")
            assert outcome.value == b"old", value
            assert not (outcome.hit and kind == "q"), f"{value!r} for {original!r}"
            for change in writes:
                library.again(key, value)
                library.process().write(change)
                outcome = library.read(library.process(), b"new")
                assert outcome.value == b"new", f"stale: {value!r} for {original!r} under {key!r}"
