"""A request remembers what it has read; what it writes drops what it touches."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from cacheops_lite import (
    cached,
    cached_as,
    invalidate_all,
    invalidate_model,
    invalidate_tag,
    no_invalidation,
)
from cacheops_lite.middleware import RequestScopeMiddleware, request_scope
from cacheops_lite.orm import scope

from .models import Author, Category, Document, Post, Tag, Token, TokenUse
from .test_functions import category, counting

pytestmark = pytest.mark.django_db(transaction=True)


def elsewhere(work: Callable[[], Any]) -> Any:
    """Do something in a thread that belongs to no request."""
    found: list[Any] = []

    def run() -> None:
        found.append(work())
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@contextmanager
def commands(client: redis.Redis) -> Iterator[Callable[[], int]]:
    """How many commands were sent to the server inside."""

    def count() -> int:
        stats = client.info("commandstats")
        return sum(value["calls"] for name, value in stats.items() if name != "cmdstat_info")

    before = count()
    yield lambda: count() - before


def names() -> list[str]:
    return list(Author.objects.order_by("pk").cache().values_list("name", flat=True))


# -- reading ---------------------------------------------------------------------------------------


def test_the_second_time_costs_nothing(
    redis_client: redis.Redis, django_assert_num_queries: Any
) -> None:
    """Rows, counts, single objects and functions: no command and no SQL the second time."""
    author = Author.objects.create(name="a")
    function = counting(cached_as(Author))

    def read() -> list[Any]:
        authors = Author.objects.cache()
        return [
            list(authors.filter(name="a")), authors.count(), authors.exists(), function(),
            authors.get(pk=author.pk), authors.order_by("pk").first(), authors.filter(pk=0).first(),
        ]  # fmt: skip

    with request_scope():
        first = read()
        with commands(redis_client) as sent, django_assert_num_queries(0):
            assert [read(), read()] == [first, first]
        assert sent() == 0
    with commands(redis_client) as sent:
        assert read() == first
    assert sent() > 0


def test_the_same_rows_all_along() -> None:
    """What others commit meanwhile is seen by the next request, not in the middle of this one."""
    Author.objects.create(name="a")
    function = counting(cached_as(Author))
    with request_scope():
        assert [names(), function()] == [["a"], 1]
        elsewhere(lambda: Author.objects.create(name="b"))
        assert [names(), function()] == [["a"], 1]
        assert Author.objects.cache().count() == 2  # first asked for now
    with request_scope():
        assert [names(), function()] == [["a", "b"], 2]
    assert names() == ["a", "b"]


def test_objects_are_not_shared() -> None:
    """Whoever changes what he was given does not change what others get."""
    Document.objects.create(name="d", data={"list": [1]})
    function = cached(60)(lambda: {"list": [1]})
    with request_scope():
        for _ in range(3):
            document = Document.objects.cache().get(name="d")
            assert document.data == {"list": [1]}
            document.name = "changed"
            document.data["list"].append(2)
            rows = Document.objects.cache().values_list("data", flat=True)
            list(rows)[0]["list"].append(3)
            result = function()
            assert result == {"list": [1]}
            result["list"].append(2)


def test_results_for_others_are_not_made_of_it() -> None:
    """What a function reads while its result is stored for everybody is as new as its stamps, not
    as old as the request."""
    Author.objects.create(name="a")
    function = cached_as(Author)(names)
    with request_scope():
        assert names() == ["a"]
        elsewhere(lambda: Author.objects.create(name="b"))
        assert function() == ["a", "b"]
        assert names() == ["a"]
    assert function() == ["a", "b"]
    assert elsewhere(function) == ["a", "b"]


def test_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis) -> None:
    """A scope is bounded: long results are read again, of many the oldest go."""
    monkeypatch.setattr(scope, "MOST_ROWS", 1)
    monkeypatch.setattr(scope, "MOST", 3)
    tags = [Tag.objects.create(name=name) for name in "ab"]
    with request_scope() as memo:
        for _ in range(2):
            assert len(Tag.objects.cache().filter(pk__gt=0)) == 2
        assert memo._kept == {}
        for number in range(10):
            assert list(Tag.objects.cache().filter(pk=tags[0].pk, name__gte=str(number)))
        assert len(memo._kept) == 3


# -- writing ---------------------------------------------------------------------------------------


def _raw() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_author SET name = 'raw'")


def _in_a_transaction() -> None:
    with transaction.atomic():
        Author.objects.update(name="atomic")
        assert names() == ["atomic"]
    assert names() == ["atomic"]


def _in_a_part_that_is_rolled_back() -> None:
    with transaction.atomic():
        Author.objects.update(name="outer")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Author.objects.update(name="inner")
            assert names() == ["inner"]
            1 / 0  # noqa: B018
        assert names() == ["outer"]


def _rolled_back() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.update(name="gone")
        assert names() == ["gone"]
        1 / 0  # noqa: B018


def _without_invalidation() -> None:
    with no_invalidation:
        Author.objects.update(name="muted")
    invalidate_model(Author)


@pytest.mark.parametrize(
    "write",
    [
        lambda: Author.objects.create(name="b"),
        lambda: Author.objects.update(name="b"),
        lambda: Author.objects.get().delete(),
        lambda: Author.objects.bulk_create([Author(name="b"), Author(name="c")]),
        _raw,
        _in_a_transaction,
        _in_a_part_that_is_rolled_back,
        _rolled_back,
        _without_invalidation,
    ],
)
def test_what_the_request_writes(write: Callable[[], Any]) -> None:
    """Every way of writing drops what was read of the table, and nothing else."""
    Author.objects.create(name="a")
    Category.objects.create(title="c", slug="c")
    function = counting(cached_as(Author))
    with request_scope():
        assert names() == names() == ["a"]
        function()
        count = Category.objects.cache().count()
        elsewhere(lambda: Category.objects.create(title="d", slug="d"))
        write()
        expected = list(Author.objects.order_by("pk").nocache().values_list("name", flat=True))
        assert names() == expected
        assert function() in (1, 2)
        assert Category.objects.cache().count() == count  # still what it was
    assert names() == expected


def test_related_tables() -> None:
    """Tables that the database or Django changes along are dropped along."""
    post = Post.objects.create(category=category(), author=Author.objects.create())
    tag = Tag.objects.create(name="t")
    with request_scope():
        assert Post.objects.cache().count() == 1
        assert list(post.tags.cache()) == []
        post.tags.add(tag)
        assert list(post.tags.cache()) == [tag]
        post.category.delete()
        assert Post.objects.cache().count() == 0


def test_invalidation_by_call() -> None:
    """Models, tags, functions, everything: what is dropped for all is dropped here."""
    function = counting(cached(60, tags="t"))
    with request_scope():
        drops = [
            function.invalidate, function.invalidate_all, lambda: invalidate_tag("t"),
            invalidate_all, lambda: function(_refresh=True),
        ]  # fmt: skip
        for number, drop in enumerate(drops, 1):
            assert [function(), function()] == [number, number]
            drop()
        assert function() == len(drops) + 1
        function.key().set(100)
        assert function() == 100
        with transaction.atomic():
            invalidate_tag("t")
            assert function() == len(drops) + 2
        assert function() == len(drops) + 3


def test_scopes_inside_scopes() -> None:
    """A scope inside another one reads for itself; its writes drop what the outer one has read."""
    Author.objects.create(name="a")
    with request_scope():
        assert names() == ["a"]
        elsewhere(lambda: Author.objects.update(name="b"))
        with request_scope():
            assert names() == ["b"]
            Author.objects.update(name="c")
        assert names() == ["c"]


def test_threads_in_the_context_of_a_request() -> None:
    """A thread that is given the request's context belongs to the request, both ways."""
    Author.objects.create(name="a")
    with request_scope():
        assert names() == ["a"]
        context = contextvars.copy_context()
        elsewhere(lambda: context.run(lambda: Author.objects.update(name="b")))
        assert names() == ["b"]


