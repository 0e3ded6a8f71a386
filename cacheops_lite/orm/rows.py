"""Cached rows -> what the queryset's own iterable class would have given (replay).

Rows are the tuples that a compiler yields after the database converters. They are fed back
through the iterable class by the compiler that made the SQL, so annotations, ``select_related``,
deferred fields, named tuples and custom iterables behave as they do uncached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections
from django.db.models.sql.constants import MULTI

from . import lazy
from .build import Rows as Rows
from .build import directly


def load_rows(compiler: Any) -> Rows:
    """Run a compiled query and return its rows, converted."""
    results = compiler.execute_sql(MULTI)
    return [tuple(row) for row in compiler.results_iter(results)]


def evaluate(queryset: Any, compiler: Any) -> list[Any]:
    """What iterating the queryset gives, run by a compiler that has compiled it already."""
    return list(queryset._iterable_class(_staged(queryset, queryset.query, compiler)))


def replay(queryset: Any, compiler: Any, rows: Rows) -> list[Any]:
    """What iterating the queryset gives for these rows; the database is not asked."""
    compiler.execute_sql = lambda *args, **kwargs: rows
    compiler.results_iter = lambda *args, **kwargs: iter(rows)
    return evaluate(queryset, compiler)


#: Where a column stands whose values are converted, and its expression.
Converted = tuple[int, Any]


def to_convert(compiler: Any, expressions: Iterable[Any]) -> tuple[Converted, ...]:
    """What of ``expressions`` must be converted.

    Not by which functions: those of a backend are bound to its connection, which is a thread's own
    and would stay open as long as they are kept.
    """
    found = compiler.get_converters(expressions)
    return tuple((place, expression) for place, (_, expression) in found.items())


def converted(row: Any, columns: Iterable[Converted], connection: Any) -> tuple[Any, ...]:
    """A row as the driver gave it, converted as ``SQLCompiler.apply_converters`` does."""
    values = list(row)
    for place, expression in columns:
        value = values[place]
        for function in (
            *connection.ops.get_db_converters(expression),
            *expression.get_db_converters(connection),
        ):
            value = function(value, expression, connection)
        values[place] = value
    return tuple(values)


class _Replayer:
    """As much of a compiler as iterables ask for, when nothing has to be compiled."""

    def __init__(self, query: Any, using: str, produce: Any, rows: Rows) -> None:
        self.query, self.using, self.connection = query, using, connections[using]
        self.select, self.klass_info = produce.select, produce.klass_info
        self.annotation_col_map, self.col_count = produce.annotation_col_map, produce.col_count
        self.rows = rows

    def execute_sql(self, *args: Any, **kwargs: Any) -> Rows:
        return self.rows

    def results_iter(self, *args: Any, **kwargs: Any) -> Any:
        return iter(self.rows)


def produce(queryset: Any, produced: Any, rows: Rows) -> list[Any]:
    """What iterating the queryset gives for these rows, without compiling it."""
    found = directly(queryset, produced, rows)
    if found is not None:
        return found
    query = lazy.query_of(queryset)
    replayer = _Replayer(query, queryset.db, produced, rows)
    return list(queryset._iterable_class(_staged(queryset, query, replayer)))


def _staged(queryset: Any, query: Any, compiler: Any) -> Any:
    """A stand-in for the queryset whose query answers with this compiler.

    The queryset itself stays as it is: other threads may be evaluating it.
    """
    shadow = object.__new__(type(query))
    shadow.__dict__.update(query.__dict__)
    shadow.get_compiler = lambda *args, **kwargs: compiler
    # An iterable may ask other querysets that it derives from this one: those are run as ever.
    shadow.clone = lambda *args, **kwargs: query.clone(*args, **kwargs)
    stage = object.__new__(type(queryset))
    stage.__dict__.update(queryset.__dict__)
    stage._query, stage._deferred_filter = shadow, None
    return stage
