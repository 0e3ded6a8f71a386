"""Why was this not cached, what would drop it: answered for any queryset."""

from __future__ import annotations

import logging
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Count
from django.db.models.functions import Now
from django.test import override_settings

from cacheops_lite.orm import conditions, planning

from . import models as m

pytestmark = [pytest.mark.django_db(transaction=True)]


def test_dependencies_and_state() -> None:
    """It names the key, what the result depends on, whether it is stored and for how long."""
    posts = m.Post.objects.filter(category=3, views__gt=100).cache(timeout=50)
    before = posts.cache_explain()
    assert before.cacheable and not before.cached and before.miss == "absent"
    assert before.dependencies == {"tests_post": ((("category_id", "3"), ("views>100", "1")),)}
    list(posts)
    after = posts.all().cache_explain()
    assert after.cached and after.ttl is not None and 0 < after.ttl <= 50
    assert after.key == before.key
    assert "category_id=3 and views>100=1" in after.dropped_by()[0]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: m.Post.objects.all(), "op 'fetch' is not in the profile's ops"),
        (lambda: m.Post.objects.cache().nocache(), "nocache"),
        (lambda: m.Post.objects.cache(ops="count"), "was not chosen"),
        (lambda: m.Post.objects.cache().none(), "empty"),
        (lambda: m.Post.objects.cache().order_by("?"), "random"),
        (lambda: m.Post.objects.cache().filter(created__lt=Now()), "now"),
        (lambda: m.Post.objects.cache().select_for_update(), "select_for_update"),
        (lambda: m.Post.objects.cache().extra(where=["1=1"]), "raw sql"),
    ],
)
def test_reasons(make: Any, why: str) -> None:
    """Whatever is not cached says why."""
    told = make().cache_explain()
    assert not told.cacheable
    assert why in told.reason.lower()


def test_an_analysis_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of ours is logged once, and the query is answered by the database."""

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(conditions, "analyse", broken)
    tags = m.Tag.objects.filter(name="x").cache()
    with pytest.raises(ZeroDivisionError):
        list(tags.all())  # the suite is told
    monkeypatch.setattr(planning, "audit", [])
    m.Tag.objects.create(name="x")
    for number in range(1, 4):
        assert len(tags.all()) == tags.count() == number
        assert tags.aggregate(n=Count("pk")) == {"n": number}
        assert tags.exists()
        assert tags.order_by("pk")[:1].get().name == "x"
        assert "ZeroDivisionError" in tags.cache_explain().reason
        m.Tag.objects.create(name="x")
    (record,) = [one for one in caplog.records if "could not be analysed" in one.message]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError
    monkeypatch.undo()
    assert tags.all().cache_explain().cacheable


def test_reason_in_a_transaction() -> None:
    """A table that the transaction has written is the reason as long as it lasts."""
    posts = m.Tag.objects.cache()
    with transaction.atomic():
        m.Tag.objects.create(name="x")
        assert "transaction" in posts.cache_explain().reason
    assert posts.cache_explain().cacheable


@override_settings(CACHEOPS={"tests.post": None, "tests.postproxy": None, "*.*": {"timeout": 5}})
def test_untracked_table() -> None:
    """A query that joins a table whose profile is None is not cached, and says which table."""
    told = m.Comment.objects.filter(content_type__isnull=False).cache().cache_explain()
    assert told.cacheable
    told = m.Category.objects.filter(posts__title="x").cache().cache_explain()
    assert "tests_post" in told.reason


def test_command() -> None:
    """The command explains an expression, and says what is wrong with one that is none."""
    out = StringIO()
    call_command("cacheops", "explain", "Post.objects.filter(title='x').cache()", stdout=out)
    assert "dropped by a write of a row of tests_post with title=x" in out.getvalue()
    with pytest.raises(CommandError, match="NameError"):
        call_command("cacheops", "explain", "Nothing.objects.all()")
    with pytest.raises(CommandError, match="not a queryset"):
        call_command("cacheops", "explain", "1 + 1")


def test_every_line_of_the_text() -> None:
    """Cacheable, key, state, timeout and rest of it, dependencies as writes, what was widened."""
    author = m.Author.objects.create(name="x")
    category = m.Category.objects.create(title="x", slug="x")
    m.Post.objects.create(author=author, category=category, title="x")
    posts = m.Post.objects.filter(category=category, text__contains="").select_related("author")
    list(posts.cache(timeout=50))
    told = posts.cache(timeout=50).cache_explain()
    lines = str(told).splitlines()
    assert lines[0] == "tests.Post.fetch: cacheable"
    assert lines[1].split() == ["key", told.key.decode()]
    assert lines[2].startswith("  cached   yes, timeout 50 s, ") and lines[2].endswith(" s left")
    assert lines[3:] == [
        f"  dropped by a write of a row of tests_post with category_id={category.pk}, "
        "before or after it",
        "  dropped by a write of a row of tests_author that the result shows or joins, found by id",
        "  widened  tests_post: text__contains: this lookup is not understood",
    ]
    m.Tag.objects.create(name="x")
    assert posts.cache(timeout=50).cache_explain().cached
    m.Post.objects.filter(category=category).update(views=1)
    assert str(posts.cache(timeout=50).cache_explain()).splitlines()[2] == (
        "  cached   no (stamp), timeout 50 s"
    )
    assert "empty result" in str(posts.cache(timeout=50).none().cache_explain()).splitlines()[0]


@pytest.mark.parametrize("write", ["the row", "a joined row", "another row"])
def test_the_writes_it_names_drop_it_and_no_others(write: str) -> None:
    """What ``dropped_by()`` says is what happens."""
    author, other = (m.Author.objects.create(name=name) for name in "ab")
    category = m.Category.objects.create(title="x", slug="x")
    post = m.Post.objects.create(author=author, category=category, title="x")
    posts = m.Post.objects.filter(title="x").select_related("author")
    list(posts.cache(timeout=50))
    assert posts.cache(timeout=50).cache_explain().cached
    {"the row": post, "a joined row": author, "another row": other}[write].save()
    assert posts.cache(timeout=50).cache_explain().cached is (write == "another row")
