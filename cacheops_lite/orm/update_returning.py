"""PostgreSQL: an UPDATE of one row by its key gives the row back as it was before.

    UPDATE post SET title = 'b' FROM (SELECT id, author_id FROM post WHERE id = 1
    ORDER BY id FOR NO KEY UPDATE) AS old (old_id, old_author_id)
    WHERE post.id = 1 AND post.id = old.old_id RETURNING old.*

The SELECT is the one that would have been asked before; it locks the row and sees what was
committed last, and the UPDATE then finds that very version. So it is as exact as two statements,
and saves a round trip. What a view or a rule makes of a table may not be returned, so only plain
tables are asked like that, and whether a table is one says the database, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet

from . import catalogue
from .matching import key_of
from .ranges import Row
from .rows_lookup import Lookup, Statement, lock_kind

#: What is nothing but a table.
_plain = catalogue.asked("""
    SELECT c.relname
    FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    GROUP BY c.relname HAVING bool_and(c.relkind IN ('r', 'p') AND r.oid IS NULL)
""")


class Joined:
    """An UPDATE about to be run by its compiler; ``old`` is what it replaced once it ran."""

    def __init__(self, compiler: Any, lookup: Lookup, read: Statement, sql: str) -> None:
        self.connection = compiler.connection
        self.lookup, self.read, self.sql = lookup, read, sql
        #: ``{pk: row}`` as ``Lookup.matching`` gives it; ``None`` if that could not be read.
        self.old: dict[Any, Row] | None = None

    def run(self, execute: Callable[[], Any]) -> Any:
        """Run it: what Django's ``execute_sql`` gives."""
        with self.connection.execute_wrapper(self._take):
            return execute()

    def _take(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if self.sql in sql:  # others may have added a comment
            # A value that has no form in Python: the statement was right all the same.
            self.old = self.lookup.rows_of(self.read, context["cursor"].fetchall)
        return result


def joined(compiler: Any, lookup: Lookup, *, changes_keys: bool) -> Joined | None:
    """The UPDATE of ``compiler`` with its old row, or ``None`` where they cannot be one."""
    connection, query = compiler.connection, compiler.query
    if connection.vendor != "postgresql" or query.related_updates or query.is_empty():
        return None
    key = key_of(query, lookup.model)
    if key is None or lookup.knows(key) is not None:
        return None
    if not _plain.have(connection, query.get_meta().db_table):
        return None
    try:
        sql, params = compiler.as_sql()
        where, found = compiler.compile(query.where)
    except (EmptyResultSet, FullResultSet):
        return None
    compiler.as_sql = lambda *args, **kwargs: (sql, params)
    tail = f" WHERE {where}"
    if not sql.endswith(tail) or tuple(params[len(params) - len(found) :]) != tuple(found):
        return None  # it returns columns already
    read = lookup.statement(key, lock=lock_kind(connection, changes_keys))
    names = ", ".join(f"cacheops_{place}" for place in range(len(lookup.selected())))
    table = connection.ops.quote_name(lookup.model._meta.db_table)
    column = connection.ops.quote_name(lookup.model._meta.pk.column)
    whole = (
        f"{sql[: -len(tail)]} FROM ({read.sql}) AS cacheops_old ({names})"
        f" WHERE ({where}) AND {table}.{column} = cacheops_old.cacheops_0 RETURNING cacheops_old.*"
    )
    value = lookup.model._meta.pk.get_db_prep_value(key, connection, prepared=True)
    given = (*params[: len(params) - len(found)], value, *found)
    compiler.as_sql = lambda *args, **kwargs: (whole, given)
    return Joined(compiler, lookup, read, whole)
