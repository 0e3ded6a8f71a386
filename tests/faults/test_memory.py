"""A server with next to no memory, under each eviction policy: never stale, never an error."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests import models as m
from tests.watching import Read

from . import world
from .machines import Machine, Machines
from .processes import Processes
from .world import READS, WRITES, Checker

pytestmark = pytest.mark.django_db(transaction=True)

POLICIES = [
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
    "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
]  # fmt: skip

#: Reads with results of every size, most of them too many for the memory together.
LARGE = [
    Read(lambda number=number: m.Post.objects.filter(views__gte=number).order_by("pk"))
    for number in range(40)
]


@pytest.fixture(scope="module")
def small_machine() -> Iterator[Machine]:
    made = Machine("--maxmemory-samples", "10")
    yield made
    made.close()


def squeeze(machine: Machine, policy: str, room: int) -> None:
    """Leave so many bytes of memory free."""
    with machine.client() as client:
        client.config_set("maxmemory", 0)
        client.flushall()
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + room)


def evicted(machine: Machine) -> int:
    with machine.client() as client:
        return client.info("stats")["evicted_keys"]


@pytest.mark.parametrize("policy", POLICIES)
def test_tiny_memory(
    checker: Checker, small_machine: Machine, processes: Processes, policy: str
) -> None:
    """Random reads and writes of two processes while the server loses any key at any time."""
    chance = random.Random(policy)
    m.Post.objects.update(text="x" * 8000)
    for name in ("one", "two"):
        processes.start(name, small_machine.url)
    happened: Counter[str] = Counter()
    with small_machine.client() as client:
        client.config_resetstat()
    for room in (400_000, 200_000, 120_000):
        squeeze(small_machine, policy, room)
        for _ in range(60):
            with processes.on(chance.choice(["one", "two"])):
                if chance.random() < 0.25:
                    name = chance.choice(list(WRITES))
                    WRITES[name]()
                    happened[name] += 1
                else:
                    happened["hits"] += world.look(
                        [chance.choice(READS if chance.random() < 0.5 else LARGE)]
                    )
            checker.judge()
    assert happened["hits"] > 0, "nothing was ever cached"
    if policy == "noeviction":
        assert checker.reasons["unavailable"], "the memory was never full"
    else:
        assert evicted(small_machine) > 0, "the memory was never full"
    squeeze(small_machine, policy, 10_000_000)
    for name in ("one", "two"):
        with processes.on(name):
            world.recovers(why=f"({policy})")


def test_a_store_without_room_is_lost_and_that_is_all(
    checker: Checker, machines: Machines, processes: Processes
) -> None:
    """When there is no room for entries any more the rows are returned, and writes are announced."""
    machine = machines()
    processes.start("one", machine.url)
    processes.start("two", machine.url)
    for name in ("one", "two"):
        with processes.on(name):
            world.recovers()
    machine.command("CONFIG", "SET", "maxmemory", "1")
    for write in WRITES.values():
        with processes.on("one"):
            write()
            world.look()
        with processes.on("two"):
            world.look()
    machine.command("CONFIG", "SET", "maxmemory", "0")
    for name in ("one", "two"):
        with processes.on(name):
            world.recovers()


def test_scripts_that_run_out_of_memory_half_way(
    checker: Checker, machines: Machines, processes: Processes
) -> None:
    """The memory ends at any byte, so inside of any script: what it has done by then is no lie."""
    machine = machines()
    for name in ("one", "two"):
        processes.start(name, machine.url)
    chance = random.Random(3)
    for _ in range(60):
        with processes.on("one"):
            look = [chance.choice(READS), chance.choice(LARGE)]
            world.look(look)
        with machine.client() as client:
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", used + chance.randrange(-20_000, 20_000))
        with processes.on("one"):
            chance.choice(list(WRITES.values()))()
        with processes.on("two"):
            world.look(look)
            chance.choice(list(WRITES.values()))()
        with processes.on("one"):
            world.look(look)
        machine.command("CONFIG", "SET", "maxmemory", "0")
