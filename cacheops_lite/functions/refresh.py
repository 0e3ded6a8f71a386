"""When a stored result is computed again although it is still there.

*Early*: each hit may recompute, the likelier the nearer the end and the longer it took, so that
hardly ever many callers find it missing at once. From A. Vattani, F. Chierichetti, K. Lowenstein,
"Optimal Probabilistic Cache Stampede Prevention", VLDB 8 (2015): recompute when
``now - took * beta * log(random) >= end``.

*Stale while revalidate*: past its end a result is answered for a stated time more while one caller
computes the next. It is as valid as ever: what invalidates it ends this too.

*Stale if invalidated*: the same across an invalidation, only for who asks for it.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

from .times import number

#: How long the first sight of an invalidated result is remembered, in ms: longer than any of the
#: times for which it may be answered.
NOTICED_MS = 24 * 60 * 60 * 1000


class Kept(NamedTuple):
    """The stored form of a value: fresh ``until`` (seconds of the clock), ``took`` seconds."""

    value: Any
    until: float
    took: float


@dataclass(frozen=True)
class Refresh:
    """What the caller of a decorator chose. All times are seconds."""

    early: float = 0.0
    stale: float = 0.0
    invalidated: float = 0.0
    clock: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random

    def keep(self, value: Any, started: float, took: float, timeout: float) -> Kept:
        """The form in which to store a value whose computation ``started`` at a time."""
        return Kept(value, started + timeout, took)

    def ended(self, kept: Kept) -> bool:
        """Whether it must not be answered any more."""
        return self.clock() >= kept.until + self.stale

    def due(self, kept: Kept) -> bool:
        """Whether this hit should be computed again, if nobody else does."""
        left = kept.until - self.clock()
        if left <= 0:
            return True
        if not self.early:
            return False
        return kept.took * self.early * -math.log(1 - self.chance()) >= left


class Refreshing(TypedDict, total=False):
    """Options of decorators: when a result is computed again although it is still there.

    ``early``: near its end a hit computes the next result, the likelier, the longer that takes; a
    factor: 1 suits most, more is earlier, 0 is off. ``stale_while_revalidate``: seconds after the
    timeout for which the last value is answered while one caller computes the next; never across an
    invalidation. ``stale_if_invalidated``: the same across an invalidation, for so many seconds
    after the first call that finds it invalid; at most half a day.
    """

    early: float
    stale_while_revalidate: float | timedelta
    stale_if_invalidated: float | timedelta


def take(options: dict[str, Any]) -> Refresh | None:
    """Take these options out of others: the policy they ask for, if any.

    Raises ``TypeError``, ``ValueError``.
    """
    early, stale, invalidated = numbers = [
        float(number(options.pop(name, 0), f"{name} must be a number that is not negative", 0))
        for name in Refreshing.__annotations__
    ]
    if invalidated * 2000 > NOTICED_MS:
        raise ValueError("stale_if_invalidated is half a day at most, in seconds.")
    return Refresh(early, stale, invalidated) if any(numbers) else None


def only(options: dict[str, Any]) -> Refresh | None:
    """``take`` where no other options are known. Raises ``TypeError``."""
    policy = take(options)
    if options:
        raise TypeError(f"Unknown options: {', '.join(sorted(options))}.")
    return policy
