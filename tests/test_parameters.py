"""Parameters in keys: two that the database may tell apart are spelt apart, or there is no key."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings

from cacheops_lite.orm.fingerprint import Unspellable, spell_param

from . import models as m
from .watching import plain


class Zone(dt.tzinfo):
    """Its text says nothing of where it lies, as that of ``dateutil.tz.tzrange``."""

    def __init__(self, hours: int) -> None:
        self.hours = hours

    def __repr__(self) -> str:
        return "Zone(...)"

    def utcoffset(self, when: Any) -> dt.timedelta:
        return dt.timedelta(hours=self.hours)

    def dst(self, when: Any) -> dt.timedelta:
        return dt.timedelta(0)

    def tzname(self, when: Any) -> str:
        return "Zone"


EST, XYZ = Zone(-5), Zone(1)
NOON = dt.datetime(2024, 3, 1, 12)
PARIS = ZoneInfo("Europe/Paris")
AUTUMN = dt.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS)


class Silent(dt.tzinfo):
    """A zone that has no offset to tell."""

    def utcoffset(self, when: Any) -> None:
        return None


class Moment(dt.datetime):
    """A class of its own."""


class Broken(dt.tzinfo):
    def utcoffset(self, when: Any) -> Any:
        raise RuntimeError("no offset today")


def one() -> Any:
    class Kind(enum.Enum):
        A = 1

    Kind.__module__, Kind.__qualname__ = "one", "Kind"
    return Kind.A


def other() -> Any:
    class Kind(enum.Enum):
        A = 1

    Kind.__module__, Kind.__qualname__ = "other", "Kind"
    return Kind.A


#: Each differs from all others of its line.
DIFFERENT: list[list[Any]] = [
    [NOON.replace(tzinfo=zone) for zone in (None, EST, XYZ, dt.UTC, Silent())],
    [NOON.time().replace(tzinfo=zone) for zone in (None, EST, XYZ, dt.UTC, Silent())],
    [[NOON.replace(tzinfo=zone)] for zone in (EST, XYZ)],
    [AUTUMN, AUTUMN.replace(fold=1), AUTUMN.replace(tzinfo=None)],
    [NOON, NOON.date(), NOON.time(), NOON.isoformat(), Moment(2024, 3, 1, 12)],
    [NOON, NOON.replace(microsecond=1), NOON + dt.timedelta(days=1)],
    [dt.timedelta(1), dt.timedelta(0, 1), dt.timedelta(0, 0, 1)],
    [one(), other()],
]  # fmt: skip


@pytest.mark.parametrize("values", DIFFERENT)
def test_what_differs_is_spelt_apart(values: list[Any]) -> None:
    """Zones of one text may lie hours apart; enums of two modules may have one name."""
    for left, right in itertools.combinations(values, 2):
        assert spell_param(left) != spell_param(right)


def test_zones_of_one_text_are_what_this_is_about() -> None:
    """Else the test above would prove nothing."""
    assert repr(EST) == repr(XYZ)
    assert NOON.replace(tzinfo=EST) != NOON.replace(tzinfo=XYZ)


def test_ranges_of_moments() -> None:
    """A range is spelt by its limits, and by whether they belong to it."""
    range_of: Any = pytest.importorskip("psycopg.types.range").Range
    limits = [NOON.replace(tzinfo=zone) for zone in (EST, XYZ)]
    ranges = [range_of(limit, None, "[)") for limit in limits]
    ranges += [
        range_of(limits[0], None, "()"),
        range_of(None, limits[0], "[)"),
        range_of(empty=True),
    ]
    ranges += [range_of("1", "2"), range_of(1, 2), range_of(1, 2, "[]")]
    assert len(set(map(spell_param, ranges))) == len(ranges)


def nested() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


UNSPELLABLE: dict[str, Callable[[], Any]] = {
    "an integer that is no text": lambda: 10**5000,
    "among others": lambda: [1, 10**5000],
    "without an end": nested,
    "a zone that fails": lambda: NOON.replace(tzinfo=Broken()),
    "a zone by itself": lambda: EST,
    "of nobody's": object,
}


@pytest.mark.parametrize("name", UNSPELLABLE)
def test_what_cannot_be_spelt_has_no_key(name: str) -> None:
    """Whatever spelling it raises, the query is just not cached."""
    with pytest.raises(Unspellable):
        spell_param(UNSPELLABLE[name]())


def answer(make: Callable[[], Any]) -> Any:
    try:
        return list(map(plain, make()))
    except Exception as error:
        return type(error)


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
@override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}})
@pytest.mark.parametrize("name", ["views__in", "views", "title", "pk__in", "rating", "score"])
def test_numbers_of_many_digits(name: str) -> None:
    """The answer, or the error, is Django's."""
    condition = {name: [1, 10**5000] if name.endswith("__in") else 10**5000}
    plainly = answer(lambda: m.Post.objects.nocache().filter(**condition))
    for _ in range(3):
        assert answer(lambda: m.Post.objects.filter(**condition)) == plainly


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
@override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}})
def test_moments_in_zones_of_one_text() -> None:
    """The same hands of the clock in two zones are two moments, asked in any order."""
    for zone in (EST, XYZ):
        m.Memo.objects.create(created=NOON.replace(tzinfo=zone), text=str(zone.utcoffset(NOON)))
    for _ in range(4):
        for zone in (EST, XYZ):
            moment = NOON.replace(tzinfo=zone)
            (memo,) = m.Memo.objects.filter(created=moment)
            assert memo.text == str(zone.utcoffset(NOON))
            assert m.Memo.objects.get(created=moment) == memo
            assert m.Memo.objects.filter(created__range=(moment, moment)).count() == 1
