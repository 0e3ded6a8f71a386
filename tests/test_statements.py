"""Misses of a known shape: the statement is kept, and run by a copy of Django's compiler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.sql.compiler import SQLCompiler
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from cacheops_lite import invalidate_all
from cacheops_lite.orm import lazy, reads

from . import models as m

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


@pytest.fixture
def posts() -> list[m.Post]:
    """Posts of two categories."""
    author = m.Author.objects.create(name="Ann")
    categories = [m.Category.objects.create(slug=slug, title=slug) for slug in "ab"]
    return [
        m.Post.objects.create(category=categories[number % 2], author=author, title=str(number))
        for number in range(4)
    ]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by each SELECT that is compiled; nothing is compiled for comparison."""
    reads.audit.clear()
    lazy.audit.clear()
    seen: list[Any] = []
    as_sql = SQLCompiler.as_sql

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return as_sql(self, *args, **kwargs)

    monkeypatch.setattr(SQLCompiler, "as_sql", noted)
    return seen


#: Reads of one shape for a post.
SHAPES: dict[str, Callable[[m.Post], Any]] = {
    "get": lambda post: m.Post.objects.get(pk=post.pk),
    "get of a chain": lambda post: m.Post.objects.filter(title=post.title).get(pk=post.pk),
    "first": lambda post: m.Post.objects.filter(title=post.title).first(),
    "filter": lambda post: list(m.Post.objects.filter(title=post.title)),
    "filter on two": lambda post: list(
        m.Post.objects.filter(title=post.title, category=post.category_id)
    ),
    "in": lambda post: list(m.Post.objects.filter(pk__in=[post.pk, post.pk + 1]).order_by("pk")),
    "joined": lambda post: list(m.Post.objects.filter(author__name="Ann", title=post.title)),
    "select_related": lambda post: list(
        m.Post.objects.select_related("author").filter(title=post.title)
    ),
    "values_list": lambda post: list(m.Post.objects.filter(title=post.title).values_list("pk")),
    "values": lambda post: list(m.Post.objects.filter(title=post.title).values("pk", "title")),
    "count": lambda post: m.Post.objects.filter(title=post.title).count(),
    "exists": lambda post: m.Post.objects.filter(title=post.title).exists(),
    "foreign key": lambda post: m.Post.objects.get(pk=post.pk).category,
}


@pytest.mark.parametrize("read", SHAPES.values(), ids=SHAPES)
def test_nothing_is_compiled(posts: list[m.Post], compiled: list[Any], read: Any) -> None:
    """A miss with other values, or again after a write, asks the database and compiles nothing."""
    for post in posts[:2]:  # one of each category
        for _ in range(2):
            read(post)
    known = [read(post) for post in posts]
    invalidate_all()
    compiled.clear()
    with CaptureQueriesContext(connection) as asked:
        assert [read(post) for post in posts] == known
    assert asked.captured_queries
    assert not compiled


@pytest.mark.parametrize("read", SHAPES.values(), ids=SHAPES)
def test_the_database_is_asked_the_same(posts: list[m.Post], read: Any) -> None:
    """The statements are those of a process without the cache."""
    with CaptureQueriesContext(connection) as wanted, override_settings(CACHEOPS_ENABLED=False):
        for post in posts:
            read(post)
    for _ in range(3):
        invalidate_all()
        with CaptureQueriesContext(connection) as asked:
            for post in posts:
                read(post)
        told = {query["sql"] for query in asked.captured_queries}
        assert told == {query["sql"] for query in wanted.captured_queries}


def test_values_are_converted(compiled: list[Any]) -> None:
    """What the columns need on their way to Python is done, by the connection of the moment."""
    prices = [
        m.Price.objects.create(name=name, amount=Decimal(f"{number}.50"), labels=["x", name])
        for number, name in enumerate("ab")
    ]
    for _ in range(3):
        invalidate_all()
        for price in prices:
            found = m.Price.objects.get(name=price.name)
            assert (found.amount, found.labels) == (price.amount, price.labels)
            assert type(found.amount) is Decimal


def test_each_thread_has_its_connection(posts: list[m.Post], compiled: list[Any]) -> None:
    """The statement was learnt in another thread, whose connection must not be used."""
    for post in posts[:2]:
        m.Post.objects.get(pk=post.pk)
    invalidate_all()
    asked: list[str] = []
    found: list[Any] = []

    def work() -> None:
        try:
            with CaptureQueriesContext(connections["default"]) as seen:
                found.append(m.Post.objects.get(pk=posts[0].pk))
            asked.extend(query["sql"] for query in seen.captured_queries)
        finally:
            connections["default"].close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == posts[:1]
    assert len(asked) == 1


def test_values_that_have_no_statement(posts: list[m.Post], compiled: list[Any]) -> None:
    """A value that changes the SQL is not put into that of another: NULL, none, out of range."""
    for post in posts[:2]:
        assert list(m.Post.objects.filter(editor=post.author_id)) == []
        assert m.Post.objects.filter(pk__in=[post.pk]).count() == 1
        assert m.Post.objects.filter(pk=post.pk).exists()
    assert len(m.Post.objects.filter(editor=None)) == 4
    assert m.Post.objects.filter(pk__in=[]).count() == 0
    assert not m.Post.objects.filter(pk=2**80).exists()
    with pytest.raises(m.Post.DoesNotExist):
        m.Post.objects.get(pk=2**80)


def test_errors_are_those_of_the_database(
    posts: list[m.Post], compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An execute wrapper that refuses is heard, and nothing is stored."""
    for post in posts[:2]:
        m.Post.objects.get(pk=post.pk)
    invalidate_all()

    def refuse(*args: Any) -> Any:
        raise LookupError("refused")

    with connection.execute_wrapper(refuse), pytest.raises(LookupError):
        m.Post.objects.get(pk=posts[0].pk)
    assert m.Post.objects.get(pk=posts[0].pk) == posts[0]
