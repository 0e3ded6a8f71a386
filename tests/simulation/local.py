"""A process as an automaton: what it does next is a function of what it has learnt so far.

Coroutines cannot be copied, but the protocol is deterministic: from the same state the same answer
leads to the same next command. So each step of a process is computed once, by the real code, and
remembered; the world then moves along these edges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cacheops_lite.core.protocol import CacheProtocol, StoreUnavailable

from .ops import Op, SimTransport

#: Longer than any run: entries and stamps never run out by themselves, only evictions take them.
FOREVER = 10**12
MARK_TTL = 10_000
UNAVAILABLE = "unavailable"

_READY = re.compile(rb"=\d+")


class Actor:
    """What a stage may use: the protocol of its process and a transport."""

    def __init__(self, protocol: CacheProtocol, transport: SimTransport) -> None:
        self.protocol = protocol
        self.transport = transport


Stage = Callable[[Actor], Coroutine[Any, Any, Any]]


class Node:
    """A state of a process: the next step of each actor (None: done), reached by some events."""

    def __init__(self, number: int, process: Process, events: tuple[Any, ...]) -> None:
        self.number = number
        self.events = events
        self.ops = tuple(process.ops)
        self.stages = tuple(process.stages)
        #: When the overdue invalidations of this process are due, in seconds.
        self.owes = tuple(
            due for tokens in process.protocol.overdue._tables.values() for due in tokens.values()
        )
        self.edges: dict[Any, tuple[Node, Any] | None] = {}


class Automaton:
    """The states of one process that have been met so far."""

    def __init__(
        self,
        make: Callable[..., CacheProtocol],
        number: int,
        actors: Sequence[Sequence[Stage]],
        transport: type[SimTransport],
        options: dict[str, Any],
    ) -> None:
        self._make = lambda: Process(make, number, actors, transport, options)
        self._live = self._make()
        self._nodes: dict[Any, Node] = {}
        self.root = self._cursor = self._node(())

    def next(self, node: Node, actor: int, result: Any, seconds: float) -> tuple[Node, Any]:
        """The state after an actor's step had this result; what its stage returned, if it ended.

        ``result`` may be `UNAVAILABLE`. The time matters only to steps that look at the clock.
        """
        event = (actor, canonical(result))
        edge = node.edges.get(event, False)
        if edge is None:
            event = (*event, seconds)
            edge = node.edges.get(event, False)
        if edge:
            return edge
        events = (*node.events, (actor, result, seconds))
        if self._cursor is node:
            process = self._live
        else:
            process = self._make()
            for past in node.events:
                process.feed(*past)
        returned = process.feed(*events[-1])
        self._live = process
        self._cursor = self._node(events)
        if process.looked_at_clock and len(event) == 2:
            node.edges[event] = None
            event = (*event, seconds)
        node.edges[event] = self._cursor, returned
        return self._cursor, returned

    def _node(self, events: tuple[Any, ...]) -> Node:
        process = self._live
        # Between stages a process is what it remembers; within one, what it has learnt.
        key: Any = process.history
        if not any(process.begun):
            key = (tuple(process.stages), process.memory())
        if key not in self._nodes:
            self._nodes[key] = Node(len(self._nodes), process, events)
        return self._nodes[key]


class Process:
    """The real thing: a protocol and the coroutines of its actors."""

    def __init__(
        self,
        make: Callable[..., CacheProtocol],
        number: int,
        actors: Sequence[Sequence[Stage]],
        transport: type[SimTransport],
        options: dict[str, Any],
    ) -> None:
        self.number = number
        self.drawn = 0
        self.seconds = 0.0
        self.looked_at_clock = False
        self.protocol = make(
            "", monotonic=self.clock, random=self.random,
            **{"mark_ttl_ms": MARK_TTL, "gen_ttl_ms": FOREVER, **options},
        )  # fmt: skip
        self.actor = Actor(self.protocol, transport())
        self.actors = actors
        self.stages = [-1] * len(actors)
        self.begun = [False] * len(actors)
        self.ops: list[Op | None] = [None] * len(actors)
        self.running: list[Coroutine[Any, Any, Any] | None] = [None] * len(actors)
        self.history: tuple[Any, ...] = ()
        for index in range(len(actors)):
            self._next_stage(index)

    def clock(self) -> float:
        self.looked_at_clock = True
        return self.seconds

    def random(self, size: int) -> bytes:
        self.drawn += 1
        head = bytes([0, self.number + 1, 0, 0])  # a stamp's first byte is its life
        return b"".join(head + (self.drawn * 100 + index).to_bytes(4) for index in range(size // 8))

    def feed(self, index: int, result: Any, seconds: float) -> Any:
        """Give an actor the result of its step; let it run to its next one."""
        self.looked_at_clock = False
        self.seconds = seconds
        self.begun[index] = True
        coroutine = self.running[index]
        assert coroutine is not None
        self.history = (*self.history, (index, canonical(result)))
        try:
            if isinstance(result, str) and result == UNAVAILABLE:
                self.ops[index] = coroutine.throw(StoreUnavailable("the demon"))
            else:
                self.ops[index] = coroutine.send(result)
        except StopIteration as stop:
            self._next_stage(index)
            return stop.value
        if self.looked_at_clock:
            self.history = (*self.history, seconds)
        return None

    def _next_stage(self, index: int) -> None:
        self.stages[index] += 1
        self.begun[index] = False
        self.ops[index] = None
        if self.stages[index] < len(self.actors[index]):
            coroutine = self.actors[index][self.stages[index]](self.actor)
            self.running[index] = coroutine
            self.ops[index] = coroutine.send(None)
        elif all(op is None for op in self.ops):
            self.drawn = 0  # it will never draw again

    def memory(self) -> Any:
        """What the protocol remembers, for comparison."""
        if all(op is None for op in self.ops):
            return bool(self.protocol.overdue)
        one = self.protocol
        return (
            tuple(sorted((key, tuple(shape.more)) for key, shape in one.shapes.small.items())),
            tuple(sorted(one.schemes.items())),
            tuple(sorted((table, tuple(sorted(names))) for table, names in one.used.items())),
            tuple(sorted((key, tuple(dues.items())) for key, dues in one.overdue._tables.items())),
            self.drawn,
        )


def canonical(value: Any) -> Any:
    """A result as the protocol sees it: deadlines are the server's business."""
    if isinstance(value, bytes):
        if value[:1] == b"p":
            return b"p"
        return _READY.sub(b"=", value) if value[:2] == b"s1" else value
    if isinstance(value, list | tuple):
        return tuple([canonical(item) for item in value])
    if isinstance(value, dict):
        return tuple(sorted([(key, canonical(item)) for key, item in value.items()]))
    return value
