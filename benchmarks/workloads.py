"""The workloads: each a list of operations, of which it is known whether they ask the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.db.models import Sum

from . import dialects
from .app import data
from .app.models import Author, Item
from .watch import Keys

Run = Callable[[], object]


class Case(NamedTuple):
    """A workload ready to run in this process.

    Of a ``hit`` no operation may ask the database once ``runs`` ran; of a ``miss`` each must ask
    it, after ``before``, and be a hit then; a ``write`` must write. A ``drop`` has two runs, the
    one that drops and a dependent, which must be a hit before and a miss after. ``before`` runs
    before each round, ``between`` before each drop; neither is timed.
    """

    kind: str
    runs: list[Run]
    before: Run = lambda: None
    between: Run = lambda: None
    #: At most so many operations in a round.
    most: int = 1000


def each(values: list[Any], run: Callable[[Any], object]) -> list[Run]:
    """One operation for each value."""
    return [lambda value=value: run(value) for value in values]  # type: ignore[misc]


# -- hits --------------------------------------------------------------------------------------


def fetch(group: int) -> list[Item]:
    """Every item of a group."""
    return list(Item.objects.filter(group=group))


def hits(values: list[Any], run: Callable[[Any], object]) -> Case:
    return Case("hit", each(values, run))


def get_key() -> Case:
    return hits(data.items()[:40], lambda pk: Item.objects.get(pk=pk))


def get_slug() -> Case:
    slugs = list(Item.objects.order_by("pk").values_list("slug", flat=True)[:40])
    return hits(slugs, lambda slug: Item.objects.get(slug=slug))


def get_conditions() -> Case:
    return hits(data.items()[:40], lambda pk: Item.objects.get(pk=pk, active=True))


def get_by_hand() -> Case:
    return hits(data.items()[:40], lambda pk: dialects.by_hand(Item.objects.all()).get(pk=pk))


def foreign_key() -> Case:
    found = [Item.objects.get(pk=pk) for pk in data.items()[:40]]

    def follow(item: Item) -> None:
        item._state.fields_cache.clear()
        assert type(item.author) is Author

    return hits(found, follow)


def fetch_hit(size: int) -> Callable[[], Case]:
    return lambda: hits(data.groups(size)[:20], fetch)


def values_list() -> Case:
    return hits(
        data.groups(100),
        lambda group: list(Item.objects.filter(group=group).values_list("pk", "title", "price")),
    )


def count() -> Case:
    return hits(data.groups(20)[:40], lambda group: Item.objects.filter(group=group).count())


def exists() -> Case:
    return hits(data.groups(20)[:40], lambda group: Item.objects.filter(group=group).exists())


def aggregate() -> Case:
    return hits(
        data.groups(20)[:40],
        lambda group: Item.objects.filter(group=group).aggregate(total=Sum("views")),
    )


def select_related() -> Case:
    return hits(
        data.groups(20)[:20],
        lambda group: list(Item.objects.filter(group=group).select_related("author")),
    )


def prefetch() -> Case:
    return hits(
        data.groups(20)[:20],
        lambda group: list(Item.objects.filter(group=group).prefetch_related("tags")),
    )


# -- misses ------------------------------------------------------------------------------------


def misses(values: list[Any], run: Callable[[Any], object]) -> Case:
    """Every value is asked for once after the server was emptied; the first one only warms it."""

    def before() -> None:
        Keys().clear()
        run(values[0])

    return Case("miss", each(values[1:], run), before, most=len(values) - 1)


def get_miss() -> Case:
    return misses(data.items()[:61], lambda pk: Item.objects.get(pk=pk))


def fetch_miss(size: int) -> Callable[[], Case]:
    return lambda: misses(data.groups(size)[:61], fetch)


# -- writes ------------------------------------------------------------------------------------


def save(cached: int) -> Callable[[], Case]:
    """``save()`` of an object while so many other results are cached."""

    def make() -> Case:
        items = [Item.objects.get(pk=pk) for pk in data.items()[-20:]]
        if dialects.CACHES:
            for n in range(cached):
                Item.objects.filter(author=n % data.AUTHORS + 1, views=-n).count()

        def write(item: Item) -> None:
            item.title = f"another {item.views}"
            item.views += 1
            item.save()

        return Case("write", each(items, write))

    return make


#: Keys in the server while results are dropped.
SAME_KEYS = 10_000


def invalidate(dependents: int) -> Callable[[], Case | None]:
    """``invalidate_obj`` of an object on whose conjunction so many results depend."""

    def make() -> Case | None:
        drop = dialects.invalidator()
        if drop is None:
            return None
        group = data.groups(1)[0]
        item = Item.objects.get(group=group)
        keys = Keys()
        keys.clear()
        for n in range(dependents):
            list(Item.objects.filter(group=group).values_list("pk")[n : n + 1])
        # As many keys in the server, and to bring back, whatever the number of dependents: else
        # few of them find the processor's caches, and the server's, as the last drop left them.
        keys.pad(SAME_KEYS)
        saved = keys.save()

        def between() -> None:
            keys.restore(saved)

        def depends() -> object:
            return list(Item.objects.filter(group=group).values_list("pk")[0:1])

        # Few drops in a round, and as few for one dependent as for many: bringing back takes time,
        # and leaves the processor with other things in its caches.
        return Case("drop", [lambda: drop(item), depends], between=between, most=3)

    return make
