"""What django-cacheops' manual says of querysets holds here, statement by statement.

Where it names a weakness (its caveats), the test says what happens here instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.paginator import Paginator
from django.db import connection, transaction
from django.db.models import Count, Sum
from django.test import override_settings

from cacheops_lite import (
    cached_as,
    invalidate_all,
    invalidate_model,
    invalidate_obj,
    no_invalidation,
)
from cacheops_lite.signals import cache_invalidated, cache_read

from .. import models as m
from ..acceptance.tools import ALL, MANUAL, costs, is_cached, listening, post, stored
from ..watching import hits

pytestmark = pytest.mark.django_db(transaction=True)

#: The manual's example of profiles, with our models.
EXAMPLE = {
    "auth.user": {"ops": "get", "timeout": 60 * 15},
    "auth.*": {"ops": {"fetch", "get"}, "timeout": 60 * 60},
    "auth.permission": {"ops": "all", "timeout": 60 * 60},
    "tests.tag": None,
    "*.*": {"timeout": 60 * 60},
}


def hit(read: Callable[[], Any]) -> bool:
    """Whether this one read was answered by the cache."""
    with hits() as seen:
        read()
    return bool(seen) and all(seen)


def titles(queryset: Any) -> list[str]:
    return sorted(one.title for one in queryset)


# -- profiles ----------------------------------------------------------------------------------


@override_settings(CACHEOPS=EXAMPLE)
def test_the_example_of_profiles() -> None:
    """Exact name before app before everything; ``all`` is every op; ``None`` forbids."""
    user = User.objects.create(username="ann")
    assert is_cached(lambda: User.objects.get(pk=user.pk))
    assert not is_cached(lambda: list(User.objects.all()))
    assert is_cached(lambda: list(user.groups.all()))
    for read in (Permission.objects.count, Permission.objects.exists):
        assert is_cached(read)
    assert is_cached(lambda: Permission.objects.aggregate(Count("id")))
    post()
    assert not is_cached(lambda: list(m.Post.objects.all()))
    assert is_cached(lambda: list(m.Post.objects.all().cache()))
    with pytest.raises(ImproperlyConfigured):
        m.Tag.objects.cache()


@override_settings(CACHEOPS={**MANUAL, "tests.author": {"ops": "get", "timeout": 60}})
def test_get_is_also_following_a_key() -> None:
    """Op ``get`` covers access through a foreign key."""
    key = post().pk
    assert is_cached(lambda: m.Author.objects.get(name="Ann"))
    fresh = [m.Post.objects.get(pk=key) for _ in range(2)]
    assert is_cached(lambda: fresh.pop().author)


@pytest.mark.parametrize("method", ["first", "last"])
@override_settings(CACHEOPS={**MANUAL, "tests.author": {"ops": "get", "timeout": 60}})
def test_get_is_also_first_and_last(method: str) -> None:
    """Op ``get`` covers ``first()`` and ``last()``."""
    post()
    for rows in (m.Author.objects.filter(name="Ann"), m.Author.objects.order_by("name")):
        assert is_cached(getattr(rows, method))
    assert not is_cached(lambda: list(m.Author.objects.all()))
    m.Author.objects.update(name="Bea")
    assert getattr(m.Author.objects.order_by("name"), method)().name == "Bea"


def test_defaults(settings: Any, redis_client: Any) -> None:
    """CACHEOPS_DEFAULTS is what every profile starts from."""
    settings.CACHEOPS_DEFAULTS = {"timeout": 50}
    settings.CACHEOPS = {"auth.user": {"ops": "get"}, "*.*": {}}
    user = User.objects.create(username="ann")
    assert is_cached(lambda: User.objects.get(pk=user.pk))
    assert is_cached(lambda: list(m.Tag.objects.cache()))
    assert {round(redis_client.pttl(key), -4) for key in stored(redis_client)} == {50_000}


@override_settings(CACHEOPS={"tests.author": {"ops": "get", "timeout": 60, "local_get": True}})
def test_local_get_is_never_stale() -> None:
    """``local_get`` is accepted and cached; unlike there, a change is seen."""
    author = m.Author.objects.create(name="Ann")
    get = lambda: m.Author.objects.get(pk=author.pk)  # noqa: E731
    assert is_cached(get)
    m.Author.objects.filter(pk=author.pk).update(name="Bea")
    assert get().name == "Bea"
    get().name = "only this one"
    assert get().name == "Bea"


@pytest.mark.parametrize(("option", "by"), [(True, "pk"), ("name", "name")])
def test_cache_on_save(settings: Any, option: Any, by: str) -> None:
    """``cache_on_save``: after a save the object is got from the cache, by key or by a field."""
    settings.CACHEOPS = {"tests.tag": {"ops": "get", "timeout": 60, "cache_on_save": option}}
    tag = m.Tag.objects.create(name="red")
    assert hit(lambda: m.Tag.objects.get(**{by: getattr(tag, by)}))
    tag.name = "blue"
    tag.save()
    assert hit(lambda: m.Tag.objects.get(**{by: getattr(tag, by)}))
    assert m.Tag.objects.get(**{by: getattr(tag, by)}).name == "blue"


@override_settings(CACHEOPS_REDIS="redis://localhost:1/0", CACHEOPS_DEGRADE_ON_FAILURE=True)
def test_degrading() -> None:
    """With CACHEOPS_DEGRADE_ON_FAILURE nothing fails because Redis is away."""
    one = post()
    assert titles(m.Post.objects.cache()) == ["a post"]
    one.title = "changed"
    one.save()
    invalidate_obj(one)
    invalidate_model(m.Post)
    assert titles(m.Post.objects.cache()) == ["changed"]


def test_switched_off() -> None:
    """CACHEOPS_ENABLED=False makes every method and decorator a no-op, for tests say."""

    @override_settings(CACHEOPS_ENABLED=False)
    def test() -> None:
        one = post()
        with costs() as spent:
            for _ in range(2):
                assert titles(m.Post.objects.cache(lock=True)) == ["a post"]
                assert cached_as(m.Post)(lambda: "value")() == "value"
            one.save()
            invalidate_obj(one)
            m.Post.objects.invalidated_update(views=1)
        assert spent.trips == 0 and spent.hits == []

    test()


# -- by hand -----------------------------------------------------------------------------------


def test_any_queryset_can_be_cached() -> None:
    """``.cache()`` caches a queryset that no profile caches."""
    tag = m.Tag.objects.create(name="red")
    post().tags.add(tag)
    assert not is_cached(lambda: list(m.Post.objects.filter(tags=tag)))
    assert is_cached(lambda: list(m.Post.objects.filter(tags=tag).cache()))


def test_ops_of_one_queryset() -> None:
    """The manual's paginator: with ``ops=['count']`` its count is cached, its pages are not."""
    post()
    posts = m.Post.objects.filter(views=0).order_by("pk").cache(ops=["count"])
    assert is_cached(lambda: Paginator(posts.all(), 10).count)
    with costs() as spent:
        list(Paginator(posts.all(), 10).page(1))
    assert spent.hits == [True] and len(spent.sql) == 1


