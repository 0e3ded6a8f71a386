"""Asking for caching by hand: ``.cache()`` and ``.nocache()``, wherever a queryset can be had."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.models import Sum

from tests import models as m

from .tools import ALL, MANUAL, costs, is_cached, post, stored

pytestmark = pytest.mark.django_db(transaction=True)

RUN: dict[str, Callable[[Any], Any]] = {
    "get": lambda queryset: queryset.get(),
    "fetch": list,
    "count": lambda queryset: queryset.count(),
    "exists": lambda queryset: queryset.exists(),
    "aggregate": lambda queryset: queryset.aggregate(Sum("views")),
}


@pytest.fixture(autouse=True)
def manual(settings: Any) -> None:
    settings.CACHEOPS = MANUAL


def cached_ops(make: Callable[[], Any]) -> set[str]:
    return {op for op, run in RUN.items() if is_cached(lambda run=run: run(make()))}


def test_nothing_is_cached_unasked() -> None:
    """A profile without ops caches nothing by itself."""
    post()
    assert cached_ops(lambda: m.Post.objects.all()) == set()


def test_cache_caches_every_op() -> None:
    """``.cache()`` without arguments caches get, fetch, count, exists and aggregate."""
    post()
    assert cached_ops(lambda: m.Post.objects.all().cache()) == set(RUN)


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        ("get", {"get"}),
        (["get", "count"], {"get", "count"}),
        ({"exists"}, {"exists"}),
        (("fetch", "aggregate"), {"fetch", "aggregate"}),
        ("all", set(RUN)),
        ([], set()),
    ],
)
def test_cache_takes_ops(ops: Any, expected: set[str]) -> None:
    """``.cache(ops=…)`` chooses the ops, by name or by any collection, also as first argument."""
    post()
    assert cached_ops(lambda: m.Post.objects.all().cache(ops=ops)) == expected
    assert cached_ops(lambda: m.Post.objects.filter(title="a post").cache(ops)) == expected


def test_cache_narrows_what_the_profile_says(settings: Any) -> None:
    """``.cache(ops=…)`` replaces the ops of the profile, it does not add to them."""
    settings.CACHEOPS = ALL
    post()
    assert cached_ops(lambda: m.Post.objects.cache(ops="count")) == {"count"}


@pytest.mark.parametrize("timeout", [5, 2.5, 7200])
def test_cache_takes_a_timeout(redis_client: Any, timeout: float) -> None:
    """``.cache(timeout=…)`` is how many seconds the entry lives."""
    list(m.Post.objects.cache(timeout=timeout))
    (entry,) = stored(redis_client)
    assert timeout * 1000 - 1000 < redis_client.pttl(entry) <= timeout * 1000


def test_an_entry_runs_out() -> None:
    """After its timeout an entry is no longer answered."""
    read = lambda: list(m.Post.objects.cache(timeout=0.05))  # noqa: E731
    read()
    time.sleep(0.1)
    with costs() as spent:
        read()
    assert spent.hits == [False]


def test_nocache_turns_caching_off(settings: Any) -> None:
    """``.nocache()`` on a manager or queryset keeps what the profile would cache out of the cache."""
    settings.CACHEOPS = ALL
    post()
    assert cached_ops(lambda: m.Post.objects.all()) == set(RUN)
    assert cached_ops(lambda: m.Post.objects.all().nocache()) == set()
    assert cached_ops(lambda: m.Post.objects.nocache().filter(views=0)) == set()
    assert cached_ops(lambda: m.Post.objects.nocache().cache()) == set(RUN)
    assert cached_ops(lambda: m.Post.objects.cache().nocache()) == set()


@pytest.mark.parametrize("chosen", ["cache", "nocache"])
def test_the_queryset_called_on_does_not_change(settings: Any, chosen: str) -> None:
    """``.cache()`` and ``.nocache()`` return another queryset and leave this one as it was."""
    settings.CACHEOPS = MANUAL if chosen == "cache" else ALL
    post()
    queryset = m.Post.objects.filter(title="a post")
    before = cached_ops(lambda: queryset.all())
    other = getattr(queryset, chosen)()
    assert other is not queryset
    assert cached_ops(lambda: queryset.all()) == before
    assert cached_ops(lambda: other.all()) != before
    assert queryset._result_cache is None


def test_choices_do_not_leak_backwards() -> None:
    """Narrowing a cached queryset again does not change the one it came from."""
    post()
    first = m.Post.objects.cache(ops=["get", "count"])
    first.cache(ops="exists", timeout=5)
    first.nocache()
    assert cached_ops(lambda: first.all()) == {"get", "count"}


def test_a_result_in_hand_does_not_change() -> None:
    """``.cache()`` on an evaluated queryset starts afresh; the old one keeps its rows."""
    post()
    queryset = m.Post.objects.all()
    rows = list(queryset)
    other = queryset.cache()
    assert other._result_cache is None
    assert queryset._result_cache == rows


def test_what_was_chosen_stays_through_filters() -> None:
    """Filters, orders, slices and other forms of a cached queryset are cached too."""
    post()
    chosen = m.Post.objects.cache()
    for narrowed in (
        lambda: chosen.filter(views=0),
        lambda: chosen.exclude(views=1).order_by("-pk"),
        lambda: chosen[:3],
        lambda: chosen.values("pk"),
        lambda: chosen.values_list("pk", flat=True),
        lambda: chosen.select_related("author"),
        lambda: chosen.annotate(total=Sum("views")),
        lambda: chosen | m.Post.objects.filter(views=7),
        lambda: chosen.distinct(),
        lambda: chosen.only("title"),
    ):
        assert is_cached(lambda narrowed=narrowed: list(narrowed()))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))]
)
def test_what_was_chosen_stays_in_copies(copied: Callable[[Any], Any]) -> None:
    """A copied or pickled queryset is what it was: cached as chosen, and evaluated by itself."""
    post()
    chosen = m.Post.objects.cache(ops=["fetch", "get"], timeout=5)
    assert cached_ops(lambda: copied(chosen).all()) == {"fetch", "get"}
    rows = list(chosen)
    with costs() as spent:
        assert list(copied(chosen)) == rows
    assert spent.sql == []


def test_slices_and_values_can_be_asked_for_caching() -> None:
    """``.cache()`` may stand last, after a slice or ``values()``."""
    post()
    assert is_cached(lambda: list(m.Post.objects.order_by("pk")[:2].cache()))
    assert is_cached(lambda: list(m.Post.objects.values("title").cache()))


def test_managers_of_every_kind() -> None:
    """Managers, related managers and managers with other names have ``cache`` and ``nocache``."""
    one = post()
    tag = m.Tag.objects.create(name="red")
    one.tags.add(tag)
    m.Note.objects.create(text="here")
    m.Odd.items.create(name="odd")
    comment = m.Comment.objects.create(target=one, text="yes")
    makers: list[Callable[[], Any]] = [
        lambda: m.Post.objects.cache(),
        lambda: m.Note.objects.cache(),
        lambda: m.Note.everything.cache(),
        lambda: m.Odd.items.cache(),
        lambda: one.author.posts.cache(),
        lambda: one.tags.cache(),
        lambda: tag.posts.cache(),
        lambda: one.comments.cache(),
    ]
    for make in makers:
        assert is_cached(lambda make=make: list(make()))
        assert not is_cached(lambda make=make: list(make().nocache()))
    assert list(one.comments.cache()) == [comment]
    assert list(one.tags.cache()) == [tag]
    assert list(m.Note.objects.cache()) == list(m.Note.objects.all())


def test_automatic_caching_reaches_managers_of_every_kind(settings: Any) -> None:
    """What a profile caches is cached through custom, related and oddly named managers as well."""
    settings.CACHEOPS = ALL
    one = post()
    one.tags.add(m.Tag.objects.create(name="red"))
    m.Note.objects.create(text="here")
    m.Note.everything.create(text="gone", deleted=True)
    m.Odd.items.create(name="odd")
    m.Profile.objects.create(author=one.author, bio="bio")
    fresh = lambda: m.Post.objects.get(pk=one.pk)  # noqa: E731 - relations not yet loaded
    assert is_cached(lambda: list(m.Note.objects.all()))
    assert is_cached(lambda: list(m.Note.everything.all()))
    assert len(m.Note.objects.all()) == 1 and len(m.Note.everything.all()) == 2
    assert is_cached(lambda: list(m.Odd.items.all()))
    assert is_cached(lambda: fresh().author)
    assert is_cached(lambda: fresh().author.profile)
    assert is_cached(lambda: list(fresh().tags.all()))
    assert is_cached(lambda: list(fresh().author.posts.all()))


def test_select_for_update_is_never_cached() -> None:
    """A queryset that locks its rows asks the database."""
    post()

    def read() -> list[Any]:
        with transaction.atomic():
            return list(m.Post.objects.cache().select_for_update())

    with costs() as spent:
        read(), read()
    assert spent.hits == [] and spent.trips == 0
    assert "select_for_update" in m.Post.objects.cache().select_for_update().cache_explain().reason


def test_reads_in_order_to_write_are_not_answered_from_the_cache(settings: Any) -> None:
    """``get_or_create`` and ``update_or_create`` look into the database, not into the cache."""
    settings.CACHEOPS = ALL
    m.Tag.objects.create(name="red", group="x")
    m.Tag.objects.get(name="red")
    for method in (m.Tag.objects.get_or_create, m.Tag.objects.update_or_create):
        with costs() as spent:
            method(name="red", group="x")
        assert spent.hits == []
        assert any("SELECT" in sql for sql in spent.sql)


# -- locks -------------------------------------------------------------------------------------


def in_threads(number: int, run: Callable[[], Any]) -> list[Any]:
    """What each of several threads got, all started together; errors are raised here."""
    results: list[Any] = []
    barrier = threading.Barrier(number)

    def body() -> None:
        try:
            barrier.wait(10)
            results.append(run())
        except BaseException as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=body) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("by", ["call", "profile"])
def test_with_a_lock_one_caller_computes(settings: Any, by: str) -> None:
    """With ``lock`` (by call or by profile) of several callers one asks the database, all get it."""
    if by == "profile":
        settings.CACHEOPS = {"*.*": {"timeout": 60, "lock": True}}
    lock = True if by == "call" else None
    post()
    list(m.Post.objects.cache(timeout=1))  # engines and sockets are there
    ran: list[str] = []

    def slow(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        ran.append(sql)
        time.sleep(0.3)
        return execute(sql, params, many, context)

    def run() -> list[str]:
        connection.ensure_connection()
        with connection.execute_wrapper(slow):
            return [one.title for one in m.Post.objects.filter(views=0).cache(lock=lock)]

    assert in_threads(4, run) == [["a post"]] * 4
    assert len(ran) == 1


def test_a_lock_is_let_go_when_its_holder_fails(redis_client: Any) -> None:
    """An error while computing releases the lock: the next caller does not wait."""
    post()

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), connection.execute_wrapper(broken):
        list(m.Post.objects.cache(lock=True))
    started = time.monotonic()
    assert len(m.Post.objects.cache(lock=True)) == 1
    assert time.monotonic() - started < 1
    assert [key for key in redis_client.keys() if b"lock" in key] == []


def test_the_bytes_of_a_lock_are_never_an_answer() -> None:
    """A reader without a lock who meets somebody's lock computes, and gets rows."""
    post()
    got: list[Any] = []

    def meanwhile(execute: Any, *args: Any) -> Any:
        if not got:
            got.append(None)
            with connection.execute_wrapper(lambda run, *rest: run(*rest)):
                got[0] = [one.title for one in m.Post.objects.cache()]
        return execute(*args)

    with connection.execute_wrapper(meanwhile):
        assert [one.title for one in m.Post.objects.cache(lock=True)] == ["a post"]
    assert got == [["a post"]]


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ops", ["fetsh", ["get", "save"], {"all", "none"}])
def test_an_unknown_op_is_an_error(ops: Any) -> None:
    """``.cache(ops=…)`` refuses what is no op, and lists the ops."""
    with pytest.raises(ImproperlyConfigured, match=r"unknown ops.*aggregate"):
        m.Post.objects.cache(ops=ops)


@pytest.mark.parametrize("timeout", [0, -1, "60", True, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_is_an_error(timeout: Any) -> None:
    """``.cache(timeout=…)`` takes a positive number of seconds, and says so."""
    with pytest.raises(ImproperlyConfigured, match=r"timeout.*positive"):
        m.Post.objects.cache(timeout=timeout)


def test_no_timeout_anywhere_is_an_error(settings: Any) -> None:
    """If neither call, profile nor defaults say for how long, ``.cache()`` says where to set it."""
    settings.CACHEOPS_DEFAULTS = {}
    settings.CACHEOPS = {"tests.post": {}}
    with pytest.raises(ImproperlyConfigured, match=r"tests\.post.*timeout.*CACHEOPS_DEFAULTS"):
        m.Post.objects.cache()
    assert is_cached(lambda: list(m.Post.objects.cache(timeout=60)))
