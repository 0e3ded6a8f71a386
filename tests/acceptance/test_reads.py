"""Every way to read: the second time it costs no SQL, it says what it said uncached, and it is fresh."""

from __future__ import annotations

import asyncio
import datetime
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import FieldError, SynchronousOnlyOperation
from django.db import connections
from django.db.models import Avg, Count, F, Max, Prefetch, Q, Sum
from django.utils import timezone

from tests import models as m
from tests.watching import hits, plain

from .tools import ALL, MANUAL, costs, is_cached, post

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture(autouse=True)
def world(settings: Any) -> None:
    settings.CACHEOPS = MANUAL
    ann, bob = (m.Author.objects.create(name=name) for name in ("Ann", "Bob"))
    one, two = (m.Category.objects.create(title=slug, slug=slug) for slug in ("one", "two"))
    red = m.Tag.objects.create(name="red")
    for number in range(6):
        made = post(
            f"p{number}",
            author=(ann, bob)[number % 2],
            category=(one, two)[number // 3],
            views=number,
            day=datetime.date(2024, 1 + number % 3, 3),
            created=timezone.make_aware(datetime.datetime(2024, 1 + number % 2, 3, number)),
        )
        if number % 2:
            made.tags.add(red)


def rows(queryset: Any) -> list[Any]:
    return [plain(item) for item in queryset]


def all_related(queryset: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since Django 6.1
        return queryset.select_related()


#: What may be called on a queryset of posts; what it returns is comparable.
READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda q: plain(q.get(title="p1")),
    "first": lambda q: plain(q.first()),
    "first of an order": lambda q: plain(q.order_by("-views").first()),
    "first of nothing": lambda q: q.filter(views=99).first(),
    "last": lambda q: plain(q.last()),
    "latest": lambda q: plain(q.latest("views")),
    "earliest": lambda q: plain(q.earliest("views")),
    "in_bulk": lambda q: {key: plain(value) for key, value in q.in_bulk([1, 2, 10**6]).items()},
    "in_bulk of all": lambda q: {key: plain(value) for key, value in q.in_bulk().items()},
    "iteration": rows,
    "iteration of nothing": lambda q: rows(q.filter(views=99)),
    "list": lambda q: rows(list(q)),
    "len": len,
    "bool": bool,
    "bool of nothing": lambda q: bool(q.filter(views=99)),
    "index": lambda q: plain(q.order_by("views")[0]),
    "slice": lambda q: rows(q.order_by("views")[1:4]),
    "slice with a step": lambda q: rows(q.order_by("views")[0:6:2]),
    "in": lambda q: m.Post.objects.nocache().get(title="p1") in q,
    "count": lambda q: q.count(),
    "count of a filter": lambda q: q.filter(author__name="Ann").count(),
    "count of distinct": lambda q: q.filter(tags__name="red").distinct().count(),
    "count of a slice": lambda q: q.order_by("pk")[:4].count(),
    "exists": lambda q: q.exists(),
    "exists not": lambda q: q.filter(views=99).exists(),
    "contains": lambda q: q.contains(m.Post.objects.nocache().get(title="p1")),
    "aggregate": lambda q: q.aggregate(Sum("views")),
    "aggregates": lambda q: q.aggregate(a=Sum("views"), b=Max("day"), c=Avg("views"), n=Count("*")),
    "aggregate of an annotation": lambda q: q.annotate(n=Count("tags")).aggregate(Sum("n")),
    "aggregate of nothing": lambda q: q.filter(views=99).aggregate(Sum("views")),
    "values": lambda q: list(q.values("title", "author__name")),
    "values of all": lambda q: list(q.values()),
    "values grouped": lambda q: sorted(q.values_list("author__name").annotate(Count("pk"))),
    "values_list": lambda q: list(q.values_list("title", "views")),
    "values_list flat": lambda q: list(q.values_list("title", flat=True)),
    "values_list named": lambda q: [(type(r).__name__, r.title, r.views) for r in
                                    q.values_list("title", "views", named=True)],
    "dates": lambda q: list(q.dates("day", "month")),
    "datetimes": lambda q: list(q.datetimes("created", "hour")),
    "select_related": lambda q: rows(q.select_related("author", "category")),
    "select_related of all": lambda q: rows(all_related(q)),
    "only": lambda q: rows(q.only("title")),
    "defer": lambda q: rows(q.defer("text")),
    "annotate": lambda q: [(p.pk, p.n, p.twice) for p in
                           q.annotate(n=Count("tags"), twice=F("views") * 2)],
    "distinct": lambda q: sorted(q.values_list("category__slug").distinct()),
    "reverse": lambda q: rows(q.order_by("pk").reverse()),
    "union": lambda q: sorted(q.filter(views=1).union(q.filter(views=2)).values_list("views")),
    "or": lambda q: rows(q.filter(Q(views=1) | Q(author__name="Bob")).order_by("pk")),
    "exclude": lambda q: rows(q.exclude(tags__name="red")),
    "subquery": lambda q: rows(q.filter(author__in=m.Author.objects.filter(name="Ann"))),
    "none": lambda q: rows(q.none()),
    "aget": lambda q: plain(async_to_sync(q.aget)(title="p1")),
    "afirst": lambda q: plain(async_to_sync(q.afirst)()),
    "alast": lambda q: plain(async_to_sync(q.alast)()),
    "alatest": lambda q: plain(async_to_sync(q.alatest)("views")),
    "aearliest": lambda q: plain(async_to_sync(q.aearliest)("views")),
    "ain_bulk": lambda q: {key: plain(v) for key, v in async_to_sync(q.ain_bulk)().items()},
    "acount": lambda q: async_to_sync(q.acount)(),
    "aexists": lambda q: async_to_sync(q.aexists)(),
    "acontains": lambda q: async_to_sync(q.acontains)(m.Post.objects.nocache().get(title="p1")),
    "aaggregate": lambda q: async_to_sync(q.aaggregate)(n=Count("*")),
    "async for": lambda q: async_to_sync(collect)(q),
}  # fmt: skip

#: Reads that need no database by themselves.
FREE = {"none"}


async def collect(queryset: Any) -> list[Any]:
    return [plain(item) async for item in queryset]


@pytest.mark.parametrize("name", READS)
def test_the_second_time_costs_no_sql(name: str) -> None:
    """Each way to read is a miss, then a hit without its SQL, and both say what uncached says."""
    read = READS[name]
    with costs() as uncached:
        expected = read(m.Post.objects.nocache())
    with costs() as miss:
        assert read(m.Post.objects.cache()) == expected
    with costs() as hit:
        assert read(m.Post.objects.cache()) == expected
    if name in FREE:
        assert (uncached.sql, miss.hits, hit.trips) == ([], [], 0)
        return
    extra = sum(".nocache()" in part for part in [_source(name)])
    assert miss.hits == [False]
    assert hit.hits == [True]
    assert len(hit.sql) == extra
    assert len(miss.sql) == len(uncached.sql)


def _source(name: str) -> str:
    """``.nocache()`` in a read above stands for one query of its own."""
    return ".nocache()" if name in ("in", "contains", "acontains") else ""


@pytest.mark.parametrize("name", sorted(set(READS) - FREE))
def test_after_a_write_it_says_the_new(name: str) -> None:
    """After any row was changed, added or deleted each way to read says what the database says."""
    read = READS[name]

    def check(step: str) -> None:
        assert read(m.Post.objects.cache()) == read(m.Post.objects.nocache()), step

    check("first")
    check("second")
    changed = m.Post.objects.get(title="p1")
    changed.views, changed.day = 50, datetime.date(2025, 5, 5)
    changed.created = timezone.make_aware(datetime.datetime(2025, 5, 5))
    changed.save()
    check("saved")
    post("p6", author=changed.author, category=changed.category, views=99)
    check("created")
    m.Post.objects.filter(title="p6").update(views=-1)
    check("updated")
    m.Author.objects.filter(name="Ann").update(name="Anna")
    check("author updated")
    changed.tags.clear()
    check("tags cleared")
    m.Post.objects.exclude(title="p1").delete()
    check("deleted")


def test_a_proxy_is_read_as_itself() -> None:
    """A proxy's rows come as instances of the proxy, and a write to its base model drops them."""
    m.Post.objects.cache().get(title="p0")
    read = lambda: m.PostProxy.objects.cache().get(title="p0")  # noqa: E731
    for _ in range(2):
        assert type(read()) is m.PostProxy
    assert is_cached(read)
    m.Post.objects.filter(title="p0").update(views=70)
    assert read().views == 70


# -- prefetching -------------------------------------------------------------------------------


def test_prefetch_related_caches_what_the_profile_says(settings: Any) -> None:
    """The rows of a cached queryset come from the cache; what is prefetched follows its own profile."""

    def read() -> list[Any]:
        return [
            (one.title, sorted(tag.name for tag in one.tags.all()))
            for one in m.Post.objects.cache().prefetch_related("tags")
        ]

    expected = read()
    with costs() as second:
        assert read() == expected
    assert second.hits == [True]
    assert len(second.sql) == 1, "the prefetch is not cached unasked"
    settings.CACHEOPS = ALL
    read()
    with costs() as all_cached:
        assert read() == expected
    assert all_cached.sql == [] and all(all_cached.hits)
    m.Tag.objects.filter(name="red").update(name="blue")
    assert any(tags == ["blue"] for _, tags in read())


def test_a_prefetch_object_can_be_cached_by_hand() -> None:
    """``Prefetch("tags", Tag.objects.cache())`` caches the prefetching query."""

    def read() -> list[Any]:
        queryset = m.Post.objects.cache().prefetch_related(
            Prefetch("tags", m.Tag.objects.cache(), to_attr="labels")
        )
        return [(one.title, [tag.name for tag in one.labels]) for one in queryset]

    expected = read()
    with costs() as second:
        assert read() == expected
    assert second.sql == []
    m.Post.objects.get(title="p0").tags.add(m.Tag.objects.get(name="red"))
    assert ("p0", ["red"]) in read()


# -- what is never cached ----------------------------------------------------------------------


def test_iterator_is_never_cached(settings: Any) -> None:
    """``iterator()`` and ``aiterator()`` ask the database each time and store nothing."""
    settings.CACHEOPS = ALL

    async def aiterate() -> list[str]:
        return [one.title async for one in m.Post.objects.cache().aiterator()]

    for read in (
        lambda: [one.title for one in m.Post.objects.cache().iterator()],
        lambda: [one.title for one in m.Post.objects.cache().iterator(chunk_size=2)],
        lambda: async_to_sync(aiterate)(),
    ):
        for _ in range(2):
            with costs() as spent:
                assert len(read()) == 6
            assert spent.hits == [] and spent.trips == 0 and len(spent.sql) == 1


def test_an_evaluated_queryset_asks_nobody() -> None:
    """Count, exists, length and iteration of an evaluated queryset are free, as without us."""
    queryset = m.Post.objects.cache()
    list(queryset)
    with costs() as spent:
        assert (queryset.count(), queryset.exists(), len(queryset)) == (6, True, 6)
    assert (spent.sql, spent.trips, spent.hits) == ([], 0, [])


# -- errors ------------------------------------------------------------------------------------


def test_does_not_exist_on_a_miss_and_on_a_hit() -> None:
    """That there is no row is cached as well; the error is the model's, until a row appears."""

    def read() -> Any:
        return m.Post.objects.cache().get(title="p9")

    for expected in ([False], [True]):
        with pytest.raises(m.Post.DoesNotExist), costs() as spent:
            read()
        assert spent.hits == expected
    made = post("p9")
    assert read() == made
    made.delete()
    with pytest.raises(m.Post.DoesNotExist):
        read()


def test_multiple_objects_on_a_miss_and_on_a_hit() -> None:
    """Too many rows are an error from the cache as well, with Django's words."""
    with pytest.raises(m.Post.MultipleObjectsReturned) as uncached:
        m.Post.objects.nocache().get(author__name="Ann")
    for expected in ([False], [True]):
        with pytest.raises(m.Post.MultipleObjectsReturned) as caught, costs() as spent:
            m.Post.objects.cache().get(author__name="Ann")
        assert spent.hits == expected
        assert str(caught.value) == str(uncached.value)


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda q: q.filter(nope=1), FieldError),
        (lambda q: q.aggregate(Sum("nope")), FieldError),
        (lambda q: list(q.select_related("nope")), FieldError),
        (lambda q: list(q.order_by("nope")), FieldError),
        (lambda q: list(q.values("nope")), FieldError),
        (lambda q: q.get(nope=1), FieldError),
        (lambda q: q.latest(), ValueError),
        (lambda q: q.aggregate(5), TypeError),
        (lambda q: q.aggregate(a=Sum("views"), b=F("nope")), FieldError),
        (lambda q: list(q.prefetch_related("nope")), AttributeError),
        (lambda q: q[-1], ValueError),
        (lambda q: q["a"], TypeError),
        (lambda q: q.in_bulk(field_name="views"), ValueError),
        (lambda q: q.dates("title", "month"), TypeError),
        (lambda q: q.filter(views="many"), ValueError),
    ],
)
def test_errors_are_djangos(read: Callable[[Any], Any], error: type[Exception]) -> None:
    """A wrong query raises what it raises without us, with the same words."""
    said = []
    for queryset in (m.Post.objects.nocache(), m.Post.objects.cache(), m.Post.objects.cache()):
        with pytest.raises(error) as caught:
            read(queryset)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1] == said[2]