@pytest.mark.parametrize("off", [lambda rows: rows.nocache(), lambda rows: rows.cache(ops=[])])
@override_settings(CACHEOPS=ALL)
def test_turning_it_off(off: Callable[[Any], Any]) -> None:
    """``.nocache()``, or no ops at all: what is made of that queryset asks the database."""
    rows = off(m.Post.objects.filter(published=True))
    with costs() as spent:
        for _ in range(2):
            list(rows.filter(views=2)), list(rows.filter(category=3)), rows.count(), rows.exists()
    assert spent.hits == [] and len(spent.sql) == 8


def test_a_timeout_of_ones_own(redis_client: Any) -> None:
    """``.cache(timeout=…)`` for one queryset."""
    list(m.Post.objects.cache(timeout=7))
    (key,) = stored(redis_client)
    assert 6_000 < redis_client.pttl(key) <= 7_000


# -- invalidation ------------------------------------------------------------------------------


def test_save_delete_and_relations_invalidate() -> None:
    """``save()``, ``delete()`` and many-to-many changes drop what they concern."""
    one, tag = post(), m.Tag.objects.create(name="red")
    posts, tagged = m.Post.objects.filter(views=0).cache(), m.Post.objects.filter(tags=tag).cache()
    assert titles(posts.all()) == ["a post"] and titles(tagged.all()) == []
    one.tags.add(tag)
    assert titles(tagged.all()) == ["a post"]
    one.tags.clear()
    assert titles(tagged.all()) == []
    tag.posts.set([one])
    assert titles(tagged.all()) == ["a post"]
    one.views = 1
    one.save()
    assert titles(posts.all()) == []
    post("another")
    assert titles(posts.all()) == ["another"]
    m.Post.objects.get(title="another").delete()
    assert titles(posts.all()) == []


