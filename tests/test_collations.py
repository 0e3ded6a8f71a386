"""A column that compares by rules which nobody checked is no term, whoever made it so.

The models say nothing of these rules: a table's or the database's default, a collation of one
language, a migration by hand. Each test makes one and asks the database and the cache alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from cacheops_lite.orm import collations, folding

from . import models as m
from .watching import hits

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

TABLE = m.Note._meta.db_table

#: vendor -> name -> (statements before, statements after, texts that are equal then).
ODD: dict[str, dict[str, tuple[list[str], list[str], tuple[str, str]]]] = {
    "mysql": {
        collation: (
            [f"ALTER TABLE {TABLE} MODIFY text varchar(50) COLLATE {collation} NOT NULL"],
            [f"ALTER TABLE {TABLE} MODIFY text varchar(50) NOT NULL"],
            equal,
        )
        for collation, equal in {
            "utf8mb4_german2_ci": ("Müller", "Mueller"),
            "utf8mb4_swedish_ci": ("ü", "y"),
            "utf8mb4_turkish_ci": ("ı", "I"),
            "utf8mb4_uca1400_danish_ai_ci": ("å", "aa"),
            "utf8mb4_czech_ci": ("a", "A"),
        }.items()
    },
    "postgresql": {
        "nondeterministic": (
            [
                "CREATE COLLATION odd (provider = icu, locale = 'de-u-co-phonebk-ks-level1', "
                "deterministic = false)",
                f"ALTER TABLE {TABLE} ALTER text TYPE varchar(50) COLLATE odd",
            ],
            [
                f'ALTER TABLE {TABLE} ALTER text TYPE varchar(50) COLLATE "default"',
                "DROP COLLATION odd",
            ],
            ("Müller", "Mueller"),
        ),
        "citext": (
            [
                "CREATE EXTENSION IF NOT EXISTS citext",
                f"ALTER TABLE {TABLE} ALTER text TYPE citext",
            ],
            [f"ALTER TABLE {TABLE} ALTER text TYPE varchar(50)"],
            ("a", "A"),
        ),
        "domain over citext": (
            [
                "CREATE EXTENSION IF NOT EXISTS citext",
                "CREATE DOMAIN odd AS citext",
                f"ALTER TABLE {TABLE} ALTER text TYPE odd",
            ],
            [f"ALTER TABLE {TABLE} ALTER text TYPE varchar(50)", "DROP DOMAIN odd"],
            ("a", "A"),
        ),
    },
    "sqlite": {
        "by hand": (
            [
                f"ALTER TABLE {TABLE} RENAME TO kept",
                f"CREATE TABLE {TABLE} (id integer PRIMARY KEY, "
                "text varchar(50) NOT NULL COLLATE phonebook, deleted bool NOT NULL)",
            ],
            [f"DROP TABLE {TABLE}", f"ALTER TABLE kept RENAME TO {TABLE}"],
            ("Müller", "Mueller"),
        )
    },
}
CASES = [(vendor, name) for vendor, cases in ODD.items() for name in cases]


def phonebook(one: str, other: str) -> int:
    left, right = (text.replace("ü", "ue") for text in (one, other))
    return (left > right) - (left < right)


@pytest.fixture
def altered(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The column under a rule of its own; gives two texts that are equal then."""
    vendor, name = request.param
    if connection.vendor != vendor:
        pytest.skip(f"for {vendor}")
    before, after, equal = ODD[vendor][name]
    connection.ensure_connection()
    if vendor == "sqlite":
        connection.connection.create_collation("phonebook", phonebook)
    try:
        execute(before)
    except DatabaseError as error:
        pytest.skip(f"this server has no such collation: {error}")
    try:
        yield equal
    finally:
        m.Note.everything.all()._raw_delete(connection.alias)
        execute(after)


