"""What somebody else's code decides each time is decided each time, however often it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from django.db.models import CharField, Count, F, ForeignKey, Max, Q, Transform
from django.db.models.lookups import Exact
from django.db.models.sql.compiler import SQLCompiler
from django.test import override_settings
from django.test.utils import register_lookup

from cacheops_lite import invalidate_all
from cacheops_lite.orm import lazy, reads

from . import models as m

pytestmark = pytest.mark.django_db(transaction=True)

#: Whose request it is: what a tenant, a language or a user is to the code of a project.
who: ContextVar[str] = ContextVar("who", default="a")


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


@pytest.fixture(autouse=True)
def unaudited(cached: None) -> None:
    """The audit compares with a query that was kept, whose values are what is in question."""
    reads.audit.clear()
    lazy.audit.clear()


@pytest.fixture(autouse=True)
def rows(cached: None) -> None:
    """A post of each one's, the titles of which tell whose."""
    category = m.Category.objects.create(slug="c", title="c")
    for name, views in (("a", 1), ("b", 2)):
        author = m.Author.objects.create(name=name)
        m.Post.objects.create(
            category=category, author=author, title=f"{name}:x", text=name, views=views
        )


def always(read: Callable[[], Any]) -> None:
    """Each one reads what the database answers, in turns, first alone and then among others."""
    truth: dict[str, Any] = {}
    with override_settings(CACHEOPS_ENABLED=False):
        for name in "ab":
            who.set(name)
            truth[name] = read()
    assert truth["a"] != truth["b"]
    for _ in range(3):
        for name in "aab":
            who.set(name)
            assert read() == truth[name]
            assert read() == truth[name]
        invalidate_all()


def texts(posts: Any) -> list[str]:
    return sorted(post.text for post in posts)


def get_text(posts: Any, **conditions: Any) -> str:
    try:
        return str(posts.get(**conditions).text)
    except m.Post.DoesNotExist:
        return ""


# -- fields ----------------------------------------------------------------------------------------


class Scoped(CharField):
    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else f"{who.get()}:{value.rpartition(':')[2]}"


class ScopedLater(CharField):
    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return None if value is None else f"{who.get()}:{value}"


class ScopedEarly(CharField):
    def to_python(self, value: Any) -> Any:
        return None if value is None else f"{who.get()}:{value}"


class ScopedLookups(CharField):
    def get_lookup(self, lookup_name: str) -> Any:
        return {"a": Exact, "b": Upside}[who.get()] if lookup_name == "exact" else None


class Upside(Exact):
    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, params = self.process_lhs(compiler, connection)
        right, more = self.process_rhs(compiler, connection)
        return f"{left} <> {right}", [*params, *more]


