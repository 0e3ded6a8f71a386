"""What django-cacheops' manual says of functions and views holds here, statement by statement."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory, override_settings
from django.views.generic import ListView

from cacheops_lite import (
    cached,
    cached_as,
    cached_view,
    cached_view_as,
    invalidate_all,
    invalidate_model,
    invalidate_obj,
)
from cacheops_lite.signals import cache_read

from ..models import Author, Category, Post, Tag

pytestmark = pytest.mark.django_db(transaction=True)

factory = RequestFactory()


@pytest.fixture
def posts() -> list[Post]:
    author = Author.objects.create(name="Ann")
    categories = [Category.objects.create(title=f"c{n}", slug=f"c{n}") for n in (1, 2)]
    return [
        Post.objects.create(
            category=categories[n % 2], author=author, title=f"p{n}", published=n < 3
        )
        for n in range(4)
    ]


# -- functions that hang on rows ------------------------------------------------------------------


def test_invalidated_like_a_queryset(posts: list[Post], django_assert_num_queries: Any) -> None:
    """A function's result is dropped by any change, addition or deletion of a model's rows."""

    @cached_as(Post, timeout=120)
    def stats() -> dict[str, Any]:
        return {
            "authors": list(Post.objects.values("author").annotate(Count("id"))),
            "categories": list(Post.objects.values("category").annotate(Count("id"))),
        }

    first = stats()
    with django_assert_num_queries(0):
        assert stats() == first
    posts[0].category = posts[1].category
    posts[0].save()
    second = stats()
    assert second != first
    posts[0].delete()
    third = stats()
    assert third != second
    Post.objects.create(category_id=posts[1].category_id, author_id=posts[1].author_id, title="n")
    assert stats() != third


def test_local_functions_with_a_filtered_queryset(
    posts: list[Post], django_assert_num_queries: Any
) -> None:
    """A local function cached as a filtered queryset is invalidated for that filter only; what
    it closes over goes into `extra`, and the timeout is the model's."""

    def block(category: int, number: int = 5) -> list[str]:
        rows = Post.objects.filter(category=category)

        @cached_as(rows, extra=number)
        def local() -> list[str]:
            found = list(rows.filter(published=True)[:number])
            if len(found) < number:
                found += list(rows.filter(published=False)[: number - len(found)])
            return [post.title for post in found]

        return local()

    one, other = posts[0].category_id, posts[1].category_id
    assert block(one) == ["p0", "p2"]
    assert block(other) == ["p1", "p3"]
    assert block(one, 1) == ["p0"]
    with django_assert_num_queries(0):
        assert block(one) == ["p0", "p2"]
        assert block(one, 1) == ["p0"]
    posts[1].title = "new"
    posts[1].save()
    with django_assert_num_queries(0):
        assert block(one) == ["p0", "p2"]
    assert block(other) == ["new", "p3"]


def test_arguments_instead_of_extra() -> None:
    """The key depends on the arguments of the function too."""
    numbers = count(1)

    @cached_as(Post)
    def function(number: int) -> int:
        return next(numbers)

    assert [function(1), function(2), function(1)] == [1, 2, 1]


def test_querysets_and_models_mixed(posts: list[Post]) -> None:
    """Several samples: a change of any one of them invalidates."""
    numbers = count(1)

    @cached_as(Post.objects.filter(published=True), Tag)
    def function() -> int:
        return next(numbers)

    assert function() == 1
    Tag.objects.create(name="t")
    assert function() == 2
    posts[3].save()  # not published, before or after
    assert function() == 2
    posts[0].save()
    assert function() == 3


def test_an_instance_as_the_sample(posts: list[Post]) -> None:
    """An object stands for its own row."""
    numbers = count(1)

    @cached_as(posts[0])
    def function() -> int:
        return next(numbers)

    assert function() == 1
    posts[1].save()
    assert function() == 1
    posts[0].save()
    assert function() == 2


def test_a_page_of_a_paginator(posts: list[Post]) -> None:
    """A page's object_list may be a queryset, or a list when it is empty: both are accepted."""
    for rows in (Post.objects.order_by("pk"), []):
        page = Paginator(rows, 2).page(1)

        @cached_as(page.object_list)
        def titles() -> list[str]:
            return [post.title for post in page.object_list]  # noqa: B023 (called at once)

        assert titles() == ([] if rows == [] else ["p0", "p1"])


@pytest.mark.parametrize("drop", [invalidate_obj, lambda post: invalidate_model(Post)])
def test_invalidation_by_hand_reaches_functions(posts: list[Post], drop: Any) -> None:
    """invalidate_obj and invalidate_model drop results of functions like those of queries."""
    numbers = count(1)

    @cached_as(Post.objects.filter(published=True))
    def function() -> int:
        return next(numbers)

    assert [function(), function()] == [1, 1]
    drop(posts[0])
    assert function() == 2


