"""Invalidation by hand: calls, their async twins, the command, and how to suspend it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from cacheops_lite import (
    ainvalidate_all,
    ainvalidate_model,
    ainvalidate_obj,
    invalidate_all,
    invalidate_model,
    invalidate_obj,
    no_invalidation,
)
from tests import models as m
from tests.watching import Read, assert_dropped, assert_hit, prime

from .tools import ALL, MANUAL, costs, post, savepoint

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    """Posts in two categories, and the reads that look at them."""

    def __init__(self) -> None:
        one, two = (m.Category.objects.create(title=slug, slug=slug) for slug in ("one", "two"))
        self.post, self.other = post("p1", category=one), post("p2", category=two)
        m.Tag.objects.create(name="red")
        self.mine = [
            Read(lambda: m.Post.objects.filter(category=one), label="in its category"),
            Read(lambda: m.Post.objects.filter(pk=self.post.pk), "get"),
            Read(lambda: m.Post.objects.filter(category=one), "count"),
            Read(lambda: m.Post.objects.all(), "exists"),
        ]
        self.others = [
            Read(lambda: m.Post.objects.filter(category=two), label="in the other category"),
            Read(lambda: m.Post.objects.filter(pk=self.other.pk), "get"),
        ]
        self.tags = [Read(lambda: m.Tag.objects.all()), Read(lambda: m.Tag.objects.all(), "count")]

    @property
    def all(self) -> list[Read]:
        return [*self.mine, *self.others, *self.tags]


@pytest.fixture
def world(settings: Any) -> World:
    settings.CACHEOPS = MANUAL
    made = World()
    prime(*made.all)
    return made


def cached(read: Read) -> bool:
    """Whether the entry of a read is valid now, whoever would ask; reads and stores nothing."""
    return read.make().cache().cache_explain(read.op).cached


Invalidate = Callable[[World], Any]

#: name -> (how, which reads it drops).
CALLS: dict[str, tuple[Invalidate, Callable[[World], list[Read]]]] = {
    "obj": (lambda w: invalidate_obj(w.post), lambda w: w.mine),
    "model": (lambda w: invalidate_model(m.Post), lambda w: [*w.mine, *w.others]),
    "all": (lambda w: invalidate_all(), lambda w: w.all),
    "aobj": (lambda w: async_to_sync(ainvalidate_obj)(w.post), lambda w: w.mine),
    "amodel": (
        lambda w: async_to_sync(ainvalidate_model)(m.Post), lambda w: [*w.mine, *w.others],
    ),
    "aall": (lambda w: async_to_sync(ainvalidate_all)(), lambda w: w.all),
    "command obj": (
        lambda w: call_command("invalidate", f"tests.post.{w.post.pk}"), lambda w: w.mine,
    ),
    "command model": (
        lambda w: call_command("invalidate", "tests.post"), lambda w: [*w.mine, *w.others],
    ),
    "command app": (lambda w: call_command("invalidate", "tests"), lambda w: w.all),
    "command other app": (lambda w: call_command("invalidate", "auth"), lambda w: []),
    "command all": (lambda w: call_command("invalidate", "all"), lambda w: w.all),
    "command several": (
        lambda w: call_command("invalidate", "tests.tag", f"tests.post.{w.post.pk}"),
        lambda w: [*w.mine, *w.tags],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_it_drops_what_it_names_and_nothing_else(world: World, name: str) -> None:
    """Outside a transaction it takes effect at once: what it names is dropped, the rest are hits."""
    call, dropped = CALLS[name]
    call(world)
    for read in world.all:
        (assert_dropped if read in dropped(world) else assert_hit)(read, name)


@pytest.mark.parametrize("name", CALLS)
def test_in_a_transaction_it_waits_for_the_commit(world: World, name: str) -> None:
    """In a transaction it takes effect at the commit, after which the same results are dropped."""
    call, dropped = CALLS[name]
    with transaction.atomic():
        call(world)
        assert all(map(cached, world.all)), "others still read the committed state"
    for read in world.all:
        (assert_dropped if read in dropped(world) else assert_hit)(read, name)


@pytest.mark.parametrize("name", CALLS)
def test_in_a_transaction_that_is_rolled_back_it_drops_nothing(world: World, name: str) -> None:
    """A rolled back transaction, or savepoint, takes its invalidations along."""
    with transaction.atomic():
        CALLS[name][0](world)
        transaction.set_rollback(True)
    with transaction.atomic():
        sid = savepoint()
        CALLS[name][0](world)
        transaction.savepoint_rollback(sid)
    for read in world.all:
        assert_hit(read, name)


@pytest.mark.parametrize("call", [invalidate_all, lambda: invalidate_model(m.Post)])
def test_what_was_muted_can_be_made_up_for_in_the_same_transaction(
    world: World, call: Callable[[], Any]
) -> None:
    """Writing without invalidation and then dropping all is right also inside one transaction."""
    with transaction.atomic():
        with no_invalidation:
            m.Post.objects.update(title="new")
        call()
        thread_read: list[Any] = []

        def body() -> None:  # somebody else refills the cache with what is committed
            thread_read.append([read.cached() for read in world.mine])
            connection.close()

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    assert thread_read
    for read in world.mine:
        assert read.cached() == read.uncached()


def test_an_object_is_invalidated_under_all_its_names(settings: Any) -> None:
    """Invalidating an instance of an inherited model drops what depends on its parents' rows."""
    settings.CACHEOPS = MANUAL
    pizzeria = m.Pizzeria.objects.create(name="Gino", city="Rome", stars=1, oven="wood")
    reads = [
        Read(lambda: m.Place.objects.filter(city="Rome")),
        Read(lambda: m.Restaurant.objects.filter(stars=1)),
        Read(lambda: m.Pizzeria.objects.filter(oven="wood")),
    ]
    other = Read(lambda: m.Place.objects.filter(city="Paris"))
    prime(*reads, other)
    invalidate_obj(pizzeria)
    for read in reads:
        assert_dropped(read)
    assert_hit(other)


