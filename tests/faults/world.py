"""What is read and written while things break, and the database's word on every answer.

``Checker`` watches every read of the process: an answer from the cache is loaded once more and
compared. ``READS`` and ``WRITES`` are the traffic; each write changes what some reads answer.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.color import no_style
from django.db import connection, transaction

from cacheops_lite import engine, invalidate_all, invalidate_model, invalidate_obj
from tests import models as m
from tests.watching import Read, hits

READS = [
    Read(lambda: m.Post.objects.order_by("pk"), label="all posts"),
    Read(lambda: m.Post.objects.filter(category_id=1).order_by("pk"), label="one category"),
    Read(lambda: m.Post.objects.select_related("author").order_by("pk"), label="with authors"),
    Read(lambda: m.Post.objects.filter(author__name="Ann").order_by("pk"), label="by name"),
    Read(lambda: m.Post.objects.filter(tags__name="red").order_by("pk"), label="tagged"),
    Read(lambda: m.Post.objects.filter(pk=1), "get", "one post"),
    Read(lambda: m.Post.objects.filter(views__gte=10), "count", "much read"),
    Read(lambda: m.Author.objects.filter(name="Bob"), "exists", "a Bob"),
]

_fresh = itertools.count(100)


def populate() -> None:
    """Two of everything, under keys that are known."""
    for number, name in ((1, "Ann"), (2, "Bob")):
        m.Category.objects.create(pk=number, slug=name, title=name)
        m.Author.objects.create(pk=number, name=name)
        m.Tag.objects.create(pk=number, name=["red", "blue"][number - 1])
    for number in (1, 2, 3):
        one = m.Post.objects.create(
            pk=number, title=f"post {number}", author_id=1 + number % 2, category_id=1 + number % 2
        )
        one.tags.add(1 + number % 2)
    # Keys that were given do not move what the database gives keys from.
    models = [m.Category, m.Author, m.Tag, m.Post]
    for statement in connection.ops.sequence_reset_sql(no_style(), models):
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _post() -> m.Post:
    return m.Post.objects.nocache().get(pk=1)


def _save() -> None:
    one = _post()
    one.title = f"title {next(_fresh)}"
    one.category_id = 3 - one.category_id
    one.save()


def _both() -> None:
    with transaction.atomic():
        m.Author.objects.filter(pk=1).update(name=f"Ann {next(_fresh) % 3}")
        m.Post.objects.filter(pk=1).update(views=next(_fresh))


def _rolled_back() -> None:
    with transaction.atomic():
        m.Post.objects.filter(pk=1).update(title="never")
        transaction.set_rollback(True)


def _raw() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_post SET title = %s", [f"raw {next(_fresh)}"])


def _swap_tags() -> None:
    one = _post()
    (tag,) = one.tags.nocache().values_list("pk", flat=True)
    one.tags.set([3 - tag])


def _create() -> None:
    m.Post.objects.create(title=f"new {next(_fresh)}", author_id=1, category_id=1, views=20)


def _delete() -> None:
    one = m.Post.objects.nocache().order_by("-pk").first()
    if one is not None and one.pk > 3:
        one.delete()
    else:
        m.Tag.objects.create(pk=next(_fresh), name="green")
        m.Tag.objects.filter(name="green").delete()


WRITES: dict[str, Callable[[], Any]] = {
    "save": _save,
    "update": lambda: m.Post.objects.filter(category_id=1).update(views=next(_fresh) % 20),
    "two tables": _both,
    "roll back": _rolled_back,
    "raw SQL": _raw,
    "tags": _swap_tags,
    "create": _create,
    "delete": _delete,
    "rename": lambda: m.Author.objects.filter(pk=2).update(name=["Bob", "Rob"][next(_fresh) % 2]),
}

BY_HAND: dict[str, Callable[[], Any]] = {
    "invalidate_obj": lambda: invalidate_obj(_post()),
    "invalidate_model": lambda: invalidate_model(m.Post),
    "invalidate_all": lambda: invalidate_all(),
}


class Stale(AssertionError):
    """An answer of the cache was not what the database says."""


class Checker:
    """Compares each answer of the cache with the database, as it is given."""

    def __init__(self) -> None:
        self.hits = 0
        self.reasons: Counter[str] = Counter()
        self.stale: list[str] = []

    def note(self, outcome: Any, load: Callable[[], Any], plan: Any) -> None:
        if not outcome.hit:
            self.reasons[outcome.reason] += 1
            return
        self.hits += 1
        if not isinstance(outcome.value, list):
            return  # of a function or view; whoever calls it compares
        fresh = list(load())
        if outcome.value != fresh:
            self.stale.append(f"{plan.entry!r}: {outcome.value} instead of {fresh}")

    def judge(self) -> None:
        """Fail if an answer was stale since the last time."""
        found, self.stale = self.stale, []
        if found:
            raise Stale("\n".join(found))


@contextmanager
def checking() -> Iterator[Checker]:
    """Check each read of rows in this process; what is found fails the test at the end."""
    checker = Checker()
    through = engine.Engine.read

    def checked(self: Any, plan: Any, load: Any, **options: Any) -> Any:
        outcome = through(self, plan, load, **options)
        checker.note(outcome, load, plan)
        return outcome

    engine.Engine.read = checked  # type: ignore[method-assign]
    try:
        yield checker
    finally:
        engine.Engine.read = through  # type: ignore[method-assign]
    checker.judge()


def look(reads: list[Read] = READS, why: str = "") -> int:
    """Each read answers what the database says; how many did so from the cache."""
    found = 0
    for read in reads:
        with hits() as seen:
            answer = read.cached()
        assert answer == read.uncached(), f"stale: {read} {why}"
        found += bool(seen) and all(seen)
    return found


def recovers(reads: list[Read] = READS, why: str = "", seconds: float = 20) -> None:
    """Each read is right at every moment, and before long all are answered by the cache again."""
    deadline = time.monotonic() + seconds
    while look(reads, why) < len(reads):
        assert time.monotonic() < deadline, f"it is not cached again {why}"
        time.sleep(0.01)


def traffic(chance: random.Random, steps: int, writes: float = 0.3) -> None:
    """Random reads and writes, each answer compared."""
    for _ in range(steps):
        if chance.random() < writes:
            name = chance.choice(list(WRITES))
            WRITES[name]()
        else:
            look([chance.choice(READS)])
