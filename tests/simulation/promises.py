"""The promises (a) to (d), and when two states of a run have the same future."""

from __future__ import annotations

import re
from typing import Any

from cacheops_lite.core import stamps
from cacheops_lite.core.protocol import (
    run,
)

from .cast import Query, Violation
from .marks import Marks

_READY = re.compile(rb"=\d+")
_DEADLINE = re.compile(rb":\d+")
#: Stamps never run out here.
_ENDS = re.compile(rb"/\d+$")


class Promises(Marks):
    """Compares what anybody would be answered with the database."""

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
            if value[:1] == b"p":
                value = _ENDS.sub(b"", value)
                value = _DEADLINE.sub(moment, value) if ranks else value
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
