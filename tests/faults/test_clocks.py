"""Clocks jump: the server's, by hours, either way, at any moment; ours, while we wait.

The server's is the clock of the store in memory, whose scripts are held to Redis' by the store
contract. What a jump may cost is a mark that ends early (then a writer must not die as well) and
results that live longer or shorter.
"""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from cacheops_lite import engine
from cacheops_lite.stores.breaker import Breaker
from cacheops_lite.stores.memory import MemoryStore

from . import world
from .processes import Processes
from .world import READS, WRITES, Checker

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = 3_600_000
JUMPS = [1, -1, 300, -300, 61_000, -61_000, HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 8 * 24 * HOUR]


class Clock:
    """The real time, and how far it has jumped."""

    def __init__(self) -> None:
        self.ahead = 0
        self.now = 0.0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(checker: Checker, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Two processes on one server whose clock a test turns."""
    made = Clock()
    url = "memory://clocks"
    monkeypatch.setattr("cacheops_lite.store._memory_stores", {url: MemoryStore(clock=made)})
    for name in ("one", "two"):
        processes.start(name, url)
    return made


@pytest.mark.parametrize("seed", range(3))
def test_the_clock_of_the_server_jumps(
    checker: Checker, clock: Clock, processes: Processes, seed: int
) -> None:
    """Between any two reads and writes of two processes: never stale, and caching goes on."""
    chance = random.Random(seed)
    for _ in range(60):
        with processes.on(chance.choice(["one", "two"])):
            world.traffic(chance, 2, writes=0.4)
        clock.ahead += chance.choice(JUMPS)
    for name in ("one", "two"):
        with processes.on(name):
            # Nothing that a jump made pending stays so for longer than marks live.
            world.recovers()
    assert checker.hits > 0


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 24 * HOUR])
def test_it_jumps_inside_a_read_or_a_write(
    checker: Checker,
    clock: Clock,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    jump: int,
) -> None:
    """Before each of the scripts of a write, or of a miss, the clock jumps."""
    script = MemoryStore.script

    def jumping(self: MemoryStore, *args: Any) -> Any:
        clock.ahead += jump
        return script(self, *args)

    for name, write in WRITES.items():
        for each in ("one", "two"):
            with processes.on(each):
                world.look()
                world.look()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryStore, "script", jumping)
            with processes.on("one"):
                write()
                world.look(why=f"({name})")
            with processes.on("two"):
                world.look(why=f"({name})")
                world.look(why=f"({name})")


def test_our_clock_stands_still_or_leaps(
    checker: Checker, machine: Any, processes: Processes
) -> None:
    """A process whose own clock stops or leaps (it slept, it was moved): right, and it recovers."""
    clock = Clock()
    processes.start("own", f"{machine.url}?socket_timeout=0.2")
    with processes.on("own") as own:
        world.recovers()
        own.protocol.monotonic = clock.monotonic
        own.breaker.monotonic = clock.monotonic
        assert isinstance(own.breaker, Breaker)
        for leap in (0.0, 3600.0, 0.0, 10.0**9):
            clock.now += leap
            world.look(READS)
            for write in WRITES.values():
                write()
                world.look(READS)
            machine.command("CLIENT", "KILL", "TYPE", "normal")
        world.recovers()
        assert engine.current() is own
