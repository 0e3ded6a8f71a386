"""Transactions: what is committed drops, what is rolled back does not, own writes are seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from tests import models as m
from tests.watching import Read, assert_dropped, assert_hit, hits, prime

from .tools import ALL, MANUAL, costs, is_cached, post, savepoint

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.database,
]


class World:
    """Two posts in two categories, each with its reads."""

    def __init__(self) -> None:
        self.one, self.two = (
            m.Category.objects.create(title=slug, slug=slug) for slug in ("one", "two")
        )
        self.post, self.other = post("p1", category=self.one), post("p2", category=self.two)
        self.mine = Read(lambda: m.Post.objects.filter(category=self.one), label="mine")
        self.others = Read(lambda: m.Post.objects.filter(category=self.two), label="others")
        self.tags = Read(lambda: m.Tag.objects.all(), label="tags")

    def change(self, title: str = "changed", which: str = "post") -> None:
        m.Post.objects.filter(pk=getattr(self, which).pk).update(title=title)

    def mine_is(self, title: str) -> bool:
        return self.mine.cached()[0][1]["title"] == title


@pytest.fixture
def world(settings: Any) -> Iterator[World]:
    settings.CACHEOPS = MANUAL
    made = World()
    prime(made.mine, made.others, made.tags)
    yield made
    for one in connections.all(initialized_only=True):
        if not one.get_autocommit():
            one.rollback()
            one.set_autocommit(True)


@contextmanager
def another() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Runs functions in another thread, with a connection of its own."""

    def run(function: Callable[[], Any]) -> Any:
        got: list[Any] = []

        def body() -> None:
            try:
                got.append(function())
            finally:
                connections.close_all()

        thread = threading.Thread(target=body)
        thread.start()
        thread.join(30)
        return got[0]

    yield run


class Planned(Exception):
    """Raised on purpose."""


# -- commit and rollback -----------------------------------------------------------------------


def test_a_commit_drops(world: World) -> None:
    """After a committed ``atomic`` block what it changed is dropped, the rest are hits."""
    with transaction.atomic():
        world.change()
    assert_dropped(world.mine)
    assert_hit(world.others)
    assert_hit(world.tags)


def test_others_read_the_old_until_the_commit(world: World) -> None:
    """Until the commit other connections are answered from the cache, with the committed state."""
    with another() as run, transaction.atomic():
        world.change()

        def read() -> tuple[bool, list[bool]]:
            with hits() as seen:
                return world.mine_is("p1"), seen

        assert run(read) == (True, [True])
    assert world.mine_is("changed")


def test_a_rollback_drops_nothing(world: World) -> None:
    """After a rollback, by an error or on request, every entry is still a hit, and right."""
    with pytest.raises(Planned), transaction.atomic():
        world.change()
        raise Planned
    with transaction.atomic():
        world.change()
        transaction.set_rollback(True)
    with pytest.raises(IntegrityError), transaction.atomic():
        world.change()
        m.Category.objects.create(title="again", slug="one")
    for read in (world.mine, world.others, world.tags):
        assert_hit(read)


def test_a_rollback_costs_nothing(world: World) -> None:
    """A transaction that is rolled back says nothing to Redis at its end."""
    world.change()
    with costs() as spent, transaction.atomic():
        world.change("never")
        transaction.set_rollback(True)
    assert spent.trips == 0


# -- own reads ---------------------------------------------------------------------------------


def test_own_writes_are_seen(world: World) -> None:
    """In its transaction a writer reads what it wrote, and nothing of it is stored for others."""
    with transaction.atomic():
        world.change()
        with hits() as seen:
            assert world.mine_is("changed")
            assert world.others.cached() == world.others.uncached()
        assert seen == [], "reads of a written table do not use the cache at all"
        transaction.set_rollback(True)
    assert world.mine_is("p1")
    assert_hit(world.mine)


def test_only_written_tables_bypass_the_cache(world: World) -> None:
    """In a transaction reads of tables that it did not write are hits, and misses are stored."""
    bound = Read(lambda: m.Author.objects.all())
    with transaction.atomic():
        world.change()
        with hits() as seen:
            world.tags.cached()
            bound.cached()
            bound.cached()
        assert seen == [True, False, True]
        joined = m.Author.objects.filter(posts__title="changed").cache()
        with hits() as seen:
            assert len(joined) == 1
        assert seen == [], "a join with a written table bypasses it"
    assert_hit(world.tags)


def test_a_read_only_transaction_reads_from_the_cache(world: World) -> None:
    """A transaction that wrote nothing is answered from the cache as if there were none."""
    with costs() as spent, transaction.atomic():
        world.mine.cached()
    assert spent.hits == [True]
    assert not any("SELECT" in sql for sql in spent.sql)


