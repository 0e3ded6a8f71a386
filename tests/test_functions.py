"""Functions remember their results until rows change, time is over, or somebody says so."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models.functions import Now
from django.test import override_settings
from django.utils.functional import cached_property as django_cached_property

from cacheops_lite import (
    CacheMiss,
    RowHash,
    cache,
    cached,
    cached_as,
    cached_view,
    engine,
    file_cache,
    invalidate_obj,
)  # fmt: skip
from cacheops_lite.functions.results import invalidate_functions
from cacheops_lite.signals import cache_read

from .crowds import Crowd
from .models import Author, Category, Note, Odd, Pizzeria, Place, Post, Restaurant, Tag

pytestmark = pytest.mark.django_db(transaction=True)


def counting(decorator: Any) -> Any:
    """A decorated function that tells how often it was called."""
    calls = 0

    @decorator
    def function(*args: Any, **kwargs: Any) -> int:
        nonlocal calls
        calls += 1
        return calls

    return function


def acounting(decorator: Any) -> Any:
    """The same as a coroutine function."""
    calls = 0

    @decorator
    async def function(*args: Any, **kwargs: Any) -> int:
        nonlocal calls
        calls += 1
        return calls

    return function


def category(**values: Any) -> Category:
    number = Category.objects.count()
    return Category.objects.create(**{"title": "t", "slug": f"slug{number}", **values})


# -- what results depend on -----------------------------------------------------------------------


def test_any_row_of_a_model() -> None:
    """A model as the sample: each insert, update and delete drops the results."""
    function = counting(cached_as(Category))
    assert [function(), function()] == [1, 1]
    one = category()
    assert [function(), function()] == [2, 2]
    one.title = "other"
    one.save()
    assert function() == 3
    Category.objects.filter(pk=one.pk).update(title="third")
    assert function() == 4
    one.delete()
    assert function() == 5
    assert function() == 5


def test_rows_of_a_queryset() -> None:
    """A queryset as the sample: rows that do not meet its conditions drop nothing."""
    function = counting(cached_as(Category.objects.filter(title="a")))
    assert function() == 1
    category(title="b")
    assert function() == 1
    category(title="a")
    assert function() == 2


def test_one_row() -> None:
    """An instance as the sample: only its own row counts, whatever else changes."""
    one, other = category(), category()
    function = counting(cached_as(one))
    assert function() == 1
    other.delete()
    assert function() == 1
    one.save()
    assert function() == 2


def test_several_samples() -> None:
    """A change of any of the samples drops the results, a change of neither does not."""
    function = counting(cached_as(Category.objects.filter(title="a"), [Author], Post.objects))
    assert function() == 1
    category(title="b")
    assert function() == 1
    Author.objects.create(name="x")
    assert function() == 2
    category(title="a")
    assert function() == 3


def test_a_model_with_parents() -> None:
    """Multi-table inheritance: a write of the parent's columns counts, also one on the parent."""
    pizzeria = Pizzeria.objects.create(name="a")
    function = counting(cached_as(Pizzeria))
    assert function() == 1
    Place.objects.filter(pk=pizzeria.pk).update(name="b")
    assert function() == 2
    Restaurant.objects.filter(pk=pizzeria.pk).update(stars=3)
    assert function() == 3


def test_models_whose_manager_hides_rows() -> None:
    """Any row means any row, also those that the default manager leaves out."""
    note = Note.objects.create(text="a", deleted=True)
    function = counting(cached_as(Note))
    assert function() == 1
    Note.everything.filter(pk=note.pk).update(text="b")
    assert function() == 2
    hidden = counting(cached_as(note))
    assert hidden() == 1
    Note.everything.filter(pk=note.pk).update(text="c")
    assert hidden() == 2


def test_models_without_objects() -> None:
    """No manager needs to be called `objects`."""
    function = counting(cached_as(Odd))
    assert function() == 1
    Odd.items.create(name="a")
    assert function() == 2


def test_samples_that_match_nothing() -> None:
    """An empty queryset is no reason to keep the result whatever happens to its model."""
    function = counting(cached_as(Category.objects.none()))
    assert [function(), function()] == [1, 1]
    category()
    assert function() == 2


