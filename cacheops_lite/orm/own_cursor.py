"""Questions of our own to a database: past the query log, and not counted as the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any


@contextmanager
def own_cursor(connection: Any) -> Iterator[Any]:
    """The driver's own cursor; errors inside are raised as Django's."""
    connection.ensure_connection()
    with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
        yield cursor
