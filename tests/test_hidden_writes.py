"""Statements that change something else than they say: views, rules, triggers, odd spellings.

What the database makes of them is told by a profile (``triggers``, ``depends_on``) or by the text
of the statement; the number of rows that a database reports proves nothing then.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from cacheops_lite.orm import stored

from . import models as m
from .watching import Read, assert_dropped, assert_hit, prime
from .wires import PATIENCE, Actor, elsewhere

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def made(things: dict[str, list[str]], dropped: dict[str, list[str]]) -> Iterator[None]:
    """Views, rules and triggers of this database, for a while."""
    if connection.vendor not in things:
        pytest.skip("this database has no such thing")
    run(*things[connection.vendor])
    try:
        yield
    finally:
        run(*dropped[connection.vendor])


def new_post(**values: Any) -> m.Post:
    category = m.Category.objects.create(title="c", slug="c")
    author = m.Author.objects.create(name="Ann")
    return m.Post.objects.create(**{"category": category, "author": author, "title": "p", **values})


INSTEAD = {
    "sqlite": [
        "CREATE VIEW tests_live_post AS SELECT id, title FROM tests_post",
        "CREATE TRIGGER live_update INSTEAD OF UPDATE ON tests_live_post BEGIN "
        "UPDATE tests_post SET title = NEW.title WHERE id = NEW.id; END",
        "CREATE TRIGGER live_delete INSTEAD OF DELETE ON tests_live_post BEGIN "
        "DELETE FROM tests_post WHERE id = OLD.id; END",
    ],
    "postgresql": [
        "CREATE VIEW tests_live_post AS SELECT id, title FROM tests_post",
        "CREATE FUNCTION live() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF TG_OP = 'UPDATE' THEN UPDATE tests_post SET title = NEW.title WHERE id = NEW.id; "
        "ELSE DELETE FROM tests_post WHERE id = OLD.id; END IF; RETURN NULL; END $$",
        "CREATE TRIGGER live INSTEAD OF UPDATE OR DELETE ON tests_live_post "
        "FOR EACH ROW EXECUTE FUNCTION live()",
    ],
}
NOT_INSTEAD = {
    "sqlite": ["DROP VIEW tests_live_post"],
    "postgresql": ["DROP VIEW tests_live_post", "DROP FUNCTION live"],
}


@pytest.mark.parametrize("how", ["update", "delete"])
def test_a_view_that_reports_no_rows(settings: Any, how: str) -> None:
    """What is written through a view is told to ``depends_on``, whatever number is reported."""
    settings.CACHEOPS = {
        "tests.post": {"timeout": 60, "depends_on": ["tests.livepost"]}, "*.*": {"timeout": 60},
    }  # fmt: skip
    post = new_post()
    read = Read(lambda: m.Post.objects.filter(title="p").values_list("pk"))
    with made(INSTEAD, NOT_INSTEAD):
        prime(read)
        live = m.LivePost.objects.filter(pk=post.pk)
        live.update(title="new") if how == "update" else live.delete()
        assert read.uncached() == []
        assert_dropped(read)


SOFT_DELETE = {
    "sqlite": [
        "CREATE TRIGGER soft BEFORE DELETE ON tests_note BEGIN "
        "UPDATE tests_note SET deleted = 1 WHERE id = OLD.id; SELECT RAISE(IGNORE); END"
    ],
    "postgresql": [
        "CREATE FUNCTION soft() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE tests_note SET deleted = true WHERE id = OLD.id; RETURN NULL; END $$",
        "CREATE TRIGGER soft BEFORE DELETE ON tests_note FOR EACH ROW EXECUTE FUNCTION soft()",
    ],
}
NOT_SOFT = {
    "sqlite": ["DROP TRIGGER soft"],
    "postgresql": ["DROP TRIGGER soft ON tests_note", "DROP FUNCTION soft"],
}


@pytest.mark.parametrize("how", ["instance", "queryset"])
def test_a_trigger_that_hides_instead_of_deleting(settings: Any, how: str) -> None:
    """A soft delete by a trigger reports that nothing was deleted, and has changed the row."""
    settings.CACHEOPS = {"tests.note": {"timeout": 60, "triggers": True}, "*.*": {"timeout": 60}}
    note = m.Note.objects.create(text="n")
    there = Read(lambda: m.Note.everything.filter(deleted=False).values_list("pk"))
    gone = Read(lambda: m.Note.everything.filter(deleted=True).values_list("pk"))
    with made(SOFT_DELETE, NOT_SOFT):
        prime(there, gone)
        note.delete() if how == "instance" else m.Note.everything.filter(text="n").delete()
        assert len(gone.uncached()) == 1
        assert_dropped(there)
        assert_dropped(gone)


MOVING = {
    "sqlite": [
        "CREATE TRIGGER moving BEFORE UPDATE ON tests_note WHEN NEW.text = 'gone' BEGIN "
        "DELETE FROM tests_note WHERE id = OLD.id; SELECT RAISE(IGNORE); END"
    ],
    "postgresql": [
        "CREATE FUNCTION moving() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.text = 'gone' THEN DELETE FROM tests_note WHERE id = OLD.id; RETURN NULL; END IF; "
        "RETURN NEW; END $$",
        "CREATE TRIGGER moving BEFORE UPDATE ON tests_note FOR EACH ROW EXECUTE FUNCTION moving()",
    ],
}
NOT_MOVING = {
    "sqlite": ["DROP TRIGGER moving"],
    "postgresql": ["DROP TRIGGER moving ON tests_note", "DROP FUNCTION moving"],
}


def test_a_trigger_that_does_something_else_than_an_update(settings: Any) -> None:
    """An UPDATE that a trigger swallows reports no row, and has changed some."""
    settings.CACHEOPS = {"tests.note": {"timeout": 60, "triggers": True}, "*.*": {"timeout": 60}}
    note = m.Note.objects.create(text="n")
    read = Read(lambda: m.Note.everything.filter(text="n").values_list("pk"))
    with made(MOVING, NOT_MOVING):
        prime(read)
        m.Note.everything.filter(pk=note.pk).update(text="gone")
        assert read.uncached() == []
        assert_dropped(read)


ONLY_ONE = {
    "sqlite": [
        "CREATE TRIGGER only_one AFTER UPDATE ON tests_note WHEN NEW.text = 'first' BEGIN "
        "UPDATE tests_note SET text = 'other' WHERE id <> NEW.id; END"
    ],
    "postgresql": [
        "CREATE FUNCTION only_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.text = 'first' THEN UPDATE tests_note SET text = 'other' WHERE id <> NEW.id; "
        "END IF; RETURN NULL; END $$",
        "CREATE TRIGGER only_one AFTER UPDATE ON tests_note "
        "FOR EACH ROW EXECUTE FUNCTION only_one()",
    ],
}
NOT_ONLY_ONE = {
    "sqlite": ["DROP TRIGGER only_one"],
    "postgresql": ["DROP TRIGGER only_one ON tests_note", "DROP FUNCTION only_one"],
}


def test_a_trigger_that_changes_other_rows_of_the_table(settings: Any) -> None:
    """A profile that depends on its own model says that its rows change with one another."""
    settings.CACHEOPS = {
        "tests.note": {"timeout": 60, "depends_on": ["tests.note"]}, "*.*": {"timeout": 60},
    }  # fmt: skip
    note = m.Note.objects.create(text="a")
    m.Note.objects.create(text="b")
    read = Read(lambda: m.Note.everything.filter(text="b").values_list("pk"))
    with made(ONLY_ONE, NOT_ONLY_ONE):
        prime(read)
        m.Note.everything.filter(pk=note.pk).update(text="first")
        assert read.uncached() == []
        assert_dropped(read)


@pytest.mark.parametrize(
    "sql",
    [
        "SET STATEMENT max_statement_time = 60 FOR UPDATE tests_note SET text = 'new'",
        "SET STATEMENT max_statement_time=60 FOR DELETE FROM tests_note",
        "SET STATEMENT sort_buffer_size=100000, max_statement_time=60 FOR "
        "INSERT INTO tests_note (text, deleted) SELECT 'p', 0",
    ],
)
def test_a_setting_for_one_statement(sql: str) -> None:
    """MariaDB: ``SET STATEMENT … FOR`` is the statement that follows."""
    if connection.vendor != "mysql" or not connection.mysql_is_mariadb:
        pytest.skip("only MariaDB has it")
    m.Note.objects.create(text="p")
    read = Read(lambda: m.Note.everything.filter(text="p").values_list("pk"))
    other = Read(lambda: m.Tag.objects.filter(name="p"))
    prime(read, other)
    run(sql)
    assert_dropped(read)
    assert_hit(other)


@pytest.mark.parametrize(
    "sql",
    [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        "SET tx_isolation = 'READ-UNCOMMITTED'",
    ],
)
def test_what_is_not_committed_is_not_cached(sql: str) -> None:
    """MySQL: a connection that sees what others may take back stores nothing."""
    if connection.vendor != "mysql":
        pytest.skip("other databases show nothing that is not committed")
    note = m.Note.objects.create(text="p")
    read = Read(lambda: m.Note.everything.filter(text="new").values_list("pk"))
    wrote, looked = threading.Event(), threading.Event()

    def write_and_take_back() -> None:
        with transaction.atomic():
            m.Note.everything.filter(pk=note.pk).update(text="new")
            wrote.set()
            looked.wait(PATIENCE)
            transaction.set_rollback(True)

    try:
        run(sql)
        writer = Actor(write_and_take_back)
        assert wrote.wait(PATIENCE)
        assert read.cached() == [(note.pk,)], "it shows what is not committed"
        looked.set()
        writer.finish()
        assert read.cached() == []
        assert elsewhere(read.cached) == []
    finally:
        connection.close()


@pytest.mark.parametrize("how", ["update", "create"])
def test_a_column_that_keeps_less_than_a_microsecond(how: str) -> None:
    """A moment that the database rounds drops what the rounded one belongs to."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite keeps texts")
    column = connection.ops.quote_name("created")
    small, full = {
        "mysql": ("MODIFY {} datetime NULL", "MODIFY {} datetime(6) NULL"),
        "postgresql": (
            "ALTER COLUMN {} TYPE timestamptz(0)", "ALTER COLUMN {} TYPE timestamptz",
        ),
    }[connection.vendor]  # fmt: skip
    run(f"ALTER TABLE tests_memo {small.format(column)}")
    try:
        noon = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)
        memo = m.Memo.objects.create(created=noon - datetime.timedelta(hours=1))
        read = Read(lambda: m.Memo.objects.filter(created=noon).values_list("pk"))
        prime(read)
        # Some databases round, others cut.
        after = noon + datetime.timedelta(milliseconds=400)
        if how == "update":
            m.Memo.objects.filter(pk=memo.pk).update(created=after)
        else:
            m.Memo.objects.create(created=after)
        assert len(read.uncached()) == 1
        assert_dropped(read)
    finally:
        run(f"ALTER TABLE tests_memo {full.format(column)}")


