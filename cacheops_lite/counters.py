"""What this process has counted: reads per model or function and op, drops per table and cause.

Plain increments without locks: under the GIL ``x.n += 1`` is not interrupted, and a count that is
lost without it does no harm. The number of lines is bounded; what comes past it shares one line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import perf_counter
from typing import Any, Final

#: Lines, drops and reasons of a line at most; those past it are counted under ``OTHER``.
MOST_LINES: Final = 2000
MOST_REASONS: Final = 30
OTHER: Final = "other"


class Line:
    """The reads of one model or function by one op. Times are seconds, sizes bytes of payload."""

    __slots__ = (
        "compute_seconds", "computed", "hit_bytes", "hit_seconds", "hits", "miss_seconds",
        "misses", "refused", "stored", "stored_bytes", "uncached",
    )  # fmt: skip

    def __init__(self) -> None:
        self.hits = 0
        self.hit_seconds = 0.0
        self.hit_bytes = 0
        #: Why an entry was not answered -> how often (`core.plans.Outcome`).
        self.misses: dict[str, int] = {}
        #: The whole of a miss: asking Redis, loading, storing.
        self.miss_seconds = 0.0
        self.stored = 0
        self.stored_bytes = 0
        #: Why a result that was loaded was not stored -> how often.
        self.refused: dict[str, int] = {}
        #: Why the cache was not even asked -> how often.
        self.uncached: dict[str, int] = {}
        #: Calls of a cached function that ran it, and the time that it took.
        self.computed = 0
        self.compute_seconds = 0.0

    def missed(self, outcome: Any, started: float) -> float:
        """A read was no hit. ``outcome`` says why, ``started`` is a ``perf_counter()``, as is
        the moment that is returned: now."""
        finished = perf_counter()
        self.miss_seconds += finished - started
        add(self.misses, outcome.missed or outcome.reason, MOST_REASONS)
        if not outcome.missed:
            self.stored += 1
        else:
            add(self.refused, outcome.reason, MOST_REASONS)
        return finished

    def numbers(self) -> Iterator[tuple[tuple[str, str], int]]:
        """What was counted as whole numbers: (measure, detail) -> bytes, microseconds, times."""
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, dict):
                for reason, times in list(value.items()):
                    yield (name, reason), times
            elif name.endswith("_seconds"):
                yield (f"{name[:-8]}_us", ""), round(value * 1e6)
            else:
                yield (name, ""), value


#: (model class or function's name, op) -> what was counted.
lines: dict[tuple[Any, str], Line] = {}
#: (table, what was done to it) -> changes that were committed.
drops: dict[tuple[str, str], int] = {}
#: What happened to the process as a whole -> how often.
events: dict[str, int] = {}


def line(owner: Any, op: str) -> Line:
    """The line of a model (its class) or of a function (its name)."""
    try:
        return lines[owner, op]
    except KeyError:
        key = (owner, op) if len(lines) < MOST_LINES else (OTHER, op)
        return lines.setdefault(key, Line())


def add(counts: dict[Any, int], key: Any, most: int = MOST_LINES, times: int = 1) -> None:
    """Count something under a key, or under ``OTHER`` if there are too many keys."""
    if key not in counts and len(counts) >= most:
        key = (OTHER, OTHER) if isinstance(key, tuple) else OTHER
    counts[key] = counts.get(key, 0) + times


def dropped(causes: dict[tuple[str, str], int]) -> None:
    """Changes were committed: (table, cause) -> how many."""
    for key, times in causes.items():
        add(drops, key, times=times)


def totals() -> dict[tuple[str, str, str, str], int]:
    """All that was counted, flat: (name, op, measure, detail) -> a whole number.

    Drops have ``"drop"`` for an op and the cause as detail, events ``"event"``.
    """
    found: dict[tuple[str, str, str, str], int] = {}
    for (owner, op), one in list(lines.items()):
        name = owner if isinstance(owner, str) else owner._meta.label_lower
        for (measure, detail), number in one.numbers():
            if number:
                found[name, op, measure, detail] = number
    for (table, cause), times in list(drops.items()):
        found[table, "drop", "changes", cause] = times
    for event, times in list(events.items()):
        found["", "event", event, ""] = times
    return found


def reset() -> None:
    """Begin anew, as a forked child does: what its parent counted is the parent's."""
    lines.clear()
    drops.clear()
    events.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)
