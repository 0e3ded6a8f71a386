"""Redis away, back, restarted or full of rubbish: right answers, nothing stale, no error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import redis
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from cacheops_lite import (
    InvalidationRefused,
    engine,
    invalidate_all,
    invalidate_model,
    invalidate_obj,
)
from tests import models as m
from tests.faults.machines import Machine
from tests.watching import hits

from .tools import MANUAL, is_cached, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def outage(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine()
    # Marks live one second instead of ten: so much shorter is the wait for their end.
    monkeypatch.setattr(engine, "CacheProtocol", partial(engine.CacheProtocol, mark_ttl_ms=1000))
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_REDIS = f"{made.url}?socket_timeout=0.2"
    yield made
    made.close()


#: How the server goes away, and comes back: empty after a restart, with all its data after a pause.
WAYS = {"stopped": ("stop", "restart"), "frozen": ("freeze", "thaw")}


@pytest.fixture(params=WAYS)
def gone(request: Any, outage: Machine) -> tuple[Callable[[], None], Callable[[], None]]:
    away, back = WAYS[request.param]
    return getattr(outage, away), getattr(outage, back)


def titles() -> list[str]:
    return [one.title for one in m.Post.objects.order_by("pk").cache()]


def settles(read: Callable[[], Any], expected: Any, seconds: float = 15) -> None:
    """The read gives what is expected at every moment, and is a hit before the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with hits() as seen:
            assert read() == expected
        if seen == [True]:
            return
        time.sleep(0.05)
    raise AssertionError("it is not cached again")


