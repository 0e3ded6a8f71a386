"""What the parts of the protocol share: keys, sources of time and chance, what is remembered."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from . import stamps
from .keys import Keys
from .memo import LIGHT, Overdue, Recent, Sized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .ensuring import Shape

#: Schemes in use per table at most; past it readers widen to the any-row conjunction.
MOST_SCHEMES = 64
#: Plans and tables that a process remembers.
REMEMBERED = 10_000
DAY_MS = 24 * 60 * 60 * 1000


class State:
    """Process-local and safe among threads; `forget` makes it as new.

    ``monotonic`` gives seconds; ``random`` must never repeat itself, also not after a fork.
    ``mark_ttl_ms`` bounds the time from mark to commit; ``replica_lag_ms`` is how far behind a
    database replica may be that loads read from.
    """

    def __init__(
        self,
        prefix: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[int], bytes] = os.urandom,
        mark_ttl_ms: int = 10_000,
        gen_ttl_ms: int = 7 * DAY_MS,
        replica_lag_ms: int = 0,
    ) -> None:
        self.keys = Keys(prefix)
        self.most_schemes = MOST_SCHEMES
        self.version = stamps.VERSION
        self.monotonic = monotonic
        self.random = random
        self.mark_ttl_ms = mark_ttl_ms + replica_lag_ms
        self.gen_ttl_ms = gen_ttl_ms
        self.lag_ms = replica_lag_ms
        #: Plans with their keys spelt, by entry.
        self.shapes: Sized[bytes, Shape] = Sized(
            REMEMBERED, lambda _, shape: shape.weight(), light=3 * LIGHT
        )
        #: The schemes in use, as last seen.
        self.schemes: Recent[str, tuple[str, ...]] = Recent(REMEMBERED)
        #: All schemes seen in use lately, here or in other processes: what writers look up old
        #: values for, so that a scheme that went with its gen and comes back finds them known.
        self.used: Recent[str, frozenset[str]] = Recent(REMEMBERED)
        #: Schemes that found their table full, with the gen under which it was.
        self.full: Recent[tuple[str, str], bytes] = Recent(REMEMBERED)
        #: Tables that this process may not read from the cache.
        self.overdue = Overdue()

    def forget(self) -> None:
        """Forget all that was learnt from the store; overdue invalidations are kept: still owed."""
        self.shapes.clear()
        self.schemes.clear()
        self.used.clear()
        self.full.clear()

    def note_used(self, table: str, schemes: Iterable[str]) -> None:
        """Remember schemes as used, as long as they are not too many."""
        seen = frozenset(scheme for scheme in schemes if scheme)
        used = self.used.get(table) or frozenset()
        if not seen <= used:
            both = used | seen
            self.used.set(table, both if len(both) <= self.most_schemes else seen)

    def own(self, gen: bytes | None, server: bytes) -> bool:
        """Tell whether a gen was made by this version on the server behind this socket."""
        return stamps.is_own(gen, server, self.version)

    def token(self) -> bytes:
        """A name for a writer or the holder of a lock, never used before."""
        return self.random(8).hex().encode()
