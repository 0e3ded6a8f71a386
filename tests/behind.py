"""Changing tables behind Django's back: through a second connection of the bare driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, models


@contextmanager
def driver() -> Iterator[Any]:
    """A connection of the driver itself, in autocommit; nothing of ours sees what it does."""
    raw = connection.get_new_connection(connection.get_connection_params())
    if connection.vendor == "mysql":
        raw.autocommit(True)
    elif connection.vendor == "postgresql":
        raw.autocommit = True
    else:
        raw.isolation_level = None
    try:
        yield raw
    finally:
        raw.close()


def execute(sql: str) -> None:
    """Run one statement there."""
    with driver() as raw:
        cursor = raw.cursor()
        cursor.execute(sql)
        cursor.close()


def copy_column(model: type[models.Model], column: str, to: Any, source: Any) -> None:
    """Give a column of one row the value that another row has."""
    table, pk = model._meta.db_table, model._meta.pk.column
    if connection.vendor == "mysql":
        execute(
            f"UPDATE {table} a JOIN {table} b ON b.{pk} = {source}"
            f" SET a.`{column}` = b.`{column}` WHERE a.{pk} = {to}"
        )
    else:
        execute(
            f'UPDATE {table} SET "{column}" = b."{column}" FROM {table} b'
            f" WHERE {table}.{pk} = {to} AND b.{pk} = {source}"
        )
