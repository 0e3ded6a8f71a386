"""Many callers of one cached function at once, and what must hold among them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Crowd:
    """What a function gives while others call it: the number that was set last.

    ``most`` is how many ran it at once, ``announced`` the last number whose older ones have been
    invalidated.
    """

    def __init__(self) -> None:
        self.fresh = self.announced = self.most = self._busy = 0
        self.stop = threading.Event()
        self._guard = threading.Lock()

    @contextmanager
    def inside(self) -> Iterator[int]:
        """One caller runs the function; the number it is to give."""
        with self._guard:
            self._busy += 1
            self.most = max(self.most, self._busy)
        try:
            yield self.fresh
        finally:
            with self._guard:
                self._busy -= 1

    def run(
        self, threads: list[threading.Thread], turns: int, invalidate: Callable[[], Any]
    ) -> None:
        """Let the threads read until ``stop``, while the number is raised and invalidated."""
        for thread in threads:
            thread.start()
        for number in range(self.fresh + 1, self.fresh + 1 + turns):
            self.fresh = number
            invalidate()
            self.announced = number
            time.sleep(0.002 * (number % 4))
        self.stop.set()
        for thread in threads:
            thread.join()
