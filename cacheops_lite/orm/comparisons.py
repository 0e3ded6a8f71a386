"""Comparison lookups -> intervals of a column: what must hold where they are true, or false.

An answer is a list of intervals of which one must hold, each a list of (column, operator, limit);
``None`` says nothing. Date parts depend on a time zone, so their limits are moved out by as much as
two zones can be apart.
"""

from __future__ import annotations

import datetime
from typing import Any, Final

from django.db.models import DateField, DateTimeField, lookups
from django.db.models.expressions import Col
from django.db.models.functions import ExtractYear, TruncDate

Limit = tuple[Any, str, Any]
Interval = list[Limit]
Options = list[Interval] | None

_OPERATORS: Final[dict[type, str]] = {
    lookups.GreaterThan: ">",
    lookups.GreaterThanOrEqual: ">=",
    lookups.LessThan: "<",
    lookups.LessThanOrEqual: "<=",
    lookups.IntegerGreaterThan: ">",
    lookups.IntegerGreaterThanOrEqual: ">=",
    lookups.IntegerLessThan: "<",
    lookups.IntegerLessThanOrEqual: "<=",
    lookups.Exact: "=",
    lookups.IntegerFieldExact: "=",
}
_YEARS: Final[dict[type, str]] = {
    lookups.YearExact: "=",
    lookups.YearGt: ">",
    lookups.YearGte: ">=",
    lookups.YearLt: "<",
    lookups.YearLte: "<=",
}
_OPPOSITE: Final = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
_DAY: Final = datetime.timedelta(days=1)
#: Limits are read in the default zone, dates in the current one: from UTC-12 to UTC+14.
_ZONES: Final = datetime.timedelta(hours=26)

KNOWN: Final = frozenset({*_OPERATORS, *_YEARS, lookups.Range})


def true(node: Any) -> Options:
    """Intervals of which one holds where the lookup is true."""
    if node.bilateral_transforms:
        return None
    kind = type(node)
    if kind in _YEARS:
        return _years(node, _YEARS[kind])
    if kind is lookups.Range:
        limits = node.rhs
        if not _are_two(limits):
            return None
        return _both(_one(node.lhs, ">=", limits[0]), _one(node.lhs, "<=", limits[1]))
    return _one(node.lhs, _OPERATORS[kind], node.rhs) if _plain(node.rhs) else None


def false(node: Any) -> Options:
    """Intervals of which one holds where the lookup is false (not where it is NULL)."""
    if node.bilateral_transforms or type(node.lhs) is not Col:
        return None
    kind = type(node)
    if kind is lookups.Range:
        limits = node.rhs
        if not _are_two(limits):
            return None
        return [[(node.lhs, "<", limits[0])], [(node.lhs, ">", limits[1])]]
    operator = _OPPOSITE.get(_OPERATORS.get(kind, ""))
    if operator is None or not _plain(node.rhs):
        return None
    return [[(node.lhs, operator, node.rhs)]]


def _are_two(limits: Any) -> bool:
    return isinstance(limits, (list, tuple)) and len(limits) == 2 and all(map(_plain, limits))


def _plain(value: Any) -> bool:
    return (
        value is not None
        and not isinstance(value, bool)
        and not hasattr(value, "resolve_expression")
        and not hasattr(value, "as_sql")
    )


def _both(left: Options, right: Options) -> Options:
    if left is None or right is None:
        return left or right
    return [[*one, *other] for one in left for other in right]


def _one(lhs: Any, operator: str, value: Any) -> Options:
    if type(lhs) is Col:
        return [[(lhs, operator, value)]] if operator != "=" else None
    if type(lhs) is TruncDate and type(lhs.lhs) is Col and isinstance(value, datetime.date):
        if isinstance(value, datetime.datetime):
            return None
        return _days(lhs.lhs, operator, value, value)
    return None


def _years(node: Any, operator: str) -> Options:
    lhs = node.lhs
    if not isinstance(lhs, ExtractYear) or type(lhs.lhs) is not Col or not _plain(node.rhs):
        return None
    if not isinstance(node.rhs, int) or not 1 < node.rhs < 9999 or lhs.lookup_name != "year":
        return None
    first, last = datetime.date(node.rhs, 1, 1), datetime.date(node.rhs, 12, 31)
    return _days(lhs.lhs, operator, first, last)


def _days(column: Any, operator: str, first: datetime.date, last: datetime.date) -> Options:
    """The column, cut to days, compared with the span from ``first`` to ``last``."""
    field = column.target
    low: Limit
    high: Limit
    try:
        if isinstance(field, DateTimeField):
            low = (column, ">=", datetime.datetime.combine(first, datetime.time()) - _ZONES)
            after = datetime.datetime.combine(last + _DAY, datetime.time())
            high = (column, "<", after + _ZONES)
        elif isinstance(field, DateField):
            low, high = (column, ">=", first), (column, "<=", last)
        else:
            return None
    except OverflowError:
        return None
    if operator == "=":
        return [[low, high]]
    return [[low if operator[0] == ">" else high]]
