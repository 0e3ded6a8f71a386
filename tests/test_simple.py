"""Simple caches keep values by key until their time is over: in Redis, or in files."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from django.test import override_settings

import cacheops_lite
from cacheops_lite import CacheMiss, FileCache, RedisCache, engine
from cacheops_lite.exceptions import StoreUnavailable
from cacheops_lite.signals import cache_read

from .models import Category

KINDS = ["redis", "connection", "file"]


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, tmp_path: Any, redis_client: redis.Redis) -> Any:
    """Each kind of simple cache: over the engine, over a client of one's own, in files."""
    if request.param == "redis":
        return cacheops_lite.cache
    return RedisCache(redis_client) if request.param == "connection" else FileCache(tmp_path)


@pytest.fixture
async def acache(cache: Any) -> AsyncIterator[Any]:
    yield cache
    await engine.current().aclose()


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, 0, "", "text", b"bytes", {"a": [1, (2, {3})]}])
def test_values_come_back(cache: Any, value: Any) -> None:
    """Any picklable value comes back equal, also those that are false."""
    cache.set("key", value)
    found = cache.get("key")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.django_db
def test_model_instances(cache: Any) -> None:
    """A row is a value like any other."""
    cache.set("key", Category.objects.create(title="a", slug="a"))
    assert cache.get("key") == Category.objects.get()


def test_missing_values(cache: Any) -> None:
    """What is not there raises CacheMiss, which is not a LookupError by accident."""
    with pytest.raises(CacheMiss):
        cache.get("key")
    assert cacheops_lite.CacheMiss.__mro__[1] is Exception


KEYS = [
    "a",
    "a:b",
    "a b",
    "ä",
    "{a}",
    "a{b",
    "a}",
    "%7B",
    "a%",
    "x" * 500,
    "../../etc",
    "a\nb",
    "1",
]


def test_keys_are_kept_apart(cache: Any) -> None:
    """Any text is a key, and no two keys meet."""
    for number, key in enumerate(KEYS):
        cache.set(key, number)
    assert [cache.get(key) for key in KEYS] == list(range(len(KEYS)))


def test_set_replaces(cache: Any) -> None:
    """The last value counts."""
    cache.set("key", 1)
    cache.set("key", 2)
    assert cache.get("key") == 2


def test_delete(cache: Any) -> None:
    """A deleted value is missing; deleting what is missing is nothing."""
    cache.set("key", 1)
    cache.delete("key")
    with pytest.raises(CacheMiss):
        cache.get("key")
    cache.delete("key")


def test_add(cache: Any) -> None:
    """`add` stores only what is missing, and tells."""
    assert cache.add("key", 1) is True
    assert cache.add("key", 2) is False
    assert cache.get("key") == 1
    cache.delete("key")
    assert cache.add("key", 3) is True
    assert cache.get("key") == 3


def test_add_over_a_value_that_does_not_count(cache: Any) -> None:
    """A value that was computed before a delete is as good as missing."""
    token = cache.begin("key")
    cache.delete("key")
    cache.store("key", "old", None, token)
    assert cache.add("key", "new") is True
    assert cache.get("key") == "new"


def test_many(cache: Any) -> None:
    """Several values at once; what is missing is left out."""
    cache.set_many({"a": 1, "b": None})
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": None}
    assert cache.get_many([]) == {}
    cache.delete_many(["a", "c"])
    assert cache.get_many(["a", "b"]) == {"b": None}


def test_get_or_set(cache: Any) -> None:
    """A missing value is computed, stored and returned; one that is there is not computed."""
    assert cache.get_or_set("key", lambda: 1) == 1
    assert cache.get_or_set("key", lambda: 2) == 1
    assert cache.get_or_set("other", 3) == 3
    assert cache.get("other") == 3


# -- races -----------------------------------------------------------------------------------------


def test_deleted_while_computed(cache: Any) -> None:
    """A value whose computing began before a delete is returned once and never answered."""

    def compute() -> str:
        cache.delete("key")
        return "old"

    assert cache.get_or_set("key", compute) == "old"
    assert cache.get_or_set("key", lambda: "new") == "new"
    assert cache.get("key") == "new"


def test_set_while_computed(cache: Any) -> None:
    """A value that was set is not followed by an older one that took longer."""

    def compute() -> str:
        cache.set("key", "new")
        return "old"

    assert cache.get_or_set("key", compute) == "old"
    with suppress(CacheMiss):  # lost, which a cache may
        assert cache.get("key") == "new"


