"""What a process keeps for itself: no connections of threads that ended."""

from __future__ import annotations

import datetime
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.models import Count, F, Max, Min, Sum
from django.test import override_settings

from . import models as m
from .faults.machines import until

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


def post() -> m.Post:
    category = m.Category.objects.get_or_create(slug="c", defaults={"title": "c"})[0]
    author = m.Author.objects.get_or_create(name="a")[0]
    return m.Post.objects.create(
        category=category, author=author, created=NOW, day=NOW.date(), rating=Decimal("1.50"),
        duration=datetime.timedelta(1),
    )  # fmt: skip


# -- connections -----------------------------------------------------------------------------------


def _write(number: int) -> None:
    """Each kind of write, next to conditions whose old values the writes look up."""
    made = post()
    for _ in range(2):
        list(m.Post.objects.filter(created__gt=NOW - datetime.timedelta(number)))
        list(m.Post.objects.filter(rating=Decimal(number), duration=datetime.timedelta(number)))
    made.created = NOW + datetime.timedelta(number)
    made.save()
    m.Post.objects.filter(pk=made.pk).update(rating=Decimal(number), views=F("views") + 1)
    m.Post.objects.filter(views__gte=number).update(duration=datetime.timedelta(number))
    m.Post.objects.filter(pk=made.pk).delete()
    token = m.Token.objects.create()
    for label in ("x", "y"):
        list(m.Token.objects.filter(label=label))
        token.label = label
        token.save()
    token.delete()
    made = post()
    m.Post.objects.bulk_update([made], ["created"])
    m.Post.objects.bulk_create([m.Post(author=made.author, category=made.category)])
    made.delete()


#: What threads ask, each of them by a number of its own.
ASKED: dict[str, Callable[[int], object]] = {
    "list": lambda n: list(m.Post.objects.filter(views__gte=-n)),
    "get": lambda n: m.Post.objects.filter(views__gte=-n).order_by("pk").first(),
    "count": lambda n: m.Post.objects.filter(views__gte=-n).count(),
    "exists": lambda n: m.Post.objects.filter(views__gte=-n).exists(),
    "aggregate": lambda n: m.Post.objects.filter(views__gte=-n).aggregate(
        Max("created"), Min("rating"), Sum("duration"), Count("pk")
    ),
    "annotate": lambda n: list(
        m.Author.objects.filter(pk__gte=-n).annotate(last=Max("posts__created"))
    ),
    "values_list": lambda n: list(m.Post.objects.filter(views__gte=-n).values_list("created")),
    "values": lambda n: list(m.Post.objects.filter(views__gte=-n).values("rating", "duration")),
    "select_related": lambda n: list(
        m.TokenUse.objects.filter(count__gte=-n).select_related("token")
    ),
    "prefetch_related": lambda n: list(
        m.Post.objects.filter(views__gte=-n).prefetch_related("tags", "author__posts")
    ),
    "foreign_key": lambda n: [
        (one.author, one.category, one.author.posts.filter(views__gte=-n).count())
        for one in m.Post.objects.all()
    ],
    "uuid": lambda n: [one.token for one in m.TokenUse.objects.filter(count__gte=-n)],
    "write": _write,
}


def _in_threads(ask: Callable[[int], object]) -> list[weakref.ref[Any]]:
    """What was the connection of each of some threads that asked thrice."""
    found: list[weakref.ref[Any]] = []

    def work(number: int) -> None:
        for _ in range(3):
            ask(number)
        found.append(weakref.ref(connections["default"]))
        if settings.TEST_DB != "mysql":
            connections.close_all()  # their drivers warn of those that nobody closed

    for number in range(4):
        thread = threading.Thread(target=work, args=(number,))
        thread.start()
        thread.join()
    gc.collect()
    assert len(found) == 4
    return found


def _connected() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM information_schema.processlist")
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("kind", ASKED)
def test_connections_end_with_their_threads(kind: str) -> None:
    """Nothing that is remembered holds the connection of a thread that ended."""
    m.TokenUse.objects.create(token=m.Token.objects.create(), count=1)
    post().tags.add(m.Tag.objects.create(name="t"))
    before = _connected() if settings.TEST_DB == "mysql" else 0
    assert [ref() for ref in _in_threads(ASKED[kind])] == [None] * 4
    if settings.TEST_DB == "mysql":
        until(lambda: _connected() <= before)  # a server takes a moment to see who hung up
