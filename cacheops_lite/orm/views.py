"""Whose rows are not looked up: models over views, and tables that our user may not lock.

The rows of a view may not be locked (groups), nor need a trigger store what it is given, and some
take no statement but the one that they were made for. Whether a table is a view says the database,
once, and only of models that Django does not manage.

A lock in PostgreSQL takes the right to UPDATE; who may only DELETE is not to be refused that.
"""

from __future__ import annotations

from typing import Any

from . import catalogue


def _list_views(connection: Any, cursor: Any) -> list[str]:
    return [one.name for one in connection.introspection.get_table_list(cursor) if one.type == "v"]


_views = catalogue.Tables(_list_views)
_unlockable = catalogue.asked("""
    SELECT relname FROM pg_catalog.pg_class
    WHERE relkind IN ('r', 'p') AND NOT pg_catalog.has_any_column_privilege(oid, 'UPDATE')
""")


def is_view(connection: Any, model: Any) -> bool:
    """Whether a model's table is a view; if the database does not tell, it counts as one."""
    meta = model._meta
    return not meta.managed and _views.have(connection, meta.db_table) is not False


def may_not_lock(connection: Any, model: Any) -> bool:
    """Whether rows of a table can be deleted but not locked; so too if nobody tells."""
    if connection.vendor != "postgresql":
        return False
    return _unlockable.have(connection, model._meta.db_table) is not False


def no_locks(connection: Any) -> bool:
    """Whether no row can be locked here: Django takes a transaction that raw SQL began for none."""
    features = connection.features
    return bool(
        features.has_select_for_update
        and features.supports_transactions
        and connection.get_autocommit()
    )
