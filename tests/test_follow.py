"""Following a foreign key takes the short way, and nobody can tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from django.db import connection, connections, models, transaction
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from django.db.models.lookups import Exact
from django.db.models.signals import post_init
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, isolate_apps, register_lookup

from cacheops_lite import invalidate_all
from cacheops_lite.orm import lazy, reads

from . import models as m
from .watching import hits, plain

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


def a_post() -> Any:
    category = m.Category.objects.create(slug="c", title="c")
    author = m.Author.objects.create(name="a")
    return m.Post.objects.create(category=category, author=author, title="t")


def a_part() -> Any:
    return m.ToyPart.objects.create(toy=m.Toy.objects.create(code="x"))


#: What makes an object, and the relation of it to follow.
RELATIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "integer key": (a_post, "author"),
    "from a proxy": (lambda: m.PostProxy.objects.get(pk=a_post().pk), "author"),
    "one to one": (lambda: m.Profile.objects.create(author=m.Author.objects.create()), "author"),
    "to_field": (a_part, "toy"),
    "uuid": (lambda: m.TokenUse.objects.create(token=m.Token.objects.create()), "token"),
    "text": (lambda: m.City.objects.create(country=m.Country.objects.create(code="de")), "country"),
    "to itself": (
        lambda: m.Category.objects.create(
            slug="d", parent=m.Category.objects.create(slug="c", title="p")
        ),
        "parent",
    ),
    "deferred": (lambda: m.Post.objects.only("title").get(pk=a_post().pk), "author"),
}


def forgotten(instance: Any) -> Any:
    instance._state.fields_cache.clear()
    return instance


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by each ``get()`` that a queryset makes."""
    reads.audit.clear()  # auditing makes querysets
    seen: list[Any] = []
    spell = lazy.call_key

    def call_key(queryset: Any, *args: Any) -> Any:
        seen.append(queryset)
        return spell(queryset, *args)

    monkeypatch.setattr(lazy, "call_key", call_key)
    return seen


@pytest.mark.parametrize("name", RELATIONS)
def test_the_short_way_is_taken_and_gives_the_same(name: str, long_ways: list[Any]) -> None:
    """From the third time on a relation is followed without a queryset, to an equal instance."""
    make, relation = RELATIONS[name]
    instance = make()
    with override_settings(CACHEOPS_ENABLED=False):
        wanted = getattr(forgotten(instance), relation)
    for _ in range(2):
        getattr(forgotten(instance), relation)
    long_ways.clear()
    with hits() as seen, CaptureQueriesContext(connection) as asked:
        found = getattr(forgotten(instance), relation)
    assert (seen, long_ways, len(asked)) == ([True], [], 0)
    assert type(found) is type(wanted)
    assert plain(found) == plain(wanted)
    assert vars(found._state).keys() == vars(wanted._state).keys()
    assert (found._state.db, found._state.adding) == (wanted._state.db, False)


def test_another_key_of_the_same_relation_is_another_object() -> None:
    """What was learnt of a relation is no answer for another key of it."""
    first = a_post()
    others = [m.Author.objects.create(name=str(n)) for n in range(3)]
    for _ in range(3):
        for other in others:
            first.author_id = other.pk
            assert forgotten(first).author == other
            assert forgotten(first).author.name == other.name


def test_writes_are_seen() -> None:
    """A change of the other side, by any write, is seen by who follows next."""
    post = a_post()
    for change in (
        lambda author: m.Author(pk=author.pk, name="saved").save(),
        lambda author: m.Author.objects.filter(pk=author.pk).update(name="updated"),
        lambda author: connection.cursor().execute("UPDATE tests_author SET name = 'raw'"),
    ):
        for _ in range(3):
            author = forgotten(post).author
        change(author)
        assert forgotten(post).author.name == m.Author.objects.nocache().get(pk=author.pk).name


def test_what_the_transaction_wrote_is_seen() -> None:
    """Inside a transaction that has written the other side the database is asked."""
    post = a_post()
    for _ in range(3):
        author = forgotten(post).author
    with transaction.atomic():
        m.Author.objects.filter(pk=author.pk).update(name="mine")
        assert forgotten(post).author.name == "mine"
        transaction.set_rollback(True)
    assert forgotten(post).author.name == author.name


def test_a_key_without_a_row_raises_what_django_raises() -> None:
    """A dangling key is ``DoesNotExist``, also when that is known from the cache."""
    post = m.Post(author_id=12345)
    for _ in range(4):
        with pytest.raises(m.Author.DoesNotExist, match="matching query does not exist"):
            forgotten(post).author  # noqa: B018
    m.Author.objects.create(pk=12345, name="late")
    assert forgotten(post).author.name == "late"


