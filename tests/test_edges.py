"""Edges at which answers were wrong once: each case compares the cache with the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.db.models import DurationField, ExpressionWrapper, F, FloatField, IntegerField
from django.db.models.functions import Cast
from django.test import override_settings
from django.utils import timezone

from cacheops_lite.orm.rawsql import classify

from . import models as m
from .watching import Read, assert_dropped, assert_fresh, assert_hit, prime

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default"]),
    pytest.mark.database,
]


def new_post(**values: Any) -> m.Post:
    slug = f"c{m.Category.objects.count()}"
    category = m.Category.objects.create(title=slug, slug=slug)
    author = m.Author.objects.create(name="Ann")
    return m.Post.objects.create(category=category, author=author, **{"title": "t", **values})


@pytest.mark.parametrize("names", [("?",), ("?", "name")])
@pytest.mark.parametrize("model", [m.Author, m.Tag])
def test_a_random_order_is_not_the_default_one(model: Any, names: tuple[str, ...]) -> None:
    """The order "?" is drawn each time, also when the same query without it is cached."""
    model.objects.bulk_create(model(name=f"{n}") for n in range(30))
    prime(Read(model.objects.all))
    drawn = {tuple(row.pk for row in model.objects.order_by(*names).cache()) for _ in range(5)}
    assert len(drawn) == 5


#: What an expression may put into a column of SQLite: column, expression, and a condition that is
#: true of what is stored, and false of what the field reads.
LOOSE: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "a fraction among integers": (
        "views",
        ExpressionWrapper(F("views") * 1.5, output_field=IntegerField()),
        {"views__gt": 1},
    ),
    "a moment among dates": ("day", F("created"), {"day__gt": date(2019, 1, 1)}),
    "a date among moments": (
        "created",
        F("day"),
        {"created__lt": datetime(2020, 1, 1, tzinfo=UTC)},
    ),
    "a moment among times": ("at", F("created"), {"at__gt": time(9)}),
    "a fraction of a microsecond": (
        "duration",
        ExpressionWrapper(Cast(F("duration"), FloatField()) + 0.4, output_field=DurationField()),
        {"duration__gt": timedelta(minutes=1)},
    ),
}


@pytest.mark.parametrize("case", LOOSE)
def test_sqlite_keeps_what_an_expression_gives(case: str) -> None:
    """A row drops what its column, as it is stored, can answer; not as the field reads it."""
    if connection.vendor != "sqlite":
        pytest.skip("other databases convert what is assigned")
    column, expression, condition = LOOSE[case]
    values: dict[str, Any] = {"duration": timedelta(minutes=1), "views": 1}
    if column != "created":
        values["created"] = datetime(2020, 1, 1, 10, tzinfo=UTC)
    if column != "day":
        values["day"] = date(2020, 1, 1)
    post = new_post(**values)
    read = Read(lambda: m.Post.objects.filter(**condition).values_list("pk"))
    prime(read)
    m.Post.objects.filter(pk=post.pk).update(**{column: expression})
    assert read.uncached() == [(post.pk,)]
    assert_fresh(read, "new value")
    prime(read)
    m.Post.objects.filter(pk=post.pk).delete()
    assert_fresh(read, "old value")


def test_zones_may_be_more_than_a_day_apart() -> None:
    """Parts of dates are those of the current zone, however far it is from the default one."""
    west, east = "Pacific/Pago_Pago", ZoneInfo("Pacific/Kiritimati")  # -11 and +14
    with override_settings(TIME_ZONE=west):
        post = new_post()
        read = Read(lambda: m.Post.objects.filter(created__year=2020).values_list("pk"))
        with timezone.override(east):
            prime(read)
            moment = datetime(2020, 1, 1, 0, 10, tzinfo=east)
            m.Post.objects.filter(pk=post.pk).update(created=moment)
            assert read.uncached() == [(post.pk,)]
            assert_fresh(read)


@pytest.mark.parametrize(
    "sql",
    [
        "-- name: titles\nSELECT title FROM tests_post",
        "/* view=home */ SELECT title FROM tests_post",
        "SELECT title FROM tests_post; -- all of them",
        "-- both\nSELECT 1 UNION /* and */ SELECT 2",
    ],
)
def test_a_comment_does_not_make_a_write(sql: str) -> None:
    """Raw reads with comments, as tools write them, drop nothing."""
    assert classify(sql).value == "read"
    with connection.cursor() as cursor:
        read = Read(lambda: m.Post.objects.filter(title="x"))
        prime(read)
        cursor.execute(sql)
    assert_hit(read)


@pytest.mark.parametrize(
    "write",
    [
        lambda post: m.Post.objects.filter(pk=post.pk).update(title="new"),
        lambda post: m.Post.objects.filter(pk=post.pk).update(day=date(2020, 1, 1)),
        lambda post: m.Post.objects.filter(pk=post.pk)._raw_delete("default"),
    ],
)
def test_a_value_without_a_form_in_python_does_not_stop_a_write(
    write: Callable[[m.Post], Any],
) -> None:
    """A row that Python cannot read can still be written, inside a transaction and outside."""
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL knows dates that Python does not")
    for inside in (False, True):
        post = new_post()
        read = Read(lambda: m.Post.objects.filter(day=date(2020, 1, 1)).values_list("pk"))
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tests_post SET day = 'infinity' WHERE id = %s", [post.pk])
        prime(read)
        if inside:
            with transaction.atomic():
                write(post)
        else:
            write(post)
        assert_dropped(read)