def test_after_the_commit_the_writer_caches_again(world: World) -> None:
    """Once it is over the connection uses the cache for the tables that it had written."""
    for end in (False, True):
        with transaction.atomic():
            world.change()
            transaction.set_rollback(end)
        prime(world.mine)
        assert_hit(world.mine)


# -- savepoints --------------------------------------------------------------------------------


def test_a_savepoint_that_is_rolled_back_drops_nothing(world: World) -> None:
    """What an inner block undid is no change; what the outer one did is."""
    with transaction.atomic():
        world.change(which="other")
        with pytest.raises(Planned), transaction.atomic():
            world.change()
            raise Planned
    assert_hit(world.mine)
    assert_dropped(world.others)


def test_a_savepoint_that_is_kept_drops_with_the_outer_commit(world: World) -> None:
    """What an inner block did counts when the outermost commits, not earlier."""
    with transaction.atomic():
        with transaction.atomic():
            world.change()
        assert world.mine.make().cache().cache_explain().cached
    assert_dropped(world.mine)
    assert_hit(world.others)


def test_a_savepoint_that_is_kept_goes_with_the_outer_rollback(world: World) -> None:
    """What an inner block did is undone with the outermost."""
    with transaction.atomic():
        with transaction.atomic():
            world.change()
        transaction.set_rollback(True)
    assert_hit(world.mine)


def test_savepoints_in_savepoints(world: World) -> None:
    """Each level takes along what it undoes, deeper ones included, and keeps what stood before."""
    prime(world.tags)
    with transaction.atomic():
        first = savepoint()
        world.change(which="other")
        second = savepoint()
        world.change()
        third = savepoint()
        m.Tag.objects.create(name="red")
        transaction.savepoint_rollback(third)
        transaction.savepoint_commit(second)
        transaction.savepoint_rollback(first)
        m.Tag.objects.create(name="blue")
    assert_hit(world.mine)
    assert_hit(world.others)
    assert_dropped(world.tags)


def test_a_savepoint_may_be_rolled_back_twice(world: World) -> None:
    """A savepoint lives on after a rollback to it, and can be rolled back to again."""
    with transaction.atomic():
        sid = savepoint()
        world.change()
        transaction.savepoint_rollback(sid)
        world.change()
        transaction.savepoint_rollback(sid)
        world.change(which="other")
    assert_hit(world.mine)
    assert_dropped(world.others)


def test_blocks_without_savepoints(world: World) -> None:
    """``atomic(savepoint=False)`` inside another: an error rolls back all, success joins it."""
    with transaction.atomic(), transaction.atomic(savepoint=False):
        world.change()
    assert_dropped(world.mine)
    prime(world.mine)
    with transaction.atomic():
        world.change("never", "other")
        with pytest.raises(Planned), transaction.atomic(savepoint=False):
            world.change("never")
            raise Planned
    assert_hit(world.mine)
    assert_hit(world.others)


def test_durable_blocks(world: World) -> None:
    """``atomic(durable=True)`` commits as any outermost block."""
    with transaction.atomic(durable=True):
        world.change()
    assert_dropped(world.mine)


def test_atomic_as_a_decorator(world: World) -> None:
    """``@transaction.atomic`` is a block like any other."""

    @transaction.atomic
    def body() -> None:
        world.change()

    body()
    assert_dropped(world.mine)


# -- callbacks ---------------------------------------------------------------------------------


def test_bumps_come_before_on_commit_callbacks(world: World) -> None:
    """A callback of ``on_commit`` that reads is not answered from before the commit."""
    seen: list[Any] = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append(world.mine_is("changed")))
        world.change()
        transaction.on_commit(lambda: seen.append(world.mine.cached() == world.mine.uncached()))
    assert seen == [True, True]


def test_callbacks_may_write(world: World) -> None:
    """A write in a callback is a transaction of its own."""
    with transaction.atomic():
        world.change()
        transaction.on_commit(lambda: world.change("by the callback"))
    assert world.mine_is("by the callback")
    assert_hit(world.others)


def test_a_callback_that_fails_changes_nothing_for_us(world: World) -> None:
    """An error in a callback comes out as it does without us, and the bumps have happened."""

    def fail() -> None:
        raise Planned

    with pytest.raises(Planned), transaction.atomic():
        world.change()
        transaction.on_commit(fail)
    assert_dropped(world.mine)


def test_callbacks_of_a_rollback_do_not_run(world: World) -> None:
    """Neither callbacks nor bumps come after a rollback."""
    seen: list[int] = []
    with transaction.atomic():
        world.change()
        transaction.on_commit(lambda: seen.append(1))
        transaction.set_rollback(True)
    assert seen == []
    assert_hit(world.mine)


# -- by hand -----------------------------------------------------------------------------------


