"""Policies: results that hang on the objects of which a predicate says yes."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test import override_settings

from cacheops_lite import cached_as, invalidate_obj, on_change
from cacheops_lite.orm import predicates

from .models import Author, Category, Place, Post, Restaurant
from .test_functions import category, counting
from .watching import Read, assert_hit, prime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def is_hot(post: Post) -> bool:
    return post.views > 10 and not post.title.startswith("spam")


@pytest.fixture
def function() -> Any:
    return counting(cached_as(on_change(Post, when=is_hot)))


def make(**values: Any) -> Post:
    if "category" not in values:
        values["category"] = category()
    return Post.objects.create(author=Author.objects.create(), **values)


def drops(function: Callable[[], int], write: Callable[[], Any]) -> bool:
    """Whether a write drops the result of a function that is cached before."""
    for _ in range(3):  # the first write after a new scheme came into use may be coarse
        before = function()
        if function() == before:
            break
    else:
        raise AssertionError("it does not get cached")
    write()
    return function() != before


def test_any_change() -> None:
    """Without a predicate every change of the models counts."""
    function = counting(cached_as(on_change(Category, Author)))
    assert drops(function, category)
    assert drops(function, Author.objects.create)
    assert drops(function, lambda: Author.objects.update(name="x"))


def test_objects_one_by_one(function: Any) -> None:
    """A created, saved or deleted object counts if the predicate takes it, before or after."""
    cold, hot = make(views=1), make(views=11)
    assert not drops(function, lambda: make(views=2))
    assert drops(function, lambda: make(views=12))
    assert not drops(function, cold.save)
    assert drops(function, hot.save)
    cold.views = 20
    assert drops(function, cold.save)
    cold.views = 5
    assert drops(function, cold.save)
    assert not drops(function, cold.save)
    assert not drops(function, cold.delete)
    assert drops(function, hot.delete)


def test_many_objects(function: Any) -> None:
    """Updates and deletions by query, and bulk methods, ask about the rows that they touch."""
    cold, hot = make(views=1), make(views=11)
    posts = Post.objects.all()
    assert not drops(function, lambda: posts.filter(pk=cold.pk).update(text="x"))
    assert drops(function, lambda: posts.filter(pk=hot.pk).update(text="x"))
    assert drops(function, lambda: posts.update(text="y"))
    assert not drops(function, lambda: posts.filter(pk=cold.pk).update(views=F("views") + 1))
    assert drops(function, lambda: posts.filter(pk=cold.pk).update(views=F("views") + 10))
    cold.views = 1
    assert drops(function, lambda: posts.bulk_update([cold], ["views"]))
    assert not drops(function, lambda: posts.bulk_update([cold], ["text"]))
    assert not drops(function, lambda: posts.filter(pk=cold.pk).delete())
    assert drops(function, lambda: posts.filter(pk=hot.pk).delete())
    rows = [Post(category=category(), author=Author.objects.create(), views=n) for n in (1, 2)]
    if connection.features.can_return_rows_from_bulk_insert:
        assert not drops(function, lambda: posts.bulk_create(rows))
    else:
        posts.bulk_create(rows)  # the database does not tell the keys: counted as a yes
    rows = [Post(category=category(), author=Author.objects.create(), views=n) for n in (3, 30)]
    assert drops(function, lambda: posts.bulk_create(rows))


def test_the_database_is_asked_not_the_instance(function: Any) -> None:
    """What an instance holds but does not save, or holds no more, misleads nobody."""
    post = make(views=11, title="spam")
    Post.objects.filter(pk=post.pk).update(title="good")  # behind the instance's back
    assert drops(function, post.delete)
    post = make(views=1, title="good")
    post.views, post.title = 11, "spam"
    assert drops(function, lambda: post.save(update_fields=["views"]))
    post = Post.objects.nocache().get(pk=post.pk)
    post.views = 0
    assert drops(function, post.save)


def test_cascades(function: Any) -> None:
    """Rows that go with others are asked about as well."""
    cold, hot = make(views=1), make(views=11)
    assert not drops(function, cold.category.delete)
    assert drops(function, hot.category.delete)


def test_writes_that_have_no_object(
    function: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw SQL, too many rows and objects given by hand count as a yes."""
    post = make(views=1)

    def raw() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tests_post SET text = 'x'")

    assert drops(function, raw)
    assert drops(function, lambda: invalidate_obj(post))
    make(views=2)
    with override_settings(CACHEOPS_LOOKUP_LIMIT=1):
        assert drops(function, lambda: Post.objects.update(text="z"))


def test_objects_by_hand_drop_no_other_results(function: Any) -> None:
    """`invalidate_obj` drops the policies of the table, and else what its row may belong to."""
    post = make(views=1)
    other = Read(lambda: Post.objects.filter(views=7))
    function()
    prime(other)
    assert drops(function, lambda: invalidate_obj(post))
    assert_hit(other)


