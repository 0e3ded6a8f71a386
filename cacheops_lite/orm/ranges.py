"""Comparisons as terms: ``views > 100`` is a column of its own that holds "1" where it is true.

A range has no value to look up by, so the *condition* becomes the column: a query with
``category = 3 AND views > 100`` depends on ``{category_id: 3, views>100: 1}``. Its scheme
``category_id,views>100`` tells writers what to compute for the old and the new row. One stamp per
condition, one key in the MGET of a hit; the number of schemes of a table is bounded, and past the
bound such a condition widens like any other. Constants are rounded outwards (three digits, full
hours, full minutes of a duration), so that a moving limit does not bring a new scheme with every
query.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Final

from . import values

TRUE: Final = "1"
FALSE: Final = "0"

_CONDITION: Final = re.compile(r"(\w+)(>=|<=|>|<)(.+)", re.DOTALL)
_NUMBERS: Final = frozenset({"int", "decimal", "duration"})
_MOMENTS: Final = frozenset({"date", "datetime", "time"})
#: Significant digits of a rounded number.
DIGITS: Final = 3
#: In the microseconds in which durations are spelt.
_MINUTE: Final = 60_000_000
_NOTHING: Final = Decimal(0)
#: Places before and behind the point: no column that is understood has as many.
_MOST: Final = 50
#: Whether upwards -> how limits are moved, which loses nothing, and how they are rounded.
_CONTEXTS: Final = {
    upwards: tuple(
        Context(prec, rounding, Emin=-999, Emax=999, capitals=1, clamp=0, flags=[], traps=[])
        for prec in (4 * _MOST, DIGITS)
    )
    for upwards, rounding in ((True, ROUND_CEILING), (False, ROUND_FLOOR))
}


def base(column: str) -> str:
    """The real column behind a column of a scheme."""
    found = _CONDITION.fullmatch(column)
    return found[1] if found else column


def is_condition(column: str) -> bool:
    """Whether a column of a scheme is a comparison."""
    return _CONDITION.fullmatch(column) is not None


def condition(field: Any, operator: str, value: Any) -> str | None:
    """The column of ``field <operator> value``; ``None`` if it cannot be told by spelt values."""
    kind = values.kind(field)
    if not str(field.column).isidentifier() or (kind not in _NUMBERS and kind not in _MOMENTS):
        return None
    text = _limit(kind, field, operator, value)
    return None if text is None else f"{field.column}{operator}{text}"


def _limit(kind: str, field: Any, operator: str, value: Any) -> str | None:
    upwards = operator[0] == "<"
    if kind == "decimal":
        if not isinstance(value, (Decimal, int)):
            return None
        # A limit need not fit the column; nor need a stored number (SQLite keeps more digits than
        # the column shows), so the limit moves out by one unit of the last place.
        places = getattr(field, "decimal_places", None) or 0
        return _rounded(Decimal(value), upwards, Decimal((0, (1,), -places)))
    text = values.text(field, value, prepared=True)
    if text is None or text == values.NULL:
        return None
    if kind == "duration":
        return str((int(text) + (_MINUTE - 1 if upwards else 0)) // _MINUTE * _MINUTE)
    if kind == "int":
        return _rounded(Decimal(text), upwards)
    return _full_hour(text, upwards) if kind == "datetime" else text


def _rounded(number: Decimal, upwards: bool, margin: Decimal = _NOTHING) -> str | None:
    """A number moved out by a margin, then to few digits; ``None`` if no column has such numbers.

    In contexts of our own: what the caller's rounds or traps has nothing to do with our limits.
    """
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_MOST or number.adjusted() > _MOST:
        return None
    exact, rounding = _CONTEXTS[upwards]
    moved = exact.add(number, margin) if upwards else exact.subtract(number, margin)
    found = rounding.plus(moved).normalize(rounding)
    return format(found, "f") if found else "0"


def _full_hour(text: str, upwards: bool) -> str | None:
    moment = datetime.fromisoformat(text)
    floor = moment.replace(minute=0, second=0, microsecond=0)
    if upwards and floor != moment:
        try:
            floor += timedelta(hours=1)
        except OverflowError:
            return None
    return floor.isoformat(" ")


def holds(kind: str, text: str, operator: str, limit: str) -> bool:
    """Whether a row whose column is spelt ``text`` meets the comparison."""
    if text == values.NULL:
        return False
    if kind in _NUMBERS:
        left, right = Decimal(text), Decimal(limit)
        return _compare(operator, left < right, left == right)
    return _compare(operator, text < limit, text == limit)


def _compare(operator: str, less: bool, equal: bool) -> bool:
    if operator[0] == "<":
        return less or (equal and operator == "<=")
    return (not less and not equal) or (equal and operator == ">=")


class Row(dict[str, str]):
    """What is known of a row, and of every comparison of what is known."""

    def __init__(self, fields: dict[str, Any], known: Any = ()) -> None:
        super().__init__(known)
        self.fields = fields

    def _evaluate(self, column: object) -> str | None:
        found = _CONDITION.fullmatch(column) if isinstance(column, str) else None
        if found is None:
            return None
        name, operator, limit = found.groups()
        text, field = self.get(name), self.fields.get(name)
        kind = values.kind(field) if field is not None else None
        if text is None or kind is None or (kind not in _NUMBERS and kind not in _MOMENTS):
            return None
        try:
            return TRUE if holds(kind, text, operator, limit) else FALSE
        except ArithmeticError:  # a scheme of another version
            return None

    def __contains__(self, column: object) -> bool:
        return super().__contains__(column) or self._evaluate(column) is not None

    def __missing__(self, column: str) -> str:
        found = self._evaluate(column)
        if found is None:
            raise KeyError(column)
        return found

    def changed(self, assigned: dict[str, str]) -> Row:
        """This row with some columns assigned."""
        return Row(self.fields, {**self, **assigned})
