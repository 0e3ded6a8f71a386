"""The workloads: each a list of operations, of which it is known whether they ask the database."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
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
        saved = keys.save()

        def between() -> None:
            keys.restore(saved)

        def depends() -> object:
            return list(Item.objects.filter(group=group).values_list("pk")[0:1])

        # Few drops in a round, and as few for one dependent as for many: bringing back takes time,
        # and leaves the processor with other things in its caches.
        return Case("drop", [lambda: drop(item), depends], between=between, most=3)

    return make


# -- growth ------------------------------------------------------------------------------------

#: Columns that differ in kind; their subsets are schemes.
_FIELDS: dict[str, Any] = {
    "group": 1, "author": 1, "active": True, "kind": "none", "views": -1, "slug": "none",
    "price": "0.01",
}  # fmt: skip


def save_schemes(schemes: int) -> Callable[[], Case]:
    """``save()`` of an object while so many schemes of its table are in use."""

    def make() -> Case:
        case = save(0)()
        subsets = [
            fields for size in (1, 2, 3) for fields in combinations(_FIELDS, size)
        ]  # fmt: skip
        if dialects.CACHES:
            for fields in subsets[:schemes]:
                Item.objects.filter(**{name: _FIELDS[name] for name in fields}).count()
        return case

    return make


def one_of(size: int) -> Callable[[int], int]:
    """How many items have one of so many authors' keys (most of which nobody has)."""
    return lambda first: Item.objects.filter(author__in=range(first, first + size)).count()


def any_of_hit(size: int) -> Callable[[], Case]:
    return lambda: hits(list(range(20)), one_of(size))


def any_of_miss(size: int) -> Callable[[], Case]:
    return lambda: misses(list(range(31)), one_of(size))


# -- what there is -----------------------------------------------------------------------------

#: Name -> how to make it ready. The names are rows of the report.
TABLE: dict[str, Callable[[], Case | None]] = {
    "get by key, hit": get_key,
    "get by slug, hit": get_slug,
    "foreign key, hit": foreign_key,
    "get of .cache(), hit": get_by_hand,
    "get by two conditions, hit": get_conditions,
    "fetch 1, hit": fetch_hit(1),
    "fetch 20, hit": fetch_hit(20),
    "fetch 100, hit": fetch_hit(100),
    "fetch 1000, hit": fetch_hit(1000),
    "values_list 100, hit": values_list,
    "count, hit": count,
    "exists, hit": exists,
    "aggregate, hit": aggregate,
    "select_related 20, hit": select_related,
    "prefetch 20, hit": prefetch,
    "get, miss + store": get_miss,
    "fetch 20, miss + store": fetch_miss(20),
    "fetch 100, miss + store": fetch_miss(100),
    "save(), nothing cached": save(0),
    "save(), 1,000 cached": save(1_000),
    "save(), 10,000 cached": save(10_000),
    "invalidate_obj, 1 dependent": invalidate(1),
    "invalidate_obj, 10,000 dependents": invalidate(10_000),
}

#: Curve -> its unit, and how to make each of its points ready.
CURVES: dict[str, tuple[str, dict[int, Callable[[], Case | None]]]] = {
    "invalidate_obj": (
        "dependents of one conjunction",
        {
            1: TABLE["invalidate_obj, 1 dependent"],
            100: invalidate(100),
            1_000: invalidate(1_000),
            10_000: TABLE["invalidate_obj, 10,000 dependents"],
            100_000: invalidate(100_000),
        },
    ),
    "save()": (
        "schemes in use in the table",
        {n: save_schemes(n) for n in (1, 2, 5, 10, 20, 50)},
    ),
    "hit of count()": (
        "conjunctions of one result (author__in)",
        {n: any_of_hit(n) for n in (1, 5, 20, 100, 500)},
    ),
    "miss of count()": (
        "conjunctions of one result (author__in)",
        {n: any_of_miss(n) for n in (1, 5, 20, 100, 500)},
    ),
}

#: Results whose size in the server is measured: name -> the operations that cache them.
SIZES: dict[str, Callable[[], list[Run]]] = {
    "bytes of a get": lambda: get_key().runs,
    "bytes of a fetch of 20": lambda: fetch_hit(20)().runs,
}


def find(name: str) -> Callable[[], Case | None]:
    """A workload by its name; those of curves are called ``curve/point``."""
    if name in TABLE:
        return TABLE[name]
    curve, _, point = name.rpartition("/")
    return CURVES[curve][1][int(point)]


def name_of(curve: str, point: int) -> str:
    """The name under which a point of a curve is measured: that of the table if it is there."""
    make = CURVES[curve][1][point]
    return next((name for name, other in TABLE.items() if other is make), f"{curve}/{point}")
