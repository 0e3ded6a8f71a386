"""Steps that were seen before build no query, and nobody can tell."""

from __future__ import annotations

import copy
import datetime
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import FieldError
from django.db.models import (
    Avg,
    CharField,
    Count,
    F,
    Lookup,
    Manager,
    Max,
    Q,
    QuerySet,
    Sum,
    Value,
)  # fmt: skip
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.test import override_settings
from django.test.utils import register_lookup

from cacheops_lite.orm import lazy, reads
from cacheops_lite.orm.spelling import spell

from . import models as m
from .watching import hits, plain

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


def is_lazy(queryset: Any) -> bool:
    return lazy.node_of(queryset) is not None


def post(**values: Any) -> m.Post:
    category = m.Category.objects.get_or_create(slug="c", defaults={"title": "c"})[0]
    values.setdefault("author", m.Author.objects.get_or_create(name="a")[0])
    return m.Post.objects.create(category=category, **values)


# -- spelling --------------------------------------------------------------------------------------

ID = uuid.UUID(int=1)
DIFFERENT: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((), {"views": 1}),
    ((), {"views": True}),
    ((), {"views": "1"}),
    ((), {"views": 1.0}),
    ((), {"views": Decimal("1")}),
    ((), {"views": Decimal("1.0")}),
    ((), {"views": None}),
    ((), {"score": 0.0}),
    ((), {"score": -0.0}),
    ((), {"views__in": [1, 2]}),
    ((), {"views__in": (1, 2)}),
    ((), {"views__in": [2, 1]}),
    ((), {"views__in": range(1, 3)}),
    ((), {"views__in": range(1, 4)}),
    ((), {"views__in": [1], "title": "x"}),
    ((), {"views__in": [1, "title", "x"]}),
    ((), {"title": "x"}),
    ((), {"day": datetime.date(2024, 1, 1)}),
    ((), {"created": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)}),
    ((), {"pk": ID}),
    (("views",), {}),
    (("views", "title"), {}),
    (("title", "views"), {}),
    (("-views",), {}),
    ((None,), {}),
    ((Q(views=1),), {}),
    ((~Q(views=1),), {}),
    ((Q(views=1) | Q(title="x"),), {}),
    ((Q(views=1) & Q(title="x"),), {}),
    ((Q(views=1), Q(title="x")), {}),
    ((Q(Q(views=1), Q(title="x")),), {}),
    ((slice(1, 2),), {}),
    ((slice(None, 2),), {}),
    ((Sum("views"),), {}),
    ((Sum("score"),), {}),
    ((Avg("views"),), {}),
    ((Max("views"),), {}),
    ((Count("views"),), {}),
    ((Count("views", distinct=True),), {}),
    ((Count("views", filter=Q(views=1)),), {}),
    ((Count("views", filter=Q(views=2)),), {}),
    ((Sum("views", default=0),), {}),
    ((), {"x": Sum("views")}),
    ((), {"views": F("score")}),
    ((), {"views": F("views")}),
]


def test_spellings_are_one_to_one() -> None:
    """Calls that differ are spelt differently, also where their values are equal in Python."""
    spelt = [spell(m.Post, args, kwargs) for args, kwargs in DIFFERENT]
    assert None not in spelt
    assert len(set(spelt)) == len(spelt)
    for (args, kwargs), first in zip(DIFFERENT, spelt, strict=True):
        assert spell(m.Post, copy.deepcopy(args), copy.deepcopy(kwargs)) == first


class Text(str):
    """A type that Django or a database may treat in its own way."""


