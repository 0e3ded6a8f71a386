"""What a test says about the cache: this is cached, this is not, so many reads were hits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import signals
from ..orm.explain import Explanation, explain


def assert_cached(queryset: Any, op: str = "fetch") -> Explanation:
    """A read of the queryset would be a hit now. Runs no query; returns the explanation.

    ``op`` is "fetch", "get", "count" or "exists". Raises ``AssertionError`` with the explanation.
    """
    found = explain(queryset, op)
    if not found.cached:
        raise AssertionError(f"not cached:\n{found}")
    return found


def assert_not_cached(queryset: Any, op: str = "fetch") -> Explanation:
    """A read of the queryset would ask the database now. Runs no query."""
    found = explain(queryset, op)
    if found.cached and found.cacheable:
        raise AssertionError(f"cached:\n{found}")
    return found


@dataclass
class Reads:
    """The reads through the cache so far: (sender, hit); the sender is a model or a function."""

    seen: list[tuple[Any, bool]] = field(default_factory=list)

    @property
    def hits(self) -> int:
        """How many were answered from the cache."""
        return sum(hit for _, hit in self.seen)

    @property
    def misses(self) -> int:
        """How many had to ask the database, or call the function."""
        return len(self.seen) - self.hits

    def __str__(self) -> str:
        lines = [f"{'hit ' if hit else 'miss'} {_name(sender)}" for sender, hit in self.seen]
        return "\n".join(lines) or "no read went through the cache"


@contextmanager
def assert_hits(hits: int, misses: int | None = None) -> Iterator[Reads]:
    """Inside the block ``hits`` reads are answered from the cache (and ``misses`` are not).

    Counted are reads through the cache: of querysets, of cached functions, views and fragments.
    Raises ``AssertionError`` with the list of them.
    """
    reads = Reads()

    def on_read(sender: Any, hit: bool, func: Any = None, **kwargs: Any) -> None:
        reads.seen.append((func or sender, hit))

    signals.cache_read.connect(on_read)
    try:
        yield reads
    finally:
        signals.cache_read.disconnect(on_read)
    wanted = f"{hits} hits" + ("" if misses is None else f" and {misses} misses")
    if reads.hits != hits or misses not in (None, reads.misses):
        raise AssertionError(
            f"{wanted} expected, {reads.hits} hits and {reads.misses} misses seen:\n{reads}"
        )


def _name(sender: Any) -> str:
    if hasattr(sender, "_meta"):
        return str(sender._meta.label)
    return getattr(sender, "__qualname__", None) or str(sender)