def test_different_samples_make_different_results() -> None:
    """A local function caches apart for each queryset that its decorator is given."""

    def titles(title: str, limit: int) -> list[str]:
        rows = Category.objects.filter(title=title)[:limit]

        @cached_as(rows)
        def load() -> list[str]:
            return [row.title for row in rows]

        return load()

    category(title="a")
    category(title="a")
    category(title="b")
    assert [titles("a", 5), titles("b", 5), titles("a", 1)] == [["a", "a"], ["b"], ["a"]]


def test_joins_in_samples() -> None:
    """Every table that a sample's query reads counts."""
    author = Author.objects.create(name="a")
    function = counting(cached_as(Post.objects.filter(author__name="a")))
    assert function() == 1
    author.name = "b"
    author.save()
    assert function() == 2


def test_select_related_in_samples() -> None:
    """Rows that only the query's result would name count as any row."""
    author = Author.objects.create(name="a")
    function = counting(cached_as(Post.objects.select_related("author")))
    assert function() == 1
    author.save()
    assert function() == 2


@pytest.mark.parametrize(
    "rows",
    [
        lambda: Post.objects.order_by("?")[:5],
        lambda: Post.objects.filter(author__name="a", created__lt=Now()),
        lambda: Post.objects.filter(pk__in=Post.objects.order_by("?").values("pk")),
        lambda: Post.objects.union(Post.objects.filter(views=1)),
        lambda: Post.objects.select_for_update().order_by("?"),
    ],
)
def test_samples_that_could_not_be_cached_themselves(rows: Any) -> None:
    """A query whose rows are never cached still names the tables that a function looks at."""
    function = counting(cached_as(rows()))
    assert [function(), function()] == [1, 1]
    Tag.objects.create(name="a")
    assert function() == 1
    author = Author.objects.create(name="b")
    Post.objects.create(category=category(), author=author, title="t")
    assert [function(), function()] == [2, 2]


def test_samples_that_name_untracked_tables() -> None:
    """Nothing tells of changes of such a table, so nothing is cached, and that is said once."""
    rows = Category.objects.filter(pk__in=Session.objects.values("expire_date__year"))
    function = counting(cached_as(rows))
    with pytest.warns(RuntimeWarning, match="not tracked"):
        assert function() == 1
    assert function() == 2


def test_nothing_is_answered_that_was_begun_before_a_change() -> None:
    """A change during the call makes its result void: it is returned once and not kept."""
    one = category()
    calls = 0

    @cached_as(one, keep_fresh=True)
    def function() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            invalidate_obj(one)
        return calls

    assert [function(), function(), function()] == [1, 2, 2]


@pytest.mark.parametrize("way", ["invalidate", "key", "all", "functions"])
def test_nothing_is_answered_that_was_begun_before_an_invalidation(way: str) -> None:
    """The same for invalidation by hand, also of functions that hang on time alone."""
    calls = 0

    @cached(timeout=60)
    def function() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            {
                "invalidate": function.invalidate,
                "key": function.key().delete,
                "all": function.invalidate_all,
                "functions": invalidate_functions,
            }[way]()
        return calls

    assert [function(), function(), function()] == [1, 2, 2]


# -- transactions ---------------------------------------------------------------------------------


def test_dirty_transactions_bypass_the_cache() -> None:
    """A transaction that wrote a sample's table computes for itself and stores nothing."""
    function = counting(cached_as(Category))
    assert function() == 1
    with transaction.atomic():
        category()
        assert [function(), function()] == [2, 3]
        transaction.set_rollback(True)
    assert function() == 1


def test_dirty_transactions_use_what_does_not_hang_on_rows() -> None:
    """Functions cached for a time go on as usual in a transaction, and so do other tables."""
    timed, other = counting(cached(60)), counting(cached_as(Author))
    with transaction.atomic():
        category()
        assert [timed(), timed()] == [1, 1]
        assert [other(), other()] == [1, 1]


# -- arguments and keys ---------------------------------------------------------------------------