def test_what_cannot_be_influenced_stays() -> None:
    """A query whose conditions neither the old nor the new object meets stays cached."""
    one, two = post(status="draft"), post(status="live")
    drafts = m.Post.objects.filter(status="draft").cache()
    review = m.Post.objects.filter(status="review").cache()
    for rows in (drafts, review):
        assert is_cached(lambda rows=rows: list(rows.all()))
    two.title = "changed"
    two.save()
    assert hit(lambda: list(drafts.all())) and hit(lambda: list(review.all()))
    one.status = "live"
    one.save()
    assert not hit(lambda: list(drafts.all()))
    assert hit(lambda: list(review.all()))


@pytest.mark.parametrize(
    ("drop", "kept"),
    [
        (lambda one: invalidate_obj(one), {"live", "tags"}),
        (lambda one: invalidate_model(m.Post), {"tags"}),
        (lambda one: invalidate_all(), set()),
        (lambda one: call_command("invalidate", f"tests.Post.{one.pk}"), {"live", "tags"}),
        (lambda one: call_command("invalidate", "tests.Post"), {"tags"}),
        (lambda one: call_command("invalidate", "tests"), set()),
        (lambda one: call_command("invalidate", "all"), set()),
    ],
    ids=["obj", "model", "all", "command obj", "command model", "command app", "command all"],
)
def test_invalidation_by_hand(drop: Callable[[Any], Any], kept: set[str]) -> None:
    """An object drops what it affects, a model what is of it, and all is all; commands too."""
    one = post(status="draft")
    post(status="live")
    reads = {
        "draft": lambda: list(m.Post.objects.filter(status="draft").cache()),
        "live": lambda: list(m.Post.objects.filter(status="live").cache()),
        "tags": lambda: list(m.Tag.objects.cache()),
    }
    assert all(is_cached(read) for read in reads.values())
    drop(one)
    assert {name for name, read in reads.items() if hit(read)} == kept


def test_invalidate_all_leaves_others_alone(redis_client: Any) -> None:
    """Unlike there, ``invalidate_all()`` does not flush: a database may be shared."""
    redis_client.set("somebody's", "value")
    invalidate_all()
    assert redis_client.get("somebody's") == b"value"


def test_invalidation_turned_off_and_made_up_for() -> None:
    """``no_invalidation`` as a block and a decorator; ``finally`` makes up for it."""
    one = post()
    read = lambda: titles(m.Post.objects.cache())  # noqa: E731
    assert read() == ["a post"]

    @no_invalidation
    def rename(title: str) -> None:
        one.title = title
        one.save()

    rename("first")
    assert read() == ["a post"]
    try:
        with no_invalidation:
            rename("second")
    finally:
        invalidate_obj(one)
    assert read() == ["second"]
    with no_invalidation:
        rename("third")
    assert read() == ["second"]
    invalidate_model(m.Post)
    assert read() == ["third"]


@pytest.mark.parametrize("method", ["invalidated_update", "update"])
def test_mass_updates(method: str) -> None:
    """``invalidated_update()`` gives the number of rows and invalidates; here ``update()`` too."""
    post("one", status="draft"), post("two", status="draft"), post("three", status="live")
    reads = {
        status: lambda status=status: titles(m.Post.objects.filter(status=status).cache())
        for status in ("draft", "review", "live")
    }
    assert all(is_cached(read) for read in reads.values())
    rows = m.Post.objects.filter(status="draft")
    assert getattr(rows, method)(status="review") == 2
    assert hit(reads["live"])
    assert [reads["draft"](), reads["review"]()] == [[], ["one", "two"]]
    assert getattr(m.Post.objects, method)(title="same") == 3
    assert reads["live"]() == ["same"]


@pytest.mark.parametrize(
    "write",
    [
        lambda one: m.Post.objects.bulk_create(
            [m.Post(title="new", author=one.author, category=one.category)]
        ),
        lambda one: m.Post.objects.bulk_update([one], ["title"]),
        lambda one: m.Post.objects.filter(pk=one.pk).delete(),
        lambda one: m.Author.objects.all().delete(),
    ],
    ids=["bulk_create", "bulk_update", "delete", "cascade"],
)
def test_other_mass_writes(write: Callable[[Any], Any]) -> None:
    """Bulk operations, mass deletes and cascades invalidate."""
    one = post()
    read = lambda: titles(m.Post.objects.cache())  # noqa: E731
    assert is_cached(read)
    one.title = "changed"
    write(one)
    assert read() == titles(m.Post.objects.all()) != ["a post"]


