"""Many at once and for long: stampedes, soaks, and what is left when everything has expired."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from cacheops_lite import cached_as, engine
from tests import models as m
from tests.wires import Actor

from . import work
from .conftest import PROFILES
from .machines import Machine, until
from .processes import Companion
from .world import populate

pytestmark = pytest.mark.django_db(transaction=True)

READERS = 50
SOAK = float(os.environ.get("CACHEOPS_TEST_SOAK", "10"))
QUERIES = int(os.environ.get("CACHEOPS_TEST_QUERIES", "400"))


@pytest.fixture
def hot(transactional_db: None, machine: Machine, settings: Any) -> Iterator[Machine]:
    """A server of our own, and rows."""
    settings.CACHEOPS = PROFILES
    settings.CACHEOPS_REDIS = machine.url
    populate()
    work.prepare()
    yield machine
    engine.reset()


class Slow:
    """Something that takes a while to compute; how often it was computed, at most at once."""

    def __init__(self) -> None:
        self.calls = self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.now -= 1


def expire(machine: Machine) -> None:
    """Every result expires; stamps stay."""
    with machine.client() as client:
        for key in client.keys("q:*"):
            client.delete(key)


@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize("what", ["rows", "function"])
def test_a_stampede_on_one_key(hot: Machine, what: str, lock: bool) -> None:
    """A hot result has expired and fifty threads want it: with a lock it is computed once, without
    it once by each at most, and by nobody who comes later."""
    slow = Slow()

    def wait(execute: Any, sql: str, *args: Any) -> Any:
        if "tests_post" in sql:
            with slow:
                time.sleep(0.2)
                return execute(sql, *args)
        return execute(sql, *args)

    @cached_as(m.Post, timeout=60, lock=lock)
    def compute() -> list[int]:
        with slow:
            time.sleep(0.2)
            return [1, 2, 3, 4]

    def rows() -> list[int]:
        with connection.execute_wrapper(wait):
            return [one.pk for one in m.Post.objects.order_by("pk").cache(lock=lock)]

    run = rows if what == "rows" else compute
    assert run() == [1, 2, 3, 4]
    for _ in range(2):
        expire(hot)
        slow.calls = 0
        start = threading.Barrier(READERS)
        actors = [Actor(lambda start=start: (start.wait(), run())[1]) for _ in range(READERS)]
        assert {tuple(actor.finish()) for actor in actors} == {(1, 2, 3, 4)}
        if lock:
            assert slow.calls == 1
        else:
            assert 1 <= slow.calls <= READERS
        assert run() == [1, 2, 3, 4]
        assert slow.calls <= READERS, "it was computed after the stampede"


async def test_a_stampede_of_tasks(hot: Machine) -> None:
    """The same with fifty tasks of one event loop."""
    calls = 0

    @cached_as(m.Post, timeout=60, lock=True)
    async def compute() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.2)
        return 7

    try:
        for _ in range(2):
            expire(hot)
            calls = 0
            assert await asyncio.gather(*(compute() for _ in range(READERS))) == [7] * READERS
            assert calls == 1
    finally:
        await engine.current().aclose()


COMPUTE = """
settings.CACHEOPS = {"*.*": {"timeout": 60}}
settings.CACHEOPS_REDIS = sys.argv[1]
from cacheops_lite import cached_as
@cached_as(m.Post, timeout=60, lock=True)
def compute():
    m.Tag.objects.create(name="computed")
    time.sleep(0.3)
    return 7
say("ready")
while hear() is not None:
    say(compute())
