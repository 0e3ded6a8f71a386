"""The two colours of the way to Redis: over ``redis.Redis``, and over ``redis.asyncio.Redis``."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from ..core.protocol import Asked, Reply
from .exchange import RedisTransport, unlike
from .replies import are_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .breaker import Breaker


class SyncTransport(RedisTransport):
    """Over ``redis.Redis`` or what Sentinel makes of it. Its coroutines never suspend.

    A few sockets are kept at hand, which costs less than giving each back to the pool; whoever
    finds none takes one from the pool.
    """

    #: Sockets at hand at most, and seconds after which one is tried before it is used.
    AT_HAND = 8
    FRESH = 1.0

    def __init__(
        self, client: Any, *, breaker: Breaker | None = None, keeps_data: bool = False
    ) -> None:
        super().__init__(client, breaker=breaker, keeps_data=keeps_data)
        self._idle: deque[tuple[Any, float]] = deque()
        self._pid = os.getpid()
        limit = getattr(client.connection_pool, "max_connections", None) or 2 * self.AT_HAND
        self._at_hand = min(self.AT_HAND, limit // 2)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - a synchronous caller has no event loop

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        # The hit path: one command over a socket that was used a moment ago.
        if not self.breaker.calm or not self._idle or self._pid != os.getpid():
            return await super().mget(keys)
        try:
            connection, since = self._idle.pop()
        except IndexError:  # another thread was faster
            return await super().mget(keys)
        server = connection.cacheops_identity.server
        if not server or time.monotonic() - since > self.FRESH:
            self._idle.append((connection, since))
            return await super().mget(keys)
        try:
            connection.send_packed_command(_spelt(connection, keys), check_health=False)
            values = connection.read_response(disable_decoding=True)
            if not are_values(values, len(keys)):
                raise InvalidResponse(unlike((b"MGET", *keys), values))
            self._same(connection, server)
        except Disconnected:
            await self._cut(connection)
            (values,), server = await self._talk(lambda server: [(b"MGET", *keys)], False)
            self._raise([values])
            return Reply(values, server)
        except ResponseError as error:
            self._idle.append((connection, time.monotonic()))
            self._raise([error])
        except (RedisError, OSError) as error:
            await self._cut(connection)
            raise self._failed(error) from error
        except BaseException:
            await self._cut(connection)
            raise
        self._idle.append((connection, time.monotonic()))
        return Reply(values, server)

    async def _borrow(self) -> Any:
        if self._pid != os.getpid():  # the sockets at hand are the parent's
            self._idle, self._pid = deque(), os.getpid()
        try:
            connection, since = self._idle.pop()
        except IndexError:
            return self.client.connection_pool.get_connection(*self._name)
        if time.monotonic() - since > self.FRESH:
            try:
                stale = connection.can_read(timeout=0)
            except (RedisError, OSError):
                stale = True
            if stale:  # closed by the server, or holding what nobody asked for
                connection.disconnect()
                self.client.connection_pool.release(connection)
                return self.client.connection_pool.get_connection(*self._name)
        return connection

    async def _check(self, connection: Any) -> None:
        connection.check_health()

    async def _send(self, connection: Any, data: Any) -> None:
        # Without the health check, which might reconnect to another server behind our back.
        connection.send_packed_command(data, check_health=False)

    async def _read(self, connection: Any) -> Any:
        return connection.read_response(disable_decoding=True)

    async def _cut(self, connection: Any) -> None:
        # Those at hand are likely to be as stale, and need not be tried one by one.
        while True:
            try:
                connection.disconnect()
            finally:
                self.client.connection_pool.release(connection)
            try:
                connection, _ = self._idle.pop()
            except IndexError:
                return

    async def _release(self, connection: Any) -> None:
        if len(self._idle) < self._at_hand:
            self._idle.append((connection, time.monotonic()))
        else:
            self.client.connection_pool.release(connection)


def _spelt(connection: Any, keys: Sequence[bytes]) -> Any:
    """The command that asks for some keys, as it is sent."""
    if not isinstance(keys, Asked):
        return connection.pack_command(b"MGET", *keys)
    if keys.command is None:
        keys.command = connection.pack_command(b"MGET", *keys)
    return keys.command


class AsyncTransport(RedisTransport):
    """Over ``redis.asyncio.Redis``; belongs to the event loop of its client."""

    def __init__(
        self, client: Any, *, breaker: Breaker | None = None, keeps_data: bool = False
    ) -> None:
        super().__init__(client, breaker=breaker, keeps_data=keeps_data)
        self._pid = os.getpid()
        self._seen: WeakSet[Any] = WeakSet()

    async def aclose(self) -> None:
        """Close the pooled sockets of this event loop."""
        await self.client.aclose()

    def abandon(self) -> None:
        """Close the sockets when their event loop is closed already: nothing can be awaited."""
        for connection in list(self._seen):
            writer = getattr(connection, "_writer", None)
            if writer is not None:
                # Else redis-py warns of a socket that nobody could have closed.
                connection._reader = connection._writer = None
                _end(writer.transport)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _borrow(self) -> Any:
        if self._pid != os.getpid():
            # Asynchronous pools of redis-py do not notice a fork; the sockets are the parent's.
            self._pid = os.getpid()
            self.client.connection_pool.reset()
        connection = await self.client.connection_pool.get_connection(*self._name)
        self._seen.add(connection)
        return connection

    async def _check(self, connection: Any) -> None:
        await connection.check_health()

    async def _send(self, connection: Any, data: Any) -> None:
        await connection.send_packed_command(data, check_health=False)

    async def _read(self, connection: Any) -> Any:
        return await connection.read_response(disable_decoding=True)

    async def _cut(self, connection: Any) -> None:
        try:
            await connection.disconnect(nowait=True)
        finally:
            await asyncio.shield(self.client.connection_pool.release(connection))

    async def _release(self, connection: Any) -> None:
        await self.client.connection_pool.release(connection)


def _end(transport: Any) -> None:
    """Close a transport of asyncio without its event loop, which is closed."""
    tls = getattr(transport, "_ssl_protocol", None)
    inner = getattr(tls, "_transport", None) or transport
    for each in (transport, inner):
        with suppress(RuntimeError):  # it is marked as closing, then asks its loop for the rest
            each.close()
    # The rest; loops other than asyncio's own close their sockets with themselves.
    lost = getattr(inner, "_call_connection_lost", None)
    if lost is not None:
        with suppress(RuntimeError):
            lost(None)
