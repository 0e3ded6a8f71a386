"""What a process remembers: a bounded map, and the tables whose invalidation is overdue."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache, wraps
from hashlib import blake2b
from sys import getsizeof
from typing import Any, Generic, TypeVar

from .forks import new_lock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Bytes that the heavy items of one memo weigh together at most.
MOST_BYTES = 16 * 1024 * 1024


class _Cell(Generic[V]):
    __slots__ = ("used", "value", "weight")

    def __init__(self, value: V, weight: int) -> None:
        self.value = value
        self.used = False
        self.weight = weight


class Recent(Generic[K, V]):
    """A map of recently used items, safe among threads: reading takes no lock.

    Items leave in the order in which they came, but for those that were used since: these get a
    second chance (the CLOCK algorithm; Corbató, "A Paging Experiment with the Multics System").
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._items: OrderedDict[K, _Cell[V]] = OrderedDict()
        self._weight = 0
        self._lock = new_lock(self)

    def get(self, key: K) -> V | None:
        cell = self._items.get(key)
        if cell is None:
            return None
        cell.used = True
        return cell.value

    def set(self, key: K, value: V, weight: int = 0) -> None:
        """Remember a value; ``weight``: its bytes and those of its key, if these count."""
        with self._lock:
            cell = self._items.get(key)
            if cell is not None and cell.weight == weight:
                cell.value, cell.used = value, True
                return
            self._remove(key)
            self._weight += weight
            while len(self._items) >= self.size or (self._weight > MOST_BYTES and self._items):
                oldest, other = self._items.popitem(last=False)
                if other.used:
                    other.used = False
                    self._items[oldest] = other
                else:
                    self._weight -= other.weight
            self._items[key] = _Cell(value, weight)

    def discard(self, key: K) -> None:
        if key in self._items:
            with self._lock:
                self._remove(key)

    def _remove(self, key: K) -> None:
        cell = self._items.pop(key, None)
        if cell is not None:
            self._weight -= cell.weight

    def items(self) -> list[tuple[K, V]]:
        """All items, in no order that means anything."""
        with self._lock:
            return [(key, cell.value) for key, cell in self._items.items()]

    def clear(self) -> None:
        with self._lock:
            self._items.clear()
            self._weight = 0

    def __len__(self) -> int:
        return len(self._items)


#: Bytes of an item that is only counted; what is that many times as heavy is not remembered.
LIGHT = 4 * 1024
HEAVIEST = 16


#: Told first what they are, for there are most of them.
_PLAIN = frozenset({str, bytes, int})


def weight(thing: Any) -> int:
    """About how many bytes there are in a text, a number, or what holds many of these."""
    total = 0
    things = [thing]
    for one in things:  # which grows meanwhile
        if type(one) in _PLAIN:
            total += getsizeof(one)
        elif isinstance(one, (tuple, list, set, frozenset)):
            things += one
            total += 56 + 8 * len(one)
        elif isinstance(one, dict):
            things += one
            things += one.values()
            total += 64 + 32 * len(one)
        elif not isinstance(one, type):  # classes are not theirs alone
            total += getsizeof(one)
    return total


class Sized(Generic[K, V]):
    """Recent items; the heavy ones share a number of bytes, for many would fill the memory.

    A query for 60 rows by their keys has 60 conjunctions, and hardly ever comes again; one for a
    long text holds that text. ``weigh(key, value)`` gives the bytes of an item; ``light`` is how
    many it may have and be counted as one of ``size``.
    """

    def __init__(self, size: int, weigh: Callable[[K, V], int], light: int = LIGHT) -> None:
        self.weigh = weigh
        self.light = light
        self.small: Recent[K, V] = Recent(size)
        self.large: Recent[K, V] = Recent(size)

    @property
    def size(self) -> int:
        return self.small.size

    @size.setter
    def size(self, size: int) -> None:
        self.small.size = self.large.size = size

    def get(self, key: K) -> V | None:
        cell = self.small._items.get(key) or self.large._items.get(key)
        if cell is None:
            return None
        cell.used = True
        return cell.value

    def set(self, key: K, value: V) -> None:
        """Remember a value, unless it is too heavy: then not the one before it, either."""
        weight = self.weigh(key, value)
        if weight <= self.light:
            self.small.set(key, value)
            self.large.discard(key)
            return
        self.small.discard(key)
        if weight <= HEAVIEST * self.light:
            self.large.set(key, value, weight)
        else:
            self.large.discard(key)

    def items(self) -> list[tuple[K, V]]:
        """All items, in no order that means anything."""
        return [*self.small.items(), *self.large.items()]

    def clear(self) -> None:
        self.small.clear()
        self.large.clear()

    def __len__(self) -> int:
        return len(self.small) + len(self.large)


#: Characters of a text that is remembered as it is.
_LONG = 2000


def by_text(size: int) -> Callable[[Callable[[str], V]], Callable[[str], V]]:
    """``lru_cache`` for functions of a text: of a long one they keep the digest only."""

    def remembering(function: Callable[[str], V]) -> Callable[[str], V]:
        short = lru_cache(maxsize=size)(function)
        long: Sized[bytes, tuple[V]] = Sized(size, lambda _, found: weight(found))

        @wraps(function)
        def remembered(text: str) -> V:
            if len(text) <= _LONG:
                return short(text)
            key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            found = long.get(key)
            if found is None:
                found = (function(text),)
                long.set(key, found)
            return found[0]

        return remembered

    return remembering


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
