"""Servers of every version that can be had: the contract of stores, and traffic over each.

``CACHEOPS_TEST_SERVERS`` names binaries, separated as on the PATH; ``fetch_servers`` gets some. The
Redis of the system is always among them.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from cacheops_lite.core.protocol import run
from cacheops_lite.stores.transport import AsyncTransport, SyncTransport
from tests.test_store_contract import OnRedis, Store, StoreContract

from . import world
from .machines import Machine, missing
from .processes import Processes
from .world import Checker

SERVERS = [
    "redis-server",
    *filter(None, os.environ.get("CACHEOPS_TEST_SERVERS", "").split(os.pathsep)),
]


def _short(path: str) -> str:
    """What tells servers apart in the names of tests."""
    return "-".join(part for part in Path(path).parts[-6:] if any(map(str.isdigit, part))) or path


@pytest.fixture(scope="module", params=SERVERS, ids=_short)
def versioned(request: Any) -> Iterator[Machine]:
    """A server of one version."""
    if shutil.which(request.param) is None:
        missing(request.param)
    made = Machine(binary=request.param)
    with made.client() as client:
        info = client.info("server")
    print("Server:", info.get("valkey_version") or info["redis_version"])
    yield made
    made.close()


class TestSyncOnVersions(StoreContract):
    @pytest.fixture
    def store(self, versioned: Machine) -> Iterator[Store]:
        versioned.command("FLUSHALL")
        with versioned.client() as client, versioned.client() as own:
            yield OnRedis(SyncTransport(own), run, client)


@pytest.mark.slow
class TestAsyncOnVersions(StoreContract):
    @pytest.fixture
    def store(self, versioned: Machine) -> Iterator[Store]:
        versioned.command("FLUSHALL")
        with asyncio.Runner() as runner, versioned.client() as client:
            own = redis.asyncio.Redis.from_url(versioned.url)
            yield OnRedis(AsyncTransport(own), runner.run, client)
            runner.run(own.aclose())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("protocol", [2, 3])
def test_traffic_on_versions(
    checker: Checker, versioned: Machine, processes: Processes, protocol: int
) -> None:
    """Two processes read and write, lose keys and scripts, over either version of the protocol."""
    if protocol == 3 and redis.__version__.startswith("7."):
        pytest.skip("redis-py 7 cannot speak RESP3 over a unix socket")
    chance = random.Random(protocol)
    versioned.command("FLUSHALL")
    names = ["one", "two"]
    for name in names:
        processes.start(name, f"{versioned.url}?protocol={protocol}")
    for turn in range(6):
        for name in names:
            with processes.on(name):
                world.traffic(chance, 6)
        versioned.command(
            *[["FLUSHALL"], ["SCRIPT", "FLUSH"], ["CLIENT", "KILL", "TYPE", "normal"]][turn % 3]
        )
    for name in names:
        with processes.on(name):
            world.recovers()
    assert checker.hits > 0