# -- transactions ------------------------------------------------------------------------------


def test_a_dirty_transaction_is_not_cached() -> None:
    """Once a transaction has changes it reads what it wrote, and others do not."""
    one = post()
    read = lambda: titles(m.Post.objects.cache())  # noqa: E731
    assert is_cached(read)
    seen: list[Any] = []

    def elsewhere() -> None:
        try:
            seen.append(read())
        finally:
            connection.close()

    with transaction.atomic():
        assert hit(read)
        one.title = "changed"
        one.save()
        with costs() as spent:
            assert read() == ["changed"]
        assert spent.hits == []
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join(10)
    assert seen == [["a post"]]
    assert read() == ["changed"]


def test_savepoints_and_rollbacks() -> None:
    """Invalidation waits for the outermost commit; what was rolled back never happened."""
    one = post()
    read = lambda: titles(m.Post.objects.cache())  # noqa: E731
    assert is_cached(read)
    with listening(cache_invalidated) as heard, transaction.atomic():
        with transaction.atomic():
            invalidate_obj(one)
        assert heard == []
    assert len(heard) >= 1
    assert is_cached(read)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        one.title = "never"
        one.save()
        raise ZeroDivisionError
    assert hit(read) and read() == ["a post"]
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            one.title = "never"
            one.save()
            raise ZeroDivisionError
        m.Tag.objects.create(name="kept")
    assert read() == ["a post"]


# -- special topics ----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["call", "profile"])
def test_one_of_many_asks_the_database(settings: Any, by: str) -> None:
    """``lock``: threads that want one missing result at a time run one query for it."""
    settings.CACHEOPS = {"*.*": {"timeout": 60, "lock": by == "profile"}}
    post()
    ran: list[str] = []

    def slow(execute: Any, sql: str, *rest: Any) -> Any:
        ran.append(sql)
        time.sleep(0.3)
        return execute(sql, *rest)

    def run() -> None:
        try:
            connection.ensure_connection()
            with connection.execute_wrapper(slow):
                rows = m.Post.objects.filter(views=0)
                found.append(titles(rows.cache(lock=True) if by == "call" else rows.cache()))
        finally:
            connection.close()

    found: list[Any] = []
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [["a post"]] * 3
    assert len(ran) == 1


def test_a_lock_costs_nothing_on_a_hit() -> None:
    """A hit with ``lock`` is the same one command."""
    read = lambda: list(m.Post.objects.cache(lock=True))  # noqa: E731
    assert is_cached(read)
    with costs() as spent:
        read()
    assert spent.sent == ["MGET"]


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
@pytest.mark.parametrize("agnostic", [None, False, True])
def test_several_databases(settings: Any, agnostic: bool | None) -> None:
    """``db_agnostic`` shares results between databases. Unlike there, one has to ask for it."""
    profile: dict[str, Any] = {"ops": "all", "timeout": 60}
    settings.CACHEOPS = {
        "*.*": profile if agnostic is None else {**profile, "db_agnostic": agnostic}
    }
    m.Tag.objects.create(name="red")
    assert [one.name for one in m.Tag.objects.all()] == ["red"]
    expected = ["red"] if agnostic else []
    assert [one.name for one in m.Tag.objects.using("other")] == expected


@pytest.mark.parametrize("form", ["text", "function", "path"])
def test_sharing_a_server(settings: Any, redis_client: Any, form: str) -> None:
    """CACHEOPS_PREFIX, a function or its path, leads keys; here a text is enough."""
    settings.CACHEOPS_PREFIX = {
        "text": "host:",
        "function": host_prefix,
        "path": f"{__name__}.host_prefix",
    }[form]
    read = lambda: titles(m.Post.objects.cache())  # noqa: E731
    one = post()
    assert is_cached(read)
    assert b"host:" in b" ".join(redis_client.keys())
    one.title = "changed"
    one.save()
    assert read() == ["changed"]
    settings.CACHEOPS_PREFIX = "another:"
    assert not hit(read)


def host_prefix(query: Any) -> str:
    assert query.dbs == ["default"]
    assert all(isinstance(table, str) for table in query.tables)
    return "host:"


