"""Marks and time: when they run out, and which of them a writer counts on."""

from __future__ import annotations

import re

from .local import MARK_TTL
from .state import State, Turn

_TOKENS = re.compile(rb"([0-9a-f]+):(\d+)")
_READY = re.compile(rb"=\d+")


class Marks(State):
    """Lets time pass, and notes which marks were lost."""

    def _deadlines(self) -> dict[int, set[bytes]]:
        """When something pending or young comes due, with the tokens that end then."""
        found: dict[int, set[bytes]] = {}
        for key, (value, _) in self.store.data.items():
            if value[:1] == b"p":
                for token, deadline in _TOKENS.findall(value):
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