def test_invalidate_all_reaches_functions() -> None:
    """invalidate_all drops everything that hangs on rows or time."""
    numbers = count(1)

    @cached_as(Post)
    def by_rows() -> int:
        return next(numbers)

    @cached(timeout=60)
    def by_time() -> int:
        return next(numbers)

    assert [by_rows(), by_time()] == [1, 2]
    invalidate_all()
    assert [by_rows(), by_time()] == [3, 4]


# -- views that hang on rows -----------------------------------------------------------------------


def test_views_by_path(posts: list[Post]) -> None:
    """A view is cached by the request's address only, and invalidated by its samples."""

    @cached_view_as(Post)
    def index(request: HttpRequest) -> HttpResponse:
        return HttpResponse(",".join(Post.objects.values_list("title", flat=True)))

    one, same = factory.get("/posts"), factory.get("/posts", REMOTE_ADDR="10.1.1.1")
    first = index(one)
    Post.objects.none()
    assert index(same).content == first.content
    posts[0].title = "changed"
    posts[0].save()
    assert b"changed" in index(same).content


def test_views_with_extra() -> None:
    """`extra` may be a function; it receives what the view receives."""
    seen: list[Any] = []

    def extra(request: HttpRequest, number: int) -> bool:
        seen.append(number)
        return request.user.is_staff

    numbers = count(1)

    @cached_view_as(Post, Tag, timeout=60, extra=extra)
    def view(request: HttpRequest, number: int) -> HttpResponse:
        return HttpResponse(str(next(numbers)))

    found = []
    for user in (User(is_staff=True), AnonymousUser(), User(is_staff=True)):
        request = factory.get("/posts")
        request.user = user
        found.append(view(request, 7).content)
    assert found == [b"1", b"2", b"1"]
    assert seen == [7, 7, 7]


def test_class_based_views(posts: list[Post], django_assert_num_queries: Any) -> None:
    """What as_view() of a class-based view gives can be cached."""

    class Index(ListView):  # type: ignore[type-arg]
        model = Post

        def render_to_response(self, context: Any, **kwargs: Any) -> HttpResponse:
            return JsonResponse({"titles": [post.title for post in context["object_list"]]})

    index = cached_view_as(Post, timeout=60)(Index.as_view())
    first = index(factory.get("/"))
    with django_assert_num_queries(0):
        assert index(factory.get("/")).content == first.content
    posts[0].delete()
    assert index(factory.get("/")).content != first.content


# -- functions and views that hang on time ---------------------------------------------------------


def test_cached_for_a_time() -> None:
    """One entry for each function and combination of arguments."""
    numbers = count(1)

    @cached(timeout=60)
    def top(category: str) -> int:
        return next(numbers)

    @cached(timeout=60)
    def other(category: str) -> int:
        return next(numbers)

    assert [top("a"), top("b"), other("a"), top("a")] == [1, 2, 3, 1]


def test_extra_for_nested_functions() -> None:
    """`extra` tells nested functions apart, as in a property that caches inside."""

    class Article:
        def __init__(self, category: int) -> None:
            self.category = category

        @property
        def json(self) -> str:
            @cached(timeout=600, extra=self.category)
            def load() -> str:
                return f'{{"category": {self.category}}}'

            return load()

    assert [Article(n).json for n in (1, 2, 1)] == [f'{{"category": {n}}}' for n in (1, 2, 1)]


def test_invalidate_and_set_results() -> None:
    """The result of one call is dropped with invalidate(…) and replaced with key(…).set(…)."""
    numbers = count(1)

    @cached(timeout=60)
    def top(category: str) -> int:
        return next(numbers)

    assert [top("a"), top("b")] == [1, 2]
    top.invalidate("a")
    assert [top("a"), top("b")] == [3, 2]
    top.key("b").set(42)
    assert [top("a"), top("b")] == [3, 42]
    top.key("b").delete()
    assert top("b") == 4


def test_cached_views_and_their_uri() -> None:
    """A view is invalidated by request, or by absolute URI in its place, with its arguments."""
    numbers = count(1)

    @cached_view(timeout=60)
    def top(request: HttpRequest, category: str | None = None) -> HttpResponse:
        return HttpResponse(str(next(numbers)))

    def shown(*args: Any) -> bytes:
        content: bytes = top(factory.get("/page", HTTP_HOST="example.com"), *args).content
        return content

    with override_settings(ALLOWED_HOSTS=["example.com"]):
        assert [shown("a"), shown("b"), shown("a"), shown()] == [b"1", b"2", b"1", b"3"]
        top.invalidate("http://example.com/page", "a")
        assert [shown("a"), shown("b"), shown()] == [b"4", b"2", b"3"]