"""


@pytest.mark.slow
def test_a_stampede_of_processes(hot: Machine) -> None:
    """The same with processes: one computes, the others wait for it."""
    programs = [Companion(COMPUTE, hot.url) for _ in range(4)]
    try:
        assert [program.hear() for program in programs] == ["ready"] * len(programs)
        for turn in range(1, 4):
            expire(hot)
            for program in programs:
                program.tell("go")
            assert [program.hear() for program in programs] == [7] * len(programs)
            assert m.Tag.objects.nocache().filter(name="computed").count() == turn
    finally:
        for program in programs:
            program.close()


# -- what is left ------------------------------------------------------------------------------


#: The gen, the schemes and the any-row key of each table, of functions, and of one function.
KEPT = 3 * 4


def sizes(machine: Machine) -> tuple[int, int]:
    """Keys, and bytes that their values take."""
    with machine.client() as client:
        keys = client.keys()
        return len(keys), sum(client.memory_usage(key) or 0 for key in keys)


def test_many_distinct_queries_leave_nothing_behind(hot: Machine) -> None:
    """Each query once, with a short time to live: when it is over a few keys per table are left."""
    before = engine.current().protocol
    for number in range(QUERIES):
        list(m.Post.objects.filter(title=f"title {number}").cache(timeout=0.2))
        list(
            m.Post.objects.filter(views=number, title="x")
            .select_related("author")
            .cache(timeout=0.2)
        )
        if number % 50 == 0:
            m.Post.objects.filter(pk=1).update(title=f"title {number}", views=number)
    until(lambda: sizes(hot)[0] <= KEPT, "the end of all keys")
    with hot.client() as client:
        assert {key.split(b":")[0] for key in client.keys()} <= {b"gen", b"schemes", b"conj"}
        assert all(client.pttl(key) != -1 for key in client.keys())
        assert all(client.strlen(key) < 4096 for key in client.keys())
    assert engine.current().protocol is before


def test_a_process_forgets_what_it_does_not_use(
    hot: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process remembers of queries is bounded, whatever it is asked."""
    state = engine.current().protocol
    for memo in (state.shapes.small, state.shapes.large, state.schemes, state.used, state.full):
        monkeypatch.setattr(memo, "size", 50)
    for number in range(300):
        list(m.Post.objects.filter(title=f"title {number}").cache(timeout=1))
    assert len(state.shapes) <= 100
    for name in ("schemes", "used", "full"):
        assert len(getattr(state, name)) <= 50


SOAKER = """
settings.CACHEOPS = {"*.*": {"timeout": 1}}
settings.CACHEOPS_REDIS = sys.argv[1]
import gc
from tests.faults import work
def size():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
say("ready")
rounds = 0
while (command := hear()) is not None:
    until = time.monotonic() + command
    while time.monotonic() < until:
        rounds += 1
        work.work(f"{os.getpid()} {rounds}", 10)
        for number in range(10):
            list(m.Post.objects.filter(title=f"{rounds} {number}").select_related("author").cache())
        work._hits.clear()
    say([size(), rounds])
"""


@pytest.mark.slow
@pytest.mark.timeout(SOAK * 3 + 120)
def test_soak(hot: Machine) -> None:
    """Processes read and write for a while: no stale answer, no growth anywhere, no lost socket."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("NOT TESTED: /proc is missing")
    programs = [Companion(SOAKER, f"{hot.url}?max_connections=5") for _ in range(3)]
    try:
        assert [program.hear() for program in programs] == ["ready"] * len(programs)
        seen = []
        for seconds in (SOAK / 4, SOAK / 4, SOAK / 2):
            for program in programs:
                program.tell(seconds)
            found = [program.hear() for program in programs]
            with hot.client() as client:
                sockets = len(client.client_list())
            until(lambda: sizes(hot)[0] <= KEPT, "the end of all keys")
            seen.append((max(size for size, _ in found), sockets, *sizes(hot)))
        (_, _, _, _), (memory, sockets, _, taken), (later, _, _, _) = seen
        assert found[0][1] > 10
        assert sockets <= len(programs) + 2, "sockets leak"
        assert taken < 100_000, "Redis keeps what has expired"
        # Caches of the interpreter and of Django fill up; a leak in each round is far more.
        assert later - memory < 20_000_000, f"processes grow: {seen}"
        for program in programs:
            program.finish()
    finally:
        for program in programs:
            program.close()
        gc.collect()
