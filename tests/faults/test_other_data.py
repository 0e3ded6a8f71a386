"""The server comes back with data that is not the latest: an old snapshot, a replica, a fail-back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import servers

from . import world
from .machines import Machines, free_port, until
from .processes import Processes
from .proxy import Proxy
from .world import WRITES, Checker

pytestmark = pytest.mark.django_db(transaction=True)


def write_everything(chance: random.Random) -> None:
    for name in chance.sample(list(WRITES), len(WRITES)):
        WRITES[name]()


def test_an_old_snapshot_is_not_trusted(
    checker: Checker, machines: Machines, processes: Processes, tmp_path: Path
) -> None:
    """Restarted with the data of a while ago, whose stamps and entries fit each other: all misses."""
    machine = machines()
    chance = random.Random(1)
    for name in ("writer", "reader"):
        processes.start(name, machine.url)
    with processes.on("writer"):
        world.recovers()
    dump = machine.snapshot(tmp_path / "old.rdb")
    for _ in range(3):
        with processes.on("writer"):
            write_everything(chance)
            world.recovers()
        machine.kill()
        machine.restart(dump)
        assert machine.command("KEYS", "q:*"), "the snapshot has no entry"
        processes.start("newcomer", machine.url)
        for name in ("reader", "newcomer", "writer"):
            with processes.on(name):
                world.recovers(why=f"({name})")


def test_an_old_snapshot_and_a_write_before_any_read(
    checker: Checker, machines: Machines, processes: Processes, tmp_path: Path
) -> None:
    """The first to come after the restart is a writer: what it bumps, and what not, is old."""
    machine = machines()
    processes.start("writer", machine.url)
    with processes.on("writer"):
        world.recovers()
    dump = machine.snapshot(tmp_path / "old.rdb")
    for name, write in WRITES.items():
        machine.kill()
        machine.restart(dump)
        processes.start("reader", machine.url)
        with processes.on("writer"):
            write()
        with processes.on("reader"):
            world.look(why=f"({name})")
        with processes.on("writer"):
            world.look(why=f"({name})")


# -- replicas ----------------------------------------------------------------------------------


class Pair:
    """Two machines that follow each other; clients are led to the primary."""

    def __init__(self, machines: Machines) -> None:
        self.machines = [
            machines(
                "--port", str(free_port()), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"
            )
            for _ in range(2)
        ]
        self.primary, self.replica = self.machines
        self.follow()
        self.proxy = Proxy(self.primary.socket)

    def follow(self) -> None:
        """The replica follows and has all data."""
        self.replica.follow(self.primary)
        until(lambda: self.info("replica")["master_link_status"] == "up", "the link")
        self.synced()

    def info(self, which: str) -> dict[str, Any]:
        with getattr(self, which).client() as client:
            return client.info("replication")

    def synced(self) -> None:
        """The replica has seen all that the primary did."""
        offset = self.info("primary")["master_repl_offset"]
        until(lambda: self.info("replica")["slave_repl_offset"] >= offset, "the copy")

    def swap(self, *, told: bool = True) -> None:
        """Promote the replica. The old primary is told and ends its connections, as by Sentinel,
        or nobody hears of it."""
        self.primary, self.replica = self.replica, self.primary
        self.primary.follow(None)
        self.proxy.backend = self.primary.socket
        if told:
            self.follow()
            self.replica.command("CLIENT", "KILL", "TYPE", "normal")


@pytest.fixture
def pair(machines: Machines) -> Iterator[Pair]:
    made = Pair(machines)
    yield made
    made.proxy.close()


def test_a_replica_is_refused(
    checker: Checker, pair: Pair, processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    """Pointed at a replica, reads and writes go on without the cache, and the log says why."""
    processes.start("primary", pair.primary.url)
    with processes.on("primary"):
        world.recovers()
    pair.synced()
    processes.start("replica", pair.replica.url)
    before = checker.hits
    with processes.on("replica"):
        for write in WRITES.values():
            world.look()
            write()
    assert checker.hits == before
    assert "replica" in caplog.text


def test_a_primary_that_becomes_a_replica(
    checker: Checker, pair: Pair, processes: Processes
) -> None:
    """Roles are swapped back and forth between reads and writes over the old sockets (A8)."""
    chance = random.Random(5)
    for name in ("one", "two"):
        processes.start(name, pair.proxy.url)
        with processes.on(name):
            world.recovers()
    for _ in range(4):
        with processes.on("one"):
            write_everything(chance)
            world.recovers()
        pair.synced()
        pair.swap()
        with processes.on("two"):
            world.look()
            chance.choice(list(WRITES.values()))()
        with processes.on("one"):
            world.recovers()
        with processes.on("two"):
            world.recovers()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_lagging_replica_is_promoted(
    checker: Checker, pair: Pair, processes: Processes, restarted: bool
) -> None:
    """The replica missed the last bumps when the primary died; then the old one comes back."""
    chance = random.Random(6)
    for name in ("one", "two"):
        processes.start(name, f"{pair.proxy.url}?socket_timeout=0.2")
    for _ in range(2):
        for name in ("one", "two"):
            with processes.on(name):
                world.recovers()
        pair.synced()
        # From here on it misses what happens; the same as a link that breaks now.
        pair.replica.follow(None)
        with processes.on("one"):
            write_everything(chance)
            world.recovers()
        if restarted:
            pair.primary.kill()
            pair.primary.restart()
        pair.swap(told=False)
        pair.proxy.cut_all()
        for name in ("two", "one"):
            with processes.on(name):
                world.recovers(why=f"({name})")
        pair.follow()


def test_fail_back_without_a_restart(checker: Checker, pair: Pair, processes: Processes) -> None:
    """A to B to A: the run id of A is the same again, what was written under B is not forgotten."""
    processes.start("one", pair.proxy.url)
    for name, write in WRITES.items():
        with processes.on("one"):
            world.recovers()
        pair.synced()
        pair.swap()
        with processes.on("one"):
            write()
        pair.synced()
        pair.swap()
        with processes.on("one"):
            world.look(why=f"({name})")


# -- Sentinel ----------------------------------------------------------------------------------


class Sentinel(servers.Server):
    """One Sentinel that watches a pair."""

    def __init__(self, pair: Pair) -> None:
        self.port = free_port()
        folder = servers.short_folder()
        (folder / "conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor main 127.0.0.1 {pair.primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        binary = pair.primary.binary
        super().__init__(lambda folder: [binary, folder / "conf", "--sentinel"], folder=folder)
        until(lambda: len(self.ask("SENTINEL", "REPLICAS", "main")) == 1, "the replica")

    def ask(self, *words: str) -> Any:
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return client.execute_command(*words)

    def primary(self) -> int:
        with redis.Redis(port=self.port) as client:
            return int(client.sentinel_get_master_addr_by_name("main")[1])

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "redis": None,
            "sentinel": {
                "locations": [("127.0.0.1", self.port)],
                "service_name": "main",
                "socket_timeout": 0.3,
            },
        }


@pytest.fixture
def sentinel(pair: Pair) -> Iterator[Sentinel]:
    with Sentinel(pair) as made:
        yield made


@pytest.mark.parametrize("how", ["asked", pytest.param("killed", marks=pytest.mark.slow)])
def test_failover_under_sentinel(
    checker: Checker, sentinel: Sentinel, pair: Pair, processes: Processes, how: str
) -> None:
    """Sentinel promotes the replica while processes read and write: right at every moment."""
    chance = random.Random(8)
    for name in ("one", "two"):
        processes.start(name, "", **sentinel.settings)
        with processes.on(name):
            world.recovers()
    old = sentinel.primary()
    if how == "asked":
        sentinel.ask("SENTINEL", "FAILOVER", "main")
    else:
        pair.primary.kill()

    def done() -> bool:
        with processes.on(chance.choice(["one", "two"])):
            world.traffic(chance, 4)
        return sentinel.primary() != old

    until(done, "the failover", 60)
    for name in ("one", "two", "one"):
        with processes.on(name):
            world.recovers(why=f"({name})", seconds=60)
            world.traffic(chance, 10)
