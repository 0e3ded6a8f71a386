"""Columns as the database holds them, without what fields of one's own make of them.

Rows that a write touches are spelt by what is stored: ``from_db_value()`` may hide it, and
``get_prep_value()`` need not lead back from what it shows.
"""

from __future__ import annotations

from typing import Any

from django.db.models.expressions import Col

from . import values


class Stored(Col):
    """A column of which only the backend, and Django, convert the values."""

    def get_db_converters(self, connection: Any) -> list[Any]:
        own = [getattr(one, "from_db_value", None) for one in (self.output_field, self.target)]
        return [one for one in super().get_db_converters(connection) if one not in own]


def select(query: Any) -> None:
    """Have a query give the columns that it selects as they are stored."""
    query.select = tuple(
        Stored(one.alias, one.target, one.output_field) if values.converts(one.target) else one
        for one in query.select
    )


def shown(field: Any, value: Any, connection: Any) -> Any:
    """What a field makes of what is stored."""
    if not values.converts(field):
        return value
    column = field.get_col(field.model._meta.db_table)
    left = Stored(column.alias, column.target, column.output_field).get_db_converters(connection)
    for convert in column.get_db_converters(connection):
        if convert not in left:
            value = convert(value, column, connection)
    return value
