"""Settings can change at any time: on and off, profiles, servers, with nothing stale afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import override_settings

from cacheops_lite import invalidate_model, invalidate_obj
from tests import models as m
from tests.watching import hits

from .tools import ALL, MANUAL, costs, is_cached, post, stored

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def automatic(settings: Any) -> None:
    settings.CACHEOPS = ALL


def read() -> list[tuple[str, int]]:
    return [(one.title, one.views) for one in m.Post.objects.order_by("pk")]


def test_disabled_means_uncached(redis_client: Any) -> None:
    """With ``CACHEOPS_ENABLED = False`` nothing is read from, stored in or sent to Redis."""
    post()
    assert is_cached(read)
    redis_client.flushdb()
    with override_settings(CACHEOPS_ENABLED=False):
        for _ in range(2):
            with costs() as spent:
                read()
                list(m.Post.objects.cache())
                m.Post.objects.cache(timeout=5, lock=True).count()
                m.Post.objects.get()
            assert len(spent.sql) == 4
            assert (spent.hits, spent.trips) == ([], 0)
        with costs() as spent:
            post("b")
            invalidate_model(m.Post)
        assert spent.trips == 0
        assert "CACHEOPS_ENABLED" in m.Post.objects.cache().cache_explain().reason
    assert redis_client.dbsize() == 0


def test_disabled_asks_for_no_profile(settings: Any) -> None:
    """With the cache off, ``.cache()`` on any model is harmless."""
    settings.CACHEOPS_ENABLED = False
    settings.CACHEOPS = {}
    assert list(m.Post.objects.cache()) == []


def test_disabled_needs_no_server() -> None:
    """With the cache off, a server that is away costs nothing."""
    with override_settings(CACHEOPS_ENABLED=False, CACHEOPS_REDIS="redis://127.0.0.1:1/0"):
        post()
        assert len(read()) == 1


WRITES: dict[str, Callable[[m.Post], Any]] = {
    "save": lambda one: _save(one),
    "create": lambda one: post("more"),
    "delete": lambda one: one.delete(),
    "update": lambda one: m.Post.objects.update(views=7),
    "queryset delete": lambda one: m.Post.objects.all().delete(),
    "bulk": lambda one: m.Post.objects.bulk_create(
        [m.Post(title="b", author=one.author, category=one.category)]
    ),
    "raw SQL": lambda one: connection.cursor().execute("UPDATE tests_post SET views = 9"),
    "raw SQL of unknown tables": lambda one: connection.cursor().execute(
        "UPDATE tests_post SET views = 10 WHERE 1 = 1"
    ),
    "in a transaction": lambda one: transaction.atomic(lambda: _save(one))(),
}


def _save(one: m.Post) -> None:
    one.title, one.views = "saved", 8
    one.save()


OFF: dict[str, dict[str, Any]] = {
    "disabled": {"CACHEOPS_ENABLED": False},
    "no profiles": {"CACHEOPS": {}},
    "forbidden": {"CACHEOPS": {"tests.post": None, "*.*": {"timeout": 60}}},
    "all forbidden": {"CACHEOPS": {"*.*": None}},
    "other profiles": {"CACHEOPS": {"tests.tag": {"timeout": 60}}},
}


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("write", WRITES)
def test_writes_while_off_are_not_stale_afterwards(off: str, write: str) -> None:
    """What was written while caching was off, however it was off, is seen once it is on again."""
    one = post()
    assert is_cached(read)
    with override_settings(**OFF[off]):
        WRITES[write](one)
        expected = read()
    assert expected != [("a post", 0)]
    assert read() == expected
    assert is_cached(read), "and caching goes on"


@pytest.mark.parametrize("off", OFF)
def test_a_transaction_may_begin_off_and_commit_on(off: str) -> None:
    """A change collected with the cache off counts when the transaction commits with it on."""
    one = post()
    assert is_cached(read)
    with transaction.atomic():
        with override_settings(**OFF[off]):
            _save(one)
    assert read() == [("saved", 8)]


@pytest.mark.parametrize("off", OFF)
def test_a_transaction_may_begin_on_and_commit_off(off: str) -> None:
    """A change collected with the cache on counts when the transaction commits with it off."""
    one = post()
    assert is_cached(read)
    block = transaction.atomic()
    block.__enter__()
    _save(one)
    with override_settings(**OFF[off]):
        block.__exit__(None, None, None)
    assert read() == [("saved", 8)]


def test_a_rollback_while_off_drops_nothing() -> None:
    """What was rolled back with the cache off did not happen: the entry is still a hit."""
    one = post()
    assert is_cached(read)
    with override_settings(CACHEOPS_ENABLED=False), transaction.atomic():
        _save(one)
        transaction.set_rollback(True)
    with hits() as seen:
        assert read() == [("a post", 0)]
    assert seen == [True]


def test_off_and_on_without_a_write_keeps_everything() -> None:
    """Switching off and on again loses nothing that nobody wrote to."""
    post()
    assert is_cached(read)
    with override_settings(CACHEOPS_ENABLED=False):
        m.Tag.objects.create(name="red")
    with hits() as seen:
        read()
    assert seen == [True]


def test_profiles_may_change_at_any_time(redis_client: Any) -> None:
    """``override_settings(CACHEOPS=…)`` holds from the next query on, and ends with its block."""
    post()
    with override_settings(CACHEOPS=MANUAL):
        assert not is_cached(read)
        assert is_cached(lambda: list(m.Post.objects.cache()))
        with override_settings(CACHEOPS={"tests.post": {"ops": "count", "timeout": 60}}):
            assert not is_cached(read)
            assert is_cached(lambda: m.Post.objects.count())
        assert not is_cached(lambda: m.Post.objects.count())
    with override_settings(CACHEOPS={"tests.tag": {"timeout": 60}}):
        with pytest.raises(ImproperlyConfigured):
            m.Post.objects.cache()
    assert is_cached(read)
    redis_client.flushdb()
    with override_settings(CACHEOPS={}, CACHEOPS_DEFAULTS={"timeout": 7}):
        assert not is_cached(read)
    with override_settings(CACHEOPS={"*.*": {"ops": "all"}}, CACHEOPS_DEFAULTS={"timeout": 7}):
        assert is_cached(read)
    (entry,) = stored(redis_client)
    assert 5_000 < redis_client.pttl(entry) <= 7_000


@override_settings(CACHEOPS={"tests.post": {"ops": "exists", "timeout": 60}})
def test_override_settings_decorates() -> None:
    """As a decorator it works as well."""
    post()
    assert not is_cached(read)
    assert is_cached(lambda: m.Post.objects.exists())


def test_the_server_may_change_at_any_time(redis_client: Any) -> None:
    """``override_settings(CACHEOPS_REDIS=…)`` leads the next query to the other server."""
    post()
    with override_settings(CACHEOPS_REDIS="memory://switches"):
        assert is_cached(read)
    assert redis_client.dbsize() == 0 or stored(redis_client) == []
    assert is_cached(read)
    assert len(stored(redis_client)) == 1


def test_an_object_may_be_invalidated_while_off() -> None:
    """``invalidate_obj`` with the cache off is made up for when it is on again."""
    one = post()
    assert is_cached(read)
    with override_settings(CACHEOPS_ENABLED=False):
        invalidate_obj(one)
    with hits() as seen:
        read()
    assert seen == [False]