def execute(statements: list[str]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def asked(text: str) -> Any:
    return m.Note.everything.filter(text=text).order_by("pk")


@pytest.mark.parametrize("altered", CASES, indirect=True, ids=" ".join)
def test_columns_by_unchecked_rules_are_no_terms(altered: tuple[str, str]) -> None:
    """A write of one spelling reaches the results that were asked for by the other."""
    one, other = altered
    told = asked(one).cache().cache_explain()
    assert told.dependencies == {TABLE: ((),)}
    assert any("compares" in why for _, why in told.widened), told.widened
    assert list(asked(one).cache()) == []
    note = m.Note.everything.create(text=other)
    assert list(asked(one).cache()) == list(asked(one).nocache()) == [note]
    assert asked(one).cache().count() == 1
    m.Note.everything.filter(pk=note.pk).update(text="x")
    assert list(asked(one).cache()) == []
    assert asked(one).cache().count() == 0


def test_a_changed_rule_is_seen_by_the_process_that_changes_it() -> None:
    """What was learnt of a column before an ALTER is not used after it."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite cannot alter the rule of a column")
    before, after, _ = next(iter(ODD[connection.vendor].values()))
    for _ in range(2):
        assert asked("x").cache().cache_explain().dependencies == {TABLE: ((("text", "x"),),)}
        list(asked("x").cache())
        execute(before)
        try:
            assert asked("x").cache().cache_explain().dependencies == {TABLE: ((),)}
            list(asked("x").cache())
        finally:
            execute(after)


@pytest.mark.parametrize("default", ["utf8mb4_german2_ci", "utf8mb4_general_ci"])
def test_the_default_of_the_database_counts(default: str) -> None:
    """A table that appears later takes the database's default, so that is asked for as well."""
    if connection.vendor != "mysql":
        pytest.skip("for MySQL and MariaDB")
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@collation_database")
        (usual,) = cursor.fetchone()
    execute([f"ALTER DATABASE {name} COLLATE {default}"])
    try:
        collations.forget()
        assert collations.known(connection)
        odd = default == "utf8mb4_german2_ci"
        assert collations.foldable("made_later", "text") is not odd
        assert collations.foldable(TABLE, "text")  # it keeps what it was made with
    finally:
        execute([f"ALTER DATABASE {name} COLLATE {usual}"])
        collations.forget()


def test_usual_columns_stay_terms() -> None:
    """Looking costs no query that a log would show, and takes nothing from the usual columns."""
    collations.forget()
    m.Note.everything.create(text="a")
    queries: list[str] = []

    def note(run: Any, sql: str, *args: Any) -> Any:
        queries.append(sql)
        return run(sql, *args)

    with connection.execute_wrapper(note), hits() as seen:
        for _ in range(3):
            assert [note.text for note in asked("a").cache()] == ["a"]
    assert len(queries) == 1
    assert seen == [False, True, True]
    assert asked("a").cache().cache_explain().dependencies == {TABLE: ((("text", "a"),),)}


def test_without_an_answer_nothing_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database cannot be asked for its rules, its results are not cached."""
    collations.forget()
    monkeypatch.setattr(collations, "_ask", lambda connection: None)
    told = asked("a").cache().cache_explain()
    assert not told.cacheable and "collations" in told.reason
    assert list(asked("a").cache()) == []
    monkeypatch.undo()
    assert asked("a").cache().cache_explain().cacheable


@pytest.mark.parametrize(
    ("vendor", "usable"), [("sqlite", True), ("oracle", False), ("microsoft", False)]
)
def test_databases_that_were_not_tested_compare_in_their_own_way(vendor: str, usable: bool) -> None:
    """Nobody has checked how they compare texts (to Oracle an empty one is NULL)."""
    rules = collations.rules_of(vendor, [])
    assert rules.foldable("some_table", "some_column") is usable


@pytest.mark.parametrize(
    ("sql", "odd"),
    [
        ('CREATE TABLE t (a text COLLATE NOCASE, b text collate "rtrim")', False),
        ("CREATE TABLE t (a text COLLATE german)", True),
        ("CREATE TABLE t (a text COLLATE [de de])", True),
        ("CREATE TABLE t (a text DEFAULT 'collate')", False),
    ],
)
def test_sqlite_tables_tell_their_collations(sql: str, odd: bool) -> None:
    """SQLite keeps the text of the statement that made a table, and nothing else to ask."""
    assert collations.odd_in(sql) is odd
    assert not folding.known_collation("german")
