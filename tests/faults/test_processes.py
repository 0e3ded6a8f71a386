"""Processes as servers make them: forked, threaded, green, asynchronous, killed in the middle.

Each program shares one database and one server with the others; nobody may see a count go back,
take another's reply, or wait for a lock that nobody holds.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from tests import servers
from tests.wires import Actor

from . import work
from .conftest import PROFILES
from .machines import Machine, missing
from .processes import Companion
from .world import populate, recovers

pytestmark = pytest.mark.django_db(transaction=True)

START = """
settings.CACHEOPS = {"*.*": {"timeout": 60}}
settings.CACHEOPS_REDIS = sys.argv[1]
from tests.faults import work
"""


@pytest.fixture
def rows(transactional_db: None, quick: None, machine: Machine, settings: Any) -> Iterator[Machine]:
    """The rows, the server, and in the end the same view of them here as in the programs."""
    settings.CACHEOPS = PROFILES
    settings.CACHEOPS_REDIS = machine.url
    populate()
    work.prepare()
    yield machine
    recovers()


def connections_of(machine: Machine) -> int:
    with machine.client() as client:
        return len(client.client_list())


FORKS = """
work.work("parent", 5)
from django.db import connections
connections.close_all()  # the database's connection cannot be shared; ours we look after
children = []
for number in range(3):
    if not (pid := os.fork()):
        status = 1
        try:
            hits = work.work(number, 40)
            assert hits > 0
            if number == 0 and (inner := os.fork()) is not None:  # and a child of a child
                connections.close_all()
                work.work(f"{inner}", 10)
                if not inner:
                    os._exit(0)
                assert os.waitpid(inner, 0)[1] == 0
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    children.append(pid)
hits = work.work("parent", 40)
say([hits, [os.waitpid(pid, 0)[1] for pid in children]])
"""


def test_fork_after_first_use(rows: Machine) -> None:
    """Parent and children go on with sockets of their own, all at the same time."""
    with Companion(START + FORKS, rows.url) as program:
        hits, statuses = program.hear()
        assert statuses == [0, 0, 0], program.errors()
        assert hits > 0
        program.finish()


THREADS = """
import faulthandler, threading
from django.db import OperationalError
failures, hits = [], []
def run(number):
    try:
        hits.append(work.work(number, 25))
    except BaseException as error:
        failures.append(repr(error))
    finally:
        connection.close()
threads = [threading.Thread(target=run, args=[number]) for number in range(8)]
for thread in threads:
    thread.start()
if sys.argv[2] == "fork":
    import warnings
    warnings.simplefilter("ignore")
    for turn in range(5):  # a child that finds locks as other threads held them
        time.sleep(0.05)
        if not (pid := os.fork()):
            try:
                faulthandler.dump_traceback_later(60, exit=True)  # a child that hangs says where
                from django.db import connections
                for alias in connections:
                    connections[alias].connection = None
                work.work(f"child {turn}", 10, writes=0)
                os._exit(0)
            except OperationalError as error:
                # A lock of SQLite that a thread held at the fork is held for ever in the child.
                os._exit(0 if "database is locked" in str(error) else 1)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        if os.waitpid(pid, 0)[1]:
            failures.append("child")
for thread in threads:
    thread.join()
say([sum(hits), failures])
"""


def test_threads(rows: Machine) -> None:
    """Many threads over few sockets."""
    before = connections_of(rows)
    with Companion(START + THREADS, f"{rows.url}?max_connections=20", "") as program:
        hits, failures = program.hear()
        assert failures == [], program.errors()
        assert hits > 0
        program.finish()
    assert connections_of(rows) <= before, "sockets were left open"


@pytest.mark.slow
@pytest.mark.skipif(
    settings.TEST_DB == "sqlite", reason="SQLite must not be forked while threads use it"
)
def test_forks_among_threads(rows: Machine) -> None:
    """A fork at any moment of what other threads do: no child waits for a lock that no one holds."""
    with Companion(START + THREADS, rows.url, "fork") as program:
        hits, failures = program.hear()
        assert failures == [], program.errors()
        assert hits > 0
        program.finish()


LOCKED = """
import gc, threading, types
from cacheops_lite import cache
work.work("parent", 10)
cache.set("key", "value", 60)
Lock, RLock = type(threading.Lock()), type(threading.RLock())
locks = {}
for one in gc.get_objects():
    ours = one.__name__ if isinstance(one, types.ModuleType) else type(one).__module__
    if isinstance(ours, str) and ours.startswith("cacheops_lite"):
        for name, value in list(getattr(one, "__dict__", {}).items()):
            if isinstance(value, (Lock, RLock)):
                locks[id(value)] = value, f"{ours}.{type(one).__name__}.{name}"
