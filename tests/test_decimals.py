"""Decimals in conditions: written as they are given, unless the column says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from cacheops_lite.orm import collations

from . import models as m
from .watching import Read, assert_dropped, assert_hit, prime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

WRITES: dict[str, Callable[[Any], Any]] = {
    "save": lambda post: setattr(post, "rating", Decimal("1.26")) or post.save(),
    "update": lambda post: m.Post.objects.filter(pk=post.pk).update(rating=Decimal("1.26")),
    "expression": lambda post: m.Post.objects.filter(pk=post.pk).update(
        rating=F("rating") + Decimal("0.26")
    ),
    "bulk_update": lambda post: m.Post.objects.bulk_update(
        [m.Post(pk=post.pk, rating=Decimal("1.26"))], ["rating"]
    ),
    "create": lambda post: new_post("1.26"),
    "bulk_create": lambda post: m.Post.objects.bulk_create(
        [m.Post(title="t", category=post.category, author=post.author, rating=Decimal("1.26"))]
    ),
}
#: Types of columns that do not keep 1.26 as it is, and what they keep. On SQLite all do.
NARROW = {
    "postgresql": {"numeric(6, 1)": "1.3", "one_place": "1.3", "real": "1.26", "integer": "1"},
    "mysql": {"decimal(6, 1)": "1.3", "float": "1.26", "int": "1"},
}.get(connection.vendor, {})


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


def new_post(rating: str) -> Any:
    category, _ = m.Category.objects.get_or_create(slug="c", title="c")
    author, _ = m.Author.objects.get_or_create(name="a")
    return m.Post.objects.create(title="t", category=category, author=author, rating=rating)


def rated(rating: str) -> Read:
    return Read(lambda: m.Post.objects.filter(rating=Decimal(rating)).values_list("pk"))


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


@pytest.mark.parametrize("how", WRITES)
def test_a_write_drops_what_has_the_old_or_the_new_value(how: str) -> None:
    """However it is written, and however many zeros it has; others stay."""
    post = new_post("1.00")
    reads = [rated(rating) for rating in ("1", "1.26", "1.27")]
    prime(*reads)
    WRITES[how](post)
    if not how.endswith("create"):
        assert_dropped(reads[0])
    assert_dropped(reads[1])
    assert_hit(reads[2])


@pytest.mark.parametrize("how", ["save", "update", "create", "bulk_create"])
def test_what_was_written_is_not_asked_again(how: str) -> None:
    """A column with as many places as the field costs no look at the row afterwards."""
    post = new_post("1.00")
    prime(rated("1.26"))
    WRITES[how](post)  # also asks once what kind of table it is
    with CaptureQueriesContext(connection) as asked:
        WRITES[how](post)
    told = [one["sql"] for one in asked]
    last = [sql.split()[0] for sql in told if "tests_post" in sql][-1]
    assert last == ("INSERT" if how.endswith("create") else "UPDATE"), told


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("kind", NARROW)
def test_a_column_with_fewer_places(how: str, kind: str) -> None:
    """A value that the column rounds drops what the rounded one belongs to."""
    column = connection.ops.quote_name("rating")
    change = {"mysql": "MODIFY {} {} NULL", "postgresql": "ALTER COLUMN {} TYPE {}"}
    whole = {"mysql": "decimal(6, 2)", "postgresql": "numeric(6, 2)"}[connection.vendor]
    alter = "ALTER TABLE tests_post " + change[connection.vendor]
    if kind == "one_place":
        run("CREATE DOMAIN one_place AS numeric(6, 1)")
    run(alter.format(column, kind))
    try:
        post = new_post("1.00")
        reads = [rated("1"), rated(NARROW[kind])]
        prime(*reads)
        WRITES[how](post)
        assert [read.cached() for read in reads] == [read.uncached() for read in reads]
        prime(*reads)
        post.delete()
        assert [read.cached() for read in reads] == [read.uncached() for read in reads]
    finally:
        run(alter.format(column, whole))
        if kind == "one_place":
            run("DROP DOMAIN one_place")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="scales of PostgreSQL")
@pytest.mark.parametrize(
    ("kind", "places"), [("numeric", 1000), ("numeric(5)", 0), ("numeric(9, 3)", 3),
                         ("numeric(2, -3)", -3), ("numeric(3, 5)", 5)],
)  # fmt: skip
def test_scales_are_read_as_they_are_packed(kind: str, places: int) -> None:
    """The database tells how many places a column keeps, with and without a sign."""
    run(f"CREATE TABLE packed (a {kind})")
    try:
        collations.forget()
        assert collations.known(connection)
        assert collations.keeps(connection, "packed", "a", places)
        assert not collations.keeps(connection, "packed", "a", places + 1)
    finally:
        run("DROP TABLE packed")
        collations.forget()