def test_definitions_among_other_statements() -> None:
    """What follows a definition in one string counts as if it stood alone."""
    if connection.vendor != "postgresql":
        pytest.skip("needs views that can be written, and several statements at once")
    post = new_post()
    read = Read(lambda: m.Post.objects.filter(title="new").values_list("pk"))
    run("CREATE VIEW hidden_view AS SELECT id, title FROM tests_post")
    try:
        prime(read)
        run("CREATE INDEX hidden_index ON tests_tag (name); UPDATE hidden_view SET title = 'new'")
        assert read.uncached() == [(post.pk,)]
        assert_dropped(read)
        prime(read)
        run(
            "CREATE FUNCTION hidden() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;"
            " UPDATE hidden_view SET title = 'newer'"
        )
        assert_dropped(read)
    finally:
        run(
            "DROP VIEW hidden_view", "DROP INDEX IF EXISTS hidden_index",
            "DROP FUNCTION IF EXISTS hidden()",
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["TEMPORARY", "TEMP"])
def test_a_temporary_table_in_the_place_of_another(kind: str) -> None:
    """What a connection sees under the name of a table, and others do not, is not cached."""
    if connection.vendor == "mysql" and kind == "TEMP":
        pytest.skip("MySQL has the long word only")
    m.Note.objects.create(text="real")
    read = Read(lambda: m.Note.everything.values_list("text"))
    source = Read(lambda: m.Tag.objects.all())
    prime(read, source)
    try:
        run(f"CREATE {kind} TABLE tests_note AS SELECT id, name AS text FROM tests_tag")
        assert read.cached() == read.uncached() == []
        assert elsewhere(read.cached) == [("real",)]
        m.Note.everything.filter(text="real").update(text="nobody has it")
        assert read.cached() == []
        assert elsewhere(read.cached) == [("real",)]
        prime(source)
    finally:
        connection.close()
    prime(read)


