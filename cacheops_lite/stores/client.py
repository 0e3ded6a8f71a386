"""Configuration values -> a redis-py client, sync or async, or the in-memory store."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.cluster
import redis.sentinel

#: Seconds. A cache that answers later than this is worth less than the database.
SOCKET_TIMEOUT = 1.0
CONNECT_TIMEOUT = 0.5


def client_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a client: the user's, over our defaults."""
    # NOTE: redis-py would try ten times, for seconds; whether to try again is the transport's word.
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": None,
        **config,
    }


def make_client(
    config: Mapping[str, Any] | str | None,
    sentinel: Mapping[str, Any] | None = None,
    client_class: str | type | None = None,
    *,
    asynchronous: bool = False,
) -> Any:
    """Build a client. ``config`` is a URL or redis-py's keyword arguments.

    Raises ``ValueError`` with what to do.
    """
    if config is not None and sentinel is not None:
        raise ValueError("Set CACHEOPS_REDIS or CACHEOPS_SENTINEL, not both.")
    if sentinel is not None:
        return _sentinel_client(sentinel, _client_class(client_class, asynchronous), asynchronous)
    if config is None:
        raise ValueError(
            "Set CACHEOPS_REDIS to a URL ('redis://localhost:6379/1', 'unix:///path?db=1') "
            "or to a dict of redis-py's options."
        )
    cls = _client_class(client_class, asynchronous)
    if isinstance(config, str):
        return cls.from_url(config, **client_options({}))
    return cls(**client_options(config))


def is_cluster(client_class: str | type | None) -> bool:
    """Whether the configured class is redis-py's client of a Redis Cluster, or made from it."""
    cls = _client_class(client_class, asynchronous=False)
    return isinstance(cls, type) and issubclass(cls, redis.cluster.RedisCluster)


def cluster_seeds(config: Mapping[str, Any] | str | None) -> list[tuple[str, int]]:
    """The nodes to ask first: of a URL, or of ``host`` and ``port`` or ``startup_nodes``.

    Raises ``ValueError`` with what to do.
    """
    if isinstance(config, str):
        url = urlsplit(config)
        if url.scheme not in ("redis", "rediss") or url.path.strip("/") not in ("", "0"):
            raise ValueError("A Redis Cluster has a 'redis://' or 'rediss://' URL, and database 0.")
        return [(url.hostname or "localhost", url.port or 6379)]
    if config is None or config.get("db"):
        raise ValueError(
            "Set CACHEOPS_REDIS to a node of the Redis Cluster; it has database 0 only."
        )
    seeds = []
    for node in config.get("startup_nodes") or [config]:
        named: Any = node if isinstance(node, Mapping) else vars(node)
        seeds.append((str(named.get("host") or "localhost"), int(named.get("port") or 6379)))
    return seeds


def node_client(
    config: Mapping[str, Any] | str, address: tuple[str, int], *, asynchronous: bool
) -> Any:
    """A client of one node of a Redis Cluster, with the options of the whole."""
    cls: Any = redis.asyncio.Redis if asynchronous else redis.Redis
    host, port = address
    if isinstance(config, str):
        url = urlsplit(config)
        user, at, _ = url.netloc.rpartition("@")
        place = f"[{host}]" if ":" in host else host
        url = url._replace(netloc=f"{user}{at}{place}:{port}", path="")
        return cls.from_url(url.geturl(), **client_options({}))
    options = {name: value for name, value in config.items() if name not in _OF_CLUSTERS}
    return cls(**{**client_options(options), "host": host, "port": port})


#: Options of redis-py's cluster client that a client of one node does not take.
_OF_CLUSTERS = frozenset(
    "address_remap cluster_error_retry_attempts db dynamic_startup_nodes host "
    "load_balancing_strategy port read_from_replicas reinitialize_steps require_full_coverage "
    "startup_nodes".split()
)


def _client_class(client_class: str | type | None, asynchronous: bool) -> Any:
    if asynchronous:
        return redis.asyncio.Redis
    if client_class is None:
        return redis.Redis
    if isinstance(client_class, str):
        module, _, name = client_class.rpartition(".")
        return getattr(import_module(module), name)
    return client_class


def _sentinel_client(config: Mapping[str, Any], client_class: Any, asynchronous: bool) -> Any:
    options = dict(config)
    try:
        locations = options.pop("locations")
        service_name = options.pop("service_name")
    except KeyError as missing:
        raise ValueError(
            f"CACHEOPS_SENTINEL needs 'locations' and 'service_name'; {missing} is missing."
        ) from None
    options = client_options(options)
    options["sentinel_kwargs"] = client_options(options.get("sentinel_kwargs") or {})
    kind = redis.asyncio.sentinel.Sentinel if asynchronous else redis.sentinel.Sentinel
    db = options.pop("db", 0)
    finder = kind([tuple(location) for location in locations], **options)
    return finder.master_for(service_name, redis_class=client_class, db=db)
