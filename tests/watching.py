"""Watching cached reads: was it a hit, is it fresh, what did it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cacheops_lite import signals


class Read:
    """A cached read that can be repeated: ``make()`` gives a fresh queryset, ``op`` runs it."""

    def __init__(self, make: Callable[[], Any], op: str = "fetch", label: str = "") -> None:
        self.make, self.op, self.label = make, op, label or op

    def run(self, queryset: Any) -> Any:
        if self.op == "fetch":
            return [plain(item) for item in queryset]
        if self.op == "get":
            try:
                return plain(queryset.get())
            except queryset.model.DoesNotExist:
                return None
        return getattr(queryset, self.op)()

    def cached(self) -> Any:
        return self.run(self.make().cache())

    def uncached(self) -> Any:
        return self.run(self.make().nocache())

    def __repr__(self) -> str:
        return f"<{self.label}: {self.op} {self.make().query}>"


def plain(item: Any, depth: int = 3) -> Any:
    """A result as comparable data, with what ``select_related`` brought along."""
    if not hasattr(item, "_meta"):
        return item
    data = {name: value for name, value in vars(item).items() if not name.startswith("_")}
    related = {
        name: plain(value, depth - 1) for name, value in item._state.fields_cache.items() if depth
    }
    return (item._meta.label, data, related)


@contextmanager
def hits() -> Iterator[list[bool]]:
    """Whether each cached read inside was a hit, in order."""
    seen: list[bool] = []

    def on_read(sender: Any, hit: bool, **kwargs: Any) -> None:
        seen.append(hit)

    signals.cache_read.connect(on_read)
    try:
        yield seen
    finally:
        signals.cache_read.disconnect(on_read)


def prime(*reads: Read) -> None:
    """Run the reads until they are hits; a read that never becomes one fails the test."""
    for read in reads:
        for _ in range(3):
            with hits() as seen:
                read.cached()
            if seen and all(seen):
                break
        else:
            raise AssertionError(
                f"{read} does not get cached: {read.make().cache().cache_explain()}"
            )


def assert_hit(read: Read, why: str = "") -> None:
    """The read is still answered from the cache, and rightly."""
    with hits() as seen:
        answer = read.cached()
    assert seen and all(seen), f"dropped for no reason: {read} {why}"
    assert answer == read.uncached()


def assert_dropped(read: Read, why: str = "") -> None:
    """The read is no longer answered from the cache, and what it says is what the database says."""
    with hits() as seen:
        answer = read.cached()
    assert answer == read.uncached(), f"stale: {read} {why}"
    assert seen and not all(seen), f"still cached: {read} {why}"


def assert_fresh(read: Read, why: str = "") -> None:
    """Whatever happened, the answer is what the database says."""
    assert read.cached() == read.uncached(), f"stale: {read} {why}"
