"""Whose turn it is: actors take steps, demons do their worst."""

from __future__ import annotations

from typing import Any

from cacheops_lite.core.protocol import (
    Answer,
    Reply,
)
from cacheops_lite.stores.memory import filled

from .cast import Label
from .local import UNAVAILABLE
from .ops import Op
from .promises import Promises
from .state import Turn

#: A pause of more than half of a mark's time, in ms.
PAUSE = 6000


class World(Promises):
    """One run of a cast."""

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
            if self._due(self.now):  # nor does time stand still for one that is about to
                self.lost = self.lost_before_commit = True
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