def test_a_level_that_a_function_sets() -> None:
    """PostgreSQL's ``set_config()`` is as good as ``SET``."""
    if connection.vendor != "postgresql":
        pytest.skip("needs set_config()")
    read = Read(lambda: m.Note.everything.filter(text="new"))
    with transaction.atomic():
        m.Note.everything.cache().count()
    try:
        run("SELECT set_config('default_transaction_isolation', 'repeatable read', false)")
        with transaction.atomic():
            m.Tag.objects.nocache().count()
            elsewhere(lambda: m.Note.objects.create(text="new"))
            assert read.cached() == []
        assert len(read.cached()) == 1
    finally:
        connection.close()


ONLY_DELETES = {
    "sqlite": [
        "CREATE VIEW tests_live_post AS SELECT min(id) AS id, title FROM tests_post GROUP BY title",
        "CREATE TRIGGER live INSTEAD OF DELETE ON tests_live_post BEGIN "
        "DELETE FROM tests_post WHERE title = OLD.title; END",
    ],
    "postgresql": [
        "CREATE VIEW tests_live_post AS SELECT min(id) AS id, title FROM tests_post GROUP BY title",
        "CREATE FUNCTION live() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "DELETE FROM tests_post WHERE title = OLD.title; RETURN OLD; END $$",
        "CREATE TRIGGER live INSTEAD OF DELETE ON tests_live_post "
        "FOR EACH ROW EXECUTE FUNCTION live()",
    ],
}