Upside.__module__ = Exact.__module__  # the field alone gives it away


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a field another class."""

    def change(model: Any, name: str, kind: type) -> None:
        monkeypatch.setattr(model._meta.get_field(name), "__class__", kind)

    return change


BY_TITLE: dict[str, Callable[[], Any]] = {
    "list": lambda: texts(m.Post.objects.filter(title="x")),
    "count": lambda: [
        m.Post.objects.filter(title="x", views=views).count() for views in (1, 2)
    ],
    "exists": lambda: m.Post.objects.filter(title="x", views=1).exists(),
    "first": lambda: getattr(m.Post.objects.filter(title="x").first(), "text", ""),
    "get": lambda: get_text(m.Post.objects, title="x"),
    "get of a chain": lambda: get_text(m.Post.objects.filter(views__gt=0), title="x"),
    "get of two": lambda: get_text(m.Post.objects, title="x", views__gt=0),
    "aggregate": lambda: m.Post.objects.filter(title="x").aggregate(most=Max("views")),
    "aggregate of some": lambda: m.Post.objects.aggregate(n=Max("views", filter=Q(title="x"))),
    "in": lambda: texts(m.Post.objects.filter(title__in=["x", "y"])),
    "exclude": lambda: texts(m.Post.objects.exclude(title="x")),
    "exclude of a join": lambda: list(
        m.Author.objects.exclude(posts__title="x").values_list("name", flat=True)
    ),
    "values": lambda: list(m.Post.objects.filter(title="x").values("text")),
    "annotate": lambda: list(
        m.Post.objects.annotate(n=Count("tags")).filter(title="x").values_list("views", "n")
    ),
    "joined": lambda: list(m.Author.objects.filter(posts__title="x").values_list("name")),
}  # fmt: skip


@pytest.mark.parametrize("kind", [Scoped, ScopedLater, ScopedEarly, ScopedLookups])
@pytest.mark.parametrize("read", BY_TITLE.values(), ids=BY_TITLE)
def test_a_field_that_prepares_values_by_whose_they_are(
    become: Any, read: Callable[[], Any], kind: Any
) -> None:
    """``filter(title="x")`` never answers with the rows of another tenant."""
    if kind is ScopedLookups:
        m.Post.objects.filter(views=1).update(title="x")
        if read is BY_TITLE["in"]:
            pytest.skip("it has no such lookup")
    become(m.Post, "title", kind)
    always(read)


def test_a_relation_to_a_key_that_is_scoped(become: Any) -> None:
    """A relation hands its values to the field that it refers to."""
    for name in "ab":
        toy = m.Toy.objects.create(code=f"{name}:x")
        m.ToyPart.objects.create(toy=toy, name=name)
    become(m.Toy, "code", Scoped)
    always(lambda: list(m.ToyPart.objects.filter(toy="x").values_list("name")))
    always(lambda: list(m.ToyPart.objects.filter(toy__code="x").values_list("name")))


def test_a_field_of_ones_own_that_leaves_values_alone(
    become: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that changes nothing of the SQL and of the parameters is remembered like Django's."""

    class Named(CharField):
        def db_type(self, connection: Any) -> str:
            return "varchar(100)"

        def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
            return value.upper()

        def clean(self, value: Any, model_instance: Any) -> Any:
            raise AssertionError

    become(m.Post, "title", Named)
    for _ in range(3):
        assert m.Post.objects.get(title="a:x").title == "A:X"
        assert [post.title for post in m.Post.objects.filter(title="b:x")] == ["B:X"]
    assert lazy.node_of(m.Post.objects.filter(title="a:x")) is not None
    invalidate_all()
    monkeypatch.setattr(SQLCompiler, "pre_sql_setup", None)  # nothing is compiled
    assert m.Post.objects.get(title="a:x").title == "A:X"
    assert [post.title for post in m.Post.objects.filter(title="b:x")] == ["B:X"]


class Shown(CharField):
    """Shows something else to each one."""

    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        return (sql, params) if who.get() == "a" else (f"UPPER({sql})", params)


SHOWN: dict[str, Callable[[], Any]] = {
    "list": lambda: [post.title for post in m.Post.objects.order_by("pk")],
    "list of some": lambda: [post.title for post in m.Post.objects.filter(views=1)],
    "get": lambda: m.Post.objects.get(views=1).title,
    "first": lambda: m.Post.objects.filter(views=1).first().title,  # type: ignore[union-attr]
    "values": lambda: list(m.Post.objects.filter(views=1).values("title")),
    "values_list": lambda: list(m.Post.objects.order_by("pk").values_list("title", flat=True)),
    "distinct": lambda: list(m.Post.objects.distinct().order_by("pk").values_list("title")),
    "related": lambda: m.Author.objects.get(name="a").posts.get().title,
}


@pytest.mark.parametrize("read", SHOWN.values(), ids=SHOWN)
def test_a_field_that_is_shown_by_who_looks(become: Any, read: Callable[[], Any]) -> None:
    """A column whose SQL hangs on the language is written anew for each one."""
    become(m.Post, "title", Shown)
    always(read)


def test_a_field_that_is_shown_by_who_looks_of_a_relation(become: Any) -> None:
    """So are those that ``select_related`` brings, and those of a foreign key that is followed."""
    become(m.Author, "name", Shown)
    always(lambda: [p.author.name for p in m.Post.objects.select_related("author").order_by("pk")])
    always(lambda: [post.author.name for post in m.Post.objects.order_by("pk")])


# -- expressions -----------------------------------------------------------------------------------


class Cased(Transform):
    """Asks whose it is when it is made, as one does that needs the language."""

    lookup_name = "cased"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.function = {"a": "UPPER", "b": "MD5"}[who.get()]


CASED: dict[str, Callable[[], Any]] = {
    "filter": lambda: texts(m.Post.objects.filter(title__cased="A:X")),
    "count": lambda: m.Post.objects.filter(title__cased="A:X").count(),
    "get": lambda: get_text(m.Post.objects, title__cased="A:X"),
    "F": lambda: texts(m.Post.objects.filter(title__iexact=F("title__cased"))),
    "annotate": lambda: sorted(m.Post.objects.annotate(c=F("title__cased")).values_list("c")),
    "values_list": lambda: sorted(m.Post.objects.values_list("title__cased")),
    "values": lambda: sorted(map(str, m.Post.objects.values("title__cased"))),
    "aggregate": lambda: m.Post.objects.aggregate(most=Max("title__cased")),
    "in a subquery": lambda: list(
        m.Author.objects.exclude(posts__title__cased="A:X").values_list("name", flat=True)
    ),
}


