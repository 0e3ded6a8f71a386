"""Misses of a known shape: the statement is kept, and run by a copy of Django's compiler."""

from __future__ import annotations

import datetime
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import CharField, Count, Max, Value
from django.db.models.functions import Coalesce, Replace
from django.db.models.lookups import IContains
from django.db.models.sql.compiler import SQLCompiler
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, register_lookup
from django.utils import timezone

from cacheops_lite import invalidate_all
from cacheops_lite.orm import lazy, reads
from cacheops_lite.orm.shapes import shape_of

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
    setup = SQLCompiler.pre_sql_setup  # with another ``as_sql`` nothing would be remembered

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return setup(self, *args, **kwargs)

    monkeypatch.setattr(SQLCompiler, "pre_sql_setup", noted)
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
    "true or false": lambda post: list(
        m.Post.objects.filter(published=False, author__name="Ann", title=post.title)
    ),
    "one that is neither": lambda post: m.Post.objects.get(pk=post.pk, published=False),
    "false and not true": lambda post: list(
        m.Post.objects.filter(published=False, title=post.title).exclude(published=True)
    ),
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


def test_parameters_behind_those_of_the_conditions(
    posts: list[m.Post], compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that looks like the first condition's value is not taken for it: its place is unknown."""
    for views, post in enumerate(posts, 1):
        m.Post.objects.filter(pk=post.pk).update(views=views)
    monkeypatch.setattr(m.Post._meta, "ordering", [Coalesce("editor_id", 1), "pk"])
    for _ in range(3):
        for views, post in enumerate(posts, 1):
            found = m.Post.objects.filter(views=views)
            assert list(found) == list(found.all()[:1]) == [found.first()] == [post]
        invalidate_all()


def test_parameters_that_look_alike(posts: list[m.Post]) -> None:
    """Whatever order they stand in, each goes to its own column the next time."""
    m.Post.objects.filter(pk=posts[0].pk).update(title="x", text="x")
    m.Post.objects.filter(pk=posts[1].pk).update(title="x", text="y")
    m.Post.objects.filter(pk=posts[2].pk).update(title="y", text="x")
    for title, text, post in (("x", "x", 0), ("x", "y", 1), ("y", "x", 2), ("x", "y", 1)):
        for _ in range(2):
            (found,) = m.Post.objects.filter(title=title, text=text)
            assert found == posts[post]
        invalidate_all()


@pytest.mark.parametrize("stored", [True, False])
def test_a_field_that_counts(
    compiled: list[Any], monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """What a field asks for on its way to Python is not taken for the aggregate around it."""
    m.Price.objects.create(name="a", amount=Decimal(5), labels=["x"])
    field: Any = m.Price._meta.get_field("amount")
    convert = field.from_db_value

    def from_db_value(*args: Any) -> Any:
        tags = m.Tag.objects.filter(name="red")
        (tags if stored else tags.nocache()).count()
        return convert(*args)

    monkeypatch.setattr(field, "from_db_value", from_db_value)
    for number in range(6, 12):
        for _ in range(2):
            found = m.Price.objects.aggregate(most=Max("amount"))
            assert found == {"most": number - 1}
        m.Tag.objects.create(name="red")
        m.Price.objects.create(name=str(number), amount=Decimal(number), labels=["x"])


@pytest.mark.parametrize("stored", [True, False])
def test_a_lookup_that_counts(
    compiled: list[Any], monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """Nor is what it asks for on its way to the database."""
    m.Price.objects.create(name="a", amount=Decimal(5), labels=["x"])
    field: Any = m.Price._meta.get_field("amount")
    prepare = field.get_db_prep_value

    def get_db_prep_value(*args: Any, **kwargs: Any) -> Any:
        tags = m.Tag.objects.filter(name="red")
        (tags if stored else tags.nocache()).count()
        return prepare(*args, **kwargs)

    monkeypatch.setattr(field, "get_db_prep_value", get_db_prep_value)
    for number in range(6, 10):
        for _ in range(2):
            assert m.Price.objects.filter(amount__gte=5).count() == number - 5
            assert m.Price.objects.filter(amount__gte=5).aggregate(n=Count("pk")) == {
                "n": number - 5
            }
        m.Tag.objects.create(name="red")
        m.Tag.objects.create(name="red")
        m.Price.objects.create(name=str(number), amount=Decimal(number), labels=["x"])


def test_tenants_have_their_own_sql(
    posts: list[m.Post], compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a function says whose keys are meant, the text of another tenant is not run."""
    tenant = "a"
    with override_settings(CACHEOPS_PREFIX=lambda query: f"{tenant}:"):
        for post in posts[:2]:
            m.Post.objects.get(pk=post.pk)
        tenant = "b"
        compiled.clear()
        for post in posts[:2]:
            m.Post.objects.get(pk=post.pk)
        assert len(compiled) == 2


def test_values_of_the_first_query_are_not_held(posts: list[m.Post]) -> None:
    """What is kept of a shape has no part in the query that it was learnt from."""
    queryset = m.Post.objects.filter(title__in=[f"title {number}" for number in range(50)])
    list(queryset)
    where = weakref.ref(queryset.query.where)
    shape = shape_of(queryset.query)
    assert shape is not None
    key = (shape.structure, "default", False, queryset._iterable_class, queryset._fields)
    assert reads._templates.get(key).statement is not None
    del queryset, shape, key
    reads.reset()
    lazy.reset()
    gc.collect()
    assert where() is None


def test_values_that_cannot_be_traced(posts: list[m.Post], compiled: list[Any]) -> None:
    """What a bound narrows to hangs on its value; once seen, it is known, and so is the statement."""
    read = lambda least: list(m.Post.objects.filter(views__gte=least))  # noqa: E731
    for least in (1, 2, 3):
        read(least)
    lazy.reset()
    reads.reset()
    invalidate_all()
    compiled.clear()
    with CaptureQueriesContext(connection) as asked:
        for least in (1, 2, 3):
            read(least)
    assert len(asked) == 3
    assert not compiled


@pytest.mark.parametrize("meta", [True, False])
def test_an_order_that_hangs_on_the_time_zone(
    posts: list[m.Post], compiled: list[Any], monkeypatch: pytest.MonkeyPatch, meta: bool
) -> None:
    """MySQL has the zone in its SQL only where it differs from the connection's."""
    moments = ["2024-01-02T01:00Z", "2024-01-01T23:30Z", "2024-01-01T10:00Z"]
    for post, moment in zip(posts, moments, strict=False):
        m.Post.objects.filter(pk=post.pk).update(created=datetime.datetime.fromisoformat(moment))
    if meta:
        monkeypatch.setattr(m.Post._meta, "ordering", ["created__date", "pk"])

    def read() -> list[int]:
        found = m.Post.objects.filter(created__isnull=False)
        return [posts.index(post) for post in (found if meta else found.order_by(*ORDER))]

    truth = {}
    for zone in ("UTC", "Asia/Tokyo", "Etc/GMT+2"):
        with timezone.override(zone), override_settings(CACHEOPS_ENABLED=False):
            truth[zone] = read()
    for _ in range(3):
        for zone, order in truth.items():
            with timezone.override(zone):
                assert read() == read() == order
        invalidate_all()


ORDER = ("created__date", "pk")


class Wrapping(IContains):
    """Changes itself like those of UUIDs, under another name."""

    lookup_name = "wrapping"

    def process_rhs(self, qn: Any, connection: Any) -> Any:
        self.rhs = Replace(Value(self.rhs) if type(self.rhs) is str else self.rhs, Value("-"))
        return super().process_rhs(qn, connection)

    def get_rhs_op(self, connection: Any, rhs: Any) -> str:
        return str(connection.operators["icontains"] % rhs)


#: Reads of a token by a part of its key, by lookups that compiling changes.
CHANGING: dict[str, Callable[[str], Any]] = {
    "of a UUID": lambda part: m.Token.objects.filter(id__icontains=part),
    "of a project": lambda part: m.Token.objects.filter(label__wrapping=part),
    "in a union": lambda part: m.Token.objects.filter(id__icontains=part).union(
        m.Token.objects.filter(label="none")
    ),
}


@pytest.mark.parametrize("tokens", CHANGING.values(), ids=CHANGING)
def test_a_lookup_that_compiling_changes(compiled: list[Any], tokens: Any) -> None:
    """Where UUIDs are texts, Django wraps the value of a text lookup each time it compiles it."""
    m.Token.objects.create(id="12345678123456781234567812345678", label="5678")
    sql = set()
    with register_lookup(CharField, Wrapping):
        for _ in range(8):
            with CaptureQueriesContext(connection) as asked:
                assert len(tokens("5678")) == 1
            sql |= {query["sql"] for query in asked.captured_queries}
            invalidate_all()
    assert len(sql) == 1
