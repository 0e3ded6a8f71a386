"""The server dies, freezes, pauses, comes back empty, while traffic goes on: right, and not slow.

Delay is counted, not timed: how often a caller waited for a timeout is how often an exchange was
begun, since each is given up after one timeout.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cacheops_lite import engine
from tests.wires import Actor

from . import world
from .machines import Machine, Machines
from .processes import Processes
from .proxy import Proxy
from .world import WRITES, Checker

pytestmark = pytest.mark.django_db(transaction=True)


def kill(machine: Machine) -> Callable[[], None]:
    machine.kill()
    return machine.restart


def stop(machine: Machine) -> Callable[[], None]:
    machine.stop()
    return machine.restart


def freeze(machine: Machine) -> Callable[[], None]:
    machine.freeze()
    return machine.thaw


def pause(machine: Machine) -> Callable[[], None]:
    """Clients are let in and not served for a while; not even those who would end the pause."""
    machine.command("CLIENT", "PAUSE", 700, "ALL")
    return lambda: None


def pause_writes(machine: Machine) -> Callable[[], None]:
    """Reads are served; marks, bumps, stamps and stores hang."""
    machine.command("CLIENT", "PAUSE", 60_000, "WRITE")
    return lambda: machine.command("CLIENT", "UNPAUSE")


def restart(machine: Machine) -> Callable[[], None]:
    """Gone and back at once, empty, on the same address."""
    machine.kill()
    machine.restart()
    return lambda: None


WAYS = [kill, stop, freeze, pause, pause_writes, restart]


@pytest.mark.parametrize("away", WAYS)
def test_traffic_through_an_outage(
    checker: Checker, machines: Machines, processes: Processes, away: Any
) -> None:
    """Two processes read and write before, during and after: each sees its own writes at once,
    and both see all of them once both have found the server again."""
    chance = random.Random(away.__name__)
    machine = machines()
    names = ["one", "two"]
    for name in names:
        processes.start(name, f"{machine.url}?socket_timeout=0.05")
        with processes.on(name):
            world.recovers()
    for _ in range(2):
        with processes.on("one"):
            world.traffic(chance, 10)
        with processes.on("two"):
            world.traffic(chance, 10)
        back = away(machine)
        with processes.on("one"):
            world.traffic(chance, 20, writes=0.4)
        back()
        for name in names * 2:
            with processes.on(name):
                world.recovers(why=f"({away.__name__})")
    assert checker.hits > 0


def test_each_process_is_right_while_only_it_is_cut_off(
    checker: Checker, proxy: Proxy, machine: Machine, processes: Processes
) -> None:
    """One process loses its way to the server: it goes on rightly; when it is back all are right."""
    chance = random.Random(7)
    processes.start("cut off", f"{proxy.url}?socket_timeout=0.1")
    processes.start("other", machine.url)
    for _ in range(3):
        for name in ("other", "cut off"):
            with processes.on(name):
                world.recovers()
        proxy.down = True
        proxy.cut_all()
        with processes.on("cut off"):
            world.traffic(chance, 20, writes=0.5)
        proxy.heal()
        with processes.on("cut off"):
            world.recovers()
        with processes.on("other"):
            world.look()
            world.traffic(chance, 5)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def hanging(proxy: Proxy, processes: Processes, fault: str = "hang before") -> Iterator[Clock]:
    """Be a process whose server has just begun to hang; the clock is its breaker's."""
    clock = Clock()
    processes.start("own", f"{proxy.url}?socket_timeout=0.1")
    with processes.on("own"):
        world.recovers()
        engine.current().breaker.monotonic = clock
        proxy.spoil(0, fault, for_good=True)
        yield clock


@pytest.mark.parametrize("fault", ["hang before", "hang after"])
def test_an_outage_costs_few_timeouts(
    checker: Checker, proxy: Proxy, processes: Processes, fault: str
) -> None:
    """While the breaker's pause lasts nobody waits; after it one caller does, then nobody again."""
    with hanging(proxy, processes, fault) as clock:
        chance = random.Random(1)
        for waited in (1, 2, 3):
            world.traffic(chance, 30)
            for write in WRITES.values():
                write()
            assert proxy.spoilt <= waited, "somebody else waited for a timeout"
            assert proxy.spoilt >= 1
            clock.now += 60


def test_a_frozen_server_holds_up_a_write_once(
    checker: Checker, proxy: Proxy, processes: Processes
) -> None:
    """The mark waits for one timeout while the transaction holds its locks, the bump for none."""
    with hanging(proxy, processes):
        WRITES["two tables"]()
        assert proxy.spoilt == 1
        assert engine.current().protocol.overdue


def test_many_threads_wait_together_not_in_turn(
    checker: Checker, proxy: Proxy, processes: Processes
) -> None:
    """Threads that are asking when the server hangs wait once each, and none of them again."""
    with hanging(proxy, processes):
        actors = [Actor(lambda: [world.look() for _ in range(3)]) for _ in range(8)]
        for actor in actors:
            actor.finish()
        assert 1 <= proxy.spoilt <= len(actors)
