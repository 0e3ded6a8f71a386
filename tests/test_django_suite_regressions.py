"""What Django's own ORM tests, run under the cache, have found. See ``tests/django_suite``."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from cacheops_lite.core.codec import Codec, Signer, Unfaithful

from . import models as m
from .watching import hits

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.mark.parametrize("lookup", ["exact", "gt", "gte", "lt", "lte"])
def test_value_beyond_its_column(lookup: str) -> None:
    """A number that the column cannot hold is decided without SQL, also for a known shape."""
    m.OrderLine.objects.create(order=1, line=1, quantity=1)
    for value in (10**30, 5, 10**30, -(10**30)):
        for _ in range(2):
            lines = m.OrderLine.objects.filter(**{f"quantity__{lookup}": value})
            assert len(lines.cache()) == len(lines.nocache())


def test_ordering_of_the_model_changes() -> None:
    """A query ordered by its model's Meta is another one once that says another order."""
    for name in ("b", "a"):
        m.Tag.objects.create(name=name)
    before = m.Tag._meta.ordering
    try:
        for ordering in (["name"], ["-name"], ["name"], None):
            m.Tag._meta.ordering = ordering
            for _ in range(3):
                names = [tag.name for tag in m.Tag.objects.cache()]
                expected = [tag.name for tag in m.Tag.objects.nocache()]
                assert names == expected
    finally:
        m.Tag._meta.ordering = before


def test_moments_with_and_without_zone() -> None:
    """A moment read where USE_TZ holds is aware, and where it does not it is naive; never mixed."""
    m.Memo.objects.create(created=timezone.now())
    for use_tz in (True, False, True):
        with override_settings(USE_TZ=use_tz):
            for _ in range(3):
                memo = m.Memo.objects.cache().get()
                assert timezone.is_aware(memo.created) == use_tz


def test_zone_of_the_connection() -> None:
    """Moments come in the zone of their connection, which is part of the key."""
    if connections["default"].vendor == "postgresql":
        pytest.skip("PostgreSQL converts in the server")
    m.Memo.objects.create(created=timezone.now())
    connection = connections["default"]
    before = connection.settings_dict["TIME_ZONE"]
    try:
        for name in ("UTC", "Asia/Bangkok", "UTC"):
            connection.settings_dict["TIME_ZONE"] = name
            for attribute in ("timezone", "timezone_name"):
                connection.__dict__.pop(attribute, None)
            # An ordering by expression has no shape, so that it is compiled each time.
            memos = m.Memo.objects.order_by(m.models.F("id").asc())
            assert memos.cache()[0].created.tzname() == memos.nocache()[0].created.tzname()
    finally:
        connection.settings_dict["TIME_ZONE"] = before
        for attribute in ("timezone", "timezone_name"):
            connection.__dict__.pop(attribute, None)


class Money(Decimal):
    """Has attributes that ``Decimal`` does not pickle."""

    currency: str


class Label(str):
    """Has attributes that are pickled."""


def test_values_that_pickling_strips() -> None:
    """Rows whose values would come back without their attributes are not stored."""
    codec = Codec(Signer([b"key"]))
    money, label = Money("1.5"), Label("x")
    money.currency = "EUR"
    label.colour = "red"  # type: ignore[attr-defined]
    with pytest.raises(Unfaithful):
        codec.rows_to_bytes([(1, money)], b"")
    ((back,),) = codec.bytes_to_rows(codec.rows_to_bytes([(label,)], b""), b"")
    assert (back, back.colour) == ("x", "red")


class Fickle:
    """A router that names another database each time it is asked."""

    asked: list[str]

    def __init__(self) -> None:
        Fickle.asked = []

    def db_for_read(self, model: Any, **hints: Any) -> str:
        Fickle.asked.append("other" if len(Fickle.asked) % 2 else "default")
        return Fickle.asked[-1]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize(
    "read",
    [
        lambda notes: [note.text for note in notes.all()][0],
        lambda notes: notes.get(deleted=False).text,
        lambda notes: "default" if notes.count() == 1 else "other",
        lambda notes: "default" if notes.filter(text="default").exists() else "other",
        lambda notes: notes.aggregate(text=m.models.Max("text"))["text"],
    ],
    ids=["fetch", "get", "count", "exists", "aggregate"],
)
def test_router_is_asked_once(read: Any) -> None:
    """Each read belongs to one database: the one that the router named when first asked."""
    m.Note.objects.using("default").create(text="default")
    m.Note.objects.using("other").create(text="other")
    m.Note.objects.using("other").create(text="other", deleted=True)
    if "count" in str(read.__code__.co_names):
        m.Note.objects.using("other").create(text="other")
    with override_settings(DATABASE_ROUTERS=[Fickle()]), hits() as seen:
        for _ in range(8):
            before = len(Fickle.asked)
            answer = read(m.Note.objects.cache())
            assert len(Fickle.asked) == before + 1
            assert answer == Fickle.asked[-1]
    assert any(seen)
