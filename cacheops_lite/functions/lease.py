"""Who computes a result again that is still there: the holder of its lease, and nobody else."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Any

from .. import engine
from ..core import stamps
from ..core.plans import Script
from ..exceptions import StoreUnavailable
from .refresh import NOTICED_MS


class Lease:
    """The right to refresh one entry; whoever else wants it goes on with what is there."""

    def __init__(self, cache: engine.Engine, transport: Any, entry: bytes) -> None:
        self._keys = cache.protocol.keys
        self._transport, self._entry = transport, entry
        self._token = cache.protocol.token()
        self.held = False

    async def take(self) -> bool:
        """Take the lease; it runs out if its holder dies."""
        milliseconds = round(engine.LOCK_TTL * 1000)
        try:
            self.held = await self._transport.set(
                self._keys.lock(self._entry), self._token, milliseconds, nx=True
            )
        except StoreUnavailable:
            self.held = False
        return self.held

    async def release(self) -> None:
        """Give it back."""
        if self.held:
            self.held = False
            try:
                lock = self._keys.lock(self._entry)
                await self._transport.scripts([Script("unlock", [lock], [self._token])])
            except StoreUnavailable:
                return  # it runs out by itself

    async def last(self) -> tuple[bytes, float] | None:
        """The payload that was stored last, valid or not, and how long ago it was first seen here.

        ``None`` if there is none, or nobody can tell.
        """
        try:
            raw = (await self._transport.mget([self._entry])).values[0]
            entry = stamps.parse_entry(raw) if raw is not None else None
            if raw is None or entry is None:
                return None
            since, name = self._keys.since(self._entry), blake2b(raw, digest_size=16).digest()
            if await self._transport.set(since, name, NOTICED_MS, nx=True):
                return entry.payload, 0.0
            if (await self._transport.mget([since])).values[0] != name:
                await self._transport.set(since, name, NOTICED_MS)
                return entry.payload, 0.0
            left = await self._transport.pttl(since)
        except StoreUnavailable:
            return None
        return entry.payload, (NOTICED_MS - left) / 1000 if left > 0 else math.inf