def test_computed_twice_at_once(cache: Any) -> None:
    """Two that compute at the same time both store; neither makes the other's value void."""
    assert cache.get_or_set("key", lambda: cache.get_or_set("key", lambda: 1) + 1) == 2
    assert cache.get("key") in (1, 2)


# -- time ------------------------------------------------------------------------------------------


def test_values_end(redis_client: redis.Redis) -> None:
    """A value lives for its timeout, and for a year without one; nothing stays for ever."""
    cache = cacheops_lite.cache
    cache.set("short", 1, timeout=5)
    cache.set("long", 1)
    cache.add("added", 1, timeout=5)
    cache.get_or_set("computed", 1, timeout=5)
    lives = {key.decode(): redis_client.ttl(key) for key in redis_client.scan_iter("simple:*")}
    assert lives.pop("simple:{long}") > 360 * 86400
    assert 3600 <= lives.pop("simple:{computed}:v") <= 3611
    assert set(lives) == {"simple:{short}", "simple:{added}", "simple:{computed}"}
    assert all(4 <= seconds <= 5 for seconds in lives.values())


def test_a_hit_costs_one_command(redis_client: redis.Redis) -> None:
    """`get` and `get_many` send one MGET."""
    cache = cacheops_lite.cache
    cache.set_many({"a": 1, "b": 2})
    for read in (lambda: cache.get("a"), lambda: cache.get_many(["a", "b"])):
        before = redis_client.info("commandstats")
        read()
        after = redis_client.info("commandstats")
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed - {"cmdstat_info"} == {"cmdstat_mget"}
        assert after["cmdstat_mget"]["calls"] - before["cmdstat_mget"]["calls"] == 1


# -- decorators ------------------------------------------------------------------------------------


def test_cached_functions(cache: Any) -> None:
    """`cached` keeps results here, with the same extras as the decorator of that name."""
    calls: list[Any] = []

    @cache.cached(timeout=60)
    def function(number: int, other: int = 0) -> int:
        calls.append(number)
        return len(calls)

    assert [function(1), function(number=1), function(2), function(1)] == [1, 1, 2, 1]
    key = function.key(1)
    assert key.get() == 1
    function.invalidate(number=1)
    with pytest.raises(CacheMiss):
        key.get()
    assert [function(1), function(2)] == [3, 2]
    key.set(42)
    assert function(1) == 42
    key.delete()
    assert function(1) == 4
    assert function(1, _refresh=True) == 5
    assert function(1) == 5


def test_cached_without_parentheses(cache: Any) -> None:
    """Bare decorators work here too."""
    calls: list[int] = []
    function = cache.cached(lambda: calls.append(1))
    assert [function(), function()] == [None, None]
    assert len(calls) == 1


def test_invalidated_while_computed(cache: Any) -> None:
    """`invalidate()` during the call makes its result void."""
    calls: list[int] = []

    @cache.cached(60)
    def function() -> int:
        calls.append(1)
        if len(calls) == 1:
            function.invalidate()
        return len(calls)

    assert [function(), function(), function()] == [1, 2, 2]


def test_signals(cache: Any) -> None:
    """Look-ups of functions are told; those by key are not."""
    found: list[Any] = []

    def receiver(signal: Any, **kwargs: Any) -> None:
        found.append((kwargs["func"], kwargs["hit"]))

    cache_read.connect(receiver)
    try:
        function = cache.cached(60)(lambda: 1)
        function()
        function()
        cache.set("a", 1)
        cache.get("a")
    finally:
        cache_read.disconnect(receiver)
    original = function.__wrapped__
    assert found == [(original, False), (original, True)]


async def test_async(acache: Any) -> None:
    """Each method has an async twin; get_or_set awaits what it is given."""
    cache = acache

    async def compute() -> int:
        return 1

    with pytest.raises(CacheMiss):
        await cache.aget("key")
    assert await cache.aget_or_set("key", compute) == 1
    assert await cache.aget_or_set("key", lambda: 2) == 1
    assert await cache.aadd("key", 3) is False
    await cache.aset("key", 4)
    assert await cache.aget("key") == 4
    await cache.adelete("key")
    assert await cache.aadd("key", 5) is True
    assert await cache.aget_or_set("other", 6) == 6


async def test_async_many(acache: Any) -> None:
    """Several values at once, for async callers."""
    cache = acache
    await cache.aset_many({"a": 1, "b": None}, timeout=60)
    assert await cache.aget_many(["a", "b", "c"]) == {"a": 1, "b": None}
    assert await cache.aget_many(key for key in "ab") == {"a": 1, "b": None}
    assert await cache.aget_many([]) == {}
    await cache.adelete_many(key for key in "ac")
    assert await cache.aget_many(["a", "b"]) == {"b": None}