def test_statistics() -> None:
    """``cache_read`` comes once for each look-up: the model, no function, hit or miss."""
    counts = {"hit": 0, "miss": 0}

    def collect(sender: Any, func: Any, hit: bool, **kwargs: Any) -> None:
        assert sender is m.Post and func is None
        counts["hit" if hit else "miss"] += 1

    cache_read.connect(collect)
    try:
        for _ in range(3):
            list(m.Post.objects.cache())
        list(m.Post.objects.nocache())
        m.Post.objects.cache().count()
    finally:
        cache_read.disconnect(collect)
    assert counts == {"hit": 2, "miss": 2}


def test_signals_of_invalidation() -> None:
    """``cache_invalidated``: the model with the object's values; ``None`` for a model or for all.

    Once for a creation or deletion, for an update with the old and the new values.
    """
    with listening(cache_invalidated) as heard:
        tag = m.Tag.objects.create(name="red")
    (one,) = heard
    assert one["sender"] is m.Tag
    assert one["obj_dict"]["name"] == "red"
    with listening(cache_invalidated) as heard:
        invalidate_obj(tag)
    assert [(one["sender"], one["obj_dict"]["name"]) for one in heard] == [(m.Tag, "red")]
    with listening(cache_invalidated) as heard:
        invalidate_model(m.Tag)
    assert [(one["sender"], one["obj_dict"]) for one in heard] == [(m.Tag, None)]
    with listening(cache_invalidated) as heard:
        invalidate_all()
    assert [(one["sender"], one["obj_dict"]) for one in heard] == [(None, None)]


@pytest.mark.parametrize("write", ["save", "delete"])
def test_signals_of_updates_and_deletions(write: str) -> None:
    """A saved object is told with its new values, a deleted one with those that it had."""
    tag = m.Tag.objects.create(name="red")
    tag.group = "warm"
    with listening(cache_invalidated) as heard:
        getattr(tag, write)()
    told = [one["obj_dict"] for one in heard if one["sender"] is m.Tag]
    assert told and told[-1]["name"] == "red"


# -- caveats: what is not so here ----------------------------------------------------------------


@pytest.mark.parametrize(
    "conditions",
    [
        {"title__startswith": "a"},
        {"title__icontains": "A"},
        {"text": "some text"},
        {"views__lt": 10},
        {"author__name": "Ann"},
        {"category__parent__isnull": True},
    ],
    ids=lambda conditions: next(iter(conditions)),
)
def test_every_condition_is_invalidated(conditions: dict[str, Any]) -> None:
    """Conditions that narrow and conditions that do not: what they select is never stale."""
    one = post(text="some text")
    read = lambda: titles(m.Post.objects.filter(**conditions).cache())  # noqa: E731
    assert is_cached(read) and read() == ["a post"]
    one.title, one.text, one.views = "b", "other text", 20
    one.author = m.Author.objects.create(name="Bea")
    one.category = m.Category.objects.create(slug="sub", parent=one.category)
    one.save()
    assert read() == titles(m.Post.objects.filter(**conditions)) != ["a post"]


@pytest.mark.parametrize("kind", [{"status": "draft"}, {"status__in": ["draft"]}, {"editor": None}])
def test_exact_in_and_isnull_narrow(kind: dict[str, Any]) -> None:
    """Equality, ``in`` and ``isnull`` say which rows matter."""
    post(status="draft")
    other = post("other", status="live", editor=m.Author.objects.create(name="Ed"))
    read = lambda: list(m.Post.objects.filter(**kind).cache())  # noqa: E731
    assert is_cached(read)
    other.title = "changed"
    other.save()
    assert hit(read)


def test_select_related_is_invalidated() -> None:
    """A change of a row that came along by ``select_related()`` is seen."""
    author = post().author
    read = lambda: [  # noqa: E731
        one.author.name for one in m.Post.objects.select_related("author").cache()
    ]
    assert is_cached(read)
    author.name = "Bea"
    author.save()
    assert read() == ["Bea"]


@override_settings(CACHEOPS=ALL)
def test_prefetch_related_is_invalidated() -> None:
    """So is one that came by ``prefetch_related()``, whose queries are cached on their own."""
    one = post()
    one.tags.add(m.Tag.objects.create(name="red"))
    read = lambda: [  # noqa: E731
        [tag.name for tag in each.tags.all()] for each in m.Post.objects.prefetch_related("tags")
    ]
    assert is_cached(read)
    m.Tag.objects.update(name="blue")
    assert read() == [["blue"]]


