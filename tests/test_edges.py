"""Edges at which answers were wrong once: each case compares the cache with the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.models import (
    CharField,
    DurationField,
    ExpressionWrapper,
    F,
    FloatField,
    IntegerField,
)
from django.db.models.functions import Cast
from django.db.models.lookups import In, Range
from django.test import override_settings
from django.utils import timezone

from cacheops_lite.orm import lazy, planning, templates, values
from cacheops_lite.orm.rawsql import classify
from cacheops_lite.orm.targets import targets

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
    "lookup",
    [
        In(F("created"), ["2020-01-01 12:00:00"]),
        Range(F("created"), ("2020-01-01 11:59:59", "2020-01-01 12:00:01")),
    ],
)
def test_a_text_that_no_field_has_seen_is_read_by_the_database(lookup: Any) -> None:
    """A lookup made by hand hands texts to the database, which reads them in its own zone."""
    if connection.vendor != "postgresql":
        pytest.skip("other backends do not take texts for moments")
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        post = new_post()
        read = Read(lambda: m.Post.objects.filter(lookup).values_list("pk"))
        prime(read)
        moment = datetime(2020, 1, 1, 12, tzinfo=UTC)
        m.Post.objects.filter(pk=post.pk).update(created=moment)
        assert read.uncached() == [(post.pk,)]
        assert_dropped(read)


@pytest.mark.parametrize(
    "lookup",
    [In(F("day"), ["2020-01-01", "today"]), Range(F("created"), ("yesterday", "now"))],
)
def test_a_word_for_a_moment_is_not_cached(lookup: Any) -> None:
    """What "today" means to PostgreSQL is another day tomorrow; a title is what it says."""
    if connection.vendor != "postgresql":
        pytest.skip("other backends do not take texts for moments")
    assert not m.Post.objects.filter(lookup).cache().cache_explain().cacheable
    assert m.Post.objects.filter(title__in=["today"]).cache().cache_explain().cacheable


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


RAW_INSIDE = "UPDATE {} SET email = 'moved'"


class Moving(CharField):
    """Saving one row moves the others, by raw SQL."""

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(RAW_INSIDE.format(connection.ops.quote_name("tests_author")))
        return super().pre_save(model_instance, add)


def test_raw_sql_inside_a_statement_of_the_orm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw SQL that a field runs is a write of its own, also of the table that is saved."""
    author = m.Author.objects.create(name="one")
    read = Read(lambda: m.Author.objects.filter(email="moved").values_list("pk"))
    prime(read)
    monkeypatch.setattr(m.Author._meta.get_field("name"), "__class__", Moving)
    m.Author.objects.create(name="two")
    assert read.uncached() == [(author.pk,)]
    assert_dropped(read)


def test_raw_sql_around_a_statement_of_the_orm() -> None:
    """So is raw SQL that an execute wrapper runs beside it."""
    author = m.Author.objects.create(name="one")
    read = Read(lambda: m.Author.objects.filter(email="moved").values_list("pk"))
    prime(read)

    wrapped: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        wrapped.append(sql)
        if len(wrapped) == 1:  # what is run here comes here too
            with connection.cursor() as cursor:
                cursor.execute(RAW_INSIDE.format(connection.ops.quote_name("tests_author")))
        return execute(sql, params, many, context)

    with transaction.atomic(), connection.execute_wrapper(wrapper):
        m.Author.objects.filter(name="nobody").update(name="x")
    assert read.uncached() == [(author.pk,)]
    assert_dropped(read)


class Asking(CharField):
    """Preparing a value asks the database, about another table and about its own."""

    def get_prep_value(self, value: Any) -> Any:
        assert list(m.Tag.objects.cache().values_list("name")) == [("tag",)]
        assert len(m.Country.objects.cache().exclude(name="")) == 2
        return super().get_prep_value(value)


