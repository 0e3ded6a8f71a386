"""A circuit breaker: after failures nobody asks for a while, then one caller tries."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from ..core.forks import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("cacheops_lite")


class Breaker:
    """Opens after some ``failures`` in a row; each failed probe doubles the pause up to a ceiling.

    ``pause`` and ``ceiling`` are seconds; ``jitter`` is the part of a pause, from 0 to 1, that
    chance may take away, so that many processes do not probe at one moment. Each change of state
    is one line in the log and one call of ``on_change(closed, reason)``.

    Ask `allow` before each exchange and answer a True with `success`, `failure` or `abandoned`.
    """

    def __init__(
        self,
        *,
        failures: int = 1,
        pause: float = 0.5,
        ceiling: float = 10.0,
        jitter: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        on_change: Callable[[bool, str], None] | None = None,
    ) -> None:
        self.failures = failures
        self.pause = pause
        self.ceiling = ceiling
        self.jitter = jitter
        self.monotonic = monotonic
        self.chance = chance
        self.on_change = on_change
        #: Closed, and the last exchange was a success.
        self.calm = True
        #: Why it opened, or what failed last; ``""`` while calm.
        self.reason = ""
        self._lock = new_lock(self)
        self._failed = 0
        self._next = pause
        self._since = 0.0
        self._until: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether callers are turned away, but for probes."""
        return self._until is not None

    def allow(self) -> bool:
        """Tell whether to try: always while closed; one probe at a time after the pause."""
        if not self.open:
            return True
        with self._lock:
            if self._probing or self.monotonic() < (self._until or 0):
                return False
            self._probing = self.open
            return True

    def success(self) -> None:
        """The store answered: close."""
        if self.calm:
            return
        with self._lock:
            was_open, self._until = self.open, None
            lasted = self.monotonic() - self._since
            self._probing = False
            self._next = self.pause
            self._failed = 0
            self.calm, self.reason = True, ""
        if was_open:
            log.warning("Redis answers again, after %.1f s", lasted)
            self._tell(True, "")

    def failure(self, reason: str = "") -> None:
        """The store did not answer: open, and wait longer than last time."""
        with self._lock:
            if self._until is not None and not self._probing:
                return  # a straggler from before the circuit opened
            self._probing = False
            self.calm, self.reason = False, reason
            self._failed += 1
            if self._failed < self.failures:
                return
            opens = self._until is None
            now = self.monotonic()
            if opens:
                self._since = now
            wait = self._next * (1 - self.jitter * self.chance())
            self._until = now + wait
            self._next = min(self._next * 2, self.ceiling)
        if opens:
            log.warning(
                "Redis does not answer, going on without the cache; asked again in %.1f s: %s",
                wait,
                reason,
            )
            self._tell(False, reason)

    def abandoned(self) -> None:
        """The exchange was cut short by its caller and tells nothing."""
        with self._lock:
            self._probing = False

    def _tell(self, closed: bool, reason: str) -> None:
        if self.on_change is not None:
            self.on_change(closed, reason)
