"""Traffic as several processes make it: 95 reads to 5 writes, a few rows asked for by everybody."""

from __future__ import annotations

import random
import time
from itertools import accumulate
from typing import Any

from django.db import OperationalError

from . import watch
from .app import data
from .app.models import Item

WRITES = 0.05


class Zipf:
    """Picks the n-th of some values with a weight of 1/n; the order is the same for everybody."""

    def __init__(self, values: list[int], chance: random.Random) -> None:
        self.values = list(values)
        random.Random(1).shuffle(self.values)
        self.weights = list(accumulate(1 / n for n in range(1, len(values) + 1)))
        self.chance = chance

    def pick(self) -> int:
        """One value."""
        return self.chance.choices(self.values, cum_weights=self.weights)[0]


def run(seconds: float, start: float, seed: int, warm: float = 0.0) -> dict[str, Any]:
    """Work from ``start`` (time.time()) for ``warm`` + ``seconds``; what happened after ``warm``.

    ``reads`` and ``writes`` are lists of microseconds, ``hits`` the reads without a query,
    ``errors`` the operations that the database refused.
    """
    chance = random.Random(seed)
    items, groups = Zipf(data.items(), chance), Zipf(data.groups(20), chance)
    reads: list[int] = []
    writes: list[int] = []
    hits = errors = 0
    time.sleep(max(0.0, start - time.time()))
    begin = start + warm
    until = begin + seconds
    clock = time.perf_counter_ns
    with watch.queries() as asked:
        while True:
            wrote = chance.random() < WRITES
            before = asked.count
            began = clock()
            try:
                if wrote:
                    write(items.pick())
                else:
                    read(chance.random(), items, groups)
            except OperationalError:
                errors += 1
            taken = (clock() - began) // 1000
            now = time.time()
            if now > until:
                break
            if now < begin:
                errors = 0
            elif wrote:
                writes.append(taken)
            else:
                reads.append(taken)
                hits += asked.count == before
    return {"reads": reads, "writes": writes, "hits": hits, "errors": errors, "seconds": seconds}


def read(kind: float, items: Zipf, groups: Zipf) -> object:
    """One page's worth of reading."""
    if kind < 0.6:
        return Item.objects.get(pk=items.pick())
    if kind < 0.85:
        return list(Item.objects.filter(group=groups.pick()))
    if kind < 0.95:
        return Item.objects.filter(group=groups.pick(), active=True).count()
    return list(Item.objects.filter(group=groups.pick()).select_related("author"))


def write(pk: int) -> None:
    """Change one row, as a view does: read it, save it."""
    item = Item.objects.get(pk=pk)
    item.views += 1
    item.save()
