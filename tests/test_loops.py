"""Event loops come and go: under WSGI Django makes one for each request that calls a coroutine."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cacheops_lite import cached, engine

from .clusters import Cluster, running
from .wires import PATIENCE


@pytest.fixture(params=["server", "cluster"])
def watched(
    request: pytest.FixtureRequest, redis_client: redis.Redis, settings: Any
) -> Iterator[Any]:
    """Something that tells how many sockets are open to the configured servers."""
    if request.param == "server":
        if isinstance(redis_client, redis.RedisCluster):
            pytest.skip("the other parameter")
        yield lambda: len(redis_client.client_list())
        return
    with running() as cluster:
        settings.CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster"
        settings.CACHEOPS_REDIS = cluster.url
        clients = [redis.Redis(port=port) for port in ports(cluster)]
        yield lambda: sum(len(client.client_list()) for client in clients)
        engine.reset()
        for client in clients:
            client.close()


def ports(cluster: Cluster) -> list[int]:
    return [node.port for node in cluster.nodes]


def falls_to(count: Any, number: int) -> bool:
    """Whether there are no more sockets than that, as soon as the server has noticed."""
    until = time.monotonic() + PATIENCE
    while count() > number:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_loops_that_are_over(watched: Any) -> None:
    """A loop that is over is forgotten, and its sockets closed, when the next one opens its own."""
    loops: weakref.WeakSet[Any] = weakref.WeakSet()

    @cached(60)
    async def function(number: int) -> int:
        return number

    async def act(number: int) -> int:
        loops.add(asyncio.get_running_loop())
        return sum(await asyncio.gather(*(function(number + more) for more in range(3))))

    before = watched()
    assert asyncio.run(act(0)) == 3
    one = watched() - before
    assert one > 0
    for number in range(10):
        assert asyncio.run(act(number)) == 3 * number + 3
    gc.collect()
    assert len(loops) <= 2, "the last, and one that asgiref remembers for its threads"
    assert falls_to(watched, before + 2 * one)
    engine.reset()
    gc.collect()
    assert len(loops) <= 1
    assert falls_to(watched, before)


def test_loops_at_the_same_time() -> None:
    """A loop that is still open keeps its sockets, whoever comes and goes."""

    @cached(60)
    async def function() -> str:
        return "value"

    with asyncio.Runner() as runner:
        assert runner.run(function()) == "value"
        first = runner.run(transport())
        for _ in range(3):
            assert asyncio.run(function()) == "value"
        assert runner.run(function()) == "value"
        assert runner.run(transport()) is first
        runner.run(engine.current().aclose())


async def test_locks_in_memory(settings: Any) -> None:
    """Over ``memory://`` too a task that waits for a lock leaves the loop to the others."""
    settings.CACHEOPS_REDIS = "memory://loops"
    calls = 0

    @cached(60, lock=True)
    async def function() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return calls

    assert await asyncio.gather(function(), function()) == [1, 1]


async def transport() -> Any:
    return engine.current().async_transport