@pytest.mark.parametrize("read", CASED.values(), ids=CASED)
def test_a_transform_that_hangs_on_who_makes_it(read: Callable[[], Any]) -> None:
    """A transform of a project's is made anew with each call."""
    with register_lookup(CharField, Cased):
        always(read)


def test_a_lookup_of_djangos_that_was_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a lookup of Django's in which somebody has put a function of theirs."""
    as_sql = Exact.as_sql

    def patched(self: Any, compiler: Any, connection: Any) -> Any:
        sql, params = as_sql(self, compiler, connection)
        return (sql, params) if who.get() == "a" else (f"NOT ({sql})", params)

    monkeypatch.setattr(Exact, "as_sql", patched)
    always(lambda: texts(m.Post.objects.filter(views=1)))
    always(lambda: m.Post.objects.filter(views=1).aggregate(most=Max("views")))
    always(lambda: get_text(m.Post.objects, views=1))


# -- compilers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_a_compiler_that_was_patched(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """A library that changes each statement does so each time, also if it comes late."""
    conditions: dict[str, Callable[[int], Any]] = {
        "list": lambda views: texts(m.Post.objects.filter(views=views)),
        "get": lambda views: get_text(m.Post.objects, views=views),
        "count": lambda views: m.Post.objects.filter(views=views - 1).count(),
        "aggregate": lambda views: m.Post.objects.filter(views=views).aggregate(n=Max("views")),
    }
    if late:
        for read in conditions.values():
            for views in (1, 1, 2, 2):
                read(views)
        reads.reset()  # what calls were answered with; what their shapes taught is kept
    as_sql = SQLCompiler.as_sql

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        sql, params = as_sql(self, *args, **kwargs)
        return (sql if who.get() == "a" else sql.replace(" = ", " <> ")), params

    monkeypatch.setattr(SQLCompiler, "as_sql", patched)
    for read in conditions.values():
        always(lambda read=read: [read(1), read(2)])


# -- joins -----------------------------------------------------------------------------------------


class Restriction:
    """As Django's own tests have it: an object with ``as_sql`` and nothing else."""

    def __init__(self, alias: str, column: str, value: Any) -> None:
        self.alias, self.column, self.value = alias, column, value

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        quote = connection.ops.quote_name
        return f"{quote(self.alias)}.{quote(self.column)} = %s", [self.value]


class Restricted(ForeignKey):
    """Leads to an author of one's own only."""

    def get_extra_restriction(self, alias: Any, related_alias: Any) -> Any:
        return Restriction(alias, "name", who.get())


JOINED: dict[str, Callable[[], Any]] = {
    "list": lambda: texts(m.Post.objects.filter(author__email="e")),
    "count": lambda: [
        m.Post.objects.filter(author__email="e", views=views).count() for views in (1, 2)
    ],
    "exists": lambda: m.Post.objects.filter(author__email="e", views=1).exists(),
    "get": lambda: get_text(m.Post.objects, author__email="e"),
    "aggregate": lambda: m.Post.objects.aggregate(most=Max("views", filter=Q(author__email="e"))),
    "aggregate of some": lambda: m.Post.objects.filter(author__email="e").aggregate(
        most=Max("views")
    ),
    "aggregate of a join": lambda: m.Post.objects.aggregate(most=Max("author__name")),
    "values": lambda: list(m.Post.objects.filter(author__email="e").values("text")),
    "ordered": lambda: texts(m.Post.objects.order_by("author__email")),
    "select_related": lambda: texts(m.Post.objects.select_related("author")),
    "from the other side": lambda: list(
        m.Author.objects.filter(posts__views__gt=0).values_list("name", flat=True)
    ),
}


@pytest.mark.parametrize("read", JOINED.values(), ids=JOINED)
def test_a_join_that_is_restricted_by_who_asks(become: Any, read: Callable[[], Any]) -> None:
    """A relation that joins what is in one's language joins what is in that of the moment."""
    m.Author.objects.update(email="e")
    become(m.Post, "author", Restricted)
    always(read)
