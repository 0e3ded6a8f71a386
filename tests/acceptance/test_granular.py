"""After a save: entries whose conditions neither row meets are hits, the others are not."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Q

from tests import models as m
from tests.watching import Read, assert_dropped, assert_hit, prime

from .tools import MANUAL, post

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture(autouse=True)
def manual(settings: Any) -> None:
    settings.CACHEOPS = MANUAL


#: Two values of each kind that conditions can name.
VALUES: dict[str, tuple[Any, Any, Any]] = {
    "title": ("old", "new", "third"),
    "text": ("old " * 100, "new " * 100, "third"),
    "published": (False, True, None),
    "status": ("draft", "review", "live"),
    "views": (1, 2, 3),
    "rating": (Decimal("1.50"), Decimal("2"), Decimal("3")),
    "day": (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2), datetime.date(2024, 1, 3)),
    "at": (datetime.time(1), datetime.time(2), datetime.time(3)),
    "duration": tuple(datetime.timedelta(days=number) for number in (1, 2, 3)),  # type: ignore
    "created": tuple(
        datetime.datetime(2024, 1, number, tzinfo=datetime.UTC)
        for number in (1, 2, 3)  # type: ignore[dict-item]
    ),
}


@pytest.mark.parametrize("field", VALUES)
def test_a_change_of_any_kind_of_value_is_found(field: str) -> None:
    """Results by the old value and by the new one are dropped, by a third value they stay."""
    old, new, third = VALUES[field]
    one = post(**({field: old} if field != "title" else {}), title="t" if field != "title" else old)
    by = lambda value: Read(lambda: m.Post.objects.filter(**{field: value}), label=repr(value))  # noqa: E731
    reads = {value: by(value) for value in (old, new)}
    elsewhere = by(third) if third is not None else None
    prime(*reads.values(), *([elsewhere] if elsewhere else []))
    setattr(one, field, new)
    one.save()
    for read in reads.values():
        assert_dropped(read)
    if elsewhere:
        assert_hit(elsewhere)


CONDITIONS: dict[str, Callable[[], Q]] = {
    "A": lambda: Q(title="A"),
    "B": lambda: Q(title="B"),
    "A or B": lambda: Q(title="A") | Q(title="B"),
    "in": lambda: Q(title__in=["B", "C"]),
    "A and live": lambda: Q(title="A", status="live"),
    "A and draft": lambda: Q(title="A", status="draft"),
    "live": lambda: Q(status="live"),
    "no editor": lambda: Q(editor=None),
    "no day and B": lambda: Q(day=None, title="B"),
    "C or live and B": lambda: Q(title="C") | Q(status="live", title="B"),
}


def meets(condition: Q, row: m.Post) -> bool:
    return bool(m.Post.objects.nocache().filter(condition, pk=row.pk).exists())


@pytest.mark.parametrize(
    ("old", "new"),
    list(itertools.permutations(
        [("A", "draft"), ("A", "live"), ("B", "draft"), ("C", "live"), ("D", "draft")], 2
    )),
)  # fmt: skip
def test_exactly_the_affected_are_dropped(old: tuple[str, str], new: tuple[str, str]) -> None:
    """A result is dropped if and only if the old or the new row meets its condition."""
    one = post(old[0], status=old[1])
    reads = {
        (name, op): Read(lambda c=condition: m.Post.objects.filter(c()), op, label=name)
        for name, condition in CONDITIONS.items()
        for op in ("fetch", "count")
    }
    prime(*reads.values())
    before = {name: meets(condition(), one) for name, condition in CONDITIONS.items()}
    one.title, one.status = new
    one.save()
    after = {name: meets(condition(), one) for name, condition in CONDITIONS.items()}
    for (name, _), read in reads.items():
        if before[name] or after[name]:
            assert_dropped(read)
        else:
            assert_hit(read)


def test_creating_and_deleting_drop_what_the_row_meets() -> None:
    """A new row drops the results that it belongs to, negative ones too; a deleted one as well."""
    category = m.Category.objects.create(title="c", slug="c")
    mine = [
        Read(lambda: m.Post.objects.filter(category=category)),
        Read(lambda: m.Post.objects.filter(category=category), "count"),
        Read(lambda: m.Post.objects.filter(category=category), "exists"),
        Read(lambda: m.Post.objects.filter(title="x"), "get"),
    ]
    others = [
        Read(lambda: m.Post.objects.filter(category=0)),
        Read(lambda: m.Post.objects.filter(title="y"), "get"),
    ]
    prime(*mine, *others)
    one = post("x", category=category)
    for read in mine:
        assert_dropped(read)
    for read in others:
        assert_hit(read)
    prime(*mine)
    one.delete()
    for read in mine:
        assert_dropped(read)
    for read in others:
        assert_hit(read)


def test_other_tables_are_not_touched() -> None:
    """A save of one model drops no result of another, though they are related."""
    one = post()
    one.tags.add(m.Tag.objects.create(name="red"))
    kept = [
        Read(lambda: m.Author.objects.all()),
        Read(lambda: m.Category.objects.all(), "count"),
        Read(lambda: m.Tag.objects.filter(posts=one)),
    ]
    prime(*kept)
    one.title = "new"
    one.save()
    for read in kept:
        assert_hit(read)


def test_saving_without_a_change_is_a_change() -> None:
    """An unchanged save drops what the row belongs to (its values may have come from anywhere)."""
    one = post("x")
    mine, other = (Read(lambda t=t: m.Post.objects.filter(title=t)) for t in ("x", "y"))
    prime(mine, other)
    one.save()
    assert_hit(other)
    assert mine.cached() == mine.uncached()


def test_related_rows_count_one_by_one() -> None:
    """A ``select_related`` result depends on the joined rows that it shows, not on their table."""
    ann, bob = (m.Author.objects.create(name=name) for name in ("Ann", "Bob"))
    post("by ann", author=ann)
    post("by bob", author=bob)
    of_ann = Read(lambda: m.Post.objects.filter(title="by ann").select_related("author"))
    of_bob = Read(lambda: m.Post.objects.filter(title="by bob").select_related("author"))
    prime(of_ann, of_bob)
    ann.name = "Anna"
    ann.save()
    assert_dropped(of_ann)
    assert_hit(of_bob)
