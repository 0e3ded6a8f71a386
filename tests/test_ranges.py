"""Comparisons narrow: a row outside the range, before and after, drops nothing."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Q
from hypothesis import given
from hypothesis import strategies as st

from cacheops_lite.orm import ranges

from . import models as m
from .watching import Read, assert_dropped, assert_hit, prime

pytestmark = [pytest.mark.database]

DAY = datetime.date(2024, 5, 17)
NOON = datetime.datetime(2024, 5, 17, 12, 30, tzinfo=datetime.UTC)


def post(**values: Any) -> m.Post:
    category, _ = m.Category.objects.get_or_create(slug="c", defaults={"title": "c"})
    author, _ = m.Author.objects.get_or_create(name="a")
    return m.Post.objects.create(title="p", category=category, author=author, **values)


#: condition -> (values inside, values outside).
CASES: dict[str, tuple[Q, dict[str, Any], dict[str, Any]]] = {
    "gt": (Q(views__gt=100), {"views": 101}, {"views": 100}),
    "gte": (Q(views__gte=100), {"views": 100}, {"views": 99}),
    "lt": (Q(views__lt=100), {"views": 99}, {"views": 100}),
    "lte": (Q(views__lte=100), {"views": 100}, {"views": 101}),
    "range": (Q(views__range=(10, 20)), {"views": 20}, {"views": 21}),
    "not gt": (~Q(views__gt=100), {"views": 100}, {"views": 101}),
    "not range": (~Q(views__range=(10, 20)), {"views": 9}, {"views": 10}),
    "or": (Q(views__lt=10) | Q(views__gt=100), {"views": 101}, {"views": 50}),
    "with equality": (Q(views__gt=100, status="live"), {"views": 101, "status": "live"}, {"views": 100, "status": "live"}),
    "negative": (Q(views__lt=-5), {"views": -6}, {"views": -5}),
    "float limit": (Q(views__gt=9.5), {"views": 10}, {"views": 9}),
    "decimal": (Q(rating__gte=Decimal("1.50")), {"rating": Decimal("1.5")}, {"rating": Decimal("1.48")}),
    "null is outside": (Q(rating__lt=5), {"rating": Decimal(4)}, {"rating": None}),
    "date": (Q(day__gte=DAY), {"day": DAY}, {"day": DAY - datetime.timedelta(1)}),
    "datetime": (Q(created__gte=NOON), {"created": NOON}, {"created": NOON - datetime.timedelta(hours=2)}),
    "time": (Q(at__lt=datetime.time(9)), {"at": datetime.time(8, 59, 59, 999999)}, {"at": datetime.time(9)}),
    "duration": (
        Q(duration__gt=datetime.timedelta(days=2)),
        {"duration": datetime.timedelta(days=3)}, {"duration": datetime.timedelta(days=2)},
    ),
    "year of a date": (Q(day__year=2024), {"day": DAY}, {"day": datetime.date(2023, 12, 31)}),
    "year of a moment": (Q(created__year=2024), {"created": NOON}, {"created": NOON.replace(year=2022)}),
    "year gt": (Q(day__year__gt=2020), {"day": DAY}, {"day": datetime.date(2019, 12, 31)}),
    "date of a moment": (Q(created__date=DAY), {"created": NOON}, {"created": NOON - datetime.timedelta(3)}),
    "date of a moment lt": (Q(created__date__lt=DAY), {"created": NOON - datetime.timedelta(1)}, {"created": NOON + datetime.timedelta(3)}),
}  # fmt: skip


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", CASES)
def test_range(name: str) -> None:
    """A row outside drops nothing, whatever changes in it; a row that comes in or goes out does."""
    condition, inside, outside = CASES[name]
    read = Read(lambda: m.Post.objects.filter(condition))
    row = post(**outside)
    prime(read)
    m.Post.objects.filter(pk=row.pk).update(title="changed outside")
    assert_hit(read, name)
    m.Post.objects.filter(pk=row.pk).update(**inside)
    assert_dropped(read, name)
    prime(read)
    row.refresh_from_db()
    row.title = "changed inside"
    row.save()
    assert_dropped(read, name)
    prime(read)
    m.Post.objects.filter(pk=row.pk).update(**outside)
    assert_dropped(read, name)
    prime(read)
    m.Post.objects.filter(pk=row.pk).delete()
    assert_hit(read, name)


@pytest.mark.django_db(transaction=True)
def test_digits_that_the_column_does_not_show() -> None:
    """SQLite keeps 1.004 in a column of two places, and compares it as such."""
    row = post(rating=Decimal("1.004"))
    read = Read(lambda: m.Post.objects.filter(rating__gt=1))
    prime(read)
    m.Post.objects.filter(pk=row.pk).update(title="changed")
    assert read.cached() == read.uncached()


@pytest.mark.django_db(transaction=True)
def test_many_limits_stay_bounded(redis_client: Any) -> None:
    """A limit that moves with every query neither fills the schemes nor goes stale."""
    row = post(views=5000)
    reads = [Read(lambda n=n: m.Post.objects.filter(views__gt=n * 37)) for n in range(120)]
    for read in reads:
        read.cached()
        read.cached()
    prime(Read(lambda: m.Post.objects.filter(status="draft")))
    schemes = redis_client.get("schemes:{tests_post}").split(b" ")[1:]
    assert len(schemes) <= 64
    m.Post.objects.filter(pk=row.pk).update(views=3)
    for read in reads:
        assert read.cached() == read.uncached()


NUMBERS = st.one_of(st.integers(-(10**6), 10**6), st.decimals(-1000, 1000, places=2))


@given(value=NUMBERS, limit=NUMBERS, operator=st.sampled_from(["<", "<=", ">", ">="]))
def test_rounded_limits_only_widen(value: Any, limit: Any, operator: str) -> None:
    """What meets the comparison meets the one with the rounded limit."""
    rounded = Decimal(ranges._rounded(Decimal(limit), operator[0] == "<"))
    exact = {
        "<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit,
    }[operator]  # fmt: skip
    if exact:
        assert ranges.holds("decimal", str(value), operator, str(rounded))
