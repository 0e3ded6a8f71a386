"""A process under test: its protocol over the memory store, with every round trip counted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from cacheops_lite.core.entry import Change, Conj, conjunction
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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


def cat(value: str) -> Conj:
    return conjunction({"cat": value})


def table(name: str = "book", *conjs: Conj, dynamic: bool = False) -> TablePlan:
    return TablePlan(name, conjs, dynamic)


BOOKS_A = table("book", cat("A"))
BOOKS_B = table("book", cat("B"))
ALL_BOOKS = table("book", ())


BOOKS_A = table("book", cat("A"))
BOOKS_B = table("book", cat("B"))
ALL_BOOKS = table("book", ())


def moved(old: str, new: str, name: str = "book") -> Change:
    return Change(name, {"id": "1", "cat": old}, {"id": "1", "cat": new})
