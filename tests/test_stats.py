"""Counters: what is counted, that it is right, and how one sees it across processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.signals import request_finished
from django.db import connection, transaction

from cacheops_lite import (
    StoreUnavailable,
    cached,
    cached_as,
    engine,
    invalidate_model,
    invalidate_obj,
    pulse,
    stats,
)
from tests import models as m

from .acceptance.tools import ALL, costs, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def counting(settings: Any) -> Iterator[None]:
    settings.CACHEOPS = ALL
    settings.CACHEOPS_STATS_INTERVAL = 60
    stats.reset()
    yield
    stats.reset()


def item(name: str, op: str, report: Any = None) -> dict[str, Any]:
    """The numbers of one model or function and op."""
    found = [
        one
        for one in (report or stats.snapshot())["reads"]
        if (one["name"], one["op"]) == (name, op)
    ]
    assert len(found) == 1, f"{name} {op} is not among what was counted"
    return found[0]


def drops(name: str) -> dict[str, int]:
    """What invalidated a table, and how often."""
    return {
        one["cause"]: one["changes"] for one in stats.snapshot()["drops"] if one["name"] == name
    }


OPS = {
    "fetch": lambda: list(m.Tag.objects.filter(name="red")),
    "get": lambda: m.Tag.objects.get(name="red"),
    "count": lambda: m.Tag.objects.filter(name="red").count(),
    "exists": lambda: m.Tag.objects.filter(name="red").exists(),
    "aggregate": lambda: m.Tag.objects.filter(name="red").aggregate(one=m.models.Max("name")),
}


@pytest.mark.parametrize("op", OPS)
def test_reads_are_counted_by_model_and_op(op: str) -> None:
    """A miss counts with its reason, a hit with its time; bytes in and out are the same."""
    m.Tag.objects.create(name="red")
    for _ in range(4):
        OPS[op]()
    found = item("tests.tag", op)
    assert (found["calls"], found["hits"], found["hit_ratio"]) == (4, 3, 0.75)
    assert found["misses"] == {"absent": 1}
    assert (found["stored"], found["refused"], found["uncached"]) == (1, {}, {})
    assert found["hit_bytes"] == 3 * found["stored_bytes"] > 0
    assert found["hit_seconds"] > 0 and found["miss_seconds"] > 0
    assert {one["op"] for one in stats.snapshot()["reads"]} == {op}


def test_a_miss_says_why() -> None:
    """After a write the miss is counted as out of date."""
    tag = m.Tag.objects.create(name="red")
    list(m.Tag.objects.all())
    tag.save()
    list(m.Tag.objects.all())
    assert item("tests.tag", "fetch")["misses"] == {"absent": 1, "stamp": 1}


def test_what_is_not_stored_says_why() -> None:
    """A write during the load makes a result that is not stored, or dead, and is told apart."""
    m.Tag.objects.create(name="red")
    engine.current().distrust(["tests_tag"])
    engine.current().protocol.overdue.add(["tests_tag"], b"later", float("inf"))
    list(m.Tag.objects.all())
    found = item("tests.tag", "fetch")
    assert (found["misses"], found["refused"], found["stored"]) == (
        {"failed": 1},
        {"failed": 1},
        0,
    )


def test_reads_past_the_cache_say_why() -> None:
    """What the cache is not asked for counts as such, with the reason that explain gives."""
    with transaction.atomic():
        m.Tag.objects.create(name="red")
        list(m.Tag.objects.all())
        m.Tag.objects.count()
    for op in ("fetch", "count"):
        found = item("tests.tag", op)
        ((reason, times),) = found["uncached"].items()
        assert "has written a table" in reason and times == found["calls"] == 1
        assert found["hit_ratio"] is None


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_functions_count_what_they_compute(colour: str) -> None:
    """A cached function counts calls, runs, the time they took and the time that hits saved."""

    def work() -> int:
        return sum(range(200_000))

    if colour == "sync":

        @cached(timeout=60)
        def costly(number: int) -> int:
            return work()

        for _ in range(5):
            costly(1)
    else:

        @cached(timeout=60)
        async def costly(number: int) -> int:
            return work()

        async def five() -> None:
            for _ in range(5):
                await costly(1)
            await engine.current().aclose()

        asyncio.run(five())
    found = item(f"{__name__}.test_functions_count_what_they_compute.<locals>.costly", "call")
    assert (found["calls"], found["hits"], found["computed"]) == (5, 4, 1)
    assert 0 < found["compute_seconds"] <= found["miss_seconds"]
    mean = found["compute_seconds"]
    assert found["saved_seconds"] == pytest.approx(4 * mean - found["hit_seconds"], abs=1e-5)


def test_functions_count_refusals_and_drops() -> None:
    """A function whose table was written in the transaction is not cached; calls to drop count."""

    @cached_as(m.Tag, timeout=60)
    def names() -> list[str]:
        return [tag.name for tag in m.Tag.objects.nocache()]

    with transaction.atomic():
        m.Tag.objects.create(name="red")
        names()
    names.invalidate()
    names.invalidate_all()
    name = f"{__name__}.test_functions_count_refusals_and_drops.<locals>.names"
    assert sum(item(name, "call")["uncached"].values()) == 1
    assert drops(name) == {"invalidate()": 1, "invalidate_all()": 1}


def test_drops_count_with_their_cause() -> None:
    """Each kind of write counts under its name once it is committed, whole tables apart."""
    list(m.Tag.objects.filter(name="red"))
    tag = m.Tag.objects.create(name="red")
    tag.save()
    invalidate_obj(tag)
    invalidate_model(m.Tag)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_tag SET name = 'blue'")
    tag.delete()
    found = drops("tests_tag")
    assert found["insert"] == found["update"] == found["delete"] == found["by hand"] == 1
    assert found["by hand (whole table)"] == found["raw SQL (whole table)"] == 1


def test_what_is_rolled_back_is_not_counted() -> None:
    """A write that did not happen invalidates nothing, and counts nothing."""
    with transaction.atomic():
        m.Tag.objects.create(name="red")
        transaction.set_rollback(True)
    assert drops("tests_tag") == {}


def test_outages_count(settings: Any) -> None:
    """A server that is away is one outage, and its misses say so."""
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    m.Tag.objects.create(name="red")
    list(m.Tag.objects.all())
    assert stats.snapshot()["events"] == {"outages": 1}
    assert set(item("tests.tag", "fetch")["misses"]) <= {"unavailable", "failed"}


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names there are, memory is bounded: the rest shares one line."""
    from cacheops_lite import counters

    monkeypatch.setattr(counters, "MOST_LINES", 10)
    monkeypatch.setattr(counters, "MOST_REASONS", 5)
    for number in range(30):
        counters.line(f"f{number}", "call").hits += 1
        counters.add(counters.line("f0", "call").uncached, f"reason {number}", 5)
    found = stats.snapshot()["reads"]
    assert len(found) == 11
    assert item("other", "call")["hits"] == 20
    assert item("f0", "call")["uncached"]["other"] == 25