@pytest.mark.parametrize("how", ["key", "text"])
def test_a_view_whose_rows_cannot_be_locked(settings: Any, how: str) -> None:
    """A view that takes only DELETE, or is made of groups, is written as without the cache."""
    settings.CACHEOPS = {
        "tests.post": {"timeout": 60, "depends_on": ["tests.livepost"]}, "*.*": {"timeout": 60},
    }  # fmt: skip
    post = new_post()
    read = Read(lambda: m.Post.objects.filter(title="p").values_list("pk"))
    with made(ONLY_DELETES, NOT_INSTEAD):
        live = Read(lambda: m.LivePost.objects.filter(title="p").values_list("pk"))
        by_key = Read(lambda: m.LivePost.objects.filter(pk=post.pk).values_list("title"))
        prime(read, live, by_key)
        m.LivePost.objects.filter(**({"pk": post.pk} if how == "key" else {"title": "p"})).delete()
        assert read.uncached() == []
        for one in (read, live, by_key):
            assert_dropped(one)


@pytest.mark.parametrize("how", ["create", "update"])
def test_a_mode_that_raw_sql_has_changed(how: str) -> None:
    """MySQL cuts what does not fit from the moment on that a statement takes its strictness away."""
    if connection.vendor != "mysql":
        pytest.skip("other databases refuse what does not fit")
    author = m.Author.objects.create(name="Ann")
    read = Read(lambda: m.Author.objects.filter(name="x" * 100).values_list("name"))
    prime(read)
    m.Author.objects.create(name="strict")
    try:
        run("SET SESSION sql_mode = ''")
        if how == "create":
            m.Author.objects.create(name="x" * 150)
        else:
            m.Author.objects.filter(pk=author.pk).update(name="x" * 150)
        assert read.uncached() == [("x" * 100,)]
        assert_dropped(read)
    finally:
        connection.close()


@pytest.mark.parametrize("how", ["object", "queryset"])
def test_who_may_delete_but_not_update(settings: Any, how: str) -> None:
    """A user of PostgreSQL without the right to UPDATE may lock no row; it deletes all the same."""
    settings.CACHEOPS = {"*.*": {"timeout": 60}}
    tag = m.Tag.objects.create(name="red")
    reads = [Read(lambda: m.Tag.objects.filter(name="red")), Read(lambda: m.Tag.objects.all())]
    role = {"postgresql": [
        "CREATE ROLE cacheops_deletes",
        "GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO cacheops_deletes",
    ]}  # fmt: skip
    gone = {"postgresql": ["RESET ROLE", "DROP OWNED BY cacheops_deletes",
                           "DROP ROLE cacheops_deletes"]}  # fmt: skip
    with made(role, gone):
        prime(*reads)
        run("SET ROLE cacheops_deletes")
        tag.delete() if how == "object" else m.Tag.objects.filter(name="red").delete()
        assert [read.cached() for read in reads] == [[], []]


@pytest.mark.skipif(connection.vendor != "mysql", reason="modes are of MySQL")
def test_the_mode_of_a_connection_ends_with_it() -> None:
    """What raw SQL said of one connection is not believed of the next."""
    assert not stored.Storage(connection).bends
    run("SET SESSION sql_mode = ''")
    assert stored.Storage(connection).bends
    connection.close()
    connection.ensure_connection()
    assert not stored.Storage(connection).bends
