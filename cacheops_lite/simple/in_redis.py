"""The simple cache in Redis: values by key under ``<prefix>simple:``, each command told once.

Two keys for each of the user's: the value, and (while a value is computed) a version, a random
stamp. A computed value names the version that it was begun under and counts only while that is
there; ``set`` and ``delete`` drop the version. A value that was ``set`` names none and counts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from .. import engine
from ..core.protocol import Transport, run
from ..exceptions import StoreUnavailable
from ..functions import decorators
from ..functions.backend import CacheMiss
from ..functions.times import NO_TIMEOUT, seconds
from ..prefixes import PrefixQuery
from ..stores.cluster import transport_over
from .base import BaseCache, Timeout

logger = logging.getLogger("cacheops_lite")

_FIXED, _COMPUTED = b"=", b"?"
_STAMP = 8

#: What computing a value may take, in ms; a version outlives two values and that.
_COMPUTING = 60 * 60 * 1000


class RedisCache(BaseCache):
    """Values in Redis: over ``conn``, a client of redis-py, or else where ``CACHEOPS_REDIS`` says.

    Without ``conn`` the decorators are those of ``cacheops_lite``, with all their options. With it
    they lack what ``FileCache`` lacks, and async callers run in a thread.
    """

    def __init__(self, conn: Any = None) -> None:
        self.conn = conn
        self._own = transport_over(conn) if conn is not None else None

    # -- the commands, each once for both colours ----------------------------------------------

    async def _get_many(self, way: Transport, cache_keys: Iterable[str]) -> dict[str, Any]:
        keys = {cache_key: self._key(cache_key) for cache_key in cache_keys}
        if not keys:
            return {}
        wanted = [key for value in keys.values() for key in (value, _version(value))]
        try:
            values = (await way.mget(wanted)).values
        except StoreUnavailable:
            return {}
        found = {}
        for place, (cache_key, key) in enumerate(keys.items()):
            data, version = values[2 * place : 2 * place + 2]
            try:
                found[cache_key] = self._decode(key, data, version)
            except CacheMiss:
                continue
        return found

    def _decode(self, key: bytes, data: bytes | None, version: bytes | None) -> Any:
        if data is None:
            raise CacheMiss
        start = 1
        if data[:1] == _COMPUTED:
            start = 1 + _STAMP
            if data[1:start] != version:
                raise CacheMiss
        elif data[:1] != _FIXED:
            raise CacheMiss
        try:
            return engine.current().codec.bytes_to_object(data[start:], key)
        except Exception:  # whatever another program or release stored there
            raise CacheMiss from None

    async def _begin(self, way: Transport, cache_key: str, timeout: Timeout) -> bytes:
        version, fresh = _version(self._key(cache_key)), os.urandom(_STAMP)
        try:
            (found,) = (await way.mget([version])).values
            if found is None:
                if await way.set(version, fresh, 2 * _ms(timeout) + _COMPUTING, nx=True):
                    return fresh
                (found,) = (await way.mget([version])).values
        except StoreUnavailable:
            return fresh
        return found or fresh  # one that is not stored: nor will the value count

    async def _set(
        self, way: Transport, cache_key: str, data: Any, timeout: Timeout, head: bytes
    ) -> None:
        key = self._key(cache_key)
        payload = engine.current().codec.object_to_bytes(data, key)
        try:
            if head == _FIXED:
                await way.delete([_version(key)])
            await way.set(key, head + payload, _ms(timeout))
        except StoreUnavailable as error:
            _complain("store", cache_key, error)

    async def _add(self, way: Transport, cache_key: str, data: Any, timeout: Timeout) -> bool:
        key = self._key(cache_key)
        payload = _FIXED + engine.current().codec.object_to_bytes(data, key)
        try:
            if await way.set(key, payload, _ms(timeout), nx=True):
                return True
            if cache_key in await self._get_many(way, [cache_key]):
                return False
            # What is there does not count any more.
            await way.delete([key])
            return await way.set(key, payload, _ms(timeout), nx=True)
        except StoreUnavailable as error:
            _complain("store", cache_key, error)
            return False

    async def _delete(self, way: Transport, cache_keys: Iterable[str]) -> None:
        keys = [self._key(cache_key) for cache_key in cache_keys]
        try:
            await way.delete([each for key in keys for each in (_version(key), key)])
        except StoreUnavailable as error:
            _complain("delete", ", ".join(cache_keys), error)

    def _key(self, cache_key: str) -> bytes:
        cache = engine.current()
        prefix = cache.settings.prefix
        if not isinstance(prefix, str):
            prefix = prefix(PrefixQuery([], []))
        # The hash tag keeps a value and its version in one slot of a cluster.
        return f"{prefix}simple:{{{quote(str(cache_key), safe=_SAFE)}}}".encode()

    # -- decorators ----------------------------------------------------------------------------

    # Without a connection of its own, these are the package's decorators.

    def _cached(self, timeout: Any, extra: Any = None, **options: Any) -> Any:
        if self._own is None:
            return decorators.cached(timeout, extra, **options)
        return super()._cached(timeout, extra, **options)

    def _cached_view(self, timeout: Any, extra: Any = None, **options: Any) -> Any:
        if self._own is None:
            return decorators.cached_view(timeout, extra, **options)
        return super()._cached_view(timeout, extra, **options)

    # -- sync ----------------------------------------------------------------------------------

    @property
    def _way(self) -> Any:
        return self._own if self._own is not None else engine.current().transport

    def get(self, cache_key: str) -> Any:
        """The value. Raises ``CacheMiss``, also when Redis does not answer."""
        return _one(run(self._get_many(self._way, [cache_key])), cache_key)

    def get_many(self, cache_keys: Iterable[str]) -> dict[str, Any]:
        """The values that are there, by key, in one command."""
        return run(self._get_many(self._way, cache_keys))

    def begin(self, cache_key: str, timeout: Timeout = None) -> Any:
        """A token for ``store``."""
        return run(self._begin(self._way, cache_key, timeout))

    def store(self, cache_key: str, data: Any, timeout: Timeout, token: Any) -> None:
        """Store a computed value."""
        run(self._set(self._way, cache_key, data, timeout, _COMPUTED + token))

    def set(self, cache_key: str, data: Any, timeout: Timeout = None) -> None:
        """Store a value. Without a timeout it stays for a year."""
        run(self._set(self._way, cache_key, data, timeout, _FIXED))

    def add(self, cache_key: str, data: Any, timeout: Timeout = None) -> bool:
        """Store a value if there is none; tell whether it was stored."""
        return run(self._add(self._way, cache_key, data, timeout))

    def delete(self, cache_key: str) -> None:
        """Remove a value."""
        run(self._delete(self._way, [cache_key]))

    def delete_many(self, cache_keys: Iterable[str]) -> None:
        """Remove several values in one round trip."""
        run(self._delete(self._way, list(cache_keys)))

    # -- async: natively over the engine's connection, else in a thread --------------------------

    async def aget(self, cache_key: str) -> Any:
        """``get`` for async callers."""
        if self._own is not None:
            return await super().aget(cache_key)
        return _one(await self._get_many(engine.current().async_transport, [cache_key]), cache_key)

    async def aget_many(self, cache_keys: Iterable[str]) -> dict[str, Any]:
        """``get_many`` for async callers."""
        if self._own is not None:
            return await super().aget_many(cache_keys)
        return await self._get_many(engine.current().async_transport, cache_keys)

    async def aset(self, cache_key: str, data: Any, timeout: Timeout = None) -> None:
        """``set`` for async callers."""
        if self._own is not None:
            return await super().aset(cache_key, data, timeout)
        way = engine.current().async_transport
        return await self._set(way, cache_key, data, timeout, _FIXED)

    async def aset_many(self, data: Mapping[str, Any], timeout: Timeout = None) -> None:
        """``set_many`` for async callers."""
        if self._own is not None:
            return await super().aset_many(data, timeout)
        for key, value in data.items():
            await self.aset(key, value, timeout)
        return None

    async def aadd(self, cache_key: str, data: Any, timeout: Timeout = None) -> bool:
        """``add`` for async callers."""
        if self._own is not None:
            return await super().aadd(cache_key, data, timeout)
        return await self._add(engine.current().async_transport, cache_key, data, timeout)

    async def adelete(self, cache_key: str) -> None:
        """``delete`` for async callers."""
        if self._own is not None:
            return await super().adelete(cache_key)
        return await self._delete(engine.current().async_transport, [cache_key])

    async def adelete_many(self, cache_keys: Iterable[str]) -> None:
        """``delete_many`` for async callers."""
        if self._own is not None:
            return await super().adelete_many(cache_keys)
        return await self._delete(engine.current().async_transport, list(cache_keys))


_SAFE = "/:;,.!@$^*()[]|<>'\"=+-_~&?# "


def _version(key: bytes) -> bytes:
    return key + b":v"


def _ms(timeout: Timeout) -> int:
    wanted = seconds(timeout)
    return max(1, round((NO_TIMEOUT if wanted is None else wanted) * 1000))


def _one(found: dict[str, Any], cache_key: str) -> Any:
    try:
        return found[cache_key]
    except KeyError:
        raise CacheMiss(cache_key) from None


def _complain(what: str, cache_key: str, error: StoreUnavailable) -> None:
    if not engine.current().settings.degrade_on_failure:
        raise error
    logger.warning("cacheops_lite: cannot %s %r: %s", what, cache_key, error)
