"""The state of a run, which can be saved and taken back."""

from __future__ import annotations

from typing import Any, NamedTuple

from cacheops_lite.core.protocol import (
    ReadPlan,
    run,
)
from cacheops_lite.stores.memory import MemoryTransport

from .cast import Cast, Demons, Query
from .database import Database
from .local import FOREVER, Automaton, Node
from .ops import Op

START = 1_000_000_000_000


class Turn(NamedTuple):
    """What the world knows of an actor besides its next step."""

    #: Whether it has taken the first step of its stage.
    begun: bool = False
    #: "", "open", "sent", "committed" or "rolled back".
    transaction: str = ""
    #: The version that its commit made.
    version: int = 0
    token: bytes = b""
    #: Whether it has begun to bump.
    bumped: bool = False
    #: Until when each key is marked by its own doing.
    marked: tuple[tuple[bytes, int], ...] = ()
    #: The least version that its read may answer with, and the version when it began.
    required: int = 0
    started: int = 0


class Snapshot(NamedTuple):
    """Everything that changes."""

    now: int
    data: dict[bytes, tuple[bytes, int | None]]
    server: bytes
    database: Database
    nodes: tuple[Node | None, ...]
    turns: tuple[Turn, ...]
    left: Demons
    limbo: tuple[Op, ...]
    required: int
    own: tuple[int, ...]
    sent: dict[int, Turn]
    lost_before_commit: bool
    lost: bool
    died: bool
    lag_lost: bool


class State:
    """All that changes during a run."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.now = START
        self.store = cast.store(clock=lambda: self.now, server_id=b"A")
        self.plans = [(query, ReadPlan(query.key, query.tables)) for query in cast.queries]
        self.automata = [
            Automaton(
                cast.protocols.get(number, cast.protocol),
                number,
                actors,
                cast.transport,
                cast.options,
            )
            for number, actors in enumerate(cast.processes)
        ]
        #: Actors by number: their process, and which of its actors they are.
        self.actors = [
            (number, index)
            for number, actors in enumerate(cast.processes)
            for index in range(len(actors))
        ]
        kinds = dict.fromkeys([cast.protocol, *cast.protocols.values()])
        #: What somebody who comes by would be answered; one of each kind of process.
        self.onlookers = [kind("", **cast.options) for kind in kinds]
        self.direct = MemoryTransport(self.store)
        self._warm()
        self.backup = dict(self.store.data)
        self.database = Database(cast.rows, replica=cast.replica)
        self.nodes: list[Node | None] = [automaton.root for automaton in self.automata]
        self.turns = [Turn() for _ in self.actors]
        self.left = cast.demons
        self.limbo: tuple[Op, ...] = ()
        self.required = 0
        self.own = [0] * len(self.automata)
        #: What writers had marked when they sent a commit whose outcome nobody knows.
        self.sent: dict[int, Turn] = {}
        self.lost_before_commit = self.lost = self.died = self.lag_lost = False

    def _warm(self) -> None:
        drawn = iter(range(1, 1000))
        protocol = self.cast.protocol(
            "", gen_ttl_ms=FOREVER, **self.cast.options,
            random=lambda size: b"".join(next(drawn).to_bytes(8) for _ in range(size // 8)),
        )  # fmt: skip
        for query in self.cast.warm:

            async def load(query: Query = query) -> Any:
                return query.answer(self.cast.rows)

            run(
                protocol.read(
                    self.direct,
                    ReadPlan(query.key, query.tables),
                    load,
                    encode=lambda value: repr(value).encode(),
                    decode=bytes,
                    dynamic=query.dynamic,
                    ttl_ms=FOREVER,
                )
            )

    def save(self) -> Snapshot:
        return Snapshot(
            self.now, dict(self.store.data), self.store.server_id, self.database.copy(),
            tuple(self.nodes), tuple(self.turns), self.left, self.limbo, self.required,
            tuple(self.own), self.sent,
            self.lost_before_commit, self.lost, self.died, self.lag_lost,
        )  # fmt: skip

    def load(self, saved: Snapshot) -> None:
        self.now = saved.now
        self.store.data = dict(saved.data)
        self.store.server_id = saved.server
        self.database = saved.database.copy()
        self.nodes, self.turns, self.own = list(saved.nodes), list(saved.turns), list(saved.own)
        self.left, self.limbo, self.required = saved.left, saved.limbo, saved.required
        self.sent = saved.sent
        self.lost_before_commit, self.lost, self.died, self.lag_lost = saved[-4:]

    def op(self, number: int) -> Op | None:
        """The next step of an actor; None if it is done or dead."""
        process, index = self.actors[number]
        node = self.nodes[process]
        return None if node is None else node.ops[index]
