"""Tags: many results under one name, dropped together, at the commit if there is a transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connection, models, transaction
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.test import RequestFactory, override_settings

from cacheops_lite import (
    ainvalidate_tag,
    cached,
    cached_as,
    cached_view,
    cached_view_as,
    conf,
    file_cache,
    invalidate_all,
    invalidate_functions,
    invalidate_model,
    invalidate_tag,
    no_invalidation,
)

from .models import Category
from .test_functions import category, counting
from .watching import hits

pytestmark = pytest.mark.django_db(transaction=True)


def test_one_tag_drops_many_functions() -> None:
    """Whatever is under a tag is dropped by it, whatever is not stays."""
    news = counting(cached(60, tags="news", extra=1))
    both = counting(cached(60, tags=["news", "sport"], extra=2))
    sport = counting(cached(60, tags=("sport",), extra=3))
    plain = counting(cached(60, extra=4))

    def all_of_them() -> list[int]:
        return [function() for function in (news, both, sport, plain)]

    assert all_of_them() == all_of_them() == [1, 1, 1, 1]
    invalidate_tag("news")
    assert all_of_them() == all_of_them() == [2, 2, 1, 1]
    invalidate_tag("weather")
    assert all_of_them() == [2, 2, 1, 1]
    invalidate_tag("news", "sport")
    assert all_of_them() == [3, 3, 2, 1]
    invalidate_functions()
    assert all_of_them() == [4, 4, 3, 2]
    invalidate_all()
    assert all_of_them() == [5, 5, 4, 3]


def test_tags_by_arguments() -> None:
    """A function of the arguments gives each call tags of its own."""
    function = counting(cached(60, tags=lambda author, page: [f"author:{author}", f"page:{page}"]))
    assert [function(1, 1), function(1, page=2), function(2, 1)] == [1, 2, 3]
    invalidate_tag("author:1")
    assert [function(2, 1), function(1, 1), function(1, 2)] == [3, 4, 5]
    invalidate_tag("page:1")
    assert [function(1, 2), function(1, 1), function(2, 1)] == [5, 6, 7]


def test_tags_beside_rows() -> None:
    """cached_as hangs on its rows and on its tags."""
    function = counting(cached_as(Category, tags="menu"))
    assert [function(), function()] == [1, 1]
    category()
    assert [function(), function()] == [2, 2]
    invalidate_tag("menu")
    assert [function(), function()] == [3, 3]


@pytest.mark.parametrize(
    "decorate", [lambda **o: cached_view(60, **o), lambda **o: cached_view_as(Category, **o)]
)
def test_views(decorate: Any) -> None:
    """Views take tags too, as a function of the request if need be."""
    calls = 0

    @decorate(tags=lambda request: [f"site:{request.get_host()}"])
    def view(request: HttpRequest) -> HttpResponse:
        nonlocal calls
        calls += 1
        return HttpResponse(str(calls))

    def get(host: str) -> bytes:
        return view(RequestFactory().get("/", headers={"host": host})).content

    with override_settings(ALLOWED_HOSTS=["*"]):
        assert [get("a"), get("b"), get("a")] == [b"1", b"2", b"1"]
        invalidate_tag("site:a")
        assert [get("b"), get("a")] == [b"2", b"3"]


def test_fragments() -> None:
    """Fragments of templates take tags as a named argument."""
    library = {"cacheops": "cacheops_lite.templatetags.cacheops"}
    template = Engine(libraries=library).from_string(
        "{% load cacheops %}{% cached 60 'name' tags=tags %}{{ text }}{% endcached %}"
    )

    def render(text: str) -> str:
        return template.render(Context({"text": text, "tags": ["a", "b"]}))

    assert [render("1"), render("2")] == ["1", "1"]
    invalidate_tag("b")
    assert render("3") == "3"


def test_nothing_is_answered_that_was_begun_before() -> None:
    """A tag that is dropped during a call leaves its result dead on arrival."""
    calls = 0

    @cached(60, tags="t")
    def function() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            invalidate_tag("t")
        return calls

    assert [function(), function(), function()] == [1, 2, 2]


def test_at_the_commit() -> None:
    """In a transaction the tag is dropped when others can see what was written, not before."""
    function = counting(cached(60, tags="t"))
    other = counting(cached(60, tags="u", extra="u"))
    assert [function(), other()] == [1, 1]

    def elsewhere() -> list[int]:
        seen: list[int] = []

        def look() -> None:
            seen.extend([function(), other()])
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return seen

    with transaction.atomic():
        invalidate_tag("t")
        assert elsewhere() == [1, 1]
        assert [function(), function(), other()] == [2, 3, 1]  # nothing of it is stored
        assert elsewhere() == [1, 1]
    assert elsewhere() == [4, 1]
    assert function() == 4


def test_rolled_back() -> None:
    """What did not happen drops nothing: neither the transaction nor a savepoint."""
    function = counting(cached(60, tags="t"))
    assert function() == 1
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        invalidate_tag("t")
        1 / 0  # noqa: B018
    assert function() == 1
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            invalidate_tag("t")
            1 / 0  # noqa: B018
    assert function() == 1


def test_two_databases() -> None:
    """A tag belongs to no database: it waits for the commit of each open transaction."""
    function = counting(cached(60, tags="t"))
    assert function() == 1
    with transaction.atomic("other"):
        with transaction.atomic():
            invalidate_tag("t")
        assert function() == 2
    assert [function(), function()] == [3, 3]


test_two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])(
    test_two_databases
)


@override_settings(CACHEOPS={})
def test_without_any_profile() -> None:
    """A project that caches functions only has tags all the same, in transactions too."""
    function = counting(cached(60, tags="t"))
    assert [function(), function()] == [1, 1]
    with transaction.atomic():
        invalidate_tag("t")
    assert [function(), function()] == [2, 2]


def test_functions_are_dropped_at_the_commit_too() -> None:
    """`invalidate()` in a transaction counts now and again at the commit: what others computed in
    between saw the rows from before it."""
    seen: list[int] = []

    @cached(60)
    def titles() -> int:
        return Category.objects.nocache().count()

    def elsewhere() -> None:
        def look() -> None:
            seen.append(titles())
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    for drop in (titles.invalidate, titles.invalidate_all, invalidate_functions):
        before = titles()
        with transaction.atomic():
            drop()
            elsewhere()
            category()
            assert titles() == before + 1
            elsewhere()
        assert seen[-2:] == [before, before]
        assert titles() == before + 1


def test_functions_stay_dropped_after_a_rollback() -> None:
    """`invalidate()` holds even if the transaction around it comes to nothing."""
    function = counting(cached(60))
    assert function() == 1
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        function.invalidate()
        1 / 0  # noqa: B018
    assert [function(), function()] == [2, 2]


def test_suspended() -> None:
    """Inside `no_invalidation` tags are left alone, like rows."""
    function = counting(cached(60, tags="t"))
    assert function() == 1
    with no_invalidation:
        invalidate_tag("t")
    assert function() == 1


def test_disabled() -> None:
    """A tag that is dropped while caching is off does not answer when it is on again."""
    function = counting(cached(60, tags="t"))
    assert function() == 1
    with override_settings(CACHEOPS_ENABLED=False):
        invalidate_tag("t")
    assert [function(), function()] == [2, 2]


def test_prefix_function_separates_tenants() -> None:
    """Each tenant has tags of its own."""
    tenant = ["a"]
    with override_settings(CACHEOPS_PREFIX=lambda query: tenant[0]):
        function = counting(cached(60, tags="t"))
        assert function() == 1
        tenant[0] = "b"
        assert function() == 2
        invalidate_tag("t")
        assert function() == 3
        tenant[0] = "a"
        assert function() == 1
        with override_settings(CACHEOPS_ENABLED=False):
            invalidate_tag("t")
        assert function() == 4


@pytest.mark.parametrize("tags", [1, [""], [None], ["a", 2], "", lambda: 3])
def test_what_is_no_tag(tags: Any) -> None:
    """A tag is a text; anything else is refused with what to do, when decorating if possible."""
    if tags == "":
        tags = [tags]
    with pytest.raises(TypeError, match="A tag is a text"):
        cached(60, tags=tags)(lambda: None)()
    if not callable(tags):
        with pytest.raises(TypeError, match="A tag is a text"):
            invalidate_tag(tags)


@pytest.mark.parametrize(
    ("name", "value"), [("tags", "t"), ("lock", True), ("early", 1), ("stale_while_revalidate", 5)]
)
def test_simple_caches_know_no_tags(name: str, value: Any) -> None:
    """They cannot keep the promise, so they refuse, and say what can."""
    with pytest.raises(TypeError, match=f"know no {name}: use cached"):
        file_cache.cached(60, **{name: value})


def test_keys_of_tagged_results() -> None:
    """What was set by key is under the tags of its call."""
    function = counting(cached(60, tags=lambda number: f"n:{number}"))
    function.key(1).set(100)
    assert [function(1), function(1), function.key(1).get()] == [100, 100, 100]
    invalidate_tag("n:1")
    assert function(1) == 1


def test_a_hit_costs_one_command(redis_client: redis.Redis) -> None:
    """Tags ride along in the one MGET."""
    function = counting(cached(60, tags=["a", "b", "c"]))
    function(), function()
    before = redis_client.info("commandstats")
    assert function() == 1
    after = redis_client.info("commandstats")
    assert after["cmdstat_mget"]["calls"] - before["cmdstat_mget"]["calls"] == 1


@pytest.mark.usefixtures("closed_after")
async def test_async() -> None:
    """Coroutine functions have tags, dropped by the async twin, and see their thread's transaction."""
    calls = 0

    @cached(60, tags=lambda number: f"n:{number}")
    async def function(number: int) -> int:
        nonlocal calls
        calls += 1
        return calls

    assert [await function(1), await function(2), await function(1)] == [1, 2, 1]
    await ainvalidate_tag("n:1")
    assert [await function(2), await function(1)] == [2, 3]
    await sync_to_async(invalidate_tag)("n:2")
    assert [await function(2), await function(1)] == [4, 3]


