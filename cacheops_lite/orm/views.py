"""Whose rows are not looked up: models over views, and tables that our user may not lock.

The rows of a view may not be locked (groups), nor need a trigger store what it is given, and some
take no statement but the one that they were made for. Whether a table is a view says the database,
once, and only of models that Django does not manage.

A lock in PostgreSQL takes the right to UPDATE; who may only DELETE is not to be refused that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

from django.db import Error

from .. import conf
from . import collations

#: (alias, database) -> its views.
_views: dict[tuple[str, str], frozenset[str]] = {}
conf.on_reset(_views.clear)
collations.on_forget(_views.clear)

_NO_LOCKS = """
    SELECT relname FROM pg_catalog.pg_class
    WHERE relkind IN ('r', 'p') AND NOT pg_catalog.has_any_column_privilege(oid, 'UPDATE')
"""
#: (alias, database) -> the tables in which its user may not lock rows.
_unlockable: dict[tuple[str, str], frozenset[str]] = {}
conf.on_reset(_unlockable.clear)
collations.on_forget(_unlockable.clear)


def is_view(connection: Any, model: Any) -> bool:
    """Whether a model's table is a view; if the database does not tell, it counts as one."""
    if model._meta.managed:
        return False
    return _among(_views, _list_views, connection, model)


def may_not_lock(connection: Any, model: Any) -> bool:
    """Whether rows of a table can be deleted but not locked; so too if nobody tells."""
    if connection.vendor != "postgresql":
        return False
    return _among(_unlockable, _list_unlockable, connection, model)


def _among(
    known: dict[tuple[str, str], frozenset[str]],
    names: Callable[[Any, Any], Iterable[str]],
    connection: Any,
    model: Any,
) -> bool:
    place = (connection.alias, str(connection.settings_dict["NAME"]))
    found = known.get(place)
    if found is None:
        try:
            connection.ensure_connection()
            # The driver's own cursor: neither logged nor counted as a query of the user's.
            with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
                found = frozenset(names(connection, cursor))
        except Error:
            return True
        known[place] = found
    return model._meta.db_table in found


def _list_views(connection: Any, cursor: Any) -> list[str]:
    return [one.name for one in connection.introspection.get_table_list(cursor) if one.type == "v"]


def _list_unlockable(connection: Any, cursor: Any) -> list[str]:
    cursor.execute(_NO_LOCKS)
    return [name for (name,) in cursor.fetchall()]