def test_a_deferred_value_is_unknown_not_absent(settings: Any) -> None:
    """An instance that does not know its category drops the results of every category."""
    settings.CACHEOPS = MANUAL
    world = World()
    prime(*world.all)
    invalidate_obj(m.Post.objects.only("title").get(pk=world.post.pk))
    for read in world.mine:
        assert_dropped(read)
    for read in world.tags:
        assert_hit(read)


def test_foreign_keys_in_redis_are_left_alone(world: World, redis_client: Any) -> None:
    """``invalidate_all`` and ``invalidate_model`` touch no key that is not ours."""
    foreign = {
        b"session:1": b"a", b"gen:tests_post": b"b", b"other:gen:{tests_post}": b"s123",
        b"conj:{tests_post}": b"d", b"q": b"e", b"": b"f", b"celery": b"g",
    }  # fmt: skip
    for key, value in foreign.items():
        redis_client.set(key, value)
    redis_client.rpush("list:{tests_post}", "a", "b")
    redis_client.select(5)
    redis_client.set("elsewhere", "x")
    redis_client.select(0)
    invalidate_all()
    invalidate_model(m.Post)
    call_command("invalidate", "all")
    assert {key: redis_client.get(key) for key in foreign} == foreign
    assert all(redis_client.ttl(key) == -1 for key in foreign)
    assert redis_client.lrange("list:{tests_post}", 0, -1) == [b"a", b"b"]


def test_invalidate_all_uses_no_scan(world: World, redis_client: Any) -> None:
    """Dropping everything needs neither KEYS nor SCAN nor FLUSH, and a bounded number of trips."""
    redis_client.config_resetstat()
    with costs() as spent:
        invalidate_all()
    used = {name.removeprefix("cmdstat_") for name in redis_client.info("commandstats")}
    assert used.isdisjoint({"keys", "scan", "flushdb", "flushall", "unlink"})
    assert spent.trips <= 3


def test_without_profiles_the_calls_do_nothing(settings: Any, redis_client: Any) -> None:
    """With nothing configured the calls are harmless, without any server too."""
    settings.CACHEOPS = {}
    del settings.CACHEOPS_REDIS
    one = post()
    with transaction.atomic():
        invalidate_obj(one)
        invalidate_model(m.Post)
        invalidate_all()
    invalidate_obj(one)
    invalidate_model(m.Post)
    invalidate_all()
    assert redis_client.dbsize() == 0


# -- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nope", "nope"),
        ("nope.post", "nope"),
        ("tests.nope", "nope"),
        ("tests.nope.1", "nope"),
        ("tests.post.0", "tests.Post"),
        ("tests.post.x", "tests.Post"),
        ("tests.token.not-a-uuid", "tests.Token"),
        ("", "."),
    ],
)
def test_the_command_refuses_what_it_does_not_know(world: World, target: str, words: str) -> None:
    """An unknown app, model or key is an error that names it; then nothing at all is dropped."""
    with pytest.raises(CommandError, match=words):
        call_command("invalidate", "tests.tag", target)
    for read in world.all:
        assert_hit(read)


def test_the_command_wants_a_target() -> None:
    """Without a target it says what it takes."""
    with pytest.raises(CommandError, match="args|required|all"):
        call_command("invalidate", stderr=StringIO())


@pytest.mark.parametrize("name", ["tests.Post", "tests.post"])
def test_the_command_takes_model_names_in_any_case(world: World, name: str) -> None:
    """Model names may be spelt as the class is."""
    call_command("invalidate", name)
    assert_dropped(world.mine[0])


def test_the_command_takes_keys_of_every_kind(settings: Any) -> None:
    """Keys may be UUIDs or texts with dots, and rows that the default manager hides."""
    settings.CACHEOPS = MANUAL
    token = m.Token.objects.create(label="t")
    country = m.Country.objects.create(code="x.", name="dotted")
    note = m.Note.everything.create(text="hidden", deleted=True)
    targets = {
        f"tests.token.{token.pk}": Read(lambda: m.Token.objects.filter(pk=token.pk)),
        f"tests.country.{country.pk}": Read(lambda: m.Country.objects.filter(pk="x.")),
        f"tests.note.{note.pk}": Read(lambda: m.Note.everything.filter(pk=note.pk)),
    }
    prime(*targets.values())
    for target, read in targets.items():
        call_command("invalidate", target)
        assert_dropped(read, target)