def test_what_outlives_the_request() -> None:
    """What still runs in the context of a request that is over reads as if there had been none."""
    Author.objects.create(name="a")
    with request_scope():
        assert names() == ["a"]
        context = contextvars.copy_context()
    Author.objects.update(name="b")
    assert context.run(names) == ["b"]


# -- the middleware --------------------------------------------------------------------------------


def view(request: HttpRequest) -> HttpResponse:
    before = names()
    elsewhere(lambda: Author.objects.create(name="other"))
    return HttpResponse(",".join([*before, "|", *names()]))


def streaming(request: HttpRequest) -> StreamingHttpResponse:
    before = names()
    elsewhere(lambda: Author.objects.create(name="other"))
    return StreamingHttpResponse(",".join(names()) for _ in [before])


def failing(request: HttpRequest) -> HttpResponse:
    names()
    raise ValueError("on purpose")


async def aview(request: HttpRequest) -> HttpResponse:
    before = await sync_to_async(names)()
    await asyncio.to_thread(elsewhere, lambda: Author.objects.create(name="other"))
    return HttpResponse(",".join([*before, "|", *await sync_to_async(names)()]))


urlpatterns = [
    path("sync/", view),
    path("async/", aview),
    path("stream/", streaming),
    path("fail/", failing),
]

with_middleware = override_settings(
    ROOT_URLCONF=__name__, MIDDLEWARE=["cacheops_lite.middleware.RequestScopeMiddleware"]
)


