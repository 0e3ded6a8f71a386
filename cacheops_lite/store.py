"""The configured store: its client, its transports and its breaker, each built when first needed.

Nothing here opens a socket before it is asked to read or write.
"""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from django.core.exceptions import ImproperlyConfigured

from . import conf, counters, signals
from .core.forks import new_lock
from .stores.breaker import Breaker
from .stores.client import cluster_seeds, is_cluster, make_client, node_client
from .stores.cluster import ClusterTransport
from .stores.memory import MemoryStore, MemoryTransport
from .stores.nodes import AsyncNode, SyncNode
from .stores.transport import AsyncTransport, SyncTransport

logger = logging.getLogger("cacheops_lite")

_memory_stores: dict[str, MemoryStore] = {}


class Store:
    """The ways to what ``CACHEOPS_REDIS`` or ``CACHEOPS_SENTINEL`` names."""

    def __init__(self, settings: conf.Settings) -> None:
        self.settings = settings
        self._lock = new_lock(self)

    @cached_property
    def transport(self) -> Any:
        """The sync transport. Raises ``ImproperlyConfigured`` with what to do."""
        memory = self.memory_store
        if memory is not None:
            return MemoryTransport(memory)
        if self.clustered:
            return self._make_cluster(asynchronous=False)
        return SyncTransport(self.client, breaker=self.breaker, **self._how)

    @property
    def async_transport(self) -> Any:
        """The asyncio transport of the running event loop: sockets cannot change loops."""
        memory = self.memory_store
        if memory is not None:
            return MemoryTransport(memory, sleep=asyncio.sleep)
        loop = asyncio.get_running_loop()
        transport = self._async_transports.get(loop)
        if transport is None:
            if self.clustered:
                transport = self._make_cluster(asynchronous=True)
            else:
                client = self._make_client(asynchronous=True)
                transport = AsyncTransport(client, breaker=self.breaker, **self._how)
            self._forget_closed_loops()
            with self._lock:
                self._async_transports[loop] = transport
        return transport

    @cached_property
    def _async_transports(self) -> WeakKeyDictionary[asyncio.AbstractEventLoop, Any]:
        return WeakKeyDictionary()

    def _forget_closed_loops(self) -> None:
        # A transport holds its sockets, and they their loop: neither would ever be collected.
        with self._lock:
            over = [loop for loop in self._async_transports if loop.is_closed()]
            transports = [self._async_transports.pop(loop) for loop in over]
        for transport in transports:
            transport.abandon()

    @property
    def calm(self) -> bool:
        """Whether every server that was asked has answered the last time."""
        with self._lock:
            transports = [self.transport, *self._async_transports.values()]
        return all(transport.calm for transport in transports)

    @property
    def _how(self) -> dict[str, Any]:
        return {"keeps_data": self.settings.restarts_keep_data}

    @cached_property
    def breaker(self) -> Breaker:
        """What the transports to a single server learn from each other's failures."""
        return self._make_breaker()

    def _make_breaker(self) -> Breaker:
        return Breaker(on_change=_tell_reachable, **self.settings.breaker)  # type: ignore[arg-type]

    @cached_property
    def clustered(self) -> bool:
        """Whether the settings name a Redis Cluster. Raises ``ImproperlyConfigured``."""
        try:
            return is_cluster(self.settings.client_class)
        except (ImportError, AttributeError, ValueError) as error:
            raise ImproperlyConfigured(f"CACHEOPS_CLIENT_CLASS: {error}") from error

    def _make_cluster(self, *, asynchronous: bool) -> ClusterTransport:
        config, kind = self.settings.redis, AsyncNode if asynchronous else SyncNode

        def make_node(address: tuple[str, int]) -> SyncNode | AsyncNode:
            assert config is not None
            client = node_client(config, address, asynchronous=asynchronous)
            # One for each: the others answer while one of them is away.
            return kind(client, breaker=self._make_breaker(), **self._how)

        try:
            if self.settings.sentinel is not None:
                raise ValueError("a Redis Cluster needs no CACHEOPS_SENTINEL")
            seeds = cluster_seeds(config)
            pool = make_node(seeds[0]).client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # fails for unknown options
        except (ValueError, TypeError) as error:
            raise ImproperlyConfigured(f"Cannot connect to Redis as configured: {error}") from error
        return ClusterTransport(seeds, make_node)

    async def aclose(self) -> None:
        """Close the pooled sockets of the running event loop."""
        transport = self._async_transports.pop(asyncio.get_running_loop(), None)
        if transport is not None:
            await transport.aclose()

    @cached_property
    def client(self) -> Any:
        """The redis-py client."""
        return self._make_client()

    @property
    def memory_store(self) -> MemoryStore | None:
        """The store of ``memory://`` URLs, shared by all that name the same one in this process."""
        config = self.settings.redis
        if isinstance(config, str) and config.startswith("memory://"):
            store = _memory_stores.get(config)
            return store if store is not None else _memory_stores.setdefault(config, MemoryStore())
        return None

    def _make_client(self, asynchronous: bool = False) -> Any:
        settings = self.settings
        try:
            client = make_client(
                settings.redis, settings.sentinel, settings.client_class, asynchronous=asynchronous
            )
            pool = getattr(client, "connection_pool", None)
            if pool is not None and settings.sentinel is None:
                pool.connection_class(**pool.connection_kwargs)  # fails for unknown options
            return client
        except (ValueError, TypeError, ImportError, AttributeError) as error:
            raise ImproperlyConfigured(f"Cannot connect to Redis as configured: {error}") from error

    def close(self) -> None:
        """Close the pooled sockets of synchronous callers, and of event loops that are closed."""
        for part in ("client", "transport"):
            opened = self.__dict__.get(part)
            if opened is not None and hasattr(opened, "close"):
                opened.close()
        self._forget_closed_loops()

    def forked(self) -> None:
        """Forget all sockets: they are the parent's, and closing them would end its streams."""
        for part in ("client", "transport", "breaker", "_async_transports"):
            self.__dict__.pop(part, None)


def _tell_reachable(reachable: bool, reason: str) -> None:
    if not reachable:
        counters.add(counters.events, "outages")
    try:
        signals.cache_reachable.send_robust(sender=None, reachable=reachable, reason=reason)
    except Exception:  # an async receiver, and this is an event loop
        logger.exception("cacheops_lite: a receiver of cache_reachable failed")
