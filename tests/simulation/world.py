"""One run of a cast: whose turn it is, what the demons may do, and whether a promise is broken."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cacheops_lite.core import stamps
from cacheops_lite.core.entry import Conj
from cacheops_lite.core.protocol import (
    Answer,
    CacheProtocol,
    ReadPlan,
    Reply,
    Script,
    StoreUnavailable,
    TablePlan,
    run,
)
from cacheops_lite.stores.memory import MemoryStore, MemoryTransport, filled

from .database import Database, Place, Rows

#: Longer than any run: entries and stamps never run out by themselves, only evictions take them.
FOREVER = 10**12
MARK_TTL = 10_000
START = 1_000_000_000_000

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

    def encoded(self, rows: Rows) -> bytes:
        return repr(self.answer(rows)).encode()


@dataclass(frozen=True)
class Demons:
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
    #: Fail-overs to the other server and back, which takes the data along.
    switch: int = 0
    #: Restarts from the snapshot of the start, under a new id.
    restore: int = 0
    #: Restarts without data, under a new id.
    restart: int = 0


@dataclass(frozen=True)
class Cast:
    """Who takes part, in which world."""

    name: str
    rows: Rows
    queries: tuple[Query, ...]
    #: Each process is a sequence of actors, each actor a sequence of stages.
    processes: tuple[tuple[tuple[Callable[[Actor], Coroutine[Any, Any, None]], ...], ...], ...]
    demons: Demons = Demons()
    #: Queries that are in the cache when the run begins.
    warm: tuple[str, ...] = ()
    #: Queries that stay hits all the time.
    keeps: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    protocol: type[CacheProtocol] = CacheProtocol
    #: The protocol of single processes, where they differ.
    protocols: dict[int, Callable[..., CacheProtocol]] = field(default_factory=dict)
    store: type[MemoryStore] = MemoryStore
    transport: type[SimTransport] | None = None
    replica: bool = False

    def but(self, **changes: Any) -> Cast:
        return replace(self, **changes)


class Op:
    """One atomic step of an actor: it is run when the scheduler says so."""

    def __init__(
        self,
        name: str,
        action: Callable[[], Any],
        *,
        store: bool = False,
        identity: Any = None,
        blocked: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.action = action
        self.store = store
        self.identity = identity
        self.blocked = blocked

    def __await__(self) -> Generator[Op, Any, Any]:
        return (yield self)


class SimTransport:
    """Suspends at every command. Scripts sent together run one by one: nothing spans slots."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = world.store

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        def action() -> Reply:
            return Reply(self.store.mget(keys), self.store.server_id)

        return await Op("mget", action, store=True)  # type: ignore[no-any-return]

    async def scripts(self, calls: Sequence[Script]) -> list[Answer]:
        return [await self.script(call) for call in calls]

    async def script(self, call: Script) -> Answer:
        name, keys, args = call
        # Args are filled when the command leaves, with the id of the server it was sent to.
        sent = filled(args, self.store.server_id)

        def action() -> Answer:
            server = self.store.server_id
            return Answer(self.store.script(name, keys, filled(args, server)), server)

        return await Op(name, action, store=True, identity=(name, *keys, *sent))  # type: ignore[no-any-return]

    async def set(self, key: bytes, value: bytes, px: int, nx: bool = False) -> bool:
        return await Op(  # type: ignore[no-any-return]
            "set", lambda: self.store.set(key, value, px, nx), store=True, identity=(key, value)
        )

    async def delete(self, keys: Sequence[bytes]) -> None:
        await Op("delete", lambda: self.store.delete(keys), store=True, identity=tuple(keys))

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Process:
    """What actors of one process share: the protocol with all that it remembers."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.drawn = 0
        make = world.cast.protocols.get(number, world.cast.protocol)
        self.protocol = make(
            "",
            monotonic=lambda: world.store.clock() / 1000,
            random=self.random,
            mark_ttl_ms=MARK_TTL,
            gen_ttl_ms=FOREVER,
            **world.cast.options,
        )
        #: A digest of all that its actors have learnt.
        self.history = 0
        self.actors: list[Actor] = []
        #: The version that its own writes have made, told or not.
        self.own_version = 0

    def random(self, size: int) -> bytes:
        self.drawn += 1
        return b"".join(
            bytes([self.number + 1, 0, 0, 0]) + (self.drawn * 100 + index).to_bytes(4)
            for index in range(size // 8)
        )

    def memory(self) -> Any:
        """What the protocol remembers, for comparison."""
        protocol = self.protocol
        return (
            tuple(sorted((key, tuple(shape.more)) for key, shape in protocol.shapes._items.items())),
            tuple(sorted(protocol.schemes._items.items())),
            tuple(sorted((table, tuple(sorted(names))) for table, names in protocol.used._items.items())),
            self.drawn,
        )


class Actor:
    """A coroutine of stages; between two stages it only remembers what its process does."""

    def __init__(
        self,
        world: World,
        process: Process,
        name: str,
        stages: Sequence[Callable[[Actor], Coroutine[Any, Any, None]]],
    ) -> None:
        self.world = world
        self.process = process
        self.name = name
        self.stages = list(stages)
        self.transport = world.transport()
        self.protocol = process.protocol
        self.stage = -1
        self.status = "live"
        self.begun = False
        #: Transaction state: "" none, "open", "committed"; for a crash and for the demons.
        self.transaction = ""
        self.token = b""
        self.marked_at = 0
        #: The least version that this stage's read may answer with, and the version at its start.
        self.required = 0
        self.at_start = 0
        self.op: Op | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self.next_stage()

    def next_stage(self) -> None:
        self.stage += 1
        self.begun = False
        self.transaction = ""
        if self.stage == len(self.stages):
            self.status = "done"
            self.op = None
            return
        self._coroutine = self.stages[self.stage](self)
        self.advance(None)

    def advance(self, result: Any, error: BaseException | None = None) -> None:
        """Let the coroutine run until its next command."""
        assert self._coroutine is not None
        try:
            if error is not None:
                self.op = self._coroutine.throw(error)
            else:
                self.op = self._coroutine.send(result)
        except StopIteration:
            self.process.history = hash(self.process.memory())
            self.next_stage()

    def learn(self, result: Any) -> None:
        self.process.history = hash((self.process.history, self.name, canonical(result)))

    def die(self) -> None:
        self.status = "dead"
        self.op = None
        self.world.database.rollback(self.name)


_READY = re.compile(rb"=\d+")
_DEADLINE = re.compile(rb":(\d+)")


def canonical(value: Any) -> Any:
    """A reply as the protocol sees it: deadlines are the server's business."""
    if isinstance(value, bytes):
        if value[:1] == b"p":
            return b"p"
        return _READY.sub(b"=", value) if value[:2] == b"s1" else value
    if isinstance(value, list | tuple):
        return tuple(canonical(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    return value


class World:
    """The state of a run."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.now = START
        self.store = cast.store(clock=lambda: self.now, server_id=b"A")
        self.database = Database(cast.rows)
        self.queries = {query.name: query for query in cast.queries}
        self.plans = {
            query.name: ReadPlan(b"q:{%s}:%s" % (query.tables[0].table.encode(), query.name.encode()), query.tables)
            for query in cast.queries
        }
        self.left = cast.demons
        self.limbo: list[tuple[Any, str, Callable[[], Any]]] = []
        self.required = 0
        self.lost_before_commit = False
        self.lost = False
        self.died = False
        self.processes: list[Process] = []
        self.actors: list[Actor] = []
        self._warm()
        if cast.replica:
            self.database.replica = 0
        self.snapshot = dict(self.store.data)
        for number, members in enumerate(cast.processes):
            process = Process(self, number)
            self.processes.append(process)
            for stages in members:
                actor = Actor(self, process, f"{number}{'abc'[len(process.actors)]}", stages)
                process.actors.append(actor)
                self.actors.append(actor)
        # What an onlooker would be answered; one for each kind of process.
        kinds = {number: make for number, make in cast.protocols.items()}
        self.onlookers = [cast.protocol("", **cast.options), *(make("", **cast.options) for make in kinds.values())]

    def transport(self) -> SimTransport:
        return (self.cast.transport or SimTransport)(self)

    def _warm(self) -> None:
        process = Process(self, 99)
        for name in self.cast.warm:
            query = self.queries[name]

            async def load(query: Query = query) -> Any:
                return query.answer(self.database.rows)

            run(
                process.protocol.read(
                    self.direct(),
                    self.plans[name],
                    load,
                    encode=lambda value: repr(value).encode(),
                    decode=bytes,
                    dynamic=query.dynamic,
                    ttl_ms=FOREVER,
                )
            )

    def direct(self) -> MemoryTransport:
        """A transport that does not suspend."""
        return MemoryTransport(self.store)

    # -- whose turn

    def choices(self) -> list[Label]:
        """All that can happen next."""
        left = self.left
        found: list[Label] = []
        for number, actor in enumerate(self.actors):
            op = actor.op
            if op is None:
                continue
            if not op.blocked():
                found.append(("run", number))
                if op.store:
                    if left.repeat and op.identity is not None and (op.name != "ensure" or left.repeat_ensure):
                        found.append(("run and repeat later", number))
                    if left.fail:
                        found += [("fail", number), ("lose the reply", number)]
            if left.crash and actor.begun and actor.transaction:
                found.append(("kill", number))
                if op.store and left.repeat and op.identity is not None:
                    found.append(("kill, deliver later", number))
        found += [("deliver", index) for index in range(len(self.limbo))]
        for owner in self.database.in_flight:
            found += [("finish the commit", owner), ("lose the commit", owner)]
        if left.evict:
            found += [("evict", key) for key in sorted(self.store.data) if key[:2] != b"q:"]
        if self._may_tick():
            found.append(("tick",))
        if self.database.replica is not None and self.database.replica < self.database.version:
            found.append(("replicate",))
        found += [(name,) for name in ("switch", "restore", "restart") if getattr(left, name)]
        return found

    def do(self, label: Label) -> None:
        """Let one thing happen."""
        kind = label[0]
        if kind in ("run", "run and repeat later", "fail", "lose the reply", "kill", "kill, deliver later"):
            self._turn(kind, self.actors[label[1]])
        elif kind == "deliver":
            self.limbo.pop(label[1])[2]()
        elif kind in ("finish the commit", "lose the commit"):
            self.database.in_flight.remove(label[1])
            if kind == "finish the commit":
                self.database.commit(label[1], self.now)
            self.database.rollback(label[1])
        elif kind == "evict":
            self._spend("evict")
            self._lose(label[1])
            self.store.evict(label[1])
        elif kind == "tick":
            self._tick()
        elif kind == "replicate":
            assert self.database.replica is not None
            self.database.replica += 1
        elif kind == "switch":
            self._spend("switch")
            self.store.server_id = b"B" if self.store.server_id == b"A" else b"A"
        elif kind in ("restore", "restart"):
            self._spend(kind)
            for key in self.store.data:
                self._lose(key)
            self.store.server_id = b"C%d" % (getattr(self.left, kind))
            self.store.flush()
            if kind == "restore":
                self.store.data.update(self.snapshot)

    def _turn(self, kind: str, actor: Actor) -> None:
        op = actor.op
        assert op is not None
        if kind.startswith("kill"):
            self._spend("crash")
            self.died = True
            if kind != "kill":
                self._spend("repeat")
                self.limbo.append((op.identity, op.name, op.action))
            actor.die()
            return
        if not actor.begun:
            actor.begun = True
            actor.at_start = self.database.version
            actor.required = max(self.required, actor.process.own_version)
        if kind == "run and repeat later":
            self._spend("repeat")
            self.limbo.append((op.identity, op.name, op.action))
        if op.name == "mark":
            self.now += 1  # marks of two writers do not end at one moment
            actor.marked_at = self.now
        if kind in ("fail", "lose the reply"):
            self._spend("fail")
            if op.name == "mark":
                self.lost = self.lost_before_commit = True
            if kind == "lose the reply":
                op.action()
            actor.learn("failed")
            actor.advance(None, StoreUnavailable("the demon"))
            return
        result = op.action()
        actor.learn(result)
        actor.advance(result)

    def _spend(self, demon: str) -> None:
        self.left = replace(self.left, **{demon: getattr(self.left, demon) - 1})

    # -- marks and time

    def _deadlines(self) -> dict[int, set[bytes]]:
        """When something pending or young comes due, with the tokens that end then."""
        found: dict[int, set[bytes]] = {}
        for key, (value, _) in self.store.data.items():
            if not isinstance(value, bytes):
                continue
            if value[:1] == b"p":
                for item in value[1:].split(b" "):
                    token, _, deadline = item.partition(b":")
                    found.setdefault(int(deadline), set()).add(token)
            elif key.startswith(b"schemes:"):
                for ready in _READY.findall(value):
                    if int(ready[1:]) > self.now:
                        found.setdefault(int(ready[1:]), set())
        return found

    def _writer(self, token: bytes) -> Actor | None:
        return next((actor for actor in self.actors if actor.token == token), None)

    def _uncommitted(self, tokens: Iterable[bytes]) -> bool:
        """Whether one of the tokens is of a writer that may still commit."""
        for token in tokens:
            writer = self._writer(token)
            if writer is not None and writer.name in self.database.in_flight:
                return True
            if writer is not None and writer.status == "live" and writer.transaction == "open":
                return True
        return False

    def _may_tick(self) -> bool:
        deadlines = self._deadlines()
        if not deadlines:
            return self._debts_wait()
        database = self.database
        if database.replica is not None and database.replica < database.version:
            lag = self.cast.options.get("replica_lag_ms", 0) or 1000
            if min(deadlines) >= database.times[database.replica + 1] + lag:
                return False  # the replica is never further behind than promised
        return self.cast.demons.expire == "any" or not self._uncommitted(deadlines[min(deadlines)])

    def _debts_wait(self) -> bool:
        """Whether a process waits for the time when it may settle what it owes."""
        return any(
            process.protocol.overdue and not process.protocol.overdue.due(self.now / 1000)
            for process in self.processes
        )

    def _tick(self) -> None:
        deadlines = self._deadlines()
        if not deadlines:
            self.now += 2 * MARK_TTL
            return
        due = min(deadlines)
        if self._uncommitted(deadlines[due]):
            self.lost_before_commit = True
        self._note_lost(deadlines[due])
        self.now = max(self.now, due)
        self.store.expire()

    def _lose(self, key: bytes) -> None:
        """A key is about to get lost: note which marks go with it."""
        value = self.store.get(key)
        if value is None or value[:1] != b"p":
            return
        tokens = {item.partition(b":")[0] for item in value[1:].split(b" ")}
        if self._uncommitted(tokens):
            self.lost_before_commit = True
        self._note_lost(tokens)

    def _note_lost(self, tokens: Iterable[bytes]) -> None:
        if self._uncommitted(tokens):
            self.lost = True

    # -- the promises

    def check(self) -> None:
        """Compare what any onlooker would be answered now with the database."""
        for onlooker in self.onlookers:
            for name, plan in self.plans.items():
                outcome = run(onlooker.peek(self.direct(), plan, decode=bytes))
                if outcome.hit:
                    self.judge(name, outcome.value, self.required, self.database.version)
                elif name in self.cast.keeps:
                    raise Violation(f"(d) {name} is no hit any more: {outcome.reason}")

    def judge(self, name: str, value: bytes, required: int, started: int) -> None:
        """Check a hit of a read that began when ``required`` was finished, ``started`` committed."""
        query = self.queries[name]
        versions = self.database.versions
        if value not in {query.encoded(rows) for rows in versions[required:]}:
            raise Violation(f"(a) {name} answers {value!r}, older than what was finished")
        if not self.lost_before_commit and value not in {
            query.encoded(rows) for rows in versions[started:]
        }:
            raise Violation(f"(b) {name} answers {value!r}, older than what was committed")
        quiet = (
            all(actor.op is None for actor in self.actors)
            and not self.limbo
            and not self.database.in_flight
            and not any(stamps.is_pending(value) for value, _ in self.store.data.values())
        )
        if quiet and not (self.lost and self.died) and value != query.encoded(self.database.rows):
            owed = any(process.protocol.overdue for process in self.processes)
            if not owed:
                raise Violation(f"(c) {name} answers {value!r} for ever")

    # -- comparison

    def digest(self) -> int:
        """Equal for states with an equal future."""
        ranks = {moment: rank for rank, moment in enumerate(sorted(self._deadlines()))}
        lag = self.cast.options.get("replica_lag_ms")

        def moment(found: re.Match[bytes]) -> bytes:
            value = int(found[0][1:])
            if value <= self.now:
                return b"="
            return b"=%d" % (value - self.now if lag else ranks[value])

        store = []
        for key, (value, _) in self.store.data.items():
            if value[:1] == b"p":
                value = _DEADLINE.sub(moment, value)
            elif key.startswith(b"schemes:"):
                value = _READY.sub(moment, value)
            store.append((key, value))
        versions = self.database.versions
        actors = []
        for actor in self.actors:
            live = actor.op is not None
            elapsed = (self.now - actor.marked_at) // 1000 if live and actor.transaction else 0
            asked: Any = None
            if live and actor.begun and actor.transaction == "":
                asked = tuple(
                    frozenset(query.encoded(rows) for rows in versions[start:])
                    for query in self.queries.values()
                    for start in (actor.required, actor.at_start)
                )
            actors.append((actor.status, actor.stage, actor.begun, actor.transaction, elapsed, asked))
        processes = []
        for process in self.processes:
            if any(actor.op is not None for actor in process.actors):
                owed = [
                    (table, tuple((due * 1000 - self.now) // 1000 for due in tokens.values()))
                    for table, tokens in process.protocol.overdue._tables.items()
                ]
                processes.append((process.history, tuple(owed), process.own_version > self.required))
            else:
                processes.append((0, bool(process.protocol.overdue), False))
        allowed = tuple(
            frozenset(query.encoded(rows) for rows in versions[self.required :])
            for query in self.queries.values()
        )
        return hash(
            (
                frozenset(store),
                self.database.digest(),
                tuple(actors),
                tuple(processes),
                self.left,
                tuple(sorted((identity, name) for identity, name, _ in self.limbo)),
                self.store.server_id,
                (self.lost_before_commit, self.lost, self.died),
                allowed,
            )
        )

    def describe(self, label: Label) -> str:
        """A line of a schedule, told before it happens."""
        if label[0] in ("run", "run and repeat later", "fail", "lose the reply", "kill", "kill, deliver later"):
            actor = self.actors[label[1]]
            op = actor.op
            return f"{actor.name}: {label[0]} {op.name if op else ''}".replace(": run ", ": ")
        if label[0] == "deliver":
            return f"deliver late: {self.limbo[label[1]][1]}"
        return " ".join(part.decode() if isinstance(part, bytes) else str(part) for part in label)


__all__ = ["Awaitable", "Place"]