def test_the_command_looks_into_the_database(settings: Any) -> None:
    """The row of ``app.model.pk`` is read from the database, though the profile would cache it."""
    settings.CACHEOPS = ALL
    one = post()
    two = m.Category.objects.create(title="two", slug="two")
    m.Post.objects.get(pk=one.pk), m.Post._base_manager.get(pk=one.pk)
    listed = Read(lambda: m.Post.objects.filter(category=two))
    prime(listed)
    with no_invalidation:  # as if another program had written
        m.Post.objects.filter(pk=one.pk).update(category=two)
    call_command("invalidate", f"tests.post.{one.pk}")
    assert_dropped(listed)
    assert m.Post.objects.get(pk=one.pk).category_id == two.pk


# -- no_invalidation ---------------------------------------------------------------------------


def stale(read: Read) -> bool:
    """Whether the cache was left as it was although the row changed, as asked for."""
    return cached(read) and read.cached() != read.uncached()


def change(world: World, title: str = "changed") -> None:
    world.post.title = title
    world.post.save()


def test_no_invalidation_as_a_context_manager(world: World) -> None:
    """Inside ``with no_invalidation`` writes drop nothing; after it they do again."""
    read = world.mine[0]
    with no_invalidation:
        change(world)
        assert stale(read)
    assert stale(read), "it is not made up for by itself"
    change(world, "again")
    assert_dropped(read)


def test_no_invalidation_as_a_decorator(world: World) -> None:
    """``@no_invalidation`` mutes the writes of a function, which keeps its name and its result."""

    @no_invalidation
    def muted(title: str, *, twice: bool) -> str:
        """Its docstring."""
        change(world, title * (2 if twice else 1))
        return title

    assert muted("x", twice=True) == "x"
    assert (muted.__name__, muted.__doc__) == ("muted", "Its docstring.")
    assert stale(world.mine[0])
    change(world)
    assert_dropped(world.mine[0])


def test_no_invalidation_as_a_decorator_of_a_coroutine(world: World) -> None:
    """``@no_invalidation`` on an ``async def`` mutes what it awaits, and nothing after it."""

    @no_invalidation
    async def muted() -> int:
        await world.post.asave()
        await m.Post.objects.filter(pk=world.post.pk).aupdate(title="changed")
        return 5

    assert asyncio.iscoroutinefunction(muted)
    assert async_to_sync(muted)() == 5
    assert stale(world.mine[0])
    change(world)
    assert_dropped(world.mine[0])


def test_no_invalidation_nests_and_ends_with_errors(world: World) -> None:
    """Blocks may stand in each other; an error inside ends them as well."""
    read = world.mine[0]
    with no_invalidation:
        with no_invalidation:
            pass
        change(world, "inner")
        assert stale(read)
        with pytest.raises(ZeroDivisionError), no_invalidation:
            raise ZeroDivisionError
        change(world, "still")
        assert stale(read)
    change(world)
    assert_dropped(read)


def test_no_invalidation_is_for_this_thread_and_task(world: World) -> None:
    """Writes of other threads and tasks invalidate as always."""
    with no_invalidation:

        def body() -> None:
            change(world)
            connection.close()

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    assert_dropped(world.mine[0])
    prime(*world.mine)

    async def both() -> None:
        entered, written = asyncio.Event(), asyncio.Event()

        async def muting() -> None:
            with no_invalidation:
                entered.set()
                await written.wait()

        async def writing() -> None:
            await entered.wait()
            await sync_to_async(change)(world, "by a task")
            written.set()

        await asyncio.gather(muting(), writing())

    async_to_sync(both)()
    assert_dropped(world.mine[0])


def test_no_invalidation_counts_when_the_write_is_made(world: World) -> None:
    """In a transaction only the writes inside the block are muted, wherever the commit is."""
    with transaction.atomic():
        with no_invalidation:
            world.other.title = "muted"
            world.other.save()
        change(world)
    assert stale(world.others[0])
    assert_dropped(world.mine[0])
    prime(*world.mine)
    block = transaction.atomic()
    block.__enter__()
    change(world, "loud")
    with no_invalidation:
        block.__exit__(None, None, None)
    assert_dropped(world.mine[0])


def test_own_reads_after_a_muted_write_see_it(world: World) -> None:
    """In its transaction a muted writer reads its own rows, and does not store them for others."""
    read = world.mine[0]
    before = read.uncached()
    with transaction.atomic():
        with no_invalidation:
            change(world)
            assert read.cached() == read.uncached() != before
        transaction.set_rollback(True)
    assert read.cached() == before
    assert_hit(read)


@pytest.mark.parametrize("name", CALLS)
def test_no_invalidation_mutes_calls_as_well(world: World, name: str) -> None:
    """Inside ``no_invalidation`` the calls and the command drop nothing either, as in cacheops."""
    with no_invalidation:
        CALLS[name][0](world)
    for read in world.all:
        assert_hit(read, name)