def test_processes_without_the_predicate(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not imported the predicate cannot ask it, so its writes drop the whole table."""
    post = make(views=1)

    def elsewhere() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(predicates, "_known", {})
            post.save()

    assert drops(function, elsewhere)


def test_predicates_that_fail(function: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a predicate is logged, counts as a yes, and does not disturb the write."""

    def broken(post: Post) -> bool:
        return post.views / 0 > 1

    function = counting(cached_as(on_change(Post, when=broken)))
    with caplog.at_level(logging.ERROR, logger="cacheops_lite"):
        assert drops(function, make)
    assert "counts as a yes" in caplog.text


def test_several_policies() -> None:
    """Each function hangs on its own predicate, and closures are told apart by what they hold."""

    def above(limit: int) -> Any:
        return counting(
            cached_as(on_change(Post, when=lambda post: post.views > limit), extra=limit)
        )

    low, high = above(10), above(100)
    post = make(views=1)
    assert not drops(low, post.save)
    assert not drops(high, post.save)
    post.views = 50
    high_before = high()
    assert drops(low, post.save)
    assert high() == high_before
    post.views = 500
    assert drops(high, post.save)


def test_beside_conjunctions() -> None:
    """A policy is one sample among others: rows of queries, models and policies together."""
    function = counting(
        cached_as(on_change(Post, when=is_hot), Post.objects.filter(views=3), Category)
    )
    post = make(views=1)
    assert not drops(function, post.save)
    post.views = 3
    assert drops(function, post.save)
    post.views = 12
    assert drops(function, post.save)
    assert drops(function, category)


def test_models_with_parents() -> None:
    """A predicate on a child is asked about its own table; any row of its parents' counts."""
    function = counting(cached_as(on_change(Restaurant, when=lambda place: place.stars > 2)))
    place = Restaurant.objects.create(name="a", stars=1)
    assert not drops(function, lambda: Restaurant.objects.filter(pk=place.pk).update(stars=2))
    assert drops(function, lambda: Restaurant.objects.filter(pk=place.pk).update(stars=3))
    assert drops(function, lambda: Place.objects.filter(pk=place.pk).update(name="b"))
    on_parent = counting(cached_as(on_change(Place, when=lambda place: place.name == "x")))
    assert not drops(on_parent, place.save)
    place.name = "x"
    assert drops(on_parent, place.save)


def test_predicates_may_look_at_everything_of_the_object() -> None:
    """Columns that no result hangs on otherwise are there too: texts, dates, decimals."""
    function = counting(
        cached_as(on_change(Post, when=lambda post: "word" in post.text and post.rating is None))
    )
    post = make(text="a word")
    assert drops(function, post.save)
    post.text = ""
    assert drops(function, post.save)
    assert not drops(function, post.save)


def test_transactions(function: Any) -> None:
    """The result is dropped at the commit, and by a rollback not at all."""
    post = make(views=11)
    before = function()
    assert function() == before
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        post.save()
        1 / 0  # noqa: B018
    assert function() == before
    with transaction.atomic():
        post.save()
        seen: list[int] = []

        def look() -> None:
            seen.append(function())
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert seen == [before]
    assert function() == before + 1


def test_names_are_equal_in_every_process_and_differ_with_the_code() -> None:
    """The same code has one name wherever it runs; another body, default or closure another."""
    source = (
        "def f(post, low={low}): return post.views > low and post.title in {{'a', 'b', {what}}}"
    )

    def column(**values: str) -> str | None:
        space: dict[str, Any] = {"__name__": "somewhere"}
        exec(source.format(**values), space)
        return on_change(Post, when=space["f"])[0].column

    assert column(low="1", what="'c'") == column(low="1", what="'c'")
    assert len({column(low="1", what="'c'"), column(low="2", what="'c'"), column(low="1", what="3")}) == 3  # fmt: skip


class Opaque:
    pass


def _closing_over(value: Any) -> Callable[[Any], bool]:
    return lambda post: post is value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda: on_change(), "one model at least"),
        (lambda: on_change("tests.Post"), "takes models"),
        (lambda: on_change(Post.objects.all()), "takes models"),
        (lambda: on_change(Post, when=True), "plain function"),
        (lambda: on_change(Post, when=functools.partial(is_hot)), "plain function"),
        (lambda: on_change(Post, when=_closing_over(Opaque())), "cannot be a predicate"),
    ],
)
def test_what_is_no_policy(arguments: Any, message: str) -> None:
    """Whatever cannot be asked in another process is refused where it is written."""
    with pytest.raises(TypeError, match=message):
        arguments()


async def _async_predicate(post: Any) -> bool:
    return True


def test_coroutine_functions_are_no_predicates() -> None:
    """A write cannot wait for an event loop."""
    with pytest.raises(TypeError, match="plain function"):
        on_change(Post, when=_async_predicate)