def test_a_field_may_ask_the_database_during_get(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a field reads on the way to a ``get()`` is not taken for what was got."""
    m.Tag.objects.create(name="tag")
    for code in "ab":
        m.Country.objects.create(code=code, name=code)
    monkeypatch.setattr(m.Country._meta.get_field("code"), "__class__", Asking)
    for _ in range(3):
        for code in "ab":
            assert m.Country.objects.cache().get(code=code).name == code
        with pytest.raises(m.Country.DoesNotExist):
            m.Country.objects.cache().get(code="c")


def test_a_rule_of_the_database_moves_with_any_key() -> None:
    """ON UPDATE CASCADE follows what a foreign key refers to, primary key or not."""
    if connection.vendor != "postgresql":
        pytest.skip("needs a database that takes a constraint apart")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint"
            " WHERE conrelid = 'tests_toypart'::regclass AND contype = 'f'"
        )
        name = connection.ops.quote_name(cursor.fetchone()[0])
        change = (
            f"ALTER TABLE tests_toypart DROP CONSTRAINT {name}, ADD CONSTRAINT {name}"
            " FOREIGN KEY (toy_id) REFERENCES tests_toy (code)"
        )
        cursor.execute(f"{change} ON UPDATE CASCADE")
    try:
        m.ToyPart.objects.create(toy=m.Toy.objects.create(code="a"), name="p")
        read = Read(lambda: m.ToyPart.objects.filter(name="p").values_list("toy_id"))
        prime(read)
        m.Toy.objects.filter(code="a").update(code="b")
        assert read.uncached() == [("b",)]
        assert_dropped(read)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"{change} DEFERRABLE INITIALLY DEFERRED")


@pytest.fixture
def lenient() -> Iterator[None]:
    """A connection without MySQL's strict mode."""
    if connection.vendor != "mysql":
        pytest.skip("other databases refuse what does not fit")
    options = connection.settings_dict["OPTIONS"]

    def reconnect() -> None:
        connection.close()
        for name in ("mysql_server_data", "sql_mode"):
            vars(connections["default"]).pop(name, None)

    options["init_command"] = "SET sql_mode = ''"
    reconnect()
    yield
    del options["init_command"]
    reconnect()


@pytest.mark.parametrize("how", ["create", "update", "bulk"])
def test_a_value_that_does_not_fit_is_made_to_fit(how: str, lenient: None) -> None:
    """Without MySQL's strict mode a row drops what it was cut to."""
    author = m.Author.objects.create(name="Ann")
    read = Read(lambda: m.Author.objects.filter(name="x" * 100).values_list("name"))
    prime(read)
    if how == "create":
        m.Author.objects.create(name="x" * 150)
    elif how == "bulk":
        m.Author.objects.bulk_create([m.Author(name="x" * 150)], ignore_conflicts=True)
    else:
        m.Author.objects.filter(pk=author.pk).update(name="x" * 150)
    assert read.uncached() == [("x" * 100,)]
    assert_dropped(read)


def test_insert_ignore_makes_values_fit() -> None:
    """MySQL cuts what INSERT IGNORE gives it in strict mode too."""
    if connection.vendor != "mysql":
        pytest.skip("other databases refuse what does not fit")
    read = Read(lambda: m.Author.objects.filter(name="x" * 100).values_list("name"))
    prime(read)
    m.Author.objects.bulk_create([m.Author(name="x" * 150)], ignore_conflicts=True)
    assert read.uncached() == [("x" * 100,)]
    assert_dropped(read)


@pytest.fixture
def other_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """For changing what the fields of words make of what is in the database."""

    def forget() -> None:
        values._nature.cache_clear()
        values._class_overrides.cache_clear()

    forget()
    yield monkeypatch
    monkeypatch.undo()
    forget()


def test_a_field_that_shows_null_as_something_else(other_words: pytest.MonkeyPatch) -> None:
    """An empty list may be NULL in the database: an update drops what was asked about NULL."""

    def read(self: Any, value: Any, expression: Any, connection: Any) -> Any:
        return [] if value is None else value.split(",")

    other_words.setattr(m.Words, "from_db_value", read)
    price = m.Price.objects.create(labels=None)
    empty = Read(lambda: m.Price.objects.filter(labels__isnull=True).values_list("pk"))
    prime(empty)
    m.Price.objects.filter(pk=price.pk).update(labels=["a"])
    assert empty.uncached() == []
    assert_dropped(empty)


def test_a_field_that_reads_other_than_it_writes(other_words: pytest.MonkeyPatch) -> None:
    """What is shown without its blanks was asked for, and is dropped, with them."""

    def read(self: Any, value: Any, expression: Any, connection: Any) -> Any:
        return value and value.strip()

    other_words.setattr(m.Words, "from_db_value", read)
    other_words.delattr(m.Words, "to_python")
    other_words.delattr(m.Words, "get_prep_value")
    price = m.Price.objects.create(labels=" a")
    padded = Read(lambda: m.Price.objects.filter(labels=" a").values_list("pk"))
    prime(padded)
    m.Price.objects.filter(pk=price.pk).update(labels="b")
    assert padded.uncached() == []
    assert_dropped(padded)


def test_raw_sql_that_writes_a_view_or_a_partition() -> None:
    """A raw write to a table that is not known may reach any, whichever else it names."""
    if connection.vendor != "postgresql":
        pytest.skip("needs views that can be written")
    post = new_post()
    read = Read(lambda: m.Post.objects.filter(title="new").values_list("pk"))
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW edges_view AS SELECT id, title FROM tests_post")
    try:
        prime(read)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE edges_view SET title = 'new' WHERE NOT EXISTS (SELECT 1 FROM tests_tag)"
            )
        assert read.uncached() == [(post.pk,)]
        assert_dropped(read)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW edges_view")


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("UPDATE a SET x = 1", "a"),
        ('update only "s"."A" as t set x = 1', "a"),
        ("INSERT INTO a SELECT * FROM b ON CONFLICT (id) DO UPDATE SET x = 1", "a"),
        ("INSERT INTO `a` VALUES (1) ON DUPLICATE KEY UPDATE x = 1", "a"),
        ("WITH m AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM m", "a b"),
        ("WITH q AS (SELECT 1 FROM c FOR NO KEY UPDATE) UPDATE a SET x = 1", "a"),
        ("MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN UPDATE SET x = 1", "a"),
        ("TRUNCATE TABLE a, b RESTART IDENTITY", "a b"),
        ("BEGIN; UPDATE a SET x = 1; COMMIT;", "a"),
        ("DELETE FROM a USING b WHERE a.i = b.i", "a"),
        ("UPDATE OR IGNORE a SET x = replace(x, 'b', 'c')", "a"),
        ("REPLACE INTO a VALUES ('; DELETE FROM b')", "a"),
        ("COPY a (x) FROM STDIN", "a"),
        ("LOAD DATA INFILE 'f' INTO TABLE a", "a"),
        ("EXPLAIN ANALYZE DELETE FROM ONLY a", "a"),
        ("SET STATEMENT m = 60 FOR DELETE FROM a WHERE i IN (SELECT i FROM b)", "a"),
        ("SET STATEMENT m = 60 FOR UPDATE a SET x = 1", "a"),
        ("SET STATEMENT m = 60 FOR CALL p('a')", None),
        ("SET x = 1", ""),
        ("CALL p(1)", None),
        ("DO $$ BEGIN PERFORM f(); END $$", None),
        ("UPDATE a SET x = 1; CALL p()", None),
        ("DELETE a, b FROM a JOIN b", None),
        ("EXECUTE p", None),
    ],
)
def test_targets_of_raw_sql(sql: str, tables: str | None) -> None:
    """The tables that a statement writes are told from those that it reads."""
    assert targets(sql) == (None if tables is None else set(tables.split()))


