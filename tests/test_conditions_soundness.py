"""No change of a row that changes a result escapes the dependencies of the query.

Random queries over random rows, compared with the database itself: the rows of the result are
loaded, the database goes from one consistent state to another, and if the result is another one
then some changed row, as it was or as it is, meets a dependency.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.core.exceptions import EmptyResultSet, FieldError, FullResultSet
from django.db import connection, transaction
from django.db.models import Exists, F, FilteredRelation, Max, OuterRef, Q
from django.db.models.lookups import In

from cacheops_lite.orm import values
from cacheops_lite.orm.conditions import Conditions, analyse
from cacheops_lite.orm.ranges import Row

from .models import Author, Category, Post, Tag
from .random_queries import KEYS, TABLES, Dice, snapshot, write

pytestmark = pytest.mark.django_db

ROUNDS = int(os.environ.get("CACHEOPS_TEST_ROUNDS", "6"))
QUERIES = 25
CHANGES = 12
CONSISTENT = 40

Rows = list[tuple[Any, ...]]
Options = list[tuple[str, dict[str, str]]]


class Refused(Exception):
    """Django does not compile the query."""


def load(queryset: Any) -> tuple[Rows, Conditions | None]:
    """The rows of the result, and the dependencies; None if there is nothing to ask for."""
    compiler = queryset.query.clone().get_compiler("default")
    try:
        sql, _ = compiler.as_sql()
    except (EmptyResultSet, FullResultSet):
        return [], None
    except Exception as error:  # there are queries that Django's compiler chokes on
        raise Refused from error
    found = analyse(compiler, sql)
    return rows_of(queryset), found


def rows_of(queryset: Any) -> Rows:
    compiler = queryset.query.clone().get_compiler("default")
    rows = [tuple(row) for row in compiler.results_iter()]
    return rows if queryset.query.is_sliced else sorted(rows, key=repr)


def dependencies(rows: Rows, found: Conditions) -> Iterator[tuple[str, dict[str, str]]]:
    """(table, terms) of the query and of its rows."""
    for table, options in found.tables.items():
        for option in options:
            yield table, dict(option)
    for dynamic in found.dynamic:
        for row in rows:
            if row[dynamic.index] is not None:
                spelt = values.text(dynamic.field, row[dynamic.index])
                yield dynamic.table, {} if spelt is None else {dynamic.column: spelt}


def spell(model: Any, row: dict[str, Any]) -> Row:
    fields = {field.column: field for field in model._meta.local_concrete_fields}
    return Row(
        fields,
        {
            column: text
            for column, field in fields.items()
            if values.usable(field) and (text := values.text(field, row[field.attname])) is not None
        },
    )


def meets(model: Any, row: dict[str, Any] | None, wanted: Options) -> bool:
    if row is None:
        return False
    spelt = spell(model, row)
    return any(
        table == model._meta.db_table
        and all(column not in spelt or spelt[column] == text for column, text in terms.items())
        for table, terms in wanted
    )


def consistent() -> bool:
    with connection.cursor() as cursor:
        return not cursor.execute("PRAGMA foreign_key_check").fetchall()


def populate(dice: Dice) -> None:
    for model in TABLES:
        for key in KEYS:
            if model in TABLES[:3] or dice.chance(0.75):
                write(model, key, dice.row(model))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_change_that_changes_a_result_meets_a_dependency(seed: int) -> None:
    """For any query and any change between two consistent states of the database."""
    if connection.vendor != "sqlite":
        pytest.skip("writes rows by SQLite's own statements")
    dice = Dice(seed + int(os.environ.get("CACHEOPS_TEST_SEED", "0")))
    seen: Counter[str] = Counter()
    for _ in range(QUERIES):
        with transaction.atomic():
            while True:
                populate(dice)
                if consistent():
                    break
            with suppress(FieldError):  # Django does not nest all that may be drawn
                check(dice.queryset(), dice, seen)
            transaction.set_rollback(True)
    assert seen["changed"] > CHANGES, f"the test looks at too little: {seen}"


#: Where what one query says is carried into another, and NULL, order or absence spoil it.
CARRIED: dict[str, Callable[[], Any]] = {
    "NULL among the rows of NOT IN": lambda: Author.objects.filter(pk=1).exclude(
        pk__in=Post.objects.values("editor")
    ),
    "NULL looked for": lambda: (
        Post.objects.filter(editor=None)
        .annotate(x=In(F("editor"), Author.objects.filter(name="a").values("pk")))
        .values_list("pk", "x")
    ),
    "nobody looked for": lambda: (
        Author.objects.filter(pk=1)
        .annotate(x=In(F("profile__author_id"), Tag.objects.filter(name="a").values("pk")))
        .values_list("pk", "x")
    ),
    "cut by order": lambda: Post.objects.filter(
        author=1, author__in=Author.objects.order_by("name").values("pk")[:1]
    ),
    "the last of each group": lambda: Post.objects.filter(
        author=1,
        author__in=Author.objects.values("name").annotate(last=Max("pk")).values("last"),
    ),
    "said of some": lambda: Author.objects.filter(
        Q(Exists(Post.objects.filter(author=OuterRef("pk"))), name="a") | Q(pk=3)
    ),
    "no match, and NULL in one": lambda: Author.objects.annotate(
        r=FilteredRelation("posts", condition=Q(posts__published=True))
    ).filter(r__editor=None),
    "ON about the other side": lambda: Author.objects.annotate(
        r=FilteredRelation("posts", condition=Q(name="a"))
    ).values_list("pk", "r__title"),
    "behind what matched": lambda: Category.objects.annotate(
        r=FilteredRelation("posts", condition=Q(posts__published=True))
    ).values_list("pk", "r__tags__name"),
    "inner by a value": lambda: Author.objects.annotate(
        r=FilteredRelation("posts", condition=Q(posts__published=True))
    ).filter(r__category=1),
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_is_carried_is_true(name: str) -> None:
    """Queries in which a term said of one table must not be said of another."""
    if connection.vendor != "sqlite":
        pytest.skip("writes rows by SQLite's own statements")
    dice = Dice(int(os.environ.get("CACHEOPS_TEST_SEED", "0")))
    seen: Counter[str] = Counter()
    for _ in range(CONSISTENT):
        with transaction.atomic():
            while True:
                populate(dice)
                if consistent():
                    break
            check(CARRIED[name](), dice, seen, 2 * CHANGES)
            transaction.set_rollback(True)
    assert seen["changed"] >= CHANGES, f"the test looks at too little: {seen}"


def check(queryset: Any, dice: Dice, seen: Counter[str], changes: int = CHANGES) -> None:
    try:
        rows, found = load(queryset)
    except Refused:
        return
    before = snapshot()
    present = set(before)
    likely = [model for model in TABLES if found and model._meta.db_table in found.tables]
    for _ in range(changes):
        steps = dice.steps(present, likely)
        with transaction.atomic():
            for step in steps:
                write(*step)
            later = rows_of(queryset) if found else rows
            relevant = later != rows and consistent()
            after = snapshot() if relevant else before
            transaction.set_rollback(True)
        if not relevant:
            seen["same"] += 1
            continue
        seen["changed"] += 1
        assert found is not None
        assert found.reason == ""
        wanted = list(dependencies(rows, found))
        changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        assert any(
            meets(key[0], row, wanted)
            for key in changed
            for row in (before.get(key), after.get(key))
        ), (
            f"\n{queryset.query}\n{found}\nbefore: {rows}\nafter: {later}\nchanged:"
            f" { {key: (before.get(key), after.get(key)) for key in changed} }"
        )
