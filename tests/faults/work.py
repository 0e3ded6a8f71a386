"""What programs do that run side by side: count up rows, and never see a count go back.

Truth needs no referee here: who reads a row from the database and then through the cache must not
get less from the cache, since counts only grow (and a commit counts from when the database has it).
"""

from __future__ import annotations

import random

from django.db.models import F, Sum

from cacheops_lite import cached_as, signals
from tests import models as m

ROWS = 4
_hits: list[bool] = []


def prepare() -> None:
    """The rows, beside those of ``world.populate``."""
    for number in range(1, ROWS + 1):
        m.Post.objects.update_or_create(
            pk=number, defaults={"author_id": 1, "category_id": 1, "title": str(number), "views": 0}
        )


def write(number: int) -> None:
    m.Post.objects.filter(pk=number).update(views=F("views") + 1)


def read(number: int) -> None:
    """One row, in some of the ways in which it can be cached."""
    floor = m.Post.objects.nocache().get(pk=number).views
    assert m.Post.objects.filter(title=str(number)).cache().get().views >= floor, "stale get"
    floor = m.Post.objects.nocache().aggregate(sum=Sum("views"))["sum"]
    assert sum(post.views for post in m.Post.objects.cache()) >= floor, "stale list"
    floor = m.Post.objects.nocache().aggregate(sum=Sum("views"))["sum"]
    assert total() >= floor, "stale function"


@cached_as(m.Post)
def total() -> int:
    return m.Post.objects.nocache().aggregate(sum=Sum("views"))["sum"]


def count_hits() -> None:
    """Note from now on whether reads were hits."""
    signals.cache_read.connect(_note)


def _note(sender: object, hit: bool, **kwargs: object) -> None:
    _hits.append(hit)


def work(seed: object, rounds: int, writes: float = 0.2) -> int:
    """Read and write for a while; how many reads were answered by the cache."""
    count_hits()
    before = sum(_hits)
    chance = random.Random(str(seed))
    for _ in range(rounds):
        number = chance.randint(1, ROWS)
        if chance.random() < writes:
            write(number)
        else:
            read(number)
    return sum(_hits) - before


def written() -> int:
    """How often anybody has written."""
    return m.Post.objects.nocache().aggregate(sum=Sum("views"))["sum"]