@pytest.mark.parametrize("url", ["/sync/", "/async/"])
@with_middleware
def test_middleware(url: str) -> None:
    """Each request has a scope, with sync and with async views; the next one begins anew."""
    client = Client()
    assert client.get(url).content == b"|"
    assert client.get(url).content == b"other,|,other"
    assert scope.active() is None


@with_middleware
def test_failing_views() -> None:
    """The scope ends with the request however that ends."""
    with pytest.raises(ValueError, match="on purpose"):
        Client().get("/fail/")
    assert scope.active() is None


@with_middleware
def test_streamed_responses() -> None:
    """What a response reads while it is sent is read after the request."""
    assert b"".join(Client().get("/stream/").streaming_content) == b"other"


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("url", ["/sync/", "/async/"])
async def test_async_middleware(url: str) -> None:
    """Under ASGI too, and requests that run at the same time do not mix."""
    with with_middleware:
        client = AsyncClient()
        assert (await client.get(url)).content == b"|"
        seen = [(await client.get(url)).content.decode() for _ in range(3)]
    for answer in seen:
        before, after = answer.split("|")
        assert before.strip(",") == after.strip(",")
    assert scope.active() is None


def test_it_is_async_as_its_surroundings_are() -> None:
    """No thread is spent on adapting it."""
    from asgiref.sync import iscoroutinefunction

    async def aget_response(request: Any) -> str:
        return "async" if scope.active() is not None else "none"

    assert iscoroutinefunction(RequestScopeMiddleware(aget_response))
    assert async_to_sync(RequestScopeMiddleware(aget_response))(None) == "async"
    sync = RequestScopeMiddleware(lambda request: "sync" if scope.active() else "none")
    assert not iscoroutinefunction(sync)
    assert sync(None) == "sync"


# -- many at once ----------------------------------------------------------------------------------


def _counter(pk: int) -> int:
    return int(TokenUse.objects.cache().get(pk=pk).count)


def _increment(pk: int) -> int:
    with transaction.atomic():
        TokenUse.objects.filter(pk=pk).update(count=F("count") + 1)
        return int(TokenUse.objects.nocache().get(pk=pk).count)


class Watch:
    """What the checks below have found."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.committed = 0

    def request(self, pk: int, dice: random.Random) -> None:
        """One request: reads and writes at random; never less than it wrote, nor than was there
        when it began."""
        with request_scope():
            least = self.committed
            for _ in range(6):
                if dice.random() < 0.3:
                    number = _increment(pk)
                    self.committed = max(self.committed, number)
                    least = max(least, number)
                found = _counter(pk)
                if found < least:
                    self.wrong.append(f"read {found}, which is older than {least}")
                least = max(least, found)


@pytest.mark.slow
def test_threads_with_concurrent_writers() -> None:
    """Requests in threads, and writers besides: no request ever sees less than it should."""
    pk = TokenUse.objects.create(token=Token.objects.create()).pk
    watch = Watch()
    stop = time.monotonic() + 3

    def work(seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < stop:
            watch.request(pk, dice)
        connection.close()

    def write() -> None:
        while time.monotonic() < stop:
            watch.committed = max(watch.committed, _increment(pk))
            time.sleep(0.01)
        connection.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    threads.append(threading.Thread(target=write))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.wrong == []
    assert watch.committed > 0


@pytest.mark.slow
@pytest.mark.usefixtures("closed_after")
async def test_tasks_with_concurrent_writers() -> None:
    """One request whose tasks read and write at once in several threads, and writers besides."""
    token = await sync_to_async(Token.objects.create)()
    pk = (await sync_to_async(TokenUse.objects.create)(token=token)).pk
    wrong: list[str] = []
    stop = time.monotonic() + 3

    def in_thread(function: Callable[..., Any]) -> Any:
        return sync_to_async(function, thread_sensitive=False)

    def closing(function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        finally:
            connection.close()

    async def request() -> None:
        with request_scope():
            wrote = 0

            async def writing() -> None:
                nonlocal wrote
                wrote = max(wrote, await in_thread(closing)(_increment, pk))

            async def reading() -> None:
                least = wrote
                found = await in_thread(closing)(_counter, pk)
                if found < least:
                    wrong.append(f"read {found}, which is older than {least}")

            for _ in range(3):
                await asyncio.gather(reading(), writing(), reading(), reading())
            await reading()

    async def other() -> None:
        while time.monotonic() < stop:
            await in_thread(closing)(_increment, pk)
            await asyncio.sleep(0.01)

    async def requests() -> None:
        while time.monotonic() < stop:
            await request()

    await asyncio.gather(requests(), requests(), other())
    assert wrong == []