async def test_async_over_a_client_of_ones_own(redis_client: redis.Redis) -> None:
    """Each method asks the client that was given, not the configured server."""
    cache = RedisCache(redis_client)
    with override_settings(CACHEOPS_REDIS="redis://127.0.0.1:1/0"):
        await cache.aset_many({"a": 1, "b": 2})
        await cache.aset("c", 3)
        assert await cache.aget_many(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}
        assert await cache.aget("a") == 1
        assert await cache.aadd("a", 4) is False
        assert await cache.aget_or_set("d", 4) == 4
        await cache.adelete("a")
        await cache.adelete_many(["b", "c"])
        assert await cache.aget_many(["a", "b", "c", "d"]) == {"d": 4}


async def test_async_functions(acache: Any) -> None:
    """Coroutine functions are kept here too."""
    calls: list[int] = []

    @acache.cached(60)
    async def function(number: int) -> int:
        calls.append(number)
        return len(calls)

    assert [await function(1), await function(1), await function(2)] == [1, 1, 2]
    await function.ainvalidate(1)
    assert await function(1) == 3
    assert await function.key(1).aget() == 3
    await function.key(1).aset(42)
    assert await function(1) == 42
    await function.key(1).adelete()
    assert await function(1) == 4


# -- what is not ours ------------------------------------------------------------------------------


def test_unsigned_bytes_are_missing(redis_client: redis.Redis) -> None:
    """What another program wrote under our key is not unpickled."""
    cache = cacheops_lite.cache
    for data in (b"", b"=", b"=O", b"?" + b"x" * 8, b"\x80\x05K\x01.", b"=\x80\x05K\x01."):
        redis_client.set("simple:{key}", data)
        with pytest.raises(CacheMiss):
            cache.get("key")
        assert cache.get_or_set("key", 1) == 1
    redis_client.delete("simple:{key}")
    redis_client.lpush("simple:{key}", "a list")
    with pytest.raises(CacheMiss):
        cache.get("key")


def test_values_are_bound_to_their_key(redis_client: redis.Redis) -> None:
    """A stored value that was copied to another key is missing there."""
    cacheops_lite.cache.set("one", 1)
    redis_client.copy("simple:{one}", "simple:{two}")
    with pytest.raises(CacheMiss):
        cacheops_lite.cache.get("two")


@pytest.mark.parametrize("degrade", [True, False])
def test_without_redis(degrade: bool) -> None:
    """Reading misses; writing goes on without, or raises if the project wants to know."""
    with override_settings(
        CACHEOPS_REDIS="redis://127.0.0.1:1/0", CACHEOPS_DEGRADE_ON_FAILURE=degrade
    ):
        cache = cacheops_lite.cache
        with pytest.raises(CacheMiss):
            cache.get("key")
        assert cache.get_many(["key"]) == {}
        for write in (
            lambda: cache.set("key", 1),
            lambda: cache.add("key", 1),
            lambda: cache.delete("key"),
            lambda: cache.get_or_set("key", 1),
        ):
            if degrade:
                write()
            else:
                with pytest.raises(StoreUnavailable):
                    write()


def test_prefix_function() -> None:
    """Tenants do not see each other's values."""
    tenant = "one:"
    cache = cacheops_lite.cache
    with override_settings(CACHEOPS_PREFIX=lambda query: tenant):
        cache.set("key", 1)
        tenant = "two:"
        with pytest.raises(CacheMiss):
            cache.get("key")
        tenant = "one:"
        assert cache.get("key") == 1


# -- many at once ----------------------------------------------------------------------------------


def test_nothing_stale_or_torn_under_load(cache: Any) -> None:
    """While one thread changes the truth and deletes, no reader that starts later sees less."""
    truth = [0]
    stop = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            least = truth[0]
            number, copy, padding = cache.get_or_set("key", compute, 60)
            if number < least or number != copy or padding != "x" * (number % 1000):
                wrong.append((least, number, copy))
                stop.set()

    # What counts is the truth that was announced: a delete that has returned.
    fresh = [0]

    def compute() -> tuple[int, int, str]:
        number = fresh[0]
        return number, number, "x" * (number % 1000)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, 300):
        fresh[0] = number
        cache.delete("key")
        truth[0] = number
        if stop.is_set():
            break
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