switching = pytest.mark.skipif(
    settings.TEST_DB == "postgres", reason="psycopg refuses to switch in a transaction"
)


def test_manual_commit_and_rollback(world: World) -> None:
    """With autocommit off a commit drops what was changed since, a rollback drops nothing."""
    transaction.set_autocommit(False)
    world.change()
    with hits() as seen:
        assert world.mine_is("changed")
    assert seen == []
    transaction.commit()
    transaction.set_autocommit(True)
    assert_dropped(world.mine)
    assert_hit(world.others)
    prime(world.mine)
    transaction.set_autocommit(False)
    world.change("never")
    transaction.rollback()
    transaction.set_autocommit(True)
    assert_hit(world.mine)


def test_several_manual_transactions(world: World) -> None:
    """Each commit and rollback counts for what came since the last one."""
    transaction.set_autocommit(False)
    world.change("first")
    transaction.rollback()
    world.change("second", "other")
    transaction.commit()
    world.change("third")
    transaction.rollback()
    transaction.set_autocommit(True)
    assert_hit(world.mine)
    assert_dropped(world.others)


@switching
def test_switching_autocommit_on_commits(world: World) -> None:
    """``set_autocommit(True)`` commits what is open, and so drops it."""
    transaction.set_autocommit(False)
    world.change()
    transaction.set_autocommit(True)
    assert_dropped(world.mine)
    prime(world.mine)
    assert_hit(world.mine)


@switching
def test_after_switching_autocommit_on_the_connection_caches_again(world: World) -> None:
    """A transaction whose changes were all undone or muted leaves no table bypassed behind."""
    from cacheops_lite import no_invalidation

    transaction.set_autocommit(False)
    with no_invalidation:
        world.change("p1", "post")
    transaction.set_autocommit(True)
    with hits() as seen:
        world.mine.cached()
    assert seen != []


def test_atomic_blocks_with_autocommit_off(world: World) -> None:
    """An ``atomic`` block inside a manual transaction is a savepoint of it.

    Not on SQLite: Python begins a transaction at the first write, so there the block's savepoint
    is the outermost and its release commits.
    """
    transaction.set_autocommit(False)
    with transaction.atomic():
        world.change()
    with pytest.raises(Planned), transaction.atomic():
        world.change("never", "other")
        raise Planned
    committed = connection.vendor == "sqlite"
    assert world.mine.make().cache().cache_explain().cached is not committed
    transaction.commit()
    transaction.set_autocommit(True)
    assert_dropped(world.mine)
    assert_hit(world.others)


def test_raw_begin_and_commit(world: World) -> None:
    """A transaction that raw SQL began and ended is one as well."""
    if connection.vendor == "mysql":
        pytest.skip("Django's own BEGIN is implicit there")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE tests_post SET title = 'raw' WHERE id = %s", [world.post.pk])
        with hits() as seen:
            assert world.mine_is("raw")
        assert seen == []
        cursor.execute("ROLLBACK")
        assert world.mine_is("p1")
        assert_hit(world.mine)
        cursor.execute("BEGIN")
        cursor.execute("UPDATE tests_post SET title = 'raw' WHERE id = %s", [world.post.pk])
        cursor.execute("COMMIT")
    assert world.mine_is("raw")


def test_a_connection_that_is_closed_in_a_transaction(world: World) -> None:
    """What was not committed when the connection closed did not happen, and caching goes on."""
    transaction.set_autocommit(False)
    world.change()
    connection.close()
    assert connection.get_autocommit()
    assert_hit(world.mine)
    world.change()
    assert_dropped(world.mine)


def test_a_commit_that_fails(world: World) -> None:
    """If the database refuses the commit nothing is dropped for good: the answers stay right."""
    with pytest.raises(IntegrityError), transaction.atomic():
        world.change()
        m.Ignoring.objects.all()
        m.City.objects.create(country_id="xx", name="no such country")  # deferred constraint
        if not connection.features.can_defer_constraint_checks:
            raise IntegrityError
    assert world.mine_is("p1")
    world.change()
    assert world.mine_is("changed")
    prime(world.mine)
    assert_hit(world.mine)


# -- several databases -------------------------------------------------------------------------


@pytest.fixture
def two(settings: Any) -> None:
    settings.CACHEOPS = MANUAL
    m.Tag.objects.create(name="here", pk=1)
    m.Tag.objects.using("other").create(name="there", pk=1)


def names(alias: str) -> list[str]:
    return [tag.name for tag in m.Tag.objects.using(alias).cache()]