@pytest.mark.parametrize("name", ["get", "iteration", "count", "exists", "aggregate", "len"])
def test_in_an_event_loop_a_hit_is_refused_as_a_miss_is(name: str) -> None:
    """Sync reads in a coroutine raise ``SynchronousOnlyOperation`` on a hit, too."""
    read = READS[name]
    read(m.Post.objects.cache())
    assert is_cached(lambda: read(m.Post.objects.cache()))

    async def body() -> None:
        read(m.Post.objects.cache())

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(body())

    async def rightly() -> Any:
        return await sync_to_async(read)(m.Post.objects.cache())

    assert async_to_sync(rightly)() == read(m.Post.objects.nocache())


def test_async_reads_in_a_running_loop() -> None:
    """In an event loop many reads at once are right, are hits the second time, and see writes."""

    async def read_all() -> list[Any]:
        posts = m.Post.objects.cache()
        return await asyncio.gather(
            posts.acount(),
            posts.aexists(),
            posts.aaggregate(Sum("views")),
            posts.values_list("title", flat=True).aget(views=3),
            posts.afirst(),
            *(posts.aget(views=number) for number in range(6)),
            collect(posts.order_by("pk")),
        )

    async def body() -> None:
        try:
            first = await read_all()
            with hits() as seen:
                assert await read_all() == first
            assert seen == [True] * 12
            one = await m.Post.objects.aget(views=3)
            one.title = "new"
            await one.asave()
            assert (await read_all())[3] == "new"
            await m.Post.objects.filter(views=3).adelete()
            assert await m.Post.objects.cache().acount() == 5
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(body())


