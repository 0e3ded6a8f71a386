"""A cast: who takes part, what is read, and how often each thing may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cacheops_lite.core.entry import Conj
from cacheops_lite.core.protocol import (
    CacheProtocol,
    TablePlan,
)
from cacheops_lite.stores.memory import MemoryStore

from .database import Rows
from .local import Stage
from .ops import SimTransport

Label = tuple[Any, ...]


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True)
class Query:
    """Something that is read through the cache: its plan and what the database answers."""

    name: str
    tables: tuple[TablePlan, ...]
    answer: Callable[[Rows], Any]
    dynamic: Callable[[Any], Iterable[tuple[str, Conj]]] | None = None

    @property
    def key(self) -> bytes:
        return b"q:{%s}:%s" % (self.tables[0].table.encode(), self.name.encode())


class Demons(NamedTuple):
    """How often each thing may go wrong; ``expire``: when marks may run out (late, any)."""

    evict: int = 0
    crash: int = 0
    expire: str = "late"
    #: Commands that are delivered once more, at any later time.
    repeat: int = 0
    #: ENSURE among them: no transport of ours does that.
    repeat_ensure: bool = False
    #: Commands that fail before they are run, or whose reply is lost.
    fail: int = 0
    #: Pauses of more than half of a mark's time.
    wait: int = 0
    #: Fail-overs to the other server and back, which takes the data along.
    switch: int = 0
    #: Restarts from the snapshot of the start, under a new id.
    restore: int = 0
    #: Restarts without data, under a new id.
    restart: int = 0


NO_DEMONS = Demons()


@dataclass(frozen=True)
class Cast:
    """Who takes part, in which world."""

    name: str
    rows: Rows
    queries: tuple[Query, ...]
    #: Each process has actors (threads), each actor is a sequence of stages.
    processes: tuple[tuple[tuple[Stage, ...], ...], ...]
    demons: Demons = NO_DEMONS
    #: Queries that are in the cache when the run begins.
    warm: tuple[Query, ...] = ()
    #: Queries that stay hits all the time.
    keeps: tuple[Query, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    protocol: Callable[..., CacheProtocol] = CacheProtocol
    #: The protocol of single processes, where they differ.
    protocols: dict[int, Callable[..., CacheProtocol]] = field(default_factory=dict)
    store: type[MemoryStore] = MemoryStore
    transport: type[SimTransport] = SimTransport
    replica: bool = False

    def but(self, **changes: Any) -> Cast:
        return replace(self, **changes)
