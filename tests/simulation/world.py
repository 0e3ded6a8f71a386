"""One run of a cast: whose turn it is, what the demons may do, and whether a promise is broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cacheops_lite.core import stamps
from cacheops_lite.core.entry import Conj
from cacheops_lite.core.protocol import (
    Answer,
    CacheProtocol,
    ReadPlan,
    Reply,
    TablePlan,
    run,
)
from cacheops_lite.stores.memory import MemoryStore, MemoryTransport, filled

from .database import Database, Rows
from .local import FOREVER, MARK_TTL, UNAVAILABLE, Automaton, Node, Stage
from .ops import Op, SimTransport

START = 1_000_000_000_000
PAUSE = 6000

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


_READY = re.compile(rb"=\d+")
_DEADLINE = re.compile(rb":\d+")


class World:
    """The state of a run, which can be saved and taken back."""

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

    # -- saving

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

    # -- whose turn

    def op(self, number: int) -> Op | None:
        """The next step of an actor; None if it is done or dead."""
        process, index = self.actors[number]
        node = self.nodes[process]
        return None if node is None else node.ops[index]

    def _blocked(self, number: int, op: Op) -> bool:
        return op.name in ("update", "statement") and self.database.blocked(number, op.args[0])

    def choices(self) -> list[Label]:
        """All that can happen next."""
        left = self.left
        found: list[Label] = []
        for number, turn in enumerate(self.turns):
            op = self.op(number)
            if op is None:
                continue
            repeats = left.repeat and op.on_store and op.name != "mget"
            repeats = repeats and (op.name != "ensure" or left.repeat_ensure)
            if not self._blocked(number, op):
                found.append(("run", number))
                if repeats:
                    found.append(("run, repeat later", number))
                if left.fail and op.on_store:
                    found += [("fail", number), ("lose the reply of", number)]
            if left.crash and turn.transaction:
                found.append(("kill at", number))
                if repeats:
                    found.append(("kill, deliver later", number))
        found += [("deliver late", index) for index in range(len(self.limbo))]
        for owner in self.database.in_flight:
            found += [("finish the commit of", owner), ("lose the commit of", owner)]
        if left.evict:
            found += [("evict", key) for key in sorted(self.store.data) if key[:2] != b"q:"]
        if self._may_tick():
            found.append(("time passes",))
        if self.database.lags:
            found.append(("replicate",))
        if left.wait and min(self._deadlines(), default=self.now + PAUSE) > self.now + PAUSE - 1:
            found.append(("wait",))
        found += [(name,) for name in ("switch", "restore", "restart") if getattr(left, name)]
        return found

    def describe(self, label: Label) -> str:
        """A line of a schedule, told before it happens."""
        kind, *rest = label
        if kind == "deliver late":
            return f"deliver late: {self.limbo[rest[0]].name}"
        if kind == "evict":
            return f"evict {rest[0].decode()}"
        if not rest:
            return str(kind)
        process, index = self.actors[rest[0]]
        op = self.op(rest[0])
        name = f"process {process}" + (f" thread {index}" if index else "")
        return f"{name}: {kind if kind != 'run' else ''} {op.name if op else ''}".replace(
            ":  ", ": "
        )

    def do(self, label: Label) -> None:
        """Let one thing happen."""
        kind = label[0]
        if kind.startswith("kill"):
            self._kill(label[1], late=kind != "kill at")
        elif kind in ("run", "run, repeat later", "fail", "lose the reply of"):
            self._turn(kind, label[1])
        elif kind == "deliver late":
            op = self.limbo[label[1]]
            self.limbo = self.limbo[: label[1]] + self.limbo[label[1] + 1 :]
            self._command(op)
        elif kind in ("finish the commit of", "lose the commit of"):
            self._end_commit(label[1], done=kind.startswith("finish"))
        elif kind == "evict":
            self._spend("evict")
            self._lose(label[1])
            self.store.evict(label[1])
        elif kind == "time passes":
            self._tick()
        elif kind == "wait":
            self._spend("wait")
            self.now += PAUSE
        elif kind == "replicate":
            assert self.database.replica is not None
            self.database.replica += 1
        elif kind == "switch":
            self._spend("switch")
            self.store.server_id = b"B" if self.store.server_id == b"A" else b"A"
        else:
            self._spend(kind)
            for key in list(self.store.data):
                self._lose(key)
            self.store.server_id = b"C%d" % getattr(self.left, kind)
            self.store.data = dict(self.backup) if kind == "restore" else {}

    def _spend(self, demon: str) -> None:
        self.left = self.left._replace(**{demon: getattr(self.left, demon) - 1})

    def _kill(self, number: int, *, late: bool) -> None:
        """A process dies, all its threads; what it has sent may arrive later."""
        self._spend("crash")
        self.died = True
        op = self.op(number)
        if late and op is not None:
            self._spend("repeat")
            self.limbo = (*self.limbo, op)
        process, _ = self.actors[number]
        self.nodes[process] = None
        for other, (owner, _) in enumerate(self.actors):
            if owner == process and other not in self.database.in_flight:
                self.database.rollback(other)

    def _end_commit(self, number: int, *, done: bool) -> None:
        database = self.database
        database.in_flight = tuple(owner for owner in database.in_flight if owner != number)
        if done:
            database.commit(number, self.now)
        else:
            database.rollback(number)

    # -- steps

    def _turn(self, kind: str, number: int) -> None:
        op = self.op(number)
        assert op is not None
        process, index = self.actors[number]
        turn = self.turns[number]
        if not turn.begun:
            required = max(self.required, self.own[process])
            turn = turn._replace(begun=True, required=required, started=self.database.version)
        if op.name == "mark":
            keys, args = op.args
            until = dict.fromkeys(keys[2:], self.now + 1 + int(args[1]))
            marked = tuple(sorted({**dict(turn.marked), **until}.items()))
            turn = turn._replace(
                token=args[0], marked=marked, transaction=turn.transaction or "open"
            )
        if op.name == "bump":
            turn = turn._replace(bumped=True)
        self.turns[number] = turn
        result: Any
        if kind in ("fail", "lose the reply of"):
            self._spend("fail")
            if op.name == "mark":
                self.lost = self.lost_before_commit = True
            if kind != "fail":
                self._command(op)
            result = UNAVAILABLE
        else:
            if kind == "run, repeat later":
                self._spend("repeat")
                self.limbo = (*self.limbo, op)
            result = self._command(op) if op.on_store else self._statement(number, op)
        node = self.nodes[process]
        assert node is not None
        after, returned = self.automata[process].next(node, index, result, self.now // 1000)
        self.nodes[process] = after
        if returned is not None:
            self._end(number, returned)

    def _end(self, number: int, returned: Any) -> None:
        """A stage is over: judge what it has read, note what it has written."""
        turn = self.turns[number]
        self.turns[number] = Turn()
        if hasattr(returned, "told"):
            if returned.told:
                self.required = max(self.required, turn.version)
        elif returned.hit:
            query = next(query for query in self.cast.queries if query.name == returned.name)
            self.judge(query, returned.value, turn.required, turn.started)

    def _command(self, op: Op) -> Any:
        store = self.store
        if op.name == "mget":
            return Reply(store.mget(op.args), store.server_id)
        if op.name == "set":
            return store.set(*op.args)
        if op.name == "delete":
            return store.delete(op.args)
        if op.name == "mark":
            self.now += 1  # marks of two writers do not end at one moment
        keys, args = op.args
        server = store.server_id
        return Answer(store.script(op.name, keys, filled(args, server)), server)

    def _statement(self, number: int, op: Op) -> Any:
        database, turn = self.database, self.turns[number]
        process, _ = self.actors[number]
        if op.name == "load":
            return database.visible
        if op.name == "select":
            return database.seen(number, *op.args)
        if op.name == "savepoint":
            return database.savepoint(number)
        if op.name == "rollback to savepoint":
            return database.rollback_to_savepoint(number)
        if op.name == "update":
            self.turns[number] = turn._replace(transaction="open")
            return database.update(number, *op.args)
        if op.name == "send commit":
            database.in_flight = (*database.in_flight, number)
            self.turns[number] = turn._replace(transaction="sent")
            self.sent = {**self.sent, number: turn}
            return None
        if op.name == "rollback":
            self.turns[number] = turn._replace(transaction="rolled back")
            return database.rollback(number)
        assert op.name in ("commit", "statement")
        if op.name == "statement":
            database.update(number, *op.args)
        version = self.own[process] = database.commit(number, self.now)
        self.turns[number] = turn._replace(transaction="committed", version=version)
        return None

    # -- marks and time

    def _deadlines(self) -> dict[int, set[bytes]]:
        """When something pending or young comes due, with the tokens that end then."""
        found: dict[int, set[bytes]] = {}
        for key, (value, _) in self.store.data.items():
            if value[:1] == b"p":
                for item in value[1:].split(b" "):
                    token, _, deadline = item.partition(b":")
                    found.setdefault(int(deadline), set()).add(token)
            elif b"=" in value and key[:7] == b"schemes":
                for ready in _READY.findall(value):
                    if int(ready[1:]) > self.now:
                        found.setdefault(int(ready[1:]), set())
        return found

    def _writers(self) -> list[Turn]:
        """The writers that may still commit."""
        return [
            turn
            for number, turn in enumerate(self.turns)
            if turn.transaction == "open" and self.op(number) is not None
        ] + [self.sent[number] for number in self.database.in_flight]

    def _due(self, moment: int) -> bool:
        """Whether a writer that may still commit counts on a mark beyond this moment in vain."""
        return any(until <= moment for turn in self._writers() for _, until in turn.marked)

    def _may_tick(self) -> bool:
        deadlines = self._deadlines()
        if not deadlines:
            return any(
                node is not None and any(node.ops) and min(node.owes, default=0) > self.now // 1000
                for node in self.nodes
            )
        due = min(deadlines)
        if self.database.lags:
            lag = self.cast.options.get("replica_lag_ms") or MARK_TTL
            assert self.database.replica is not None
            if due >= self.database.times[self.database.replica + 1] + lag:
                return False  # a replica is never further behind than promised
        return self.cast.demons.expire == "any" or not self._due(due)

    def _tick(self) -> None:
        deadlines = self._deadlines()
        if not deadlines:
            self.now += 2 * MARK_TTL
            return
        due = min(deadlines)
        if self._due(due):
            self.lost = self.lost_before_commit = True
        self.now = max(self.now, due)
        self.store.expire()

    def _lose(self, key: bytes) -> None:
        """A key is about to get lost: note whether a mark that is counted on goes with it."""
        value = self.store.get(key)
        if value is None or value[:1] != b"p":
            return
        if any(turn.token and turn.token in value for turn in self._writers()):
            self.lost = self.lost_before_commit = True
        if self.cast.replica:
            # Here a mark is counted on after the commit too, until it is re-armed; and what the
            # bump has re-armed is all that keeps readers from a replica that lags.
            marks = [turn for turn in self.turns if turn.token and turn.token in value]
            self.lost_before_commit = True
            if not marks or any(turn.bumped for turn in marks):
                self.lag_lost = True

    # -- the promises

    def allowed(self, query: Query, since: int) -> frozenset[bytes]:
        """What a read may answer: what held in some version since."""
        versions = self.database.versions[since:]
        return frozenset([version.answer(query.name, query.answer) for version in versions])

    def check(self) -> None:
        """Compare what anybody would be answered now with the database."""
        for query, plan in self.plans:
            for onlooker in self.onlookers:
                outcome = run(onlooker.peek(self.direct, plan, decode=bytes))
                if outcome.hit:
                    self.judge(query, outcome.value, self.required, self.database.version)
                elif query in self.cast.keeps:
                    raise Violation(f"(d) {query.name} is no hit any more: {outcome.reason}")

    def judge(self, query: Query, value: bytes, required: int, started: int) -> None:
        """Check a hit of a read; when it began ``required`` was finished, ``started`` committed."""
        if self.lag_lost:
            return
        if value not in self.allowed(query, required):
            raise Violation(f"(a) {query.name} is {value!r}, older than what was finished")
        if not self.lost_before_commit and value not in self.allowed(query, started):
            raise Violation(f"(b) {query.name} is {value!r}, older than what was committed")
        current = self.allowed(query, self.database.version)
        if value not in current and self._quiet() and not (self.lost and self.died):
            raise Violation(f"(c) {query.name} is {value!r} for ever")

    def _quiet(self) -> bool:
        return (
            not any(self.op(number) for number in range(len(self.actors)))
            and not self.limbo
            and not self.database.in_flight
            and not any(node is not None and node.owes for node in self.nodes)
            and not any(stamps.is_pending(value) for value, _ in self.store.data.values())
        )

    # -- comparison

    def digest(self) -> int:
        """Equal for states with an equal future."""
        counted = [
            min(until for _, until in turn.marked) for turn in self._writers() if turn.marked
        ]
        moments = sorted({*self._deadlines(), *counted})
        ranks = {moment: rank for rank, moment in enumerate(moments)}
        lag = self.cast.options.get("replica_lag_ms")

        def moment(found: re.Match[bytes]) -> bytes:
            value = int(found[0][1:])
            if value <= self.now:
                return b"-"
            return b"=%d" % (value - self.now if lag else ranks[value])

        store = []
        for key, (value, _) in self.store.data.items():
            if ranks and value[:1] == b"p":
                value = _DEADLINE.sub(moment, value)
            elif key[:7] == b"schemes":
                value = _READY.sub(moment, value)
            store.append((key, value))
        turns: list[Any] = []
        for number, turn in enumerate(self.turns):
            if self.op(number) is None or not turn.begun:
                turns.append(None)
            elif turn.transaction:
                turns.append(turn._replace(required=0, started=0, version=0, marked=()))
            else:
                turns.append(
                    tuple(
                        self.allowed(query, since)
                        for query in self.cast.queries
                        for since in (turn.required, turn.started)
                    )
                )
        return hash(
            (
                frozenset(store),
                self.database.digest(),
                tuple([node.number if node is not None else -1 for node in self.nodes]),
                tuple(turns),
                self.left,
                tuple(sorted(map(repr, self.limbo))) if self.limbo else (),
                self.store.server_id,
                (self.lost_before_commit, self.lost, self.died, self.lag_lost),
                tuple([ranks[moment] for moment in counted]),
                tuple([own > self.required for own in self.own]),
                tuple([self.allowed(query, self.required) for query in self.cast.queries]),
            )
        )
