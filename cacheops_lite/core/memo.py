"""What a process remembers: a bounded map, and the tables whose invalidation is overdue."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from .forks import new_lock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Cell(Generic[V]):
    __slots__ = ("used", "value")

    def __init__(self, value: V) -> None:
        self.value = value
        self.used = False


class Recent(Generic[K, V]):
    """A map of recently used items, safe among threads: reading takes no lock.

    Items leave in the order in which they came, but for those that were used since: these get a
    second chance (the CLOCK algorithm; Corbató, "A Paging Experiment with the Multics System").
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._items: OrderedDict[K, _Cell[V]] = OrderedDict()
        self._lock = new_lock(self)

    def get(self, key: K) -> V | None:
        cell = self._items.get(key)
        if cell is None:
            return None
        cell.used = True
        return cell.value

    def set(self, key: K, value: V) -> None:
        with self._lock:
            cell = self._items.get(key)
            if cell is not None:
                cell.value, cell.used = value, True
                return
            while len(self._items) >= self.size:
                oldest, other = self._items.popitem(last=False)
                if other.used:
                    other.used = False
                    self._items[oldest] = other
            self._items[key] = _Cell(value)

    def discard(self, key: K) -> None:
        if key in self._items:
            with self._lock:
                self._items.pop(key, None)

    def items(self) -> list[tuple[K, V]]:
        """All items, in no order that means anything."""
        with self._lock:
            return [(key, cell.value) for key, cell in self._items.items()]

    def clear(self) -> None:
        with self._lock:
            self._items.clear()

    def __len__(self) -> int:
        return len(self._items)


#: What has more parts than this is large, and how many large things are remembered at most.
LARGE = 16
MOST_LARGE = 512


class Sized(Generic[K, V]):
    """Recent items; few of those that are large, for many of them would fill the memory.

    A query for 60 rows by their keys has 60 conjunctions, and hardly ever comes again.
    """

    def __init__(self, size: int, parts: Callable[[V], int]) -> None:
        self.parts = parts
        self.small: Recent[K, V] = Recent(size)
        self.large: Recent[K, V] = Recent(min(size, MOST_LARGE))

    @property
    def size(self) -> int:
        return self.small.size

    @size.setter
    def size(self, size: int) -> None:
        self.small.size, self.large.size = size, min(size, MOST_LARGE)

    def get(self, key: K) -> V | None:
        value = self.small.get(key)
        return value if value is not None else self.large.get(key)

    def set(self, key: K, value: V) -> None:
        there, other = self.small, self.large
        if self.parts(value) > LARGE:
            there, other = other, there
        there.set(key, value)
        other.discard(key)

    def clear(self) -> None:
        self.small.clear()
        self.large.clear()

    def __len__(self) -> int:
        return len(self.small) + len(self.large)


#: How many names of one table are remembered at most.
MOST_NAMES = 10_000


class Overdue:
    """Tables whose invalidation failed, for which transactions, and when their gens may be dropped.

    While a transaction may still commit, dropping a gen is not enough, so each failure has a due
    time (monotonic).
    """

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, float]] = {}
        #: Table -> those of its names that were overdue since it was, under whichever name.
        self._met: dict[str, set[str]] = {}
        self._lock = new_lock(self)

    def __bool__(self) -> bool:
        return bool(self._tables)

    def __contains__(self, table: str) -> bool:
        return table in self._tables

    def add(self, tables: Iterable[str], token: bytes, due: float) -> None:
        with self._lock:
            for table in tables:
                self._tables.setdefault(table, {})[token] = due

    def discard(self, tables: Iterable[str], token: bytes) -> None:
        with self._lock:
            for table in tables:
                tokens = self._tables.get(table, {})
                tokens.pop(token, None)
                if not tokens:
                    self._tables.pop(table, None)

    def add_every_name(self, tables: Iterable[str]) -> None:
        """Tables are overdue under all names that they are given: each when it is met first."""
        with self._lock:
            self._met.update((table, set()) for table in tables)

    def meet(self, table: str, name: str, token: bytes, due: float) -> None:
        """A table is about to be read or written under this name."""
        met = self._met.get(table)
        if met is None or name in met:
            return
        self.add([name], token, due)
        if len(met) >= MOST_NAMES:
            met.clear()  # to drop one twice costs misses
        met.add(name)

    def due(self, now: float) -> dict[str, list[bytes]]:
        """The tables whose gens may be dropped now, with the failures that this settles."""
        with self._lock:
            return {
                table: list(tokens)
                for table, tokens in self._tables.items()
                if all(due <= now for due in tokens.values())
            }

    def clear(self) -> None:
        with self._lock:
            self._tables.clear()
            self._met.clear()