@override_settings(CACHEOPS_MEMO_SIZE=3)
def test_what_is_remembered_of_queries_is_bounded() -> None:
    """All shapes of queries together remember as many plans as CACHEOPS_MEMO_SIZE says."""
    for start in range(12):
        for size in (1, 2, 20):
            rows = m.Author.objects.cache().filter(pk__in=range(start, start + size))
            assert list(rows.all()) == list(rows.all()) == []
    assert len(planning._plans.small) == len(planning._plans.large) == 3
    assert len(templates.filled.small) == len(templates.filled.large) == 6
    for memo, share in planning._memos:
        assert max(len(memo.small), len(memo.large)) <= share * 3
    assert lazy._steps in [memo for memo, _ in planning._memos]


@pytest.mark.skipif(settings.TEST_DB != "sqlite", reason="only SQLite takes both for one table")
def test_one_table_by_two_names() -> None:
    """What is written under a name that differs only in case drops the results of the other."""
    quiet = Read(lambda: m.Stamped.objects.filter(name="x"))
    loud = Read(lambda: m.LoudStamped.objects.filter(name="x"))
    prime(quiet, loud)
    stamped = m.Stamped.objects.create(name="x")
    assert_dropped(loud)
    prime(quiet, loud)
    m.LoudStamped.objects.filter(pk=stamped.pk).update(name="y")
    assert_dropped(quiet)
