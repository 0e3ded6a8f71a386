"""``cache_read`` and ``cache_invalidated``: what they say, when, and what they do not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from cacheops_lite import invalidate_all, invalidate_model, invalidate_obj, no_invalidation
from cacheops_lite.signals import cache_invalidated, cache_read
from tests import models as m

from .tools import ALL, listening, post, savepoint

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def automatic(settings: Any) -> None:
    settings.CACHEOPS = ALL


READS: dict[str, Callable[[], Any]] = {
    "get": lambda: m.Post.objects.get(title="a post"),
    "get by key": lambda: m.Post.objects.get(pk=m.Post.objects.nocache().get().pk),
    "fetch": lambda: list(m.Post.objects.all()),
    "count": lambda: m.Post.objects.count(),
    "exists": lambda: m.Post.objects.exists(),
    "aggregate": lambda: m.Post.objects.aggregate(Sum("views")),
    "first": lambda: m.Post.objects.first(),
    "values": lambda: list(m.Post.objects.values()),
}


@pytest.mark.parametrize("name", READS)
def test_cache_read_tells_hit_and_miss(name: str) -> None:
    """Each cached read sends one signal: the model, no function, and whether it was a hit."""
    post()
    for hit in (False, True, True):
        with listening(cache_read) as heard:
            READS[name]()
        assert heard == [{"sender": m.Post, "func": None, "hit": hit}]


def test_cache_read_is_silent_about_uncached_reads(settings: Any) -> None:
    """What does not go through the cache sends nothing."""
    settings.CACHEOPS = {"tests.post": {"timeout": 60}}
    post()
    with listening(cache_read) as heard:
        for read in READS.values():
            read()
        list(m.Post.objects.cache().iterator())
        with transaction.atomic():
            post("b")
            list(m.Post.objects.cache())
    assert heard == []


def test_a_receiver_may_listen_to_one_model() -> None:
    """Receivers can be connected for one sender."""
    heard: list[Any] = []

    def receiver(sender: Any, **kwargs: Any) -> None:
        heard.append(sender)

    cache_read.connect(receiver, sender=m.Tag)
    try:
        list(m.Post.objects.all())
        list(m.Tag.objects.all())
    finally:
        cache_read.disconnect(receiver, sender=m.Tag)
    assert heard == [m.Tag]


def told(heard: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(one["sender"], (one["obj_dict"] or {}).get("title")) for one in heard]


def test_cache_invalidated_tells_of_saved_and_deleted_objects() -> None:
    """Saving or deleting an object sends its model and its values, once."""
    one = post()
    with listening(cache_invalidated) as heard:
        post("new", author=one.author, category=one.category)
        one.title = "changed"
        one.save()
        one.save(update_fields=["title"])
    assert told(heard) == [(m.Post, "new"), (m.Post, "changed"), (m.Post, "changed")]
    assert heard[-1]["obj_dict"]["author_id"] == one.author_id
    assert heard[-1]["obj_dict"]["id"] == one.pk
    assert all(not name.startswith("_") for each in heard for name in each["obj_dict"])
    with listening(cache_invalidated) as heard:
        one.delete()
    assert m.Post in {sender for sender, _ in told(heard)}


def test_cache_invalidated_tells_of_writes_of_querysets() -> None:
    """``update()``, ``delete()`` and ``bulk_create()`` send the model."""
    one = post()
    for write in (
        lambda: m.Post.objects.update(views=1),
        lambda: m.Post.objects.bulk_create(
            m.Post(title=title, author=one.author, category=one.category) for title in "ab"
        ),
        lambda: m.Post.objects.filter(title__in="ab").delete(),
    ):
        with listening(cache_invalidated) as heard:
            write()
        assert m.Post in {sender for sender, _ in told(heard)}


def test_cache_invalidated_tells_of_many_to_many() -> None:
    """Adding to a many-to-many relation sends its through model."""
    one, tag = post(), m.Tag.objects.create(name="red")
    with listening(cache_invalidated) as heard:
        one.tags.add(tag)
    assert m.Post.tags.through in {sender for sender, _ in told(heard)}


def test_cache_invalidated_tells_of_invalidation_by_hand() -> None:
    """``invalidate_obj`` sends values, ``invalidate_model`` the model alone, ``invalidate_all`` none."""
    one = post()
    with listening(cache_invalidated) as heard:
        invalidate_obj(one)
        invalidate_model(m.Tag)
        invalidate_all()
    assert told(heard) == [(m.Post, "a post"), (m.Tag, None), (None, None)]


def test_cache_invalidated_comes_after_the_commit() -> None:
    """In a transaction the signals come when it has committed, in order, and not before."""
    one = post()
    with listening(cache_invalidated) as heard:
        with transaction.atomic():
            one.title = "first"
            one.save()
            with transaction.atomic():
                one.title = "second"
                one.save()
            invalidate_model(m.Tag)
            assert heard == []
        assert told(heard) == [(m.Post, "first"), (m.Post, "second"), (m.Tag, None)]


def test_a_receiver_reads_the_new() -> None:
    """A read in a receiver of ``cache_invalidated`` sees what was committed."""
    one = post()
    read = lambda: m.Post.objects.get(pk=one.pk).title  # noqa: E731
    assert [read(), read()] == ["a post"] * 2
    seen: list[str] = []

    def receiver(**kwargs: Any) -> None:
        seen.append(read())

    cache_invalidated.connect(receiver)
    try:
        m.Post.objects.update(title="new")
    finally:
        cache_invalidated.disconnect(receiver)
    assert seen == ["new"]


def test_a_receiver_that_fails_fails_no_commit() -> None:
    """The commit has happened: an error in a receiver does not make it look failed."""

    def receiver(**kwargs: Any) -> None:
        raise ZeroDivisionError

    done: list[int] = []
    cache_invalidated.connect(receiver)
    try:
        with transaction.atomic():
            post()
            transaction.on_commit(lambda: done.append(1))
    finally:
        cache_invalidated.disconnect(receiver)
    assert m.Post.objects.nocache().count() == 1
    assert done == [1]


def test_what_did_not_happen_is_not_told() -> None:
    """Neither a rollback, nor a savepoint's rollback, nor a muted write, nor an unchanged table."""
    one = post()
    with listening(cache_invalidated) as heard:
        with transaction.atomic():
            one.save()
            transaction.set_rollback(True)
        assert heard == [], "rollback"
        with transaction.atomic():
            m.Tag.objects.create(name="kept")
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                one.save()
                raise ZeroDivisionError
            sid = savepoint()
            one.save()
            transaction.savepoint_rollback(sid)
        assert {sender for sender, _ in told(heard)} == {m.Tag}, "savepoint"
        heard.clear()
        with transaction.atomic():
            m.Tag.objects.create(name="also")
            with no_invalidation:
                one.save()
        assert {sender for sender, _ in told(heard)} == {m.Tag}, "muted in a transaction"
        heard.clear()
        with no_invalidation:
            one.save()
        assert heard == [], "muted"
        m.Post.objects.filter(pk=0).update(views=1)
        m.Post.objects.filter(pk=0).delete()
        assert heard == [], "no row"


def test_raw_sql_is_told(settings: Any) -> None:
    """A raw write sends the models of the tables that it names, as whole tables."""
    post()
    with listening(cache_invalidated) as heard:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tests_post SET views = 5")
    assert (m.Post, None) in told(heard)