@pytest.fixture(params=["tags", "functions"])
def namesake(request: Any, settings: Any) -> Iterator[Any]:
    """A cached model with a table as one would name what has to do with functions."""
    meta = type("Meta", (), {"app_label": "tests", "db_table": request.param})
    fields = {"name": models.CharField(max_length=9), "Meta": meta, "__module__": __name__}
    model: Any = type("Namesake", (models.Model,), fields)
    settings.CACHEOPS = {"tests.namesake": {"ops": "all", "timeout": 60}}
    with connection.schema_editor() as editor:
        editor.create_model(model)
    yield model
    with connection.schema_editor() as editor:
        editor.delete_model(model)
    del apps.all_models["tests"]["namesake"]
    apps.clear_cache()
    conf.reset()


def test_tables_of_any_name(namesake: Any) -> None:
    """What a table is called has nothing to do with tags and functions, nor they with it."""
    tagged = counting(cached(60, tags="news"))
    rows = namesake.objects.create(name="a") and namesake.objects.filter(name="a")
    for number in (1, 2):
        assert tagged() == 1
        assert len(rows.all()) == number
        namesake.objects.create(name="a")
    invalidate_model(namesake)
    assert tagged() == 1
    list(rows.all())
    invalidate_tag("news")
    invalidate_functions()
    with hits() as seen:
        list(rows.all())
    assert seen == [True]
    assert tagged() == 2
