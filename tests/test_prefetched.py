"""Prefetching many-to-many relations takes the short way, and nobody can tell."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import Prefetch, prefetch_related_objects, query
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, isolate_apps

from cacheops_lite.orm import lazy, prefetched

from . import models as m
from .watching import hits

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


@pytest.fixture
def rows() -> list[m.Post]:
    """Posts with two tags, one and none; people with friends and groups."""
    tags = [m.Tag.objects.create(name=name) for name in ("red", "blue")]
    category = m.Category.objects.create(slug="c", title="c")
    author = m.Author.objects.create(name="a")
    posts = [
        m.Post.objects.create(category=category, author=author, title=str(number))
        for number in range(3)
    ]
    posts[0].tags.set(tags)
    posts[1].tags.set(tags[:1])
    people = [m.Person.objects.create(name=name) for name in ("Ann", "Bob", "Cid")]
    people[0].friends.add(people[1])
    group = m.Group.objects.create(name="g")
    m.Membership.objects.create(group=group, person=people[0])
    return posts


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by each relation that is prefetched the short way."""
    seen: list[Any] = []
    find = prefetched._queryset

    def noted(*args: Any) -> Any:
        seen.append(find(*args))
        return seen[-1]

    monkeypatch.setattr(prefetched, "_queryset", noted)
    return seen