# -- across processes --------------------------------------------------------------------------


def test_processes_are_summed(redis_client: Any) -> None:
    """What several processes shared is summed; what is shared twice is not counted twice."""
    m.Tag.objects.create(name="red")
    list(m.Tag.objects.all())
    stats.share()
    stats.share()
    assert item("tests.tag", "fetch", stats.read())["calls"] == 1
    stats.reset()  # as another process
    list(m.Tag.objects.all())
    stats.share()
    found = item("tests.tag", "fetch", stats.read())
    assert (found["calls"], found["hits"], found["misses"]) == (2, 1, {"absent": 1})
    (key,) = redis_client.keys("stats:*")
    assert 0 < redis_client.ttl(key) <= 25 * 60 * 60


def test_a_forked_child_counts_for_itself() -> None:
    """A child does not share what its parent has counted and will share."""
    m.Tag.objects.create(name="red")
    list(m.Tag.objects.all())
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(stats.snapshot()["reads"]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(reader, 10_000)) == []
    os.close(reader)
    os.close(writer)


def test_a_process_shares_at_its_end(redis_client: Any) -> None:
    """A command that ends before the interval does is counted as well."""
    program = (
        "import django; django.setup()\n"
        "from django.test.utils import override_settings\n"
        "from cacheops_lite import cached\n"
        "override_settings(CACHEOPS_STATS_INTERVAL=60, CACHEOPS={'*.*': {'timeout': 60}}).enable()\n"
        "@cached(timeout=60)\n"
        "def short(): return 1\n"
        "short()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert item("__main__.short", "call", stats.read())["calls"] == 1


def test_sharing_happens_now_and_then(settings: Any) -> None:
    """After the interval the next request shares, and not before; a request waits for nothing else."""
    settings.CACHEOPS_STATS_INTERVAL = 1000
    m.Tag.objects.create(name="red")
    list(m.Tag.objects.all())

    def request() -> int:
        with costs() as spent:
            request_finished.send(sender=None)
        return spent.trips

    assert [request(), request()] == [0, 0]
    pulse.hurry("stats")
    assert request() == 1
    assert item("tests.tag", "fetch", stats.read())["calls"] == 1
    settings.CACHEOPS_STATS_INTERVAL = None
    list(m.Tag.objects.all())
    pulse.hurry("stats")
    assert request() == 0


def test_no_job_runs_in_an_event_loop() -> None:
    """An event loop is never blocked by what is done now and then."""
    ran: list[int] = []
    pulse.register("test", lambda: ran.append(1), lambda: 60)
    try:
        pulse.beat()
        pulse.hurry("test")

        async def in_loop() -> None:
            pulse.beat()

        asyncio.run(in_loop())
        assert ran == []
        pulse.beat()
        assert ran == [1]
    finally:
        del pulse._jobs["test"]
        pulse.plan()


def test_a_job_that_cannot_say_when(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A setting that is wrong is told in the log, not to whoever commits; other jobs go on."""
    ran: list[int] = []
    pulse.register("test", lambda: ran.append(1), lambda: 60)
    m.Tag.objects.create(name="red")
    try:
        settings.CACHEOPS_STATS_INTERVAL = "often"
        pulse.beat()
        assert "the job 'stats' failed" in caplog.text
        caplog.clear()
        pulse.hurry("test")
        pulse.beat()
        assert (ran, caplog.text) == ([1], "")
        settings.CACHEOPS_STATS_INTERVAL = 60
        pulse.beat()
        pulse.hurry("stats")
        pulse.beat()
        assert stats.read()["drops"]
    finally:
        del pulse._jobs["test"]
        pulse.plan()


def test_an_outage_loses_no_counts(settings: Any, redis_client: Any) -> None:
    """What could not be shared is shared when Redis is back."""
    good = settings.CACHEOPS_REDIS
    m.Tag.objects.create(name="red")
    list(m.Tag.objects.all())
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    with pytest.raises(StoreUnavailable):
        stats.share()
    settings.CACHEOPS_REDIS = good
    stats.share()
    assert item("tests.tag", "fetch", stats.read())["calls"] == 1


def test_rubbish_in_the_hash_is_ignored(redis_client: Any) -> None:
    """Whatever else stands in the hash, the numbers that are ours are read."""
    m.Tag.objects.create(name="red")
    list(m.Tag.objects.all())
    stats.share()
    (key,) = redis_client.keys("stats:*")
    for name, value in [
        (b"\xff", b"1"), (b"[]", b"1"), (b'"text"', b"1"), (b"7", b"1"), (b"null", b"1"),
        (b'["a","b","c","d"]', b"no number"), (b'["a","fetch","hits",""]', b"-"),
        (b'["x","fetch","name","y"]', b"5"), (b'["x","fetch","misses",""]', b"5"),
        (b'["x","fetch","hits","y"]', b"5"), (b'["x","event","y",""]', b"5"),
    ]:  # fmt: skip
        redis_client.hset(key, name, value)
    assert item("tests.tag", "fetch", stats.read())["calls"] == 1
    call_command("cacheops", "stats", stdout=StringIO())
    redis_client.delete(key)
    redis_client.set(key, b"a string")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        stats.read()


# -- the command -------------------------------------------------------------------------------


def test_the_command_prints_text_and_json() -> None:
    """``cacheops stats`` tells it as a table with reasons, and as one JSON object."""
    m.Tag.objects.create(name="red")
    for _ in range(4):
        list(m.Tag.objects.all())
    stats.share()
    out = StringIO()
    call_command("cacheops", "stats", stdout=out)
    text = out.getvalue()
    (line,) = (one for one in text.splitlines() if one.startswith("tests.tag  fetch"))
    assert "75.0%" in line
    assert "tests.tag fetch: absent" in text and "tests_tag: insert" in text
    out = StringIO()
    call_command("cacheops", "stats", "--json", "--hours", "24", stdout=out)
    assert item("tests.tag", "fetch", json.loads(out.getvalue()))["hits"] == 3


def test_the_command_says_what_is_missing(settings: Any) -> None:
    """Nothing counted, nothing shared, nobody there: each is said in words."""
    out = StringIO()
    call_command("cacheops", "stats", stdout=out)
    assert "Nothing was counted" in out.getvalue()
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    with pytest.raises(CommandError, match="does not answer"):
        call_command("cacheops", "stats")
    settings.CACHEOPS_STATS_INTERVAL = None
    with pytest.raises(CommandError, match="CACHEOPS_STATS_INTERVAL"):
        call_command("cacheops", "stats")
    with pytest.raises(CommandError, match="hours"):
        call_command("cacheops", "stats", "--hours", "25")


def test_a_user_without_the_right_is_told_once(
    settings: Any, redis_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis user who may not count still caches, and the log says once what to allow."""
    if "://" in settings.TEST_REDIS:
        pytest.skip("needs the private server")
    redis_client.acl_setuser(
        "small", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-hincrby"]
    )
    try:
        settings.CACHEOPS_REDIS = f"unix://small:x@{settings.TEST_FOLDER}/redis/s"
        stats._complained = False
        one = post()
        list(m.Post.objects.filter(pk=one.pk))
        pulse.beat()
        for _ in range(2):
            pulse.hurry("stats")
            pulse.beat()
        assert len([r for r in caplog.records if "HINCRBY" in r.getMessage()]) == 1
        list(m.Post.objects.filter(pk=one.pk))
        assert item("tests.post", "fetch")["hits"] == 1
    finally:
        redis_client.acl_deluser("small")
