"""The SQL of a shape, run again with other parameters: a miss of a known shape compiles nothing.

What runs it is Django's compiler all the same: a copy of the one that made the SQL, without what
only compiling needs.
"""

from __future__ import annotations

from copy import copy
from typing import Any, NamedTuple

from django.db import connections
from django.db.models.sql.constants import SINGLE
from django.db.models.sql.query import Query

from . import rows


class Statement:
    """A SELECT that was compiled once; it belongs to no connection and holds no values."""

    def __init__(self, compiler: Any, sql: str) -> None:
        self.sql = sql
        self._compiler = copy(compiler)
        self._compiler.__dict__.pop("as_sql", None)
        # Connections are a thread's own, and the values of the first query may be many.
        self._compiler.connection = None
        self._compiler.query = Query(compiler.query.model)
        self._compiler.where = self._compiler.having = self._compiler.qualify = None

    def compiler(self, using: str, params: tuple[Any, ...]) -> Any:
        """A compiler that has made this SQL for these parameters."""
        made = copy(self._compiler)
        made.connection = connections[using]
        compiled = (self.sql, params)
        made.as_sql = lambda *args, **kwargs: compiled
        return made


class Bound(NamedTuple):
    """A statement with its parameters, as the database takes them."""

    statement: Statement
    using: str
    params: tuple[Any, ...]

    def fetch(self) -> rows.Rows:
        """All rows, converted."""
        return rows.load_rows(self.statement.compiler(self.using, self.params))

    def single(self) -> rows.Rows:
        """At most one row, as the driver gives it."""
        row = self.statement.compiler(self.using, self.params).execute_sql(SINGLE)
        return [] if row is None else [tuple(row)]
