"""What a process keeps for itself: some megabytes, and no connections of threads that ended."""

from __future__ import annotations

import datetime
import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.models import Count, F, Max, Min, Q, Sum
from django.test import override_settings

from cacheops_lite.core import memo
from cacheops_lite.core.memo import Sized, by_text, weight
from cacheops_lite.orm import lazy, reads

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


# -- memory ----------------------------------------------------------------------------------------

MEGABYTE = 1024 * 1024
#: Large numbers of large numbers.
MANY, HUGE = 3000, 10**18


def _text(number: int) -> str:
    return str(number).rjust(MEGABYTE // 2, "x")


def _keys(number: int) -> range:
    return range(HUGE + number, HUGE + number + MANY)


def _get(number: int) -> None:
    with pytest.raises(m.Post.DoesNotExist):
        m.Post.objects.get(title=_text(number))


def _related(number: int) -> None:
    author = m.Author.objects.get()
    list(author.posts.filter(title=_text(number)))
    author.posts.filter(pk__in=_keys(number)).count()


#: Large questions, each number another one.
LARGE: dict[str, Callable[[int], object]] = {
    "list": lambda n: list(m.Post.objects.filter(title=_text(n))),
    "get": _get,
    "first": lambda n: m.Post.objects.filter(title=_text(n)).first(),
    "count": lambda n: m.Post.objects.filter(title=_text(n)).count(),
    "aggregate": lambda n: m.Post.objects.filter(title=_text(n)).aggregate(Max("created")),
    "bytes": lambda n: m.Attachment.objects.filter(payload=_text(n).encode()).exists(),
    "any_of": lambda n: m.Post.objects.filter(Q(title=_text(n)) | Q(text=_text(n))).exists(),
    "texts": lambda n: m.Post.objects.filter(
        title__in=[f"{one} {n}".rjust(9000) for one in range(60)]
    ).exists(),
    "keys": lambda n: list(m.Post.objects.filter(pk__in=list(_keys(n)))),
    "range": lambda n: m.Post.objects.filter(pk__in=_keys(n)).exists(),
    "numbers": lambda n: list(m.Post.objects.filter(pk__in=range(MANY - n)).values_list()),
    "related": _related,
}


def _held(run: Callable[[], object]) -> int:
    """How many bytes more are in use when something is done."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", LARGE)
def test_large_questions_are_not_kept(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of half a megabyte and lists of thousands of keys do not stay in the process."""
    monkeypatch.setattr(reads, "audit", [])
    monkeypatch.setattr(lazy, "audit", [])
    ask = LARGE[kind]
    post()
    for number in (-1, -2, -2):
        ask(number)
    assert _held(lambda: [ask(number) for number in range(10)].clear()) < 0.6 * MEGABYTE


def test_heavy_items_share_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Light items are counted, heavy ones weighed together, and one too heavy is not remembered."""
    monkeypatch.setattr(memo, "MOST_BYTES", 1000)
    monkeypatch.setattr(memo, "HEAVIEST", 60)
    items: Sized[int, str] = Sized(5, lambda _, text: len(text), light=10)
    for number in range(9):
        items.set(number, "light")
        items.set(number + 100, "h" * 300)
        items.set(number + 200, "h" * 601)
        assert items.get(number) == "light"
        assert items.get(number + 100) == "h" * 300
        assert items.get(number + 200) is None
    assert (len(items.small), len(items.large)) == (5, 3)
    for text in ("a", "b" * 500, "c" * 400, "d", "e" * 600, "f" * 601, "g"):
        items.set(8, text)
        assert items.get(8) == (text if len(text) <= 600 else None)
    assert len(items) == len(items.items()) == 6
    assert items.large._weight == sum(len(text) for _, text in items.large.items()) == 300
    items.clear()
    items.set(1, "h" * 600)
    assert (len(items), items.large._weight) == (1, 600)


def test_weight() -> None:
    """What is in texts, numbers and all that holds them is weighed; what others hold is not."""
    for many in ("x" * 1000, b"x" * 1000, ["x" * 500, "x" * 500], {"a": "x" * 1000}, 1 << 8000,
                 ((("x" * 1000,),), m.Post), {("x" * 1000, 1)}, Decimal("1" * 3000)):  # fmt: skip
        assert 1000 <= weight(many) < 2000
    assert weight((m.Post, None, m.Post._meta.pk)) < 200


def test_long_texts_are_known_by_their_digests() -> None:
    """A function of a text is asked once for each, also for long ones, which are not kept."""
    asked = []

    @by_text(20)
    def head(text: str) -> str | None:
        asked.append(text[:3])
        return text[:3] if text else None

    for text in (
        "",
        "short",
        *(f"{number:3}" + "x" * 3000 for number in range(2)),
        "\ud800" * 3000,
    ):
        assert head(text) == head(text) == (text[:3] or None)
    assert asked == ["", "sho", "  0", "  1", "\ud800" * 3]
    assert _held(lambda: [head(_text(number)) for number in range(20)].clear()) < 0.1 * MEGABYTE
