"""A circuit breaker: after a failure nobody asks for a while, then one caller tries."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Breaker:
    """Opens at the first failure; each failed probe doubles the pause (seconds) up to a ceiling.

    Ask `allow` before each exchange and answer a True with `success`, `failure` or `abandoned`.
    """

    def __init__(
        self,
        *,
        pause: float = 0.5,
        ceiling: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pause = pause
        self.ceiling = ceiling
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._next = pause
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
        if self._until is not None:
            with self._lock:
                self._until = None
                self._probing = False
                self._next = self.pause

    def failure(self) -> None:
        """The store did not answer: open, and wait longer than last time."""
        with self._lock:
            if self._until is not None and not self._probing:
                return  # a straggler from before the circuit opened
            self._probing = False
            self._until = self.monotonic() + self._next
            self._next = min(self._next * 2, self.ceiling)

    def abandoned(self) -> None:
        """The exchange was cut short by its caller and tells nothing."""
        with self._lock:
            self._probing = False