def test_slices() -> None:
    """A slice is dropped like the whole."""
    post(status="draft")
    other = post("other", status="live")
    read = lambda: titles(m.Post.objects.filter(status="draft").order_by("title")[:5].cache())  # noqa: E731
    assert is_cached(read)
    other.save()
    assert hit(read)
    post("new", status="draft")
    assert read() == ["a post", "new"]


def test_raw_queries_are_not_cached_but_raw_writes_are_seen() -> None:
    """``raw()`` reads the database; SQL through Django's cursor invalidates what it names."""
    post()
    assert not is_cached(lambda: list(m.Post.objects.raw("SELECT * FROM tests_post")))
    read = lambda: titles(m.Post.objects.cache())  # noqa: E731
    assert is_cached(read)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_post SET title = 'raw'")
    assert read() == ["raw"]


def test_subqueries() -> None:
    """A change of a table that only a subquery reads is seen."""
    one = post()
    read = lambda: titles(  # noqa: E731
        m.Post.objects.filter(author__in=m.Author.objects.filter(name="Ann")).cache()
    )
    assert is_cached(read)
    m.Author.objects.filter(pk=one.author_id).update(name="Bea")
    assert read() == []


def test_multi_table_inheritance() -> None:
    """Parents and children of one row are one: a write of either is seen through both."""
    m.Restaurant.objects.create(name="Roma", city="Bari", stars=1)
    places = lambda: [one.name for one in m.Place.objects.filter(city="Bari").cache()]  # noqa: E731
    stars = lambda: [(one.name, one.stars) for one in m.Restaurant.objects.cache()]  # noqa: E731
    assert is_cached(places) and is_cached(stars)
    m.Place.objects.update(name="Napoli")
    assert [places(), stars()] == [["Napoli"], [("Napoli", 1)]]
    restaurant = m.Restaurant.objects.get()
    restaurant.name, restaurant.stars = "Torino", 2
    restaurant.save()
    assert [places(), stars()] == [["Torino"], [("Torino", 2)]]


def test_unsupported_queries_by_a_function() -> None:
    """What no queryset says can be cached as one by ``cached_as``."""
    post()

    @cached_as(m.Post)
    def total() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM tests_post")
            return int(cursor.fetchone()[0])

    assert total() == 1
    with costs() as spent:
        assert total() == 1
    assert spent.sql == []
    post()
    assert total() == 2


# -- tips --------------------------------------------------------------------------------------


def test_inplace_and_cloning() -> None:
    """``inplace()`` filters without copies; ``cloning()`` goes back to copies."""
    post("one", views=1), post("two", views=2)
    rows = m.Post.objects.inplace()
    assert rows.filter(views=1) is rows
    assert rows.cache() is rows
    assert titles(rows) == ["one"]
    items = m.Post.objects.inplace().filter(published=False).order_by("-views")[:1]
    assert titles(items) == ["two"]
    copying = m.Post.objects.inplace().filter(published=False).cloning()
    assert copying.filter(views=1) is not copying
    assert titles(copying) == ["one", "two"]
    assert is_cached(lambda: list(m.Post.objects.inplace().filter(views=1).cache()))


@override_settings(CACHEOPS=ALL)
def test_smaller_queries_are_dropped_more_precisely() -> None:
    """Two queries instead of a join: each is dropped by its own rows only."""
    one = post()
    other = m.Category.objects.create(slug="two", title="two")
    read = lambda: list(  # noqa: E731
        m.Post.objects.filter(category=m.Category.objects.get(slug="one"))
    )
    assert is_cached(read)
    post("elsewhere", category=other)
    other.title = "changed"
    other.save()
    assert hit(read)
    one.category.title = "changed"
    one.category.save()
    with costs() as spent:
        read()
    assert spent.hits == [False, True]


def test_what_is_made_of_a_cached_queryset() -> None:
    """``values()``, annotations and aggregates of a cached queryset are cached and dropped too."""
    one = post(views=3)
    rows = m.Post.objects.filter(status="draft").cache()
    reads: list[Callable[[], Any]] = [
        lambda: list(rows.values_list("title", flat=True)),
        lambda: list(rows.values("status").annotate(Count("id"))),
        lambda: rows.aggregate(Sum("views")),
        lambda: rows.all().count(),
        lambda: rows.all().exists(),
        lambda: rows.first(),
    ]
    assert all(is_cached(read) for read in reads)
    one.delete()
    assert not any(hit(read) for read in reads)
