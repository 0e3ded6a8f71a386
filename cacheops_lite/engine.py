"""Wiring: the settings in force -> one protocol, its transports and its codec.

``current()`` is the engine of this process. It is built at first use, dropped when a setting
changes, and never opens a socket before it is asked to read or write.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import cached_property
from importlib import import_module
from random import random
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from . import conf, pulse
from .core import squeeze
from .core.codec import Codec, PlainPickle, Signer
from .core.entry import Change
from .core.memo import Overdue
from .core.protocol import CacheProtocol, Outcome, ReadPlan, Ticket, run
from .exceptions import InvalidationRefused, StoreUnavailable
from .prefixes import PrefixQuery
from .store import Store

logger = logging.getLogger("cacheops_lite")

#: How long a caller waits for another one that computes the same value, in seconds.
LOCK_WAIT = 5.0
#: When the lock of a holder that died runs out, in seconds.
LOCK_TTL = 10.0

#: The pseudo-table that every cached function and view depends on. No table has such a name, nor
#: has what one function depends on (``func:…``).
FUNCTIONS = "all:functions"
#: The pseudo-table whose rows are the tags of functions and views.
TAGS = "all:tags"


class Server(NamedTuple):
    """A server to look at: its name in a cluster, a client, a table whose keys it has."""

    name: str
    client: Any
    table: str


class Engine(Store):
    """One protocol over the configured store; sync methods, and ``a…`` twins for async callers."""

    def __init__(self, settings: conf.Settings) -> None:
        super().__init__(settings)
        static = settings.prefix if isinstance(settings.prefix, str) else ""
        self.protocol = CacheProtocol(static, replica_lag_ms=round(settings.replica_lag * 1000))

    @cached_property
    def codec(self) -> Codec:
        """The payload codec; signs with ``SECRET_KEY``, verifies its fallbacks too."""
        serializer: Any = self.settings.serializer or PlainPickle
        if isinstance(serializer, str):
            try:
                serializer = _module_or_object(serializer)
            except ImportError as error:
                raise ImproperlyConfigured(f"CACHEOPS_SERIALIZER: {error}.") from error
        if not all(callable(getattr(serializer, name, None)) for name in ("dumps", "loads")):
            raise ImproperlyConfigured(
                "CACHEOPS_SERIALIZER must be a module or a class with dumps and loads, or its "
                f"path; got {self.settings.serializer!r}."
            )
        return Codec(Signer(self.settings.secret_keys), serializer, self._squeezing())

    def _squeezing(self) -> bytes | None:
        wanted = self.settings.compression
        try:
            return None if wanted is None else squeeze.check(wanted)
        except (ValueError, ImportError) as error:
            raise ImproperlyConfigured(f"CACHEOPS_COMPRESSION: {error}.") from error

    # -- names ---------------------------------------------------------------------------------

    def table(
        self, table: str, using: str = "default", func: Callable[..., Any] | None = None
    ) -> str:
        """The name of a table's keys: qualified by what a ``CACHEOPS_PREFIX`` function says."""
        prefix = self.settings.prefix
        if isinstance(prefix, str):
            return table
        name = f"{prefix(PrefixQuery([using], [table], func))}{table}"
        overdue = self.protocol.overdue
        overdue.meet(table, name, b"distrusted", self.protocol.monotonic())
        return name

    def entry_key(self, table: str, digest: bytes) -> bytes:
        """The key of an entry; ``table`` as ``Engine.table`` spells it."""
        return self.protocol.keys.entry(table, digest.hex())

    # -- reading -------------------------------------------------------------------------------

    def read(
        self,
        plan: ReadPlan,
        load: Callable[[], Any],
        *,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
        timeout: float,
        dynamic: Callable[[Any], Iterable[tuple[str, Any]]] | None = None,
        lock: bool = False,
    ) -> Outcome:
        """Read through the cache; ``timeout`` in seconds. ``load()`` runs once at most."""

        async def loader() -> Any:
            return load()

        return run(
            self.protocol.read(
                self.transport,
                plan,
                loader,
                encode=encode,
                decode=decode,
                dynamic=dynamic,
                ttl_ms=self._life(timeout),
                lock_ms=round(LOCK_TTL * 1000) if lock else 0,
                lock_wait_ms=round(LOCK_WAIT * 1000) if lock else 0,
            )
        )

    async def aread(
        self,
        transport: Any,
        plan: ReadPlan,
        load: Callable[[], Awaitable[Any]],
        *,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
        timeout: float,
        lock: bool = False,
    ) -> Outcome:
        """``read`` as a coroutine, over a transport of either colour."""
        return await self.protocol.read(
            transport,
            plan,
            load,
            encode=encode,
            decode=decode,
            ttl_ms=self._life(timeout),
            lock_ms=round(LOCK_TTL * 1000) if lock else 0,
            lock_wait_ms=round(LOCK_WAIT * 1000) if lock else 0,
        )

    def _life(self, timeout: float) -> int:
        """How long an entry lives, in ms: its timeout, less what chance takes off.

        Results that were stored together do not run out together.
        """
        jitter = self.settings.jitter
        return max(1, round(timeout * 1000 * (1 - jitter * random() if jitter else 1)))

    def peek(self, plan: ReadPlan, decode: Callable[[bytes], Any]) -> Outcome:
        """Whether the entry is valid now, and if not why; loads and stores nothing."""
        return run(self.protocol.peek(self.transport, plan, decode=decode))

    def seconds_left(self, key: bytes) -> float | None:
        """How long a key still lives; ``None`` if it is not there or nobody can tell."""
        try:
            left = run(self.transport.pttl(key))
        except StoreUnavailable:
            return None
        return left / 1000 if left > 0 else None

    # -- writing -------------------------------------------------------------------------------

    def known_schemes(self, table: str) -> tuple[str, ...] | None:
        """The schemes in use on a table as far as known; ``None`` if the store did not answer."""
        return run(self.protocol.known_schemes(self.transport, [table])).get(table)

    def mark(self, changes: Sequence[Change]) -> Ticket:
        """Announce changes before their commit.

        A failure degrades: the tables are not trusted until they were dropped. With
        ``CACHEOPS_DEGRADE_ON_FAILURE = False`` it raises ``InvalidationRefused``.
        """
        ticket = run(self.protocol.mark(self.transport, changes))
        return self._accepted(ticket)

    def refresh(self, ticket: Ticket) -> None:
        """Announce again what was announced long ago; called right before the commit."""
        run(self.protocol.refresh(self.transport, ticket))
        self._accepted(ticket)

    def _accepted(self, ticket: Ticket) -> Ticket:
        if ticket.failed and not self.settings.degrade_on_failure:
            run(self.protocol.bump(self.transport, ticket, committed=False))
            raise InvalidationRefused(
                "The commit was refused: Redis cannot be told about changes of "
                f"{', '.join(sorted(ticket.failed))}. Set CACHEOPS_DEGRADE_ON_FAILURE = True to "
                "let writes go on without it."
            )
        return ticket

    def bump(self, ticket: Ticket, *, committed: bool | None) -> bool:
        """Invalidate after a commit; whether that worked. Never raises: failures are remembered.

        ``committed=None`` says that the outcome is unknown: the marks stay until they run out.
        """
        try:
            return run(self.protocol.bump(self.transport, ticket, committed=committed))
        except Exception:
            # The commit has happened; Django would take an error here for a failed commit.
            logger.exception("cacheops_lite: invalidation failed")
            self.distrust(ticket.changes)
            return False

    def invalidate(self, changes: Sequence[Change]) -> bool:
        """Invalidate now, outside a transaction. A failure is remembered, and logged."""
        done = run(self.protocol.invalidate(self.transport, changes))
        if not done:
            _tell_owed({change.table for change in changes})
        return done

    async def ainvalidate(self, changes: Sequence[Change]) -> None:
        """``invalidate`` for async callers."""
        if not await self.protocol.invalidate(self.async_transport, changes):
            await sync_to_async(_tell_owed)({change.table for change in changes})

    def invalidate_tables(self, tables: Iterable[str], *, told: bool = False) -> bool:
        """Drop every result that depends on one of the tables (names as ``Engine.table``).

        ``told``: who listens to ``owed`` knows of them already.
        """
        names = set(tables)
        done = run(self.protocol.drop_tables(self.transport, sorted(names)))
        if not done and not told:
            _tell_owed(names)
        return done

    def distrust(self, tables: Iterable[str]) -> None:
        """Leave the tables alone until their gens were dropped, which the next read tries."""
        self.protocol.overdue.add(tables, b"distrusted", self.protocol.monotonic())

    def servers(self) -> Iterator[Server]:
        """The server, or the primaries of a cluster. Raises ``StoreUnavailable``."""
        keys = self.protocol.keys
        if not self.clustered:
            yield Server("", self.client, "cacheops-check")
            return
        nodes = run(self.transport.primaries())
        for name, node in nodes.items():
            for number in range(100_000):
                table = f"cacheops-check-{number}"
                if self.transport.serves(keys.gen(table)) is node:
                    yield Server(name, node.client, table)
                    break

    def ping(self) -> None:
        """Raise ``StoreUnavailable`` if the store does not answer."""
        run(self.transport.mget([self.protocol.keys.gen("ping")]))


