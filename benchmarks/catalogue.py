"""What there is to measure, by name: the rows of the table, the curves, the sizes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

from . import dialects
from .app.models import Item
from .workloads import (
    Case,
    Run,
    aggregate,
    count,
    exists,
    fetch_hit,
    fetch_miss,
    foreign_key,
    get_by_hand,
    get_conditions,
    get_key,
    get_miss,
    get_slug,
    hits,
    invalidate,
    misses,
    prefetch,
    save,
    select_related,
    values_list,
)

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
