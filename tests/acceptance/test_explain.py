"""``cache_explain()``: the key, the dependencies, why not, and whether it is cached now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now, Random

from cacheops_lite import invalidate_model
from tests import models as m

from .tools import ALL, MANUAL, costs, post, stored

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def manual(settings: Any) -> None:
    settings.CACHEOPS = MANUAL


CACHED: dict[str, tuple[str, Callable[[], Any], Callable[[Any], Any]]] = {
    "fetch": ("fetch", lambda: m.Post.objects.filter(title="x"), list),
    "count": ("count", lambda: m.Post.objects.filter(title="x"), lambda q: q.count()),
    "count of distinct": ("count", lambda: m.Post.objects.distinct(), lambda q: q.count()),
    "exists": ("exists", lambda: m.Post.objects.filter(title="x"), lambda q: q.exists()),
    "get": ("get", lambda: m.Tag.objects.filter(name="red"), lambda q: q.get()),
    "get by pk": ("get", lambda: m.Post.objects.filter(title="a post"), lambda q: q.get()),
    "fetch of values": ("fetch", lambda: m.Post.objects.values("pk"), list),
    "fetch of a join": ("fetch", lambda: m.Post.objects.select_related("author"), list),
}


@pytest.mark.parametrize("name", CACHED)
def test_it_tells_the_key_and_whether_it_is_cached(redis_client: Any, name: str) -> None:
    """The key is the one under which the result is stored; ``cached`` follows the truth."""
    op, make, run = CACHED[name]
    post()
    m.Tag.objects.create(name="red")
    before = make().cache().cache_explain(op)
    assert (before.cacheable, before.reason, before.cached, before.miss) == (
        True, "", False, "absent",
    )  # fmt: skip
    run(make().cache())
    assert stored(redis_client) == [before.key]
    after = make().cache().cache_explain(op)
    assert (after.cacheable, after.key, after.cached, after.miss) == (True, before.key, True, "")
    invalidate_model(make().model)
    dropped = make().cache().cache_explain(op)
    assert (dropped.cached, dropped.miss) == (False, "stamp")


def test_explaining_runs_and_stores_nothing(redis_client: Any) -> None:
    """It asks no database, stores nothing, and evaluates no queryset."""
    queryset = m.Post.objects.cache()
    with costs() as spent:
        queryset.cache_explain()
        queryset.cache_explain("count")
        queryset.cache_explain("get")
    assert spent.sql == [] and spent.hits == []
    assert set(spent.sent) <= {"MGET", "INFO", "CLIENT", "HELLO", "SELECT"}
    assert redis_client.dbsize() == 0
    assert queryset._result_cache is None


def test_it_tells_the_dependencies() -> None:
    """Per table the conditions that a changed row must meet, as columns and values."""
    told = m.Post.objects.filter(category_id=3, published=True).cache().cache_explain()
    assert list(told.dependencies) == ["tests_post"]
    (conj,) = told.dependencies["tests_post"]
    assert [column for column, _ in conj] == ["category_id", "published"]
    assert m.Post.objects.cache().cache_explain().dependencies == {"tests_post": ((),)}
    joined = m.Post.objects.filter(author__name="Ann").cache().cache_explain()
    assert set(joined.dependencies) == {"tests_post", "tests_author"}
    related = m.Post.objects.select_related("author").cache().cache_explain()
    assert related.dynamic == (("tests_author", "id"),)
    text = str(told)
    for word in ("tests.Post.fetch", "tests_post", "category_id=3", told.key.decode(), "60"):
        assert word in text


def test_it_can_be_asked_on_managers(settings: Any) -> None:
    """Managers, related managers and automatically cached querysets explain themselves as well."""
    settings.CACHEOPS = ALL
    one = post()
    assert m.Post.objects.cache_explain().cacheable
    assert one.author.posts.cache_explain().cacheable
    assert m.Post.objects.cache_explain("count").cacheable


@pytest.mark.parametrize("op", ["fetsh", "all of them", "all", "aggregate", None, ["count"]])
def test_an_op_that_it_cannot_explain_is_an_error(op: Any) -> None:
    """One op at a time, and no aggregate, whose expressions it does not know."""
    with pytest.raises(ValueError, match="'count', 'exists', 'fetch' or 'get'"):
        m.Post.objects.cache().cache_explain(op)


# -- why not -----------------------------------------------------------------------------------

#: name -> (a queryset, words of the reason).
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "not asked for": (lambda: m.Post.objects.all(), "cache()"),
    "nocache": (lambda: m.Post.objects.nocache(), "nocache()"),
    "other ops": (lambda: m.Post.objects.cache(ops="count"), "ops"),
    "locks rows": (lambda: m.Post.objects.cache().select_for_update(), "select_for_update"),
    "clock": (lambda: m.Post.objects.filter(created__lt=Now()).cache(), "Now"),
    "chance": (lambda: m.Post.objects.annotate(r=Random()).cache(), "Random"),
    "random order": (lambda: m.Post.objects.order_by("?").cache(), "Random"),
    "raw SQL": (lambda: m.Post.objects.annotate(r=RawSQL("1", ())).cache(), "raw SQL"),
    "extra where": (lambda: m.Post.objects.extra(where=["1 = 1"]).cache(), "raw SQL"),
    "extra select": (lambda: m.Post.objects.extra(select={"a": "1"}).cache(), "raw SQL"),
    "extra tables": (lambda: m.Post.objects.extra(tables=["tests_tag"]).cache(), "raw SQL"),
    "nothing to ask": (lambda: m.Post.objects.none().cache(), "empty"),
    "empty list": (lambda: m.Post.objects.filter(pk__in=[]).cache(), "empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_tells_why_not(name: str) -> None:
    """What is not cached says why, and is in fact not cached."""
    make, words = REFUSED[name]
    told = make().cache_explain()
    assert not told.cacheable and not told.cached
    assert words in told.reason
    assert words in str(told)
    with costs() as spent, transaction.atomic():
        list(make())
        list(make())
    assert spent.hits == []


def test_it_tells_why_not_of_settings(settings: Any) -> None:
    """Disabled, forbidden, not named, not configured at all, untracked: each has its own words."""
    reasons = {}
    queryset = m.Post.objects.cache()
    settings.CACHEOPS_ENABLED = False
    reasons["CACHEOPS_ENABLED"] = queryset.cache_explain()
    settings.CACHEOPS_ENABLED = True
    settings.CACHEOPS = {"tests.post": None, "*.*": {"timeout": 60}}
    reasons["None"] = queryset.cache_explain()
    settings.CACHEOPS = {"tests.tag": {"timeout": 60}}
    reasons["no CACHEOPS pattern"] = m.Post.objects.all().cache_explain()
    settings.CACHEOPS = {}
    reasons["CACHEOPS is empty"] = queryset.cache_explain()
    settings.CACHEOPS = {"tests.author": None, "*.*": {"timeout": 60}}
    reasons["not tracked: tests_author"] = queryset.filter(author__name="a").cache_explain()
    for words, told in reasons.items():
        assert not told.cacheable and not told.cached
        assert words in told.reason


def test_it_tells_why_not_of_transactions() -> None:
    """A table that the transaction has written is named as the reason, only while it lasts."""
    queryset = m.Post.objects.cache()
    with transaction.atomic():
        m.Tag.objects.create(name="red")
        assert queryset.cache_explain().cacheable
        m.Post.objects.update(views=1)
        m.Author.objects.update(name="x")
        assert "written" in m.Author.objects.cache().cache_explain().reason or not (
            m.Author.objects.nocache().count()
        )
        post()
        assert "written" in queryset.cache_explain().reason
        assert "written" in queryset.cache_explain("count").reason
    assert queryset.cache_explain().cacheable


def test_it_tells_of_reads_in_order_to_write() -> None:
    """A queryset that Django reads in order to write says so."""
    queryset = m.Post.objects.cache()
    queryset._for_write = True
    assert "write" in queryset.cache_explain().reason


def test_it_tells_of_parameters_without_a_text() -> None:
    """A parameter that has no stable text gives no key, and its type is named."""

    class Odd:
        pass

    class Field(m.models.IntegerField):
        def get_db_prep_value(self, value: Any, *args: Any, **kwargs: Any) -> Any:
            return value

    queryset = m.Post.objects.annotate(o=Value(Odd(), output_field=Field())).cache()
    told = queryset.cache_explain()
    assert not told.cacheable
    assert "Odd" in told.reason


def test_it_tells_what_was_widened() -> None:
    """Where conditions became coarser than the query, the table and why are named."""
    many = m.Post.objects.filter(title__in=[str(number) for number in range(1000)])
    told = many.cache().cache_explain()
    assert told.cacheable
    assert [table for table, _ in told.widened] == ["tests_post"]
    assert "widened" in str(told)


def test_it_tells_of_a_store_that_does_not_answer(settings: Any) -> None:
    """Without a server it says so instead of raising."""
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    told = m.Post.objects.cache().cache_explain()
    assert (told.cached, told.miss) == (False, "unavailable")


def test_it_tells_the_timeout(settings: Any) -> None:
    """The timeout told is the one that the entry will have."""
    assert m.Post.objects.cache().cache_explain().timeout == 60
    assert m.Post.objects.cache(timeout=5).cache_explain().timeout == 5