# -- locks, transactions, prefixes, statistics -----------------------------------------------------


@pytest.mark.parametrize("by", ["decorator", "queryset", "profile"])
def test_dog_pile_prevention(by: str, settings: Any) -> None:
    """With `lock` only one thread does the heavy work; it can be asked for in three places."""
    if by == "profile":
        settings.CACHEOPS = {"tests.*": {"timeout": 60, "lock": True}}
    rows = Post.objects.cache(lock=True) if by == "queryset" else Post.objects.all()
    calls: list[int] = []
    inside = threading.Event()

    @cached_as(rows, lock=True if by == "decorator" else None)
    def heavy() -> int:
        calls.append(1)
        inside.set()
        threading.Event().wait(0.1)
        return len(calls)

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(heavy())) for _ in range(3)]
    threads[0].start()
    inside.wait(5)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1, 1, 1]


def test_transactions(posts: list[Post]) -> None:
    """A transaction with changes neither reads nor fills the cache; its commit invalidates, its
    rollback does not, and so for savepoints."""
    numbers = count(1)

    @cached_as(Post)
    def function() -> int:
        return next(numbers)

    assert function() == 1
    with transaction.atomic():
        posts[0].save()
        assert function() == 2
        transaction.set_rollback(True)
    assert function() == 1
    with transaction.atomic():
        posts[0].save()
        assert function() == 3
    assert function() == 4
    with transaction.atomic(), transaction.atomic():
        posts[0].save()
        transaction.set_rollback(True)
    assert function() == 4


def two_counters() -> tuple[Callable[[], int], Callable[[], int]]:
    """Two cached functions that count together how often one of them is run."""
    numbers = count(1)

    @cached(timeout=60)
    def by_time() -> int:
        return next(numbers)

    @cached_as(Post)
    def by_rows() -> int:
        return next(numbers)

    return by_time, by_rows


def test_prefix_by_what_is_asked_for() -> None:
    """CACHEOPS_PREFIX may be a function; a cached function is known to it as `query.func`."""
    by_time, by_rows = two_counters()
    tenant = "a:"
    with override_settings(CACHEOPS_PREFIX=lambda query: tenant):
        assert [by_time(), by_rows()] == [1, 2]
        tenant = "b:"
        assert [by_time(), by_rows()] == [3, 4]
        tenant = "a:"
        assert [by_time(), by_rows()] == [1, 2]


class CountingPickler:
    """A serializer as a class with two functions, as the manual shows it."""

    loaded: list[int] = []

    @staticmethod
    def dumps(value: Any) -> bytes:
        import pickle

        return pickle.dumps(value, 3)

    @staticmethod
    def loads(data: bytes) -> Any:
        import pickle

        CountingPickler.loaded.append(len(data))
        return pickle.loads(data)


@pytest.mark.parametrize(
    "serializer",
    [CountingPickler, f"{__name__}.CountingPickler", "pickle"],
    ids=["class", "dotted path", "module"],
)
def test_custom_serialization(serializer: Any) -> None:
    """CACHEOPS_SERIALIZER is a class, or the name of a class or module with dumps and loads."""
    CountingPickler.loaded.clear()

    @cached(timeout=60, extra=str(serializer))
    def function() -> dict[str, int]:
        return {"a": 1}

    with override_settings(CACHEOPS_SERIALIZER=serializer):
        assert [function(), function()] == [{"a": 1}] * 2
    assert bool(CountingPickler.loaded) is (serializer != "pickle")


def test_statistics() -> None:
    """cache_read tells each look-up: no sender for functions, the function, and hit or miss."""
    seen: list[str] = []

    def collect(sender: Any, func: Any, hit: bool, **kwargs: Any) -> None:
        seen.append(f"{sender} {func.__name__} {'hit' if hit else 'miss'}")

    cache_read.connect(collect)
    try:

        @cached_as(Post)
        def function() -> None: ...

        function()
        function()
    finally:
        cache_read.disconnect(collect)
    assert seen == ["None function miss", "None function hit"]


def test_everything_is_off_with_one_setting() -> None:
    """With CACHEOPS_ENABLED=False decorators do nothing, in a test for example."""
    by_time, by_rows = two_counters()
    with override_settings(CACHEOPS_ENABLED=False):
        assert [by_time(), by_time(), by_rows(), by_rows()] == [1, 2, 3, 4]