@pytest.mark.usefixtures("two")
def test_databases_have_entries_of_their_own() -> None:
    """One query through two aliases has two results."""
    for _ in range(2):
        assert (names("default"), names("other")) == (["here"], ["there"])
    with costs("default", "other") as spent:
        assert (names("default"), names("other")) == (["here"], ["there"])
    assert spent.hits == [True, True] and spent.sql == []


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_write_through_any_alias_is_seen(alias: str) -> None:
    """A write through an alias drops what was read through it."""
    assert is_cached(lambda: names(alias))
    m.Tag.objects.using(alias).update(name="new")
    assert names(alias) == ["new"]
    tag = m.Tag.objects.using(alias).get()
    tag.name = "newer"
    tag.save()
    assert names(alias) == ["newer"]
    with transaction.atomic(using=alias):
        m.Tag.objects.using(alias).create(name="second", pk=2)
    assert names(alias) == ["newer", "second"]


@pytest.mark.usefixtures("two")
def test_transactions_of_two_databases_are_two() -> None:
    """Each alias commits for itself: one may be rolled back while the other commits."""
    assert is_cached(lambda: names("default")) and is_cached(lambda: names("other"))
    with transaction.atomic(using="default"):
        m.Tag.objects.using("default").update(name="never")
        with transaction.atomic(using="other"):
            m.Tag.objects.using("other").update(name="kept")
        assert names("other") == ["kept"]
        transaction.set_rollback(True)
    assert (names("default"), names("other")) == (["here"], ["kept"])


@pytest.mark.usefixtures("two")
def test_reads_through_one_alias_while_the_other_has_written() -> None:
    """Only the alias that has written bypasses the cache in its transaction."""
    assert is_cached(lambda: names("other"))
    with transaction.atomic(using="default"):
        m.Tag.objects.using("default").update(name="new")
        with hits() as seen:
            assert names("other") == ["there"]
            assert names("default") == ["new"]
        assert seen == [True]


def test_db_agnostic_profiles_share(settings: Any) -> None:
    """With ``db_agnostic`` one entry serves all aliases (the data are said to be the same)."""
    settings.CACHEOPS = {"tests.tag": {"timeout": 60, "db_agnostic": True}}
    m.Tag.objects.create(name="here", pk=1)
    m.Tag.objects.using("other").create(name="here", pk=1)
    assert is_cached(lambda: names("default"))
    with hits() as seen:
        names("other")
    assert seen == [True]
    m.Tag.objects.using("default").update(name="new")
    m.Tag.objects.using("other").update(name="new")
    assert names("other") == names("default") == ["new"]


@pytest.mark.skipif(settings.TEST_DB != "mysql", reason="only MySQL has this level")
def test_uncommitted_rows_of_others_are_never_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that reads what others have not committed does not use the cache."""
    options = connection.settings_dict["OPTIONS"]
    with monkeypatch.context() as patch:
        patch.setitem(options, "isolation_level", "read uncommitted")
        connection.close()
        connection.ensure_connection()
        with hits() as seen:
            world.mine.cached()
            with transaction.atomic():
                world.mine.cached()
        assert seen == []
        assert "not committed" in world.mine.make().cache().cache_explain().reason
    connection.close()
    connection.ensure_connection()
    with hits() as seen:
        world.mine.cached()
        world.mine.cached()
    assert seen[-1:] == [True]


# -- requests ----------------------------------------------------------------------------------


def saving(request: HttpRequest, title: str) -> HttpResponse:
    m.Post.objects.update(title=title)
    (one,) = m.Post.objects.all()
    return HttpResponse(one.title)


def failing(request: HttpRequest, title: str) -> HttpResponse:
    saving(request, title)
    raise Planned


@transaction.non_atomic_requests
def manual(request: HttpRequest, title: str) -> HttpResponse:
    saving(request, title)
    raise Planned


def reading(request: HttpRequest) -> HttpResponse:
    with hits() as seen:
        (one,) = m.Post.objects.all()
    return HttpResponse(f"{one.title} {seen}")


urlpatterns = [
    path("save/<title>", saving),
    path("fail/<title>", failing),
    path("manual/<title>", manual),
    path("read", reading),
]


@pytest.mark.parametrize("atomic", [True, False])
def test_atomic_requests(settings: Any, monkeypatch: pytest.MonkeyPatch, atomic: bool) -> None:
    """With ATOMIC_REQUESTS a view's writes are seen after it, and not at all if it fails."""
    settings.CACHEOPS = ALL
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    post("first")
    client = Client(raise_request_exception=False)

    def read() -> str:
        client.get("/read")
        return client.get("/read").content.decode()

    def expected(title: str) -> str:
        return f"{title} [True]"

    assert read() == expected("first")
    assert client.get("/save/second").content == b"second"
    assert read() == expected("second")
    assert client.get("/fail/third").status_code == 500
    assert read() == expected("second" if atomic else "third")
    assert client.get("/manual/fourth").status_code == 500
    assert read() == expected("fourth")