#: What is asked, and the relations to prefetch for it.
PLAIN: dict[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {
    "forward": (lambda: m.Post.objects.order_by("pk"), ("tags",)),
    "backward": (lambda: m.Tag.objects.order_by("pk"), ("posts",)),
    "to itself": (lambda: m.Person.objects.order_by("pk"), ("friends",)),
    "through a model": (lambda: m.Group.objects.order_by("pk"), ("members",)),
    "two": (lambda: m.Person.objects.order_by("pk"), ("friends", "groups")),
    "nested": (lambda: m.Post.objects.order_by("pk"), ("tags__posts",)),
    "a proxy": (lambda: m.PostProxy.objects.order_by("pk"), ("tags",)),
    "deferred": (lambda: m.Post.objects.only("title").order_by("pk"), ("tags",)),
    "behind a foreign key": (lambda: m.Post.objects.order_by("pk"), ("author__posts__tags",)),
    "using": (lambda: m.Post.objects.using("default").order_by("pk"), ("tags",)),
}
OTHERS: dict[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {
    "its own queryset": (
        lambda: m.Post.objects.order_by("pk"),
        (Prefetch("tags", m.Tag.objects.order_by("-name")),),
    ),
    "to an attribute": (lambda: m.Post.objects.order_by("pk"), (Prefetch("tags", to_attr="all"),)),
    "foreign key": (lambda: m.Post.objects.order_by("pk"), ("author",)),
    "rows that refer to it": (lambda: m.Author.objects.order_by("pk"), ("posts",)),
}


def shown(one: Any, depth: int = 0) -> Any:
    """An instance, and all that was prefetched for it: querysets by their attributes."""
    found: dict[str, Any] = {"row": (type(one), one.pk, sorted(one.get_deferred_fields()))}
    for name, queryset in sorted(one.__dict__.get("_prefetched_objects_cache", {}).items()):
        state = {**queryset.__dict__}
        sql = str(queryset._chain().query)
        for unlike in ("_cacheops_node", "_cacheops_filtered", "_query", "_deferred_filter"):
            state.pop(unlike, None)
        results = [shown(row, depth + 1) if depth < 3 else row.pk for row in state["_result_cache"]]
        hints = {key: (type(hint), hint.pk) for key, hint in state.pop("_hints").items()}
        found[name] = {
            **state, "_result_cache": results, "hints": hints, "kind": type(queryset), "sql": sql
        }  # fmt: skip
    return found


def as_django(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(query, "prefetch_one_level", query.prefetch_one_level.__wrapped__)
        return run()


@pytest.mark.parametrize(("ask", "relations"), [*PLAIN.values(), *OTHERS.values()],
                         ids=[*PLAIN, *OTHERS])  # fmt: skip
def test_instances_are_as_django_makes_them(
    rows: Any, ask: Any, relations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attribute by attribute, when the query is built, when it is kept and when it is known."""

    def run() -> Any:
        return [shown(one) for one in ask().prefetch_related(*relations)]

    wanted = as_django(run, monkeypatch)
    for _ in range(4):
        assert run() == wanted


@pytest.mark.parametrize(("ask", "relations"), PLAIN.values(), ids=PLAIN)
def test_plain_relations_take_the_short_way(
    rows: Any, short_ways: list[Any], ask: Any, relations: Any
) -> None:
    """The third time neither a query is built nor the database asked."""
    for _ in range(3):
        short_ways.clear()
        with CaptureQueriesContext(connection) as asked, hits() as seen:
            list(ask().prefetch_related(*relations))
    assert short_ways
    assert all(seen)
    assert len(asked) == 0
    assert "_query" not in short_ways[0].__dict__


@pytest.mark.parametrize(("ask", "relations"), OTHERS.values(), ids=OTHERS)
def test_others_are_left_to_django(
    rows: Any, short_ways: list[Any], ask: Any, relations: Any
) -> None:
    """A queryset of one's own, an attribute, other relations."""
    list(ask().prefetch_related(*relations))
    assert short_ways == []


def test_each_write_is_seen(rows: list[m.Post]) -> None:
    """What is added, removed, renamed or deleted is so in the next prefetch."""

    def names() -> list[list[str]]:
        posts = m.Post.objects.order_by("pk").prefetch_related("tags")
        return [sorted(tag.name for tag in post.tags.all()) for post in posts]

    def same() -> list[list[str]]:
        for _ in range(3):
            found = names()
        return found

    assert same() == [["blue", "red"], ["red"], []]
    rows[2].tags.add(m.Tag.objects.get(name="blue"))
    assert same() == [["blue", "red"], ["red"], ["blue"]]
    m.Tag.objects.filter(name="blue").update(name="green")
    assert same() == [["green", "red"], ["red"], ["green"]]
    rows[0].tags.clear()
    assert same() == [[], ["red"], ["green"]]
    m.Tag.objects.filter(name="red").delete()
    assert same() == [[], [], ["green"]]


def test_what_is_prefetched_can_be_used_on(rows: list[m.Post]) -> None:
    """Filtered, counted, added to, pickled: each instance's queryset is its own."""
    for _ in range(3):
        first, second, third = m.Post.objects.order_by("pk").prefetch_related("tags")
    assert [tag.name for tag in second.tags.filter(name="red")] == ["red"]
    assert not third.tags.filter(name="red").exists()
    assert first.tags.count() == 2
    with CaptureQueriesContext(connection) as asked:
        assert {tag.name for tag in first.tags.all()} == {"red", "blue"}
        assert list(third.tags.all()) == []
    assert len(asked) == 0
    third.tags.add(second.tags.all()[0])
    assert [tag.name for tag in third.tags.all()] == ["red"]
    copy = pickle.loads(pickle.dumps(first.tags.all()))
    assert {tag.name for tag in copy} == {"red", "blue"}
    assert copy.filter(name="red").count() == 1


def test_instances_of_all_sorts(rows: list[m.Post]) -> None:
    """Two times the same, some with tags already, some of another class: as Django does."""
    red = m.Tag.objects.get(name="red")
    for _ in range(3):
        posts = list(m.Post.objects.order_by("pk"))
        prefetch_related_objects(posts[:1], "tags")
        kept = posts[0].tags.all()
        prefetch_related_objects([*posts, *posts, m.PostProxy.objects.get(pk=posts[1].pk)], "tags")
        assert list(kept) == list(posts[0].tags.all())
        assert list(posts[1].tags.all()) == [red]
    with pytest.raises(ValueError, match="primary key|needs to have a value"):
        prefetch_related_objects([m.Post(title="new")], "tags")


def test_more_than_is_remembered(rows: list[m.Post], monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list of keys is prefetched the short way, and its query is not kept."""
    monkeypatch.setattr(lazy, "MOST", 2)
    before = len(lazy._steps.items())
    for _ in range(3):
        found = [
            sorted(tag.name for tag in post.tags.all())
            for post in m.Post.objects.prefetch_related("tags").order_by("pk")
        ]
    assert found == [["blue", "red"], ["red"], []]
    assert not any("prefetch" in key for key, _ in lazy._steps.items()[before:])


@isolate_apps("tests")
def test_managers_of_ones_own() -> None:
    """A default manager that filters, keys of other kinds, inherited relations: left to Django."""

    class Shown(models.Manager[Any]):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(name="red")

    class Colour(models.Model):
        name = models.TextField()
        objects = Shown()

    class Text(models.Model):
        code = models.TextField(primary_key=True)
        colours = models.ManyToManyField(Colour)

    class Box(models.Model):
        colours = models.ManyToManyField(Colour)

    class BigBox(Box):
        pass

    def link(one: Any) -> Any:
        return prefetched._link(one.colours, [one])

    assert link(Box(pk=1)) is None  # of the manager
    Colour._meta.default_manager.__class__.get_queryset = models.Manager.get_queryset
    assert link(Box(pk=1)) is not None  # nothing else was in its way
    assert link(Text(pk="a")) is None
    assert link(BigBox(pk=1, id=1)) is None