@contextmanager
def at_the_first_statement(away: Callable[[], None]) -> Iterator[None]:
    """Redis goes away when the database is asked for the first time."""
    asked = 0

    def then_away(execute: Any, *args: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            away()
        return execute(*args)

    with connection.execute_wrapper(then_away):
        yield
    assert asked


def test_reads_are_answered_by_the_database(gone: Any) -> None:
    """While Redis is away every op answers from the database, without an error."""
    away, back = gone
    post()
    assert is_cached(titles)
    away()
    started = time.monotonic()
    for _ in range(20):
        assert titles() == ["a post"]
        assert m.Post.objects.cache().count() == 1
        assert m.Post.objects.cache().exists()
        assert m.Post.objects.cache().get().title == "a post"
    assert time.monotonic() - started < 3, "not every read waits for a timeout"
    back()
    settles(titles, ["a post"])


def test_writes_go_on_and_nothing_is_stale(gone: Any) -> None:
    """Writes made while Redis is away are seen at once, and after it is back as well."""
    away, back = gone
    one = post()
    settles(titles, ["a post"])
    away()
    one.title = "changed"
    one.save()
    assert titles() == ["changed"]
    with transaction.atomic():
        m.Post.objects.update(title="twice")
    assert titles() == ["twice"]
    back()
    settles(titles, ["twice"])


@pytest.mark.parametrize(
    "call", [lambda one: invalidate_obj(one), lambda one: invalidate_model(m.Post),
             lambda one: invalidate_all()],
)  # fmt: skip
def test_invalidation_by_hand_is_made_up_for(gone: Any, call: Callable[[Any], Any]) -> None:
    """What could not be dropped by hand while Redis was away is dropped when it is back."""
    from cacheops_lite import no_invalidation

    away, back = gone
    one = post()
    settles(titles, ["a post"])
    with no_invalidation:
        m.Post.objects.update(title="muted")
    away()
    call(one)
    back()
    settles(titles, ["muted"])


def test_away_between_the_write_and_the_commit(gone: Any) -> None:
    """Redis goes away inside a transaction: it commits, and nothing is stale afterwards."""
    away, back = gone
    post()
    settles(titles, ["a post"])
    with transaction.atomic():
        m.Post.objects.update(title="changed")
        away()
    assert titles() == ["changed"]
    back()
    settles(titles, ["changed"])


def test_away_between_the_mark_and_the_bump(gone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis goes away right after the database committed: no error, and nothing is stale."""
    away, back = gone
    post()
    settles(titles, ["a post"])
    commit = BaseDatabaseWrapper._commit
    gone_away: list[int] = []

    def then_away(self: Any) -> Any:
        result = commit(self)
        if not gone_away:
            gone_away.append(1)
            away()
        return result

    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", then_away)
    done: list[str] = []
    with transaction.atomic():
        m.Post.objects.update(title="changed")
        transaction.on_commit(lambda: done.extend(titles()))
    assert done == ["changed"]
    back()
    settles(titles, ["changed"])


def test_away_in_the_middle_of_a_read(gone: Any) -> None:
    """Redis goes away between look and store: the caller gets its rows."""
    away, back = gone
    post()
    m.Post.objects.cache().count()
    with at_the_first_statement(away):
        assert titles() == ["a post"]
    back()
    settles(titles, ["a post"])


def test_away_while_a_lock_is_held(gone: Any) -> None:
    """A locked computation survives that its lock cannot be let go."""
    away, back = gone
    post()
    read = lambda: [one.title for one in m.Post.objects.cache(lock=True)]  # noqa: E731
    with at_the_first_statement(away):
        assert read() == ["a post"]
    started = time.monotonic()
    assert read() == ["a post"]
    assert time.monotonic() - started < 2
    back()


def test_the_breaker_is_told(gone: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An outage is logged once, not at every read."""
    away, back = gone
    post()
    titles()
    away()
    caplog.clear()
    for _ in range(10):
        titles()
    words = [record for record in caplog.records if record.name == "cacheops_lite"]
    assert len(words) == 1
    back()


def test_a_restart_in_between_is_not_noticed(outage: Machine) -> None:
    """A server that was restarted empty costs misses, and no error."""
    post()
    settles(titles, ["a post"])
    outage.stop()
    outage.restart()
    settles(titles, ["a post"])
    m.Post.objects.update(title="new")
    settles(titles, ["new"])


def test_everything_lost_is_a_miss(outage: Machine) -> None:
    """FLUSHALL and lost scripts at any moment cost misses only."""
    one = post()
    for number in range(3):
        settles(titles, [one.title])
        with outage.client() as client:
            client.flushall()
            client.script_flush()
        one.title = str(number)
        one.save()
        assert titles() == [str(number)]


# -- refusing to degrade -----------------------------------------------------------------------


@pytest.fixture
def strict(settings: Any, outage: Machine) -> Machine:
    settings.CACHEOPS_DEGRADE_ON_FAILURE = False
    post("first")
    settles(titles, ["first"])
    return outage


WRITES: dict[str, Callable[[], Any]] = {
    "save": lambda: _save(),
    "update": lambda: m.Post.objects.update(title="never"),
    "delete": lambda: m.Post.objects.all().delete(),
    "create": lambda: post("never"),
    "in a transaction": transaction.atomic(lambda: m.Post.objects.update(title="never")),
    "raw SQL": lambda: connection.cursor().execute("UPDATE tests_post SET title = 'never'"),
    "raw SQL in a transaction": transaction.atomic(
        lambda: connection.cursor().execute("UPDATE tests_post SET title = 'never'")
    ),
}


def _save() -> None:
    one = m.Post.objects.nocache().get()
    one.title = "never"
    one.save()


@pytest.mark.parametrize("write", WRITES)
def test_without_degrading_the_commit_is_refused(strict: Machine, write: str) -> None:
    """With CACHEOPS_DEGRADE_ON_FAILURE = False a write that Redis cannot be told of is rolled back."""
    strict.stop()
    with pytest.raises(InvalidationRefused, match=r"tests_post.*CACHEOPS_DEGRADE_ON_FAILURE"):
        WRITES[write]()
    assert not connection.in_atomic_block and connection.get_autocommit()
    assert [one.title for one in m.Post.objects.nocache()] == ["first"]
    assert titles() == ["first"], "reads go on"
    strict.restart()
    settles(titles, ["first"])
    m.Post.objects.update(title="second")
    settles(titles, ["second"])


def test_a_refused_commit_runs_no_callbacks(strict: Machine) -> None:
    """Callbacks of ``on_commit`` do not run for what was refused, then or later."""
    ran: list[int] = []
    strict.stop()
    with pytest.raises(InvalidationRefused), transaction.atomic():
        m.Post.objects.update(title="never")
        transaction.on_commit(lambda: ran.append(1))
    strict.restart()
    with transaction.atomic():
        pass
    assert ran == []


def test_a_refused_manual_commit_is_rolled_back(strict: Machine) -> None:
    """With autocommit off a refused ``commit()`` raises, and the connection is usable."""
    transaction.set_autocommit(False)
    try:
        m.Post.objects.update(title="never")
        strict.stop()
        with pytest.raises(InvalidationRefused):
            transaction.commit()
        assert [one.title for one in m.Post.objects.nocache()] == ["first"]
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert titles() == ["first"]


def test_untracked_models_are_written_without_redis(settings: Any, strict: Machine) -> None:
    """What is not cached is not refused."""
    settings.CACHEOPS = {**MANUAL, "tests.memo": None}
    strict.stop()
    m.Memo.objects.create(text="memo")
    assert m.Memo.objects.count() == 1


# -- what is in Redis --------------------------------------------------------------------------


def busy() -> None:
    """A bit of everything that puts keys into Redis."""
    one = post()
    one.tags.add(m.Tag.objects.create(name="red"))
    for _ in range(2):
        list(m.Post.objects.filter(title="a post", views__in=[0, 1]).cache())
        list(m.Post.objects.select_related("author").cache())
        list(m.Post.objects.filter(tags__name="red").cache(lock=True))
        m.Post.objects.cache().count()
        one.save()
        m.Author.objects.update(email="x@example.com")
    list(m.Post.objects.cache())
    invalidate_obj(one)
    with transaction.atomic():
        one.save()
        transaction.set_rollback(True)


def test_every_key_has_a_ttl_and_the_prefix(settings: Any, redis_client: Any) -> None:
    """Nothing stays for ever, and nothing is outside of our prefix."""
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_PREFIX = "acceptance:"
    busy()
    keys = redis_client.keys()
    assert {key.split(b":")[1] for key in keys} >= {b"gen", b"schemes", b"conj", b"q"}
    for key in keys:
        assert key.startswith(b"acceptance:"), key
        assert 0 < redis_client.pttl(key) <= 8 * 24 * 60 * 60 * 1000, key
        assert redis_client.type(key) == b"string"


RUBBISH: dict[str, Callable[[redis.Redis, bytes, bytes], Any]] = {
    "empty": lambda client, key, value: client.set(key, b""),
    "rubbish": lambda client, key, value: client.set(key, b"\x80\x04\x95rubbish\xff\x00"),
    "text": lambda client, key, value: client.set(key, "None"),
    "cut": lambda client, key, value: client.set(key, value[: len(value) // 2]),
    "cut at the front": lambda client, key, value: client.set(key, value[1:]),
    "longer": lambda client, key, value: client.set(key, value + b"x"),
    "another version": lambda client, key, value: client.set(
        key, bytes([value[0] ^ 0x40]) + value[1:]
    ),
    "pending for ever": lambda client, key, value: client.set(key, b"p"),
    "list": lambda client, key, value: (client.delete(key), client.rpush(key, value)),
    "hash": lambda client, key, value: (client.delete(key), client.hset(key, "a", value)),
    "set": lambda client, key, value: (client.delete(key), client.sadd(key, value)),
    "stream": lambda client, key, value: (client.delete(key), client.xadd(key, {"a": value})),
    "gone": lambda client, key, value: client.delete(key),
}


@pytest.mark.parametrize("kind", ["q", "gen", "schemes", "conj"])
@pytest.mark.parametrize("spoil", RUBBISH)
def test_rubbish_is_a_miss(settings: Any, redis_client: Any, kind: str, spoil: str) -> None:
    """Whatever stands in our keys: right answers before and after a write, no error, caching goes on."""
    settings.CACHEOPS = MANUAL
    read = lambda: [  # noqa: E731
        (one.title, one.author.name)
        for one in m.Post.objects.filter(views=0).select_related("author").cache()
    ]
    one = post()
    settles(read, [("a post", "Ann")])

    def spoil_all() -> int:
        keys = [key for key in redis_client.keys() if key.startswith(kind.encode() + b":")]
        for key in keys:
            value = redis_client.get(key) if redis_client.type(key) == b"string" else b"x"
            RUBBISH[spoil](redis_client, key, value)
        return len(keys)

    assert spoil_all() > 0
    assert read() == [("a post", "Ann")]
    settles(read, [("a post", "Ann")])
    spoil_all()
    one.title = "changed"
    one.save()
    assert read() == [("changed", "Ann")]
    settles(read, [("changed", "Ann")])
    spoil_all()
    m.Author.objects.update(name="Bob")
    spoil_all()
    assert read() == [("changed", "Bob")]
    settles(read, [("changed", "Bob")])


def test_an_entry_cut_or_changed_anywhere_is_never_a_wrong_answer(
    settings: Any, redis_client: Any
) -> None:
    """A payload cut at any length, and any change of one byte in its head, is a miss, not an error."""
    settings.CACHEOPS = MANUAL
    post()
    read = lambda: [(one.pk, one.title, one.views) for one in m.Post.objects.cache()]  # noqa: E731
    expected = read()
    (entry,) = [key for key in redis_client.keys() if key.startswith(b"q:")]
    whole = redis_client.get(entry)
    for length in range(len(whole)):
        redis_client.set(entry, whole[:length])
        with hits() as seen:
            assert read() == expected
        assert seen == [False], length