@isolate_apps("tests")
def test_methods_of_ones_own_are_called() -> None:
    """A base manager, a field or a descriptor with methods of its own goes Django's way."""

    class Hiding(models.Manager):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(name__startswith="a")

    class OwnAuthor(models.Model):
        name = models.CharField(max_length=50)
        objects = Hiding()

        class Meta:
            base_manager_name = "objects"
            db_table = "tests_author"

    class Descriptor(ForwardManyToOneDescriptor):
        def get_queryset(self, *, instance: Any) -> Any:
            return super().get_queryset(instance=instance).filter(name__startswith="b")

    class Field(models.ForeignKey):
        forward_related_accessor_class = Descriptor

    class Filtering(models.ForeignKey):
        def get_extra_descriptor_filter(self, instance: Any) -> Any:
            return {"name__startswith": "b"}

    class OwnPost(models.Model):
        author = models.ForeignKey(OwnAuthor, models.DO_NOTHING, related_name="+")
        by_descriptor = Field(m.Author, models.DO_NOTHING, related_name="+")
        by_filter = Filtering(m.Author, models.DO_NOTHING, related_name="+")

    b = m.Author.objects.create(name="b")
    a = m.Author.objects.create(name="a")
    post = OwnPost(author_id=a.pk, by_descriptor_id=b.pk, by_filter_id=b.pk)
    other = OwnPost(author_id=b.pk, by_descriptor_id=a.pk, by_filter_id=a.pk)
    for _ in range(4):
        assert forgotten(post).author.name == "a"
        assert forgotten(post).by_descriptor == forgotten(post).by_filter == b
        for name in ("author", "by_descriptor", "by_filter"):
            with pytest.raises((m.Author.DoesNotExist, OwnAuthor.DoesNotExist)):
                getattr(forgotten(other), name)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_router_is_asked_each_time() -> None:
    """A router decides with the instance as a hint, and the object knows its database."""
    post = a_post()
    told: list[Any] = []

    class Router:
        def db_for_read(self, model: Any, **hints: Any) -> Any:
            told.append(hints.get("instance"))
            return "other" if hints.get("instance") is post and away else None

        def allow_relation(self, *args: Any, **hints: Any) -> bool:
            return True

    away = False
    author = m.Author.objects.get(pk=post.author_id)
    m.Author(pk=author.pk, name="elsewhere").save(using="other")
    with override_settings(DATABASE_ROUTERS=[Router()]):
        for away in (False, True) * 3:
            told.clear()
            found = forgotten(post).author
            assert post in told
            assert found._state.db == ("other" if away else "default")
            assert found.name == ("elsewhere" if away else "a")


def test_listeners_of_new_instances_hear_of_it() -> None:
    """``post_init`` is sent for what is followed, by the short way too."""
    post = a_post()
    for _ in range(3):
        forgotten(post).author  # noqa: B018
    heard: list[Any] = []

    def listen(sender: Any, instance: Any, **kwargs: Any) -> None:
        heard.append(instance)

    post_init.connect(listen, sender=m.Author)
    try:
        author = forgotten(post).author
    finally:
        post_init.disconnect(listen, sender=m.Author)
    assert heard == [author]


def test_ops_and_the_switch_are_obeyed() -> None:
    """Where ``get`` is not cached, or nothing is, the database is asked."""
    post = a_post()
    for changed in (
        {"CACHEOPS": {"*.*": {"ops": {"fetch"}, "timeout": 60}}},
        {"CACHEOPS": {}},
        {"CACHEOPS_ENABLED": False},
    ):
        for _ in range(3):
            forgotten(post).author  # noqa: B018
        with override_settings(**changed), CaptureQueriesContext(connection) as asked:
            for _ in range(3):
                forgotten(post).author  # noqa: B018
        assert len(asked) == 3


def test_it_is_the_entry_of_get() -> None:
    """``author`` and ``objects.get(pk=…)``-like reads of the base manager share an entry."""
    post = a_post()
    m.Author._base_manager.get(id=post.author_id)
    with hits() as seen:
        forgotten(post).author  # noqa: B018
    assert seen == [True]


def test_invalidating_by_hand_reaches_it() -> None:
    """After ``invalidate_all()`` the database is asked again."""
    post = a_post()
    for _ in range(3):
        forgotten(post).author  # noqa: B018
    invalidate_all()
    with hits() as seen:
        forgotten(post).author  # noqa: B018
    assert seen == [False]


def test_threads_learn_at_once() -> None:
    """Many threads that follow one relation for the first time all get the right object."""
    posts = [a_post() for _ in range(1)]
    posts += [
        m.Post.objects.create(
            category=posts[0].category, author=m.Author.objects.create(name=str(n)), title="t"
        )
        for n in range(7)
    ]
    wrong: list[Any] = []
    gate = threading.Barrier(len(posts))

    def work(post: Any) -> None:
        try:
            gate.wait()
            for _ in range(20):
                if forgotten(post).author.pk != post.author_id:
                    wrong.append(post)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(post,)) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(django.VERSION < (6, 1), reason="fetch modes came with Django 6.1")
def test_fetch_modes_are_kept() -> None:
    """What is followed has the fetch mode of where it was followed from."""
    from django.db.models.fetch_modes import FETCH_ONE, FETCH_PEERS, FETCH_RAISE

    post = a_post()
    comment = m.Category.objects.create(slug="x", parent=m.Category.objects.first())
    for mode in (FETCH_ONE, FETCH_PEERS) * 3:
        same = m.Post.objects.fetch_mode(mode).get(pk=post.pk)
        assert forgotten(same).author._state.fetch_mode is mode
        assert forgotten(same).author == post.author
    comment._state.fetch_mode = FETCH_RAISE
    with pytest.raises(Exception, match="Fetching of"):
        forgotten(comment).parent  # noqa: B018


def test_another_lookup_is_another_query() -> None:
    """An ``exact`` that is registered later decides from then on."""
    post = a_post()
    after = m.Author.objects.create(pk=post.author_id + 1, name="after")

    class Next(Exact):
        def get_prep_lookup(self) -> Any:
            return super().get_prep_lookup() + 1

    for _ in range(3):
        assert forgotten(post).author.name == "a"
    with register_lookup(type(m.Author._meta.pk), Next):
        for _ in range(3):
            assert forgotten(post).author == after
    assert forgotten(post).author.name == "a"