@pytest.mark.parametrize("decorator", [cached(60), cached_as(Category)])
def test_each_combination_of_arguments_has_a_result(decorator: Any) -> None:
    """Arguments by position and by name are part of the key."""
    function = counting(decorator)
    assert [function(1), function(2), function(1, a=1), function(1)] == [1, 2, 3, 1]


def test_extra_is_part_of_the_key() -> None:
    """`extra` is a value, or a function of the arguments."""
    results = []
    for number, extra in enumerate(["a", "b", "a"]):

        @cached(60, extra=extra)
        def local() -> int:
            return number  # noqa: B023 (called at once)

        results.append(local())
    assert results == [0, 1, 0]
    function = counting(cached(60, extra=lambda number: number % 2))
    assert [function(1), function(1), function(2)] == [1, 1, 2]


def test_arguments_without_text_are_warned_about_once() -> None:
    """A call that cannot be named is computed each time, and said to be."""
    function = counting(cached(60))
    with pytest.warns(RuntimeWarning, match="no stable text"):
        assert function(object()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(object()) == 2
    with pytest.raises(TypeError, match="no stable text"):
        function.invalidate(object())


def test_keys_read_replace_and_delete_results() -> None:
    """`key(…)` of a decorated function is a text with get, set and delete."""
    function = counting(cached(60))
    key = function.key(1)
    assert isinstance(key, str)
    assert key == function.get_cache_key(1) != function.key(2)
    with pytest.raises(CacheMiss):
        key.get()
    assert function(1) == 1
    assert key.get() == 1
    key.set(42)
    assert [key.get(), function(1), function(2)] == [42, 42, 2]
    key.delete()
    assert function(1) == 3


def test_keys_of_functions_that_hang_on_rows() -> None:
    """What was set by key is dropped by a change of rows like what was computed."""
    function = counting(cached_as(Category))
    function.key().set(42)
    assert function() == 42
    category()
    assert function() == 1


def test_invalidate_drops_one_call() -> None:
    """`invalidate(…)` takes the arguments of the call in any spelling."""

    @cached(60)
    def function(a: int, b: int = 0) -> list[int]:
        return calls.pop()

    calls: list[Any] = [4, 3, 2, 1]
    assert [function(1), function(2, b=3)] == [1, 2]
    function.invalidate(b=3, a=2)
    assert [function(1), function(2, 3)] == [1, 3]


def test_invalidate_all_drops_the_calls_of_one_function() -> None:
    """`invalidate_all()` drops every call of its function, `invalidate_functions()` of all."""
    one, other = counting(cached(60)), counting(cached(60, extra="other"))
    assert [one(1), one(2)] == [1, 2]
    assert one(1) == 1
    one.invalidate_all()
    assert [one(1), one(2)] == [3, 4]

    @cached(60)
    def apart() -> int:
        return other.__wrapped__()

    assert [apart(), one(1)] == [1, 3]
    one.invalidate_all()
    assert apart() == 1
    invalidate_functions()
    assert [apart(), one(1)] == [2, 5]


def test_refresh_computes_and_stores() -> None:
    """`_refresh=True` computes again and keeps the new result for everybody."""
    function = counting(cached(60))
    assert [function(1), function(1, _refresh=True), function(1)] == [1, 2, 2]


# -- time ------------------------------------------------------------------------------------------


def test_results_end_with_their_timeout(redis_client: redis.Redis) -> None:
    """`timeout` seconds, or what the profile says, or a year; nothing without an end."""

    def lives(function: Any) -> float:
        function.invalidate_all()
        function()
        return redis_client.pttl(str(function.key())) / 1000

    assert 59 < lives(counting(cached(60))) <= 60
    assert 59 < lives(counting(cached_as(Category, timeout=60))) <= 60
    assert 3599 < lives(counting(cached_as(Category))) <= 3600
    briefly = Category.objects.cache(timeout=7)
    assert 6 < lives(counting(cached_as(briefly, Author))) <= 7
    assert 364 < lives(counting(cached())) / 86400 <= 365
    assert all(redis_client.pttl(key) > 0 for key in redis_client.scan_iter("*"))


@pytest.mark.parametrize(
    ("take", "words"),
    [
        (lambda time: cached(time), "a number of seconds"),
        (lambda time: cached_as(Category, timeout=time), "a number of seconds"),
        (lambda time: cached_view(time), "a number of seconds"),
        (lambda time: cached(60, early=time), "early must be a number"),
        (lambda time: cached(60, stale_while_revalidate=time), "stale_while_revalidate must be a"),
        (lambda time: cached_as(Category, stale_if_invalidated=time), "stale_if_invalidated must"),
        (lambda time: RowHash(Category, every=time), "every is a number of seconds"),
        (lambda time: cache.set("key", 1, time), "a number of seconds"),
        (lambda time: file_cache.set("key", 1, time), "a number of seconds"),
    ],
)
@pytest.mark.parametrize("wrong", [True, float("nan"), float("inf"), "60"])
def test_times_that_make_no_sense(
    take: Callable[[Any], Any], words: str, wrong: Any, settings: Any, tmp_path: Any
) -> None:
    """Whatever is no number of seconds is refused at once, and told what it should be."""
    settings.FILE_CACHE_DIR = str(tmp_path)
    with pytest.raises((ValueError, TypeError), match=f"{words}.*, not {wrong!r}"):
        take(wrong)


# -- what can be decorated -------------------------------------------------------------------------


def test_without_parentheses() -> None:
    """`@cached` alone caches without a timeout."""
    function = counting(cached)
    assert [function(), function()] == [1, 1]


def test_metadata_is_kept() -> None:
    """The decorated function keeps its name, its text, and the original as __wrapped__."""

    @cached_as(Category)
    def function() -> None:
        """Say something."""

    assert (function.__name__, function.__doc__) == ("function", "Say something.")
    assert function.__wrapped__() is None


def test_methods_are_cached_for_each_instance() -> None:
    """The instance is an argument: rows are told apart by key, classes by name."""

    class Report(Category):
        made: list[str] = []

        class Meta:
            proxy = True
            app_label = "tests"

        @cached(60)
        def method(self, number: int) -> str:
            return self.make("method")

        @property
        @cached(60)
        def inner(self) -> str:
            return self.make("inner")

        @cached(60)
        @property
        def outer(self) -> str:
            return self.make("outer")

        @cached(60)
        @functools.cached_property
        def kept(self) -> str:
            return self.make("kept")

        @cached(60)
        @django_cached_property
        def djangos(self) -> str:
            return self.make("djangos")

        @cached(60)
        @classmethod
        def of_class(cls) -> str:
            cls.made.append("class")
            return "class"

        @classmethod
        @cached(60)
        def of_class_too(cls) -> str:
            cls.made.append("class too")
            return "class too"

        @cached(60)
        @staticmethod
        def static() -> str:
            Report.made.append("static")
            return "static"

        def make(self, what: str) -> str:
            self.made.append(f"{what} {self.pk}")
            return self.made[-1]

    for _ in range(2):
        for pk in (1, 2):
            report = Report(pk=pk)
            assert report.method(1) == f"method {pk}"
            assert [report.inner, report.outer] == [f"inner {pk}", f"outer {pk}"]
            assert [report.kept, report.djangos] == [f"kept {pk}", f"djangos {pk}"]
            assert [Report.of_class(), report.of_class_too()] == ["class", "class too"]
            assert report.static() == "static"
    assert sorted(Report.made) == sorted(
        [
            f"{what} {pk}"
            for what in ("method", "inner", "outer", "kept", "djangos")
            for pk in (1, 2)
        ]
        + ["class", "class too", "static"]
    )
    Report.method.invalidate(Report(pk=1), 1)
    Report(pk=2).method(1)
    assert len(Report.made) == 13
    Report(pk=1).method(1)
    assert len(Report.made) == 14


def test_results_are_copies() -> None:
    """Whoever changes a result does not change what others get."""

    @cached(60)
    def function() -> list[int]:
        return [1]

    for _ in range(3):
        result = function()
        assert result == [1]
        result.append(2)


def test_none_is_a_result() -> None:
    """A function that returns None is called once."""
    calls = []
    function = cached(60)(lambda: calls.append(1))
    assert [function(), function()] == [None, None]
    assert calls == [1]


def test_errors_are_not_results() -> None:
    """What a function raises goes to the caller and is not kept."""
    calls = []

    @cached(60)
    def function() -> None:
        calls.append(1)
        raise KeyError("x")

    for _ in range(2):
        with pytest.raises(KeyError):
            function()
    assert len(calls) == 2


def test_results_that_cannot_be_pickled() -> None:
    """The error appears where the function is written, not somewhere later."""
    with pytest.raises(Exception, match=r"pickle|local object"):
        cached(60)(lambda: lambda: 1)()


# -- options ---------------------------------------------------------------------------------------


def test_args_rewrite() -> None:
    """`args_rewrite(*args)` stands for the positional arguments in the key."""
    function = counting(cached(60, args_rewrite=lambda number: abs(number)))
    assert [function(1), function(-1), function(2)] == [1, 1, 2]
    function.invalidate(-2)
    assert function(2) == 3


def test_hit_and_miss_callables() -> None:
    """They are called with the arguments of the call, after it."""
    told: list[Any] = []
    function = counting(
        cached(
            60,
            hit_callable=lambda *a, **k: told.append(("hit", a, k)),
            miss_callable=lambda *a, **k: told.append(("miss", a, k)),
        )
    )
    function(1, a=2)
    function(1, a=2)
    assert told == [("miss", (1,), {"a": 2}), ("hit", (1,), {"a": 2})]


def test_store_result() -> None:
    """`store_result=False` keeps only that the function was called, so it may return anything."""
    calls = []

    @cached(60, store_result=False)
    def function() -> Any:
        calls.append(1)
        return lambda: 1

    assert callable(function())
    assert function() is True
    assert len(calls) == 1


def test_cache_exceptions() -> None:
    """Exceptions that were declared to be results are kept and raised again."""
    calls = []

    @cached(60, cache_exceptions=(KeyError,))
    def function(error: str) -> None:
        calls.append(error)
        raise {"key": KeyError, "value": ValueError}[error](error)

    for _ in range(2):
        with pytest.raises(KeyError, match="key"):
            function("key")
        with pytest.raises(ValueError, match="value"):
            function("value")
    assert calls == ["key", "value", "value"]


# -- settings --------------------------------------------------------------------------------------


def test_samples_are_needed() -> None:
    """cached_as without samples, or with something else as a sample, is an error at once."""
    with pytest.raises(TypeError, match="needs a model"):
        cached_as()
    with pytest.raises(TypeError, match="not like 'Category'"):
        cached_as("Category")


def test_a_list_is_not_cached() -> None:
    """A list alone, as a paginator gives for an empty page, leaves the function as it is."""
    assert counting(cached_as([]))() == 1
    function = counting(cached_as([category()]))
    assert [function(), function()] == [1, 2]


def test_samples_need_a_profile() -> None:
    """A model that nobody configured is refused with what to do."""
    function = counting(cached_as(Category))
    with (
        override_settings(CACHEOPS={"auth.*": {"timeout": 60}}),
        pytest.raises(ImproperlyConfigured, match=r"tests\.category"),
    ):
        function()
    with override_settings(CACHEOPS={"tests.*": None}), pytest.raises(ImproperlyConfigured):
        function()


def test_samples_need_a_timeout() -> None:
    """Somebody has to say how long: the decorator, the queryset or the profile."""
    with override_settings(CACHEOPS={"tests.*": {}}, CACHEOPS_DEFAULTS={}):
        with pytest.raises(ImproperlyConfigured, match="timeout"):
            counting(cached_as(Category))()
        assert counting(cached_as(Category, timeout=60))() == 1


@pytest.mark.parametrize("decorator", [cached(60), cached_as(Category)])
def test_disabled(decorator: Any) -> None:
    """CACHEOPS_ENABLED=False makes decorators do nothing, from that moment and until it ends."""
    function = counting(decorator)
    assert function() == 1
    with override_settings(CACHEOPS_ENABLED=False):
        assert [function(), function()] == [2, 3]
    assert function() == 1


def test_invalidation_while_disabled() -> None:
    """What is invalidated while caching is off is not answered when it is on again."""
    function = counting(cached(60))
    assert function() == 1
    with override_settings(CACHEOPS_ENABLED=False):
        function.invalidate()
    assert function() == 2


def test_profiles_are_read_anew() -> None:
    """A setting that changes after the first call takes effect."""
    function = counting(cached_as(Category))
    with override_settings(CACHEOPS={"tests.*": {"timeout": 5}}):
        function()
        ttl = engine.current().client.pttl(str(function.key()))
    assert 4000 < ttl <= 5000


def test_prefix_function_separates_tenants() -> None:
    """A prefix that depends on the tenant keeps results and invalidation apart."""
    tenant = "one:"
    function = counting(cached(60))
    with override_settings(CACHEOPS_PREFIX=lambda query: tenant):
        assert function() == 1
        tenant = "two:"
        assert function() == 2
        function.invalidate()
        tenant = "one:"
        assert function() == 1
        tenant = "two:"
        assert function() == 3


def test_prefix_function_that_looks_at_tables() -> None:
    """A function that hangs on a tenant's table has a result for each tenant."""
    tenant = "one:"
    function = counting(cached_as(Category, timeout=60))
    prefix = lambda query: tenant if query.tables == ["tests_category"] else "shared:"  # noqa: E731
    with override_settings(CACHEOPS_PREFIX=prefix):
        assert function() == 1
        tenant = "two:"
        assert function() == 2
        category()
        tenant = "one:"
        assert function() == 1
        tenant = "two:"
        assert function() == 3


def test_prefix_function_is_told_the_function() -> None:
    """`query.func` is the decorated function, so that it can have its own prefix."""
    seen: list[Any] = []

    def prefix(query: Any) -> str:
        seen.append(query.func)
        return ""

    function = counting(cached(60))
    with override_settings(CACHEOPS_PREFIX=prefix):
        function()
    assert function.__wrapped__ in seen


# -- signals ---------------------------------------------------------------------------------------


@pytest.fixture
def reads() -> Iterator[list[Any]]:
    found: list[Any] = []

    def receiver(signal: Any, **kwargs: Any) -> None:
        found.append(kwargs)

    cache_read.connect(receiver)
    yield found
    cache_read.disconnect(receiver)


@pytest.mark.parametrize("decorator", [cached(60), cached_as(Category)])
def test_cache_read_signal(decorator: Any, reads: list[Any]) -> None:
    """Each look-up tells the function, undecorated, and whether it was a hit."""
    function = counting(decorator)
    function()
    function()
    about = {"sender": None, "func": function.__wrapped__}
    assert reads == [{**about, "hit": False}, {**about, "hit": True}]


# -- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorator", [cached(60), cached_as(Category.objects.filter(title="a"))])
def test_a_hit_costs_one_command(decorator: Any, redis_client: redis.Redis) -> None:
    """A hit sends a single MGET."""
    function = counting(decorator)
    function()
    function()
    before = redis_client.info("commandstats")
    function()
    after = redis_client.info("commandstats")
    names = {name for name in after if after[name] != before.get(name)} - {"cmdstat_info"}
    assert names == {"cmdstat_mget"}
    assert after["cmdstat_mget"]["calls"] - before["cmdstat_mget"]["calls"] == 1


# -- async -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("closed_after")
async def test_async_functions() -> None:
    """Coroutine functions are cached like others, with the async twins of what hangs on them."""
    function = acounting(cached(60))
    assert [await function(1), await function(1), await function(2)] == [1, 1, 2]
    await function.ainvalidate(1)
    assert [await function(1), await function(2)] == [3, 2]
    key = function.key(1)
    assert await key.aget() == 3
    await key.aset(42)
    assert await function(1) == 42
    await key.adelete()
    with pytest.raises(CacheMiss):
        await key.aget()
    assert await function(1) == 4
    await function.ainvalidate_all()
    assert await function(2) == 5


@pytest.mark.usefixtures("closed_after")
async def test_async_functions_hang_on_rows() -> None:
    """A change in any thread drops the results of a coroutine function."""
    function = acounting(cached_as(Category.objects.filter(title="a")))
    assert [await function(), await function()] == [1, 1]
    await Category.objects.acreate(title="b", slug="b")
    assert await function() == 1
    await Category.objects.acreate(title="a", slug="a")
    assert [await function(), await function()] == [2, 2]


@pytest.mark.usefixtures("closed_after")
async def test_async_functions_see_the_transaction_of_their_thread() -> None:
    """A transaction around async code that wrote a sample's table bypasses the cache."""
    function = acounting(cached_as(Category))
    assert await function() == 1

    @sync_to_async
    def enter() -> None:
        atomic.__enter__()
        category()

    @sync_to_async
    def leave() -> None:
        transaction.set_rollback(True)
        atomic.__exit__(None, None, None)

    atomic = transaction.atomic()
    await enter()
    try:
        assert [await function(), await function()] == [2, 3]
    finally:
        await leave()
    assert await function() == 1


@pytest.mark.usefixtures("closed_after")
async def test_async_lock() -> None:
    """Of many tasks one computes; the others take its result."""
    calls = 0

    @cached(60, lock=True)
    async def function() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.1)
        return calls

    assert await asyncio.gather(*(function() for _ in range(10))) == [1] * 10


