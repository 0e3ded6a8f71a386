"""Comparisons narrow: a row outside the range, before and after, drops nothing."""

from __future__ import annotations

import datetime
import decimal
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Q
from hypothesis import given
from hypothesis import strategies as st

from cacheops_lite.orm import ranges, values

from . import models as m
from .watching import Read, assert_dropped, assert_hit, prime

pytestmark = [pytest.mark.database]

DAY = datetime.date(2024, 5, 17)
NOON = datetime.datetime(2024, 5, 17, 12, 30, tzinfo=datetime.UTC)


def post(**columns: Any) -> m.Post:
    category, _ = m.Category.objects.get_or_create(slug="c", defaults={"title": "c"})
    author, _ = m.Author.objects.get_or_create(name="a")
    return m.Post.objects.create(title="p", category=category, author=author, **columns)


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


#: Contexts of the thread that asks, or writes: its rounding is not that of a limit.
CONTEXTS = {
    "three digits": decimal.Context(prec=3),
    "one digit, up": decimal.Context(prec=1, rounding=decimal.ROUND_UP),
    "down": decimal.Context(prec=4, rounding=decimal.ROUND_DOWN),
    "small numbers": decimal.Context(prec=5, Emax=2, Emin=-2),
    "all traps": decimal.Context(prec=28, traps=list(decimal.Context().flags)),
    "small and all traps": decimal.Context(prec=2, Emax=1, traps=list(decimal.Context().flags)),
}
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6), st.integers(-(10**19), 10**19),
    st.decimals(-1000, 1000, places=2), st.decimals(-1000, 1000, places=25),
)  # fmt: skip
OPERATORS = st.sampled_from(["<", "<=", ">", ">="])
FIELDS = st.sampled_from(["views", "rating", "duration"])


def exactly(value: Any, operator: str, limit: Any) -> bool:
    return {
        "<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit,
    }[operator]  # fmt: skip


@given(value=NUMBERS, limit=NUMBERS, operator=OPERATORS, context=st.sampled_from([*CONTEXTS, ""]))
def test_rounded_limits_only_widen(value: Any, limit: Any, operator: str, context: str) -> None:
    """What meets the comparison meets the one with the rounded limit, in every context."""
    with decimal.localcontext(CONTEXTS.get(context)):
        rounded = ranges._rounded(Decimal(limit), operator[0] == "<")
        assert rounded is not None
        if exactly(value, operator, limit):
            assert ranges.holds("decimal", str(value), operator, rounded)
    assert rounded == ranges._rounded(Decimal(limit), operator[0] == "<")


@given(
    name=FIELDS, value=st.integers(-9999, 9999), limit=st.integers(-9999, 9999),
    operator=OPERATORS, context=st.sampled_from([*CONTEXTS, ""]),
)  # fmt: skip
def test_conditions_of_every_context_are_one(
    name: str, value: Any, limit: Any, operator: str, context: str
) -> None:
    """A plan is remembered for all threads: it does not hang on the context of the first."""
    field = m.Post._meta.get_field(name)
    unit = {"views": 1, "rating": Decimal(1), "duration": datetime.timedelta(seconds=7)}[name]
    value, limit = value * unit, limit * unit
    column = ranges.condition(field, operator, limit)
    with decimal.localcontext(CONTEXTS.get(context)):
        assert ranges.condition(field, operator, limit) == column
        text = values.text(field, value)
        assert text is not None
        row = ranges.Row({name: field}, {name: text})
        if exactly(value, operator, limit):
            assert row[column] == ranges.TRUE


ODD_LIMITS = {
    "more digits than the column": {"rating__gte": Decimal("1239." + "9" * 30)},
    "far more digits": {"rating__gte": Decimal("1." + "9" * 500)},
    "beyond any column": {"rating__lt": Decimal("1E+9999999")},
    "beyond any column, below": {"rating__gt": Decimal("-1E+9999999")},
    "next to nothing": {"rating__lt": Decimal("1E-9999999")},
    "next to minus one unit": {"rating__lt": Decimal("-0.01") + Decimal("1E-25")},
    "an integer of many digits": {"rating__lt": 10**60},
    "an integer that is no text": {"rating__lt": 10**5000},
    "not a number": {"rating__lt": Decimal("NaN")},
    "infinite": {"rating__lt": Decimal("Infinity")},
    "an integer column": {"views__gte": 1239},
    "an integer column, beyond": {"views__lt": 10**30},
    "an integer column, far beyond": {"views__lt": 10**5000},
    "a duration": {"duration__gte": datetime.timedelta(days=999, microseconds=1)},
    "excluded": {"views__gte": -1239},
}


def answer(make: Any) -> Any:
    """The number of rows, or what was raised."""
    try:
        return make().count()
    except Exception as error:
        return type(error)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("context", [*CONTEXTS, ""])
@pytest.mark.parametrize("limit", ODD_LIMITS)
def test_limits_that_do_not_fit(context: str, limit: str) -> None:
    """An answer, or an error, is what Django gives; a limit that cannot be rounded just widens."""
    row = post(views=0, rating=Decimal(0), duration=datetime.timedelta(0))
    for makes in (
        lambda found: found.filter(**ODD_LIMITS[limit]),
        lambda found: found.exclude(**ODD_LIMITS[limit]),
    ):
        with decimal.localcontext(CONTEXTS.get(context)):
            for number in (0, 1239):
                m.Post.objects.nocache().filter(pk=row.pk).update(
                    views=number, duration=datetime.timedelta(days=number)
                )
                plain = answer(lambda makes=makes: makes(m.Post.objects.nocache()))
                for _ in range(3):
                    assert answer(lambda makes=makes: makes(m.Post.objects.cache())) == plain


@pytest.mark.django_db(transaction=True)
def test_a_plan_does_not_keep_the_rounding_of_who_made_it() -> None:
    """What one thread asked under a context of its own is dropped by the others' writes."""
    row = post(views=0)
    read = Read(lambda: m.Post.objects.filter(views__gte=1239))
    with decimal.localcontext(prec=3):
        prime(read)
    m.Post.objects.filter(pk=row.pk).update(views=1239)
    assert_dropped(read)