holding, done = threading.Event(), threading.Event()
def hold():
    for lock, _ in locks.values():
        lock.acquire()
    holding.set()
    done.wait()
    for lock, _ in locks.values():
        lock.release()
thread = threading.Thread(target=hold)
thread.start()
holding.wait()
from django.db import connections
connections.close_all()
import faulthandler, warnings
warnings.simplefilter("ignore")
if not (pid := os.fork()):
    faulthandler.dump_traceback_later(20, exit=True)
    work.work("child", 20)
    cache.set("key", "value", 60)
    engine.reset()
    work.work("child, with settings read again", 5)
    os._exit(0)
status = os.waitpid(pid, 0)[1]
done.set()
thread.join()
say([status, sorted(name for _, name in locks.values())])
"""


def test_a_fork_while_every_lock_is_held(rows: Machine) -> None:
    """Another thread holds each lock of ours at the moment of the fork: the child gets on."""
    with Companion(START + LOCKED, rows.url) as program:
        status, locks = program.hear()
        assert status == 0, program.errors()
        assert len(locks) > 5
        program.finish()


GREEN = """
import gevent, gevent.lock
from django.db import connections
# SQLite blocks the whole process while a green thread that holds its write lock waits for Redis.
one_writer, write = gevent.lock.BoundedSemaphore(1), work.write
def write_alone(number):
    with one_writer:
        write(number)
work.write = write_alone
def run(number):
    try:
        return work.work(number, 20)
    finally:
        connections.close_all()
jobs = [gevent.spawn(run, number) for number in range(12)]
victims = []
chance = random.Random(1)
for number in range(40):  # killed, and timed out, in the middle of whatever they do
    victim = gevent.spawn(run, f"victim {number}")
    victims.append(victim)
    gevent.sleep(chance.random() / 100)
    victim.kill(block=False)
    try:
        with gevent.Timeout(chance.random() / 100):
            run(f"timed {number}")
    except gevent.Timeout:
        pass
gevent.joinall(jobs + victims)
errors = [repr(job.exception) for job in jobs if job.exception]
say([sum(job.value or 0 for job in jobs), errors])
"""


def test_gevent(rows: Machine) -> None:
    """Greenlets under a patched standard library, some killed or timed out in the middle."""
    if importlib.util.find_spec("gevent") is None:
        missing("gevent")
    first = "from gevent import monkey; monkey.patch_all()\n"
    with Companion(START + GREEN, f"{rows.url}?max_connections=30", first=first) as program:
        hits, errors = program.hear()
        assert errors == [], program.errors()
        assert hits > 0
        program.finish()


ASYNC = """
import asyncio
from cacheops_lite import cached, cached_as
from asgiref.sync import sync_to_async

@cached_as(m.Post, timeout=60, lock=True)
async def total():
    return await sync_to_async(work.written)()

@cached(timeout=60)
async def double(number):
    return 2 * number

async def visit(number):
    floor = await sync_to_async(work.written)()
    assert await total() >= floor, "stale"
    assert await double(number) == 2 * number
    if number % 7 == 0:
        await sync_to_async(work.write)(1)

async def main():
    tasks = [asyncio.create_task(visit(number % 10)) for number in range(60)]
    victims = [asyncio.create_task(visit(number % 10)) for number in range(60)]
    chance = random.Random(1)
    for victim in victims:
        await asyncio.sleep(chance.random() / 200)
        victim.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*victims, return_exceptions=True)
    await engine.current().aclose()
    return [repr(one) for one in found if one is not None]

failures = []
for loop in range(3):  # a loop of its own each time
    failures += asyncio.run(main())
say(failures)
"""


def test_asyncio(rows: Machine) -> None:
    """Tasks of several loops one after the other, some cancelled in the middle."""
    before = connections_of(rows)
    with Companion(START + ASYNC, rows.url) as program:
        assert program.hear() == [], program.errors()
        program.finish()
    assert connections_of(rows) <= before, "sockets were left open"


WORKER = """
say("ready")
while True:
    work.work(time.time(), 10, writes=0.5)
