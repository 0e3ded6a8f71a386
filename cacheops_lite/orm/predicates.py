"""Predicates over objects as terms: ``post.is_hot()`` is a column that holds "1" where it is true.

A result may hang on the rows of which a function of Python says yes. To the protocol that function
is one more column of the table, spelt ``?`` and its name: a scheme that writers learn of like of
any other. Who knows the function computes the column for the row before and after the write; who
does not (it was never imported there) has a row whose column is unknown, and drops the table's
results. What has no object in reach, or fails, counts as a yes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from . import unconverted
from .ranges import FALSE, TRUE, Row

logger = logging.getLogger("cacheops_lite")

Predicate = Callable[[Any], object]

MARK: Final = "?"

#: Table -> column -> the model whose objects are asked about, and the question.
_known: dict[str, dict[str, tuple[Any, Predicate]]] = {}


class Fields(dict[str, Any]):
    """Columns that writers look up, by name, and the predicates that they compute beside them."""

    predicates: tuple[str, ...] = ()


def register(name: str, model: Any, predicate: Predicate) -> str:
    """Make a column of a predicate over the objects of ``model``; returns the column."""
    column = f"{MARK}{name}"
    _known.setdefault(model._meta.db_table, {})[column] = (model, predicate)
    return column


def watched(table: str, fields: dict[str, Any], schemes: Iterable[str]) -> Fields:
    """The fields of some schemes, with those of their predicates that are known here."""
    found = Fields(fields)
    known = _known.get(table)
    if known:
        names = {name for scheme in schemes for name in scheme.split(",")}
        found.predicates = tuple(sorted(names & known.keys()))
    return found


def of(fields: Any) -> tuple[str, ...]:
    """The predicates beside some fields."""
    return getattr(fields, "predicates", ())


def answers(
    model: Any, names: Iterable[str], connection: Any, values: dict[str, Any]
) -> dict[str, str]:
    """The columns of a row, given its values, as they are stored, by attribute name."""
    found = {}
    for name in names:
        owner, predicate = _known[model._meta.db_table][name]
        # In the order in which the model takes them; those of its parents are deferred.
        given = [field for field in owner._meta.concrete_fields if field.attname in values]
        try:
            shown = [unconverted.shown(one, values[one.attname], connection) for one in given]
            obj = owner.from_db(connection.alias, [field.attname for field in given], shown)
            found[name] = TRUE if predicate(obj) else FALSE
        except Exception:
            logger.exception("cacheops_lite: %s failed; it counts as a yes", predicate)
            found[name] = TRUE
    return found


def assume(row: Row, names: Iterable[str]) -> Row:
    """Nobody can ask about this row: every predicate says yes."""
    for name in names:
        row.setdefault(name, TRUE)
    return row


def assume_all(table: str, row: Row) -> Row:
    """``assume`` for all predicates that are known here."""
    return assume(row, _known.get(table, ()))