def _module_or_object(path: str) -> Any:
    """``"pickle"``, ``"package.module"`` or ``"package.module.Class"``."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        return import_string(path)


#: Called with the tables of an invalidation by hand that could not be delivered.
owed: list[Callable[[set[str]], None]] = []


def _tell_owed(tables: set[str]) -> None:
    for listener in owed:
        try:
            listener(tables)
        except Exception:
            logger.exception("cacheops_lite: an undelivered invalidation could not be kept")


_engine: Engine | None = None
#: Tables that this process must not read from the cache yet, whatever its settings become.
_overdue = Overdue()
_lock = threading.Lock()


def current() -> Engine:
    """The engine of this process, for the settings in force."""
    engine = _engine
    return engine if engine is not None else _build()


def used() -> Engine | None:
    """The engine of this process if it has talked to Redis, or could have."""
    engine = _engine
    return engine if engine is not None and "transport" in engine.__dict__ else None


def _build() -> Engine:
    global _engine
    settings = conf.current()
    with _lock:
        if _engine is None:
            _engine = Engine(settings)
            _engine.protocol.overdue = _overdue
        return _engine


def reset() -> None:
    """Drop the engine: its sockets, its memo, what it remembers of schemes.

    Those of event loops that are still open stay: ``await current().aclose()`` closes them before.
    Tables whose invalidation failed stay remembered: they are stale whatever the settings are.
    """
    global _engine
    with _lock:
        engine, _engine = _engine, None
    if engine is not None:
        engine.close()


def distrust(tables: Iterable[str]) -> None:
    """Remember tables that were written while caching was off; dropped before they are read."""
    engine = _engine
    if engine is None:
        _overdue.add(tables, b"distrusted", time.monotonic())
    else:
        engine.distrust(tables)


def distrust_every_name(tables: Iterable[str]) -> None:
    """``distrust``, under all names that a function of ``CACHEOPS_PREFIX`` will give the tables."""
    names = set(tables)
    distrust(names)
    _overdue.add_every_name(names)


def _after_fork() -> None:
    # What is remembered (schemes, tables that must not be trusted) is as true in the child.
    global _lock
    _lock = threading.Lock()
    if _engine is not None:
        _engine.forked()


conf.on_reset(reset)
conf.on_reset(pulse.plan)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