"""


@pytest.mark.slow
def test_killed_again_and_again(rows: Machine) -> None:
    """Programs are killed at any moment; the one that lives sees every count, and all go on."""
    chance = random.Random()
    programs = [Companion(START + WORKER, rows.url) for _ in range(3)]
    try:
        for program in programs:
            assert program.hear() == "ready"
        for number, program in enumerate(programs):
            work.work(number, 15)
            time.sleep(chance.random() / 5)
            program.process.kill()
            program.process.wait()
            work.work(f"after {number}", 10)
    finally:
        for program in programs:
            program.close()


# -- servers and workers of others -------------------------------------------------------------


class Hosted(servers.Server):
    """A program of somebody else's that imports our application."""

    def __init__(self, machine: Machine, *command: str, **environment: str) -> None:
        names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        self._restore = {**os.environ}
        os.environ.update(
            DJANGO_SETTINGS_MODULE="tests.settings",
            CACHEOPS_TEST_NAMES=json.dumps(names),
            CACHEOPS_TEST_URL=machine.url,
            PYTHONPATH=str(Path(__file__).resolve().parents[2]),
            **environment,
        )
        try:
            super().__init__(lambda folder: [sys.executable, "-m", *command])
        finally:
            os.environ.clear()
            os.environ.update(self._restore)


def answer(path: Path, seed: object) -> list[int]:
    """One request over a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(f"GET /?{seed} HTTP/1.0\r\n\r\n".encode())
        raw = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b" 200 " in head, body.decode()
    return json.loads(body)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorn_with_preload(rows: Machine, kind: str) -> None:
    """Workers that were forked from a master that had used the cache; one of them is killed."""
    if importlib.util.find_spec("gunicorn") is None:
        missing("gunicorn")
    folder = servers.short_folder()
    path = folder / "web"
    command = ["gunicorn", "--preload", "--workers", "3", "--worker-class", kind, "--threads", "3"]
    with Hosted(rows, *command, "--bind", f"unix:{path}", "tests.faults.web:application") as host:
        host.wait_until(lambda: answer(path, "first"))
        seen: list[list[int]] = []
        actors = [
            Actor(
                lambda name=name: [seen.append(answer(path, f"{name}-{turn}")) for turn in range(8)]
            )
            for name in range(4)
        ]
        for actor in actors:
            actor.finish()
        victim = seen[-1][0]
        os.kill(victim, signal.SIGKILL)
        host.wait_until(lambda: answer(path, "after"))
        seen += [answer(path, f"again-{turn}") for turn in range(8)]
        assert len({pid for pid, _ in seen}) > 1
        assert sum(hits for _, hits in seen) > 0
        assert victim not in {pid for pid, _ in seen[-8:]}
    shutil.rmtree(folder)


# NOTE: a worker begins with Django's checks of all models, which ask all databases.
@pytest.mark.slow
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_celery_prefork(rows: Machine, tmp_path: Path) -> None:
    """Workers of Celery's prefork pool, fed through a broker in files; one of them is killed."""
    if importlib.util.find_spec("celery") is None:
        missing("celery")
    from celery import Celery

    for name in ("queue", "control", "results"):
        (tmp_path / name).mkdir()
    command = [
        "celery", "-A", "tests.faults.jobs", "worker", "-c", "3", "-P", "prefork", "-l", "warning",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip
    client = Celery("jobs", broker="filesystem://", backend=f"file://{tmp_path}/results")
    client.conf.broker_transport_options = {
        "data_folder_in": f"{tmp_path}/queue",
        "data_folder_out": f"{tmp_path}/queue",
        "control_folder": f"{tmp_path}/control",
    }
    with Hosted(rows, *command, CACHEOPS_TEST_JOBS=str(tmp_path)) as host:

        def all_of(names: list[str]) -> list[list[int]]:
            sent = [client.send_task("work", [name]) for name in names]
            return [one.get(timeout=60) for one in sent]

        seen = all_of([f"first {number}" for number in range(12)])
        # Killed within its task: one that is idle holds the lock of the pool's queue, which dies
        # with it, and the others would wait for ever.
        client.send_task("killed")
        host.wait_until(lambda: "SIGKILL" in host.log(), seconds=60)
        seen += all_of([f"second {number}" for number in range(12)])
    assert len({pid for pid, _ in seen}) > 1
    assert sum(hits for _, hits in seen) > 0