# -- whose results they are --------------------------------------------------------------------


def test_results_are_fresh_objects() -> None:
    """Changing a result changes neither what is cached nor what others got."""
    m.Document.objects.create(name="d", data={"a": [1, 2]})
    m.Price.objects.create(name="p", labels=["x", "y"], amount=3)

    def read() -> tuple[Any, Any, Any, Any]:
        return (
            m.Document.objects.cache().get(name="d"),
            list(m.Price.objects.cache())[0],
            list(m.Post.objects.cache().select_related("author").order_by("pk"))[0],
            list(m.Document.objects.cache().values("data"))[0],
        )

    for _ in range(3):  # the first is a miss
        document, price, one, value = read()
        assert (document.data, price.labels) == ({"a": [1, 2]}, ["x", "y"])
        assert (one.title, one.author.name, value) == ("p0", "Ann", {"data": {"a": [1, 2]}})
        document.data["a"].append(3)
        document.more = 1
        price.labels.clear()
        one.title = one.author.name = "spoilt"
        value["data"]["a"].clear()
        value["b"] = 1
    with costs() as spent:
        first, again = read(), read()
    assert spent.sql == []
    assert not hasattr(first[0], "more")
    for left, right in zip(first, again, strict=True):
        assert left is not right
    assert first[2].author is not again[2].author


