"""What is wrong with the server, in words: ``./manage.py cacheops check`` and the deploy check.

Each examination looks at one thing and yields findings: an ``ok`` says what was found to be right,
an ``error`` that the cache cannot work or must not be trusted, a ``warning`` that it is wasted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, Literal, NamedTuple

from . import conf, engine
from .core.protocol import run
from .exceptions import StoreUnavailable
from .rights import refused

#: The oldest servers that are tested.
OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
#: Seconds: a socket that waits longer makes an outage expensive.
LONG_TIMEOUT = 5.0
#: Seconds: a round trip that takes longer eats most of what a cache saves.
SLOW = 0.005

Info = Mapping[str, Any]


class Finding(NamedTuple):
    """``hint`` says what to do; ``""`` where there is nothing to do."""

    level: Literal["ok", "warning", "error"]
    text: str
    hint: str = ""


_PRIVATE = Finding(
    "warning",
    "CACHEOPS_REDIS is memory://: each process caches, and invalidates, for itself.",
    "Set CACHEOPS_REDIS to a server that all processes share.",
)


def examine() -> Iterator[Finding]:
    """Everything. Raises ``ImproperlyConfigured`` for settings that cannot be meant."""
    cache = engine.current()
    if cache.memory_store is not None:
        yield _PRIVATE
        return
    away = unreachable(cache)
    if away is not None:
        yield away
        return
    servers = list(cache.servers())
    for server in servers:
        for level, text, hint in _of(cache, server):
            yield Finding(level, f"{server.name}: {text}" if len(servers) > 1 else text, hint)


def waste(cache: engine.Engine) -> Iterator[Finding]:
    """What the deploy check says: settings of a server that answers and that waste the cache."""
    if cache.memory_store is not None:
        yield _PRIVATE
        return
    for server in cache.servers():
        info = server.client.info("all")
        for part in (_version, _role, _memory, _persistence):
            yield from part(info)


def _of(cache: engine.Engine, server: engine.Server) -> Iterator[Finding]:
    try:
        info = server.client.info("all")
        for part in (_version, _role, _memory, _persistence, _clients):
            yield from part(info)
    except Exception as error:  # redis-py's: it went away, or refuses
        yield Finding("error", f"INFO is not answered: {error}", "Let it answer, and allow INFO.")
    for look in (_rights, _clock, _round_trip):
        try:
            yield from look(cache, server)
        except Exception as error:
            yield Finding("error", f"The server refused a command: {error}", "See above.")


# -- can it be reached -------------------------------------------------------------------------

#: Words in an error -> what to do.
_ADVICE = {
    "WRONGPASS": "Correct the user or the password in CACHEOPS_REDIS.",
    "invalid username-password": "Correct the user or the password in CACHEOPS_REDIS.",
    "NOAUTH": "Put the password into CACHEOPS_REDIS: redis://:password@host:port/db.",
    "Authentication required": "Put the password into CACHEOPS_REDIS.",
    "AUTH": "Correct the user or the password in CACHEOPS_REDIS.",
    "certificate": "Name the authority in CACHEOPS_REDIS: rediss://host/0?ssl_ca_certs=/path.pem.",
    "SSL": "rediss:// is TLS, redis:// is not: use the one that the server's port speaks.",
    "replica": "Point CACHEOPS_REDIS at the primary, or use CACHEOPS_SENTINEL.",
    "MasterNotFound": "Correct service_name and locations of CACHEOPS_SENTINEL.",
    "No master found": "Correct service_name and locations of CACHEOPS_SENTINEL.",
    "MOVED ": "The server is part of a Redis Cluster: set CACHEOPS_CLIENT_CLASS = "
    "'redis.cluster.RedisCluster'.",
    "MovedError": "The server is part of a Redis Cluster: set CACHEOPS_CLIENT_CLASS = "
    "'redis.cluster.RedisCluster'.",
    "NOPERM": "Allow this user what the guide to operations lists.",
    "LOADING": "The server is reading its data; wait until it has.",
    "max number of clients": "Raise maxclients of the server, or lower the number of processes.",
    "DB index": "Correct the number of the database at the end of CACHEOPS_REDIS.",
    "Connection refused": "Start the server, or correct host and port in CACHEOPS_REDIS.",
    "No such file": "Start the server, or correct the path of the socket in CACHEOPS_REDIS.",
    "Name or service not known": "Correct the host in CACHEOPS_REDIS.",
    "imed out": "Let this machine reach the server's port (firewall, network, hanging server).",
}


def unreachable(cache: engine.Engine) -> Finding | None:
    """Why the server cannot be reached and what to do; ``None`` if it answers."""
    try:
        cache.ping()
    except StoreUnavailable as error:
        text = f"{error} {error.__cause__!r}"
        hint = next((advice for word, advice in _ADVICE.items() if word in text), "")
        return Finding("error", str(error), hint or "Start the server, or correct CACHEOPS_REDIS.")
    return None


# -- what it says of itself --------------------------------------------------------------------


def _version(info: Info) -> Iterator[Finding]:
    kind = "valkey" if "valkey_version" in info else str(info.get("server_name") or "redis")
    text = str(info.get(f"{kind}_version") or info.get("redis_version") or "?")
    found = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    oldest = OLDEST.get(kind)
    if oldest is None:
        yield Finding(
            "warning",
            f"The server is {kind} {text}, with which nothing was tested.",
            "Use Redis 6.2 or Valkey 7.2, or a later one.",
        )
    elif found < oldest:
        wanted = ".".join(map(str, oldest))
        yield Finding(
            "error", f"The server is {kind} {text}.", f"Use {kind} {wanted} or a later one."
        )
    else:
        yield Finding("ok", f"{kind} {text}")
    if info.get("cluster_enabled") and not engine.current().clustered:
        yield Finding(
            "error",
            "The server is part of a Redis Cluster, and CACHEOPS_REDIS connects to one node only.",
            'Set CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster".',
        )


def _role(info: Info) -> Iterator[Finding]:
    replicas = int(info.get("connected_slaves") or 0)
    yield Finding("ok", f"it is a primary with {replicas} replicas")
    if replicas and conf.current().restarts_keep_data:
        yield Finding(
            "warning",
            "CACHEOPS_RESTARTS_KEEP_DATA is set, and the server has replicas: one that takes over "
            "may lack the last changes, and its old results would be answered.",
            "Unset it, unless a fail-over cannot lose acknowledged writes.",
        )


def _memory(info: Info) -> Iterator[Finding]:
    limit, used = int(info.get("maxmemory") or 0), int(info.get("used_memory") or 0)
    policy = str(info.get("maxmemory_policy") or "?")
    if not limit:
        yield Finding(
            "warning",
            "maxmemory is not set: nothing but the timeouts bounds what the server holds.",
            "Set maxmemory, and maxmemory-policy allkeys-lru (allkeys-lfu, volatile-lru: as good).",
        )
    elif policy == "noeviction":
        full = used > 0.9 * limit
        yield Finding(
            "error" if full else "warning",
            f"maxmemory-policy is noeviction, and {used / limit:.0%} of the memory is in use: a "
            "full server stores nothing new, and every write of a cached table drops all of it.",
            "Set maxmemory-policy allkeys-lru.",
        )
    elif policy in ("volatile-ttl", "allkeys-random", "volatile-random"):
        why = "marks of writes first" if policy == "volatile-ttl" else "what is in use as well"
        yield Finding(
            "warning",
            f"maxmemory-policy is {policy}, which evicts {why}: results are lost early.",
            "Set maxmemory-policy allkeys-lru (allkeys-lfu, volatile-lru: as good).",
        )
    else:
        yield Finding("ok", f"maxmemory is {limit // 2**20} MiB, policy {policy}")


def _persistence(info: Info) -> Iterator[Finding]:
    aof = bool(int(info.get("aof_enabled") or 0))
    if str(info.get("rdb_last_bgsave_status", "ok")) != "ok":
        yield Finding(
            "error",
            "The server could not save its data the last time, and may refuse every write.",
            "Free its disk, or switch saving off: save ''.",
        )
    if conf.current().restarts_keep_data:
        if not aof:
            yield Finding(
                "error",
                "CACHEOPS_RESTARTS_KEEP_DATA is set, and the server keeps no log of changes: "
                "after a restart results are answered that were dropped before.",
                "Set appendonly yes and appendfsync always, or unset CACHEOPS_RESTARTS_KEEP_DATA.",
            )
        else:
            yield Finding(
                "ok",
                "the server keeps a log of changes (appendfsync must be always: see the guide)",
            )
    elif aof:
        yield Finding(
            "warning",
            "The server writes every change to disk (appendonly yes), and after a restart nothing "
            "of it is trusted.",
            "Set appendonly no; or appendfsync always and CACHEOPS_RESTARTS_KEEP_DATA = True.",
        )


def _clients(info: Info) -> Iterator[Finding]:
    most, now = int(info.get("maxclients") or 0), int(info.get("connected_clients") or 0)
    if most and now > 0.8 * most:
        yield Finding(
            "warning",
            f"{now} of {most} connections are in use.",
            "Raise maxclients, or lower max_connections in CACHEOPS_REDIS.",
        )


# -- what can be tried -------------------------------------------------------------------------


def _rights(cache: engine.Engine, server: engine.Server) -> Iterator[Finding]:
    found = refused(cache, server)
    for what, why in found.items():
        yield Finding(
            "error", f"{what} is refused: {why}", "Allow it, see the guide to operations."
        )
    if not found:
        yield Finding("ok", "every command that is used is allowed on our keys")


def _clock(cache: engine.Engine, server: engine.Server) -> Iterator[Finding]:
    def now() -> float:
        seconds, microseconds = server.client.time()
        return float(seconds) + float(microseconds) / 1e6

    theirs, ours = now(), time.time()
    before, started = theirs, time.monotonic()
    time.sleep(0.2)
    drift = (now() - before) - (time.monotonic() - started)
    if abs(drift) > 0.1:
        yield Finding(
            "error",
            f"The server's clock jumped by {drift:.1f} s while we looked: marks end by it.",
            "Let its clock be slewed, not stepped (chrony, ntpd -x).",
        )
    elif abs(theirs - ours) > 60:
        yield Finding(
            "warning",
            f"The server's clock differs from ours by {theirs - ours:.0f} s. That harms nothing "
            "here, but the counters of an hour are sorted by the clocks of the processes.",
            "Set both clocks.",
        )
    else:
        yield Finding("ok", "its clock runs as ours does")


def _round_trip(cache: engine.Engine, server: engine.Server) -> Iterator[Finding]:
    key = cache.protocol.keys.gen(server.table)

    def trip() -> float:
        started = time.perf_counter()
        run(cache.transport.mget([key]))
        return time.perf_counter() - started

    taken = median(trip() for _ in range(25))
    if taken > SLOW:
        yield Finding(
            "warning",
            f"A round trip takes {1000 * taken:.1f} ms.",
            "Move the server closer; a hit costs one round trip, which is to be less than a query.",
        )
    else:
        yield Finding("ok", f"a round trip takes {1000 * taken:.2f} ms")
    timeout = server.client.connection_pool.connection_kwargs.get("socket_timeout")
    if not timeout or timeout > LONG_TIMEOUT:
        yield Finding(
            "warning",
            f"socket_timeout is {timeout}: so long one reader waits for a server that hangs.",
            "Set socket_timeout in CACHEOPS_REDIS to a second or less.",
        )
