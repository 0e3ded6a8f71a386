"""PostgreSQL: the old row comes back with the UPDATE.

That it is the row which was replaced, whoever else writes, is shown in test_races.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F, OuterRef, Subquery
from django.db.models.expressions import RawSQL
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from cacheops_lite.orm import update_returning

from . import models as m
from .watching import Read, assert_dropped, assert_hit, prime

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(django_settings.TEST_DB != "postgres", reason="needs postgresql"),
]


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


@pytest.fixture
def post() -> Any:
    category = m.Category.objects.create(slug="c", title="c")
    author = m.Author.objects.create(name="a")
    return m.Post.objects.create(category=category, author=author, title="t", views=1)


def viewed(views: int) -> Read:
    return Read(lambda: m.Post.objects.filter(views=views))


@pytest.fixture
def reads(post: Any) -> list[Read]:
    """Results of posts with 1, 2 and 3 views, all cached."""
    found = [viewed(views) for views in (1, 2, 3)]
    prime(*found)
    return found


def statements(run: Any) -> list[str]:
    with CaptureQueriesContext(connection) as asked:
        run()
    return [one["sql"] for one in asked if not one["sql"].startswith(("BEGIN", "COMMIT"))]


def test_one_statement(post: Any, reads: list[Read]) -> None:
    """``save()`` and ``update()`` of one row are one statement, and drop its old and new results."""
    post.views = 2
    (sql,) = statements(post.save)
    assert sql.startswith("UPDATE")
    assert "RETURNING" in sql
    assert_dropped(reads[0])
    assert_dropped(reads[1])
    assert_hit(reads[2])
    assert len(statements(lambda: m.Post.objects.filter(pk=post.pk).update(views=3))) == 1
    assert_dropped(reads[1])
    assert_dropped(reads[2])
    assert_hit(reads[0])


def test_expressions_may_use_any_name(post: Any, reads: list[Read]) -> None:
    """What is assigned may be raw SQL, an expression or a subquery."""
    rows = m.Post.objects.filter(pk=post.pk)
    rows.update(views=RawSQL("views + %s", (1,)))
    assert_dropped(reads[1])
    rows.update(views=F("views") + 1)
    assert_dropped(reads[2])
    views = m.Post.objects.filter(pk=OuterRef("pk")).annotate(n=F("views") - 2).values("n")
    rows.update(views=Subquery(views))
    assert m.Post.objects.nocache().get().views == 1
    assert_dropped(reads[0])


def test_a_row_that_is_not_there(post: Any, reads: list[Read]) -> None:
    """Nothing is updated, nothing dropped; ``save()`` inserts then."""
    assert m.Post.objects.filter(pk=post.pk + 1).update(views=2) == 0
    for read in reads:
        assert_hit(read)
    m.Post(pk=post.pk + 1, category=post.category, author=post.author, views=2).save()
    assert_dropped(reads[1])
    assert_hit(reads[2])


def test_rules_and_views_are_updated_as_ever(post: Any, reads: list[Read]) -> None:
    """What a rule rewrites cannot return rows: there the old row is read before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE RULE twice AS ON UPDATE TO tests_post WHERE NEW.views = 99 DO INSTEAD"
            " UPDATE tests_author SET name = 'ninety-nine'"
        )
    try:
        m.Post.objects.filter(pk=post.pk).update(views=2)
        assert_dropped(reads[0])
        assert_dropped(reads[1])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP RULE twice ON tests_post")
    assert len(statements(lambda: m.Post.objects.filter(pk=post.pk).update(views=3))) == 1


def test_tables_are_asked_about_again(post: Any, reads: list[Read]) -> None:
    """Which tables are plain is asked once, and again when the tables have changed."""
    m.Post.objects.filter(pk=post.pk).update(views=2)
    known = dict(update_returning._plain.known)
    assert any("tests_post" in names for names in known.values())
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE another (id integer)")
        cursor.execute("DROP TABLE another")
    assert not update_returning._plain.known
    m.Post.objects.filter(pk=post.pk).update(views=3)
    assert update_returning._plain.known == known


def test_wrappers_of_others(post: Any, reads: list[Read]) -> None:
    """Who puts a comment on statements, or writes them anew, loses no invalidation."""

    def comment(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(f"{sql} /* a comment */", params, many, context)

    def rewrite(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(sql.replace("UPDATE", "update", 1), params, many, context)

    for views, wrapper in ((2, comment), (3, rewrite)):
        with connection.execute_wrapper(wrapper):
            assert m.Post.objects.filter(pk=post.pk).update(views=views) == 1
        assert_dropped(reads[views - 2])
        assert_dropped(reads[views - 1])


def test_a_value_without_a_form_in_python(post: Any) -> None:
    """A row whose old value Python cannot hold is updated all the same, and drops the table."""
    read = Read(lambda: m.Post.objects.filter(day="2024-01-01").values("pk"))
    other = viewed(7)
    prime(read, other)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_post SET day = 'infinity'")
    prime(read, other)
    m.Post.objects.filter(pk=post.pk).update(day="2024-01-01")
    assert_dropped(read)
    assert_dropped(other)


def test_what_the_database_refuses(post: Any, reads: list[Read]) -> None:
    """An error is what it was, and changes nothing."""
    with pytest.raises(DatabaseError):
        m.Post.objects.filter(pk=post.pk).update(author_id=None)
    for read in reads:
        assert_hit(read)


def test_in_a_transaction(post: Any, reads: list[Read]) -> None:
    """Rolled back, it drops nothing; committed, all that each statement replaced."""
    with transaction.atomic():
        m.Post.objects.filter(pk=post.pk).update(views=2)
        transaction.set_rollback(True)
    for read in reads:
        assert_hit(read)
    with transaction.atomic():
        m.Post.objects.filter(pk=post.pk).update(views=2)
        m.Post.objects.filter(pk=post.pk).update(views=3)
    for read in reads:
        assert_dropped(read)