def test_an_aggregate_result_is_fresh() -> None:
    """The dictionary of ``aggregate()`` belongs to its caller."""
    for _ in range(3):
        found = m.Post.objects.cache().aggregate(n=Count("*"))
        assert found == {"n": 6}
        found["n"] = 7


def test_instances_know_where_they_are_from() -> None:
    """Cached instances have their state: the alias, not adding, deferred fields still deferred."""
    m.Post.objects.cache().only("title").get(title="p0")
    with costs() as spent:
        one = m.Post.objects.cache().only("title").get(title="p0")
    assert spent.sql == []
    assert (one._state.db, one._state.adding) == ("default", False)
    assert one.get_deferred_fields() >= {"text", "views"}
    with costs() as spent:
        assert one.views == 0
    assert len(spent.sql) == 1
    one.title = "p0 again"
    one.save()
    assert m.Post.objects.cache().only("title").get(pk=one.pk).title == "p0 again"


def test_types_survive() -> None:
    """Values come from the cache with the types that the database gives."""
    now = timezone.now()
    post("typed", rating="1.50", score=0.5, created=now, day=now.date(), at=now.time(),
         duration=datetime.timedelta(days=1, microseconds=5), views=2**40 // 1024)  # fmt: skip
    m.Attachment.objects.create(ip="10.0.0.1", payload=b"\x00\xff", flag=None, file="a/b.txt")
    m.Token.objects.create(label="t")
    m.Big.objects.create(id=2**62 + 1, name="big")
    for model in (m.Post, m.Attachment, m.Token, m.Big):
        fields = [field.attname for field in model._meta.concrete_fields]
        expected = list(model.objects.nocache().order_by("pk").values_list(*fields))
        for _ in range(2):
            found = list(model.objects.cache().order_by("pk").values_list(*fields))
            assert found == expected
            assert [list(map(type, row)) for row in found] == [
                list(map(type, row)) for row in expected
            ]