@pytest.mark.parametrize(
    "value",
    [
        Text("x"),
        m.Post.Status.LIVE,
        datetime.datetime(2024, 1, 1),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC, fold=1),
        Lower("title"),
        Value(1),
        [1, 2],
        {"a": 1},
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_spelling(value: Any) -> None:
    """Values that may change, or whose meaning hangs on more than themselves, are not spelt."""
    assert spell(m.Post, (), {"title": value}) is None
    if not isinstance(value, list):
        assert spell(m.Post, (), {"title__in": [value]}) is None


def test_instances_are_what_their_relation_reads() -> None:
    """An instance is spelt by its type and key, where a relation asks for nothing else."""
    one, other = m.Category(pk=1), m.Category(pk=2)
    assert spell(m.Post, (), {"category": one}) == spell(
        m.Post, (), {"category": m.Category(pk=1, title="x")}
    )
    assert spell(m.Post, (), {"category": one}) != spell(m.Post, (), {"category": other})
    for name, value in (
        ("category", m.Category()),
        ("title", one),
        ("category", m.Author(pk=1)),
        ("nothing", one),
        ("category__parent", one),
    ):
        assert spell(m.Post, (), {name: value}) is None


# -- steps -----------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Any], Any]] = {
    "all": lambda posts: posts.all(),
    "filter": lambda posts: posts.filter(views=1),
    "exclude": lambda posts: posts.exclude(views=1),
    "chain": lambda posts: posts.filter(views=1).exclude(title="x").order_by("-pk"),
    "Q": lambda posts: posts.filter(Q(views=1) | ~Q(title="x")),
    "in": lambda posts: posts.filter(views__in=[1, 2, 3]),
    "range": lambda posts: posts.filter(views__range=(0, 5)),
    "slice": lambda posts: posts.order_by("pk")[1:3],
    "values": lambda posts: posts.values("pk", "title"),
    "values of all": lambda posts: posts.values(),
    "values_list": lambda posts: posts.values_list("pk", "title"),
    "flat": lambda posts: posts.values_list("title", flat=True),
    "named": lambda posts: posts.values_list("pk", "views", named=True),
    "select_related": lambda posts: posts.select_related("author", "category"),
    "nullable": lambda posts: posts.select_related("editor"),
    "only": lambda posts: posts.only("title"),
    "defer": lambda posts: posts.defer("title", "text"),
    "deferred and related": lambda posts: posts.select_related("author").only("author__name"),
    "distinct": lambda posts: posts.values_list("views").distinct(),
    "reverse": lambda posts: posts.order_by("pk").reverse(),
    "annotate": lambda posts: posts.annotate(n=Count("tags")),
    "grouped": lambda posts: posts.values("views").annotate(n=Sum("score")).order_by("views"),
    "alias": lambda posts: posts.alias(n=Count("tags")).filter(n=0),
    "prefetch": lambda posts: posts.filter(views=1).prefetch_related("tags"),
    "join": lambda posts: posts.filter(category__slug="c", author__name="a"),
    "joins": lambda posts: posts.filter(tags__name="a").filter(tags__name="b"),
    "using": lambda posts: posts.using("default").filter(views=1),
    "union": lambda posts: posts.filter(views=1).union(posts.filter(views=2)),
    "or": lambda posts: posts.filter(views=1) | posts.filter(views=2),
    "subquery": lambda posts: posts.filter(pk__in=posts.filter(views=1)),
    "complex": lambda posts: posts.complex_filter({"views": 1}),
    "none": lambda posts: posts.none(),
    "nocache": lambda posts: posts.filter(views=1).nocache(),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("eager", [True, False])
def test_same_rows(name: str, eager: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the steps are taken, the results are those that the database gives."""
    monkeypatch.setattr(lazy, "keep_at_once", eager)
    for views in range(4):
        post(title="x", views=views).tags.add(m.Tag.objects.create(name="a"))

    def rows(queryset: Any) -> list[Any]:
        found = [plain(item) for item in queryset]
        return found if ordered else sorted(found, key=repr)  # PostgreSQL keeps none of its own

    with override_settings(CACHEOPS={}):
        ordered = STEPS[name](m.Post.objects).ordered
        expected = rows(STEPS[name](m.Post.objects))
    for _ in range(4):
        queryset = STEPS[name](m.Post.objects)
        assert rows(queryset) == expected
        again = STEPS[name](m.Post.objects)
        assert again.query is again.query  # has its own from here on
        assert rows(again) == expected


@pytest.mark.parametrize("relation", ["posts", "edited"])
def test_related_managers(relation: str) -> None:
    """The filter of a related manager waits as it does in Django, and finds the same."""
    first = post(title="x", views=1)
    other = m.Author.objects.create(name="b")
    second = m.Post.objects.create(category=first.category, author=other, editor=other)
    for author in (first.author, other, first.author, other) * 2:
        author = m.Author.objects.get(pk=author.pk)
        found = getattr(author, relation)
        posts = [first] if relation == "posts" and author != other else []
        posts += [second] if author == other else []
        assert list(found.all()) == posts
        assert list(found.filter(views=1)) == [one for one in posts if one.views == 1]
        assert found.count() == len(posts)
        for one in found.all():
            with hits() as seen:
                assert getattr(one, "author" if relation == "posts" else "editor") is author
            assert seen == []


def test_related_manager_of_many() -> None:
    """``post.tags``: two filters share the join, three do not."""
    one, other = post(title="x"), post(title="y")
    a, b = (m.Tag.objects.create(name=name) for name in "ab")
    one.tags.set([a, b])
    other.tags.set([b])
    for _ in range(4):
        assert list(one.tags.all()) == [a, b]
        assert list(other.tags.all()) == [b]
        assert list(one.tags.filter(name="b")) == [b]
        assert list(b.posts.filter(tags__name="a")) == []
        assert list(b.posts.order_by("pk").filter(tags__name="a")) == [one]
        assert list(b.posts.filter(tags__name="b").filter(tags__name="a")) == [one]
        assert list(one.tags.exclude(name="b").order_by("-pk")) == [a]


def test_prefetched_managers_still_filter() -> None:
    """A prefetched relation answers ``all()`` from memory, and everything else as ever."""
    one = post(title="x")
    one.tags.set([m.Tag.objects.create(name=name) for name in "ab"])
    for _ in range(3):
        (found,) = m.Post.objects.filter(title="x").prefetch_related("tags")
        with hits() as seen:
            assert [tag.name for tag in found.tags.all()] == ["a", "b"]
        assert seen == []
        assert [tag.name for tag in found.tags.filter(name="b")] == ["b"]
        assert found.tags.count() == 2
        assert [tag.name for tag in found.tags.all().order_by("-name")] == ["b", "a"]


# -- who holds what --------------------------------------------------------------------------------


def test_a_query_that_is_out_is_nobodys() -> None:
    """What is done to ``queryset.query`` stays with this queryset."""
    post(title="x", views=1)
    for _ in range(3):
        queryset = m.Post.objects.filter(views=1)
        assert is_lazy(queryset)
        query = queryset.query
        assert not is_lazy(queryset)
        query.add_q(Q(title="nobody"))
        assert list(queryset) == []
        assert [item.title for item in m.Post.objects.filter(views=1)] == ["x"]


def leaf(query: Any, value: Any) -> Any:
    """The lookup of a query, or of one inside of it, that compares with a value."""
    stack = [query.where]
    while stack:
        node = stack.pop()
        if getattr(node, "rhs", None) == value:
            return node
        stack += getattr(node, "children", ())
        inside = getattr(getattr(node, "lhs", None), "query", None)
        stack += [inside.where] if inside is not None else []
    raise AssertionError(f"nothing is compared with {value!r}")


CHANGED_IN_PLACE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "a value": (
        lambda: m.Post.objects.filter(views__gte=0),
        lambda query: setattr(leaf(query, 0), "rhs", 7),
    ),
    "below a negation": (
        lambda: m.Post.objects.exclude(Q(views__gte=9) | Q(title="y")),
        lambda query: setattr(leaf(query, 9), "rhs", 0),
    ),
    "a list": (
        lambda: m.Post.objects.filter(views__in=[1, 2]),
        lambda query: leaf(query, [1, 2]).rhs.remove(1),
    ),
    "an annotation": (
        lambda: m.Post.objects.annotate(n=Count("tags")).values_list("n", flat=True),
        lambda query: query.annotations["n"].source_expressions.__setitem__(0, Value(1)),
    ),
    "a query inside": (
        lambda: m.Post.objects.exclude(tags__name="x"),
        lambda query: setattr(leaf(query, "x"), "rhs", "a"),
    ),
}


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize(("make", "change"), CHANGED_IN_PLACE.values(), ids=list(CHANGED_IN_PLACE))
def test_a_part_of_a_query_that_is_out_is_nobodys(
    make: Callable[[], Any], change: Callable[[Any], Any], more: bool
) -> None:
    """Nor does a change inside of what the query is made of reach anybody else's."""
    one = post(title="x", views=1)
    one.tags.set([])
    other = post(title="z", views=2)
    other.tags.add(m.Tag.objects.create(name="a"))
    with override_settings(CACHEOPS={}):
        expected = list(make().order_by("pk"))
        changed = make().order_by("pk")
        change(changed.query)
        wrong = list(changed)
    assert wrong != expected
    for _ in range(4):
        mine = make().order_by("pk")
        if more:
            mine = mine.extra()  # no step that is remembered
        change(mine.query)
        assert list(mine) == wrong
        assert list(make().order_by("pk")) == expected


def test_arguments_may_change_later() -> None:
    """A list or an instance that changes after the call changes nothing."""
    one = post(title="x", views=1)
    for _ in range(3):
        views, category = [1], m.Category.objects.get(pk=one.category_id)
        queryset = m.Post.objects.filter(views__in=views, category=category)
        views.append(2)
        category.pk = 0
        condition = Q(views=1)
        other = m.Post.objects.filter(condition)
        condition.add(Q(views=2), Q.AND)
        assert list(queryset) == [one] == list(other)


def test_errors_come_at_the_call() -> None:
    """A wrong filter raises where it is written, each time."""
    for _ in range(3):
        with pytest.raises(FieldError):
            m.Post.objects.filter(nothing=1)
        with pytest.raises(ValueError, match="expected a number"):
            m.Post.objects.filter(views="x")
        with pytest.raises(TypeError):
            m.Post.objects.filter(views=1)[:1].filter(views=2)
        with pytest.raises(TypeError):
            m.Post.objects.values("pk").select_related("author")


def test_lookups_may_change() -> None:
    """A lookup that is registered or taken away holds from the next call on."""

    class Odd(Lookup):
        lookup_name = "odd"

        def as_sql(self, compiler: Any, connection: Any) -> Any:
            left, params = self.process_lhs(compiler, connection)
            return f"{left} = 'x'", params

    one = post(title="x")
    for _ in range(3):
        with register_lookup(CharField, Odd):
            assert list(m.Post.objects.filter(title__odd=1)) == [one]
        with pytest.raises(FieldError):
            m.Post.objects.filter(title__odd=1)


def test_lookups_of_one_field_may_change() -> None:
    """So does one that one field alone is given, also in the place of one that it had."""

    class Upside(Lookup):
        lookup_name = "exact"

        def as_sql(self, compiler: Any, connection: Any) -> Any:
            left, params = self.process_lhs(compiler, connection)
            right, more = self.process_rhs(compiler, connection)
            return f"{left} <> {right}", [*params, *more]

    one, two = post(title="x"), post(title="y")
    field = m.Post._meta.get_field("title")
    for _ in range(3):
        assert list(m.Post.objects.filter(title="x").cache()) == [one]
        assert m.Post.objects.cache().get(title="x") == one
        with register_lookup(field, Upside):
            assert list(m.Post.objects.filter(title="x").cache()) == [two]
            assert m.Post.objects.cache().get(title="x") == two


def test_lookups_may_change_under_a_queryset_that_is_kept() -> None:
    """So it does for calls of a queryset that was made before (``queryset`` of a generic view)."""

    class Upside(Exact):
        def as_sql(self, compiler: Any, connection: Any) -> Any:
            left, params = self.process_lhs(compiler, connection)
            right, more = self.process_rhs(compiler, connection)
            return f"{left} <> {right}", [*params, *more]

    one, two = post(title="x"), post(title="y")
    kept = m.Post.objects.filter(views=0)
    for _ in range(3):
        assert kept.all().cache().get(title="x") == one
    with register_lookup(CharField, Upside):
        assert kept.all().cache().get(title="x") == two
    assert kept.all().cache().get(title="x") == one


def test_instances_that_are_not_saved() -> None:
    """One that is not in the database is refused, whatever other key a relation refers to."""
    lazy.audit.clear()  # it would ask Django
    toy = m.Toy.objects.create(code="a")
    part = m.ToyPart.objects.create(toy=toy)
    for _ in range(3):
        assert list(m.ToyPart.objects.filter(toy=toy)) == [part]
        with pytest.raises(ValueError, match="must be saved"):
            m.ToyPart.objects.filter(toy=m.Toy(code="a"))
    toy.delete()
    for _ in range(3):
        with pytest.raises(ValueError, match="must be saved"):
            m.ToyPart.objects.filter(toy=toy)


@pytest.mark.parametrize("key", [None, (1, None)])
def test_instances_whose_key_lacks_a_part(monkeypatch: pytest.MonkeyPatch, key: Any) -> None:
    """So is one of whose composite key a part is not set."""
    lazy.audit.clear()
    toy = m.Toy.objects.create(code="a")
    for _ in range(3):
        m.ToyPart.objects.filter(toy=toy)
    monkeypatch.setattr(m.Toy, "_get_pk_val", lambda self, meta=None: key)
    with pytest.raises(ValueError, match="must be saved"):
        m.ToyPart.objects.filter(toy=toy)


@pytest.mark.parametrize("value", [datetime.date(2024, 1, 1), "2024-01-01 00:00", "2024-01-01"])
def test_moments_without_a_zone(value: Any) -> None:
    """Django's warning of one comes at every call, so that making it an error finds them all."""
    lazy.audit.clear()  # it would ask Django, who would warn
    reads.audit.clear()
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    one = post(title="x", created=moment)
    asked: list[Callable[[], Any]] = [
        lambda: m.Post.objects.filter(created__gte=value).get(),
        lambda: m.Post.objects.filter(Q(created__range=(value, value)) | Q(views=7)).get(),
        lambda: m.Post.objects.filter(created__in=[value]).get(),
        lambda: m.Post.objects.get(created=value),
        lambda: m.Post.objects.get(created=value, views=0),
        lambda: m.Author.objects.exclude(posts__created__gt=value).get().posts.get(),
    ]
    for _ in range(4):
        for read in asked:
            with pytest.warns(RuntimeWarning, match="naive datetime"):
                assert read() == one
            assert m.Post.objects.filter(created__gte=moment).get() == one
    with override_settings(USE_TZ=False):
        m.Post.objects.filter(created__gte=value)
        assert is_lazy(m.Post.objects.filter(created__gte=value))


def test_copies() -> None:
    """Pickling and copying give querysets that work without what was remembered."""
    one = post(title="x", views=1)
    for _ in range(3):
        queryset = m.Post.objects.filter(views=1)
        assert is_lazy(queryset)
        deep = copy.deepcopy(queryset)
        shallow = copy.copy(m.Post.objects.filter(views=1))
        stored = pickle.dumps(m.Post.objects.filter(views=1))
        lazy.reset()
        query = pickle.dumps(m.Post.objects.filter(views=1).query)
        assert list(deep) == list(shallow) == list(pickle.loads(stored)) == [one]
        fresh = m.Post.objects.all()
        fresh.query = pickle.loads(query)
        assert list(fresh) == [one]


def test_inplace() -> None:
    """A queryset that changes in place does so from the first step on."""
    one = post(title="x", views=1)
    for _ in range(3):
        queryset = m.Post.objects.filter(views=1).inplace()
        assert queryset.filter(title="x") is queryset
        assert queryset.filter(title="y") is queryset
        assert list(queryset) == []
        assert list(m.Post.objects.filter(views=1)) == [one]


def test_a_base_is_used_twice() -> None:
    """Steps from one queryset do not see each other."""
    one, two = post(title="x", views=1), post(title="x", views=2)
    base = m.Post.objects.filter(title="x").order_by("pk")
    for _ in range(3):
        assert list(base.filter(views=1)) == [one]
        assert list(base.filter(views=2)) == [two]
        assert list(base) == [one, two]
        assert base.count() == 2
        base = base.all()


def test_querysets_of_ones_own() -> None:
    """A class that changes what steps are is left to itself; one that adds methods is not."""

    class Adds(QuerySet[Any]):
        def popular(self) -> Any:
            return self.filter(views=1)

        def delete(self) -> Any:
            raise AssertionError

    class Changes(QuerySet[Any]):
        def filter(self, *args: Any, **kwargs: Any) -> Any:
            return super().filter(*args, **kwargs).exclude(title="x")

    def manager(kind: Any) -> Any:
        made = Manager.from_queryset(kind)()
        made.model = m.Post
        return made

    one = post(title="x", views=1)
    for _ in range(3):
        assert is_lazy(manager(Adds).popular())
        assert list(manager(Adds).popular()) == [one]
        assert type(manager(Adds).popular()) is Adds
        assert not is_lazy(manager(Changes).all())
        assert list(manager(Changes).filter(views=1)) == []


class Counts(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made.flag = 5
        return made


class Kept:
    """A data descriptor: keeps what is set elsewhere than ``__dict__`` does."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else instance.__dict__["kept_hints"]

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__["kept_hints"] = value
        instance.__dict__["flag"] = 5


def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
    made = object.__new__(cls)
    made.flag = 5
    return made


def set_all(self: Any, name: str, value: Any) -> None:
    object.__setattr__(self, name, value)
    object.__setattr__(self, "flag", 5)


def get_all(self: Any, name: str) -> Any:
    return 5 if name == "flag" else object.__getattribute__(self, name)


OWN_WAYS: dict[str, Any] = {
    "__new__": type("New", (QuerySet,), {"__new__": new}),
    "__setattr__": type("Sets", (QuerySet,), {"__setattr__": set_all}),
    "__getattribute__": type("Gets", (QuerySet,), {"__getattribute__": get_all}),
    "of its metaclass": Counts("Made", (QuerySet,), {}),
    "descriptor": type("Keeps", (QuerySet,), {"_hints": Kept()}),
    "descriptor of a mixin": type("Mixed", (type("Mixin", (), {"_db": Kept()}), QuerySet), {}),
}


@pytest.mark.parametrize("kind", OWN_WAYS.values(), ids=list(OWN_WAYS))
def test_querysets_that_are_made_in_a_way_of_their_own(kind: Any) -> None:
    """What a class does when a queryset is made, or an attribute is set, is done."""
    one = post(title="x", views=1)
    manager: Any = Manager.from_queryset(kind)()
    manager.model = m.Post
    for _ in range(3):
        assert manager.all().flag == 5
        assert manager.filter(views=1).order_by("title").flag == 5
        assert list(manager.filter(views=1)) == [one]
        assert manager.get(views=1) == one


def test_managers_of_ones_own() -> None:
    """What a manager's ``get_queryset`` adds is a step like any other."""
    m.Note.objects.create(text="a")
    m.Note.objects.create(text="b", deleted=True)
    for _ in range(3):
        assert is_lazy(m.Note.objects.filter(text="a"))
        assert [note.text for note in m.Note.objects.all()] == ["a"]
        assert [note.text for note in m.Note.everything.order_by("text")] == ["a", "b"]


def test_locks_are_never_remembered() -> None:
    """``select_for_update`` is no step, so it is never answered from the cache."""
    from django.db import transaction

    one = post(title="x", views=1)
    for _ in range(3):
        with transaction.atomic(), hits() as seen:
            assert list(m.Post.objects.filter(views=1).select_for_update()) == [one]
        assert seen == []


def test_threads() -> None:
    """Many threads take the same steps."""
    posts = [post(title="x", views=n) for n in range(3)]
    wrong: list[Any] = []

    def work() -> None:
        for n in range(60):
            query = m.Post.objects.filter(views=n % 3).order_by("pk").query
            if f'"views" = {n % 3}' not in str(query).replace("`", '"'):
                wrong.append(str(query))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(posts) == 3


class Watched(dict[str, Any]):
    """The attributes of a queryset, with a call before each look at them that code takes."""

    #: The number of looks until the call, and the call.
    looks = 0
    then: Callable[[], Any] | None = None

    def _look(self) -> None:
        self.looks -= 1
        if self.looks == 0 and self.then is not None:
            self.then()

    def __contains__(self, key: object) -> bool:
        self._look()
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self._look()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._look()
        super().__setitem__(key, value)

    def get(self, key: str, default: Any = None) -> Any:
        self._look()
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self._look()
        return super().pop(key, *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._look()
        return super().setdefault(key, default)


def filters(queryset: Any) -> list[Any]:
    """The conditions of a queryset as another thread finds them, however it asks."""
    node = lazy.node_of(queryset)
    return (queryset.query if node is None else node.query).where.children


LOOKS: dict[str, Callable[[Any], Any]] = {
    "node": lazy.node_of,
    "query": lambda posts: posts.query,
    "copy": lambda posts: posts.all(),
    "step": lambda posts: posts.order_by("pk"),
    "rows": list,
}


@pytest.mark.parametrize("other", LOOKS)
@pytest.mark.parametrize("mine", ["node", "copy", "step"])
@pytest.mark.parametrize("known", [True, False])
def test_threads_share_a_related_manager(mine: str, other: str, known: bool) -> None:
    """At whichever moment another thread asks the same queryset, both see the filter."""
    one = post(title="x").author
    post(title="y", author=m.Author.objects.create(name="b"))
    if known:
        lazy.node_of(one.posts.all())
    for looks in range(1, 30):
        shared = one.posts.all()
        shared.__dict__ = watched = Watched(shared.__dict__)
        seen: list[Any] = []

        def ask(shared: Any = shared, seen: list[Any] = seen) -> None:
            seen.append(LOOKS[other](shared))
            seen.append(filters(shared))

        watched.looks, watched.then = looks, ask
        found = LOOKS[mine](shared)
        if isinstance(found, QuerySet):
            assert len(filters(found)) == 1
        elif found is not None:
            assert len(found.query.where.children) == 1
        if not seen:
            break
        assert len(seen[1]) == 1
        assert len(filters(shared)) == 1
        assert list(shared.all()) == list(one.posts.all())
    assert seen == [] and looks > 3


def test_aggregates() -> None:
    """Aggregates are answered as the database answers them, converted, also of no rows."""
    for views in (1, 2, 3):
        post(title="x", views=views, rating=Decimal("1.50"), day=datetime.date(2024, 1, views))
    calls: list[Callable[[Any], Any]] = [
        lambda posts: posts.aggregate(Sum("views")),
        lambda posts: posts.aggregate(total=Sum("rating"), n=Count("pk"), last=Max("day")),
        lambda posts: posts.aggregate(Avg("views"), Avg("rating")),
        lambda posts: posts.filter(views=9).aggregate(Sum("rating"), n=Count("*")),
        lambda posts: posts.filter(views=9).aggregate(total=Sum("views", default=7)),
        lambda posts: posts.aggregate(n=Count("views", filter=Q(views__gt=1))),
        lambda posts: posts.order_by("pk")[:2].aggregate(Sum("views")),
        lambda posts: posts.annotate(n=Count("tags")).aggregate(Sum("n")),
    ]
    for call in calls:
        with override_settings(CACHEOPS={}):
            expected = call(m.Post.objects)
        for _ in range(4):
            found = call(m.Post.objects)
            assert found == expected
            assert list(map(type, found.values())) == list(map(type, expected.values()))
    m.Post.objects.filter(views=3).delete()
    for call in calls:
        with override_settings(CACHEOPS={}):
            expected = call(m.Post.objects)
        assert call(m.Post.objects) == expected


def test_hits_of_first_and_last() -> None:
    """``first()`` and ``last()`` are found again, ordered or not, and what they find is fresh."""
    posts = [post(title="x", views=views) for views in (2, 1, 3)]
    calls: list[Callable[[Any], Any]] = [
        lambda posts: posts.first(),
        lambda posts: posts.last(),
        lambda posts: posts.filter(title="x").order_by("views").first(),
        lambda posts: posts.filter(title="x").order_by("views").last(),
        lambda posts: posts.filter(title="nobody").first(),
        lambda posts: posts.values("views").order_by("-views").first(),
        lambda posts: posts.values_list("views", flat=True).last(),
        lambda posts: posts.select_related("author").last(),
        lambda posts: posts.prefetch_related("tags").first(),
    ]
    expected = [posts[0], posts[2], posts[1], posts[2], None, {"views": 3}, 3, posts[2], posts[0]]
    for n in range(4):
        with hits() as seen:
            assert [call(m.Post.objects) for call in calls] == expected
        assert len(seen) >= len(calls)
        assert all(seen) == (n > 0)
    m.Post.objects.filter(pk=posts[2].pk).delete()
    expected = [posts[0], posts[1], posts[1], posts[0], None, {"views": 2}, 1, posts[1], posts[0]]
    assert [call(m.Post.objects) for call in calls] == expected
    for _ in range(3):
        assert m.Tag.objects.first() is m.Tag.objects.last() is None
        with pytest.raises(TypeError):
            m.Post.objects.values("views").annotate(n=Count("pk")).first()


def test_hits_of_get() -> None:
    """``get()`` with several conditions is found again, and what it finds is fresh."""
    one = post(title="x", views=1)
    for n in range(4):
        with hits() as seen:
            assert m.Post.objects.get(pk=one.pk, views=1) == one
            assert m.Post.objects.filter(title="x").get(views=1) == one
        assert seen == [n > 0, n > 0]
        for missing in ({"pk": 0, "views": 1}, {"pk": one.pk, "views": 7}):
            with pytest.raises(m.Post.DoesNotExist):
                m.Post.objects.get(**missing)
    m.Post.objects.filter(pk=one.pk).update(views=2)
    with pytest.raises(m.Post.DoesNotExist):
        m.Post.objects.get(pk=one.pk, views=1)
    post(title="x", views=2)
    for _ in range(3):
        with pytest.raises(m.Post.MultipleObjectsReturned):
            m.Post.objects.get(title="x", views=2)