# -- locks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorator", [cached(60, lock=True), cached_as(Category, lock=True)])
def test_lock(decorator: Any) -> None:
    """While one thread computes, others wait and take its result."""
    calls = []
    inside = threading.Event()
    results: list[int] = []

    @decorator
    def function() -> int:
        calls.append(1)
        inside.set()
        threading.Event().wait(0.2)
        return len(calls)

    threads = [threading.Thread(target=lambda: results.append(function())) for _ in range(4)]
    threads[0].start()
    assert inside.wait(5)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1, 1, 1, 1]


def test_a_dead_lock_holder_blocks_nobody_for_long(
    monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    """Whoever waited in vain computes for itself."""
    monkeypatch.setattr(engine, "LOCK_WAIT", 0.1)
    function = counting(cached(60, lock=True))
    redis_client.set(f"{function.key()}:lock", "dead", px=60_000)
    assert function() == 1


def test_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer costs the caching, not the function."""
    function = counting(cached_as(Category))
    with override_settings(CACHEOPS_REDIS="redis://127.0.0.1:1/0"):
        assert [function(), function()] == [1, 2]
        function.invalidate()
        function.key().set(1)
        with pytest.raises(CacheMiss):
            function.key().get()


def test_foreign_and_damaged_entries_are_misses(redis_client: redis.Redis) -> None:
    """Bytes that were not signed here are computed anew and overwritten."""
    function = counting(cached(60))
    function()
    key = str(function.key())
    data = redis_client.get(key)
    assert isinstance(data, bytes)
    redis_client.set(key, data[:-1] + bytes([data[-1] ^ 1]))
    assert [function(), function()] == [2, 2]
    with override_settings(SECRET_KEY="another"):
        assert function() == 3
    with override_settings(SECRET_KEY="newest", SECRET_KEY_FALLBACKS=["another"]):
        assert function() == 3


# -- many at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["threads", "tasks"])
def test_no_stale_result_and_no_double_work_under_load(colour: str) -> None:
    """Under random load nobody gets what was invalidated before the call, nor computes what
    another caller holds the lock for."""
    crowd, wrong = Crowd(), []

    @cached(60, lock=True, extra=colour)
    def function() -> int:
        with crowd.inside() as number:
            time.sleep(0.003)
        return number

    @cached(60, lock=True, extra=colour)
    async def afunction() -> int:
        with crowd.inside() as number:
            await asyncio.sleep(0.003)
        return number

    def check(least: int, number: int) -> None:
        if number < least:
            wrong.append((least, number))

    def read() -> None:
        while not crowd.stop.is_set():
            check(crowd.announced, function())

    async def aread() -> None:
        while not crowd.stop.is_set():
            least = crowd.announced
            check(least, await afunction())

    async def many() -> None:
        await asyncio.gather(*(aread() for _ in range(6)))
        await engine.current().aclose()

    if colour == "threads":
        crowd.run([threading.Thread(target=read) for _ in range(6)], 59, function.invalidate)
    else:
        loop = threading.Thread(target=asyncio.run, args=(many(),))
        crowd.run([loop], 59, afunction.invalidate)
    assert wrong == []
    assert crowd.most == 1
