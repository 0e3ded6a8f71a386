"""Models over views: what a write does to their rows nobody can tell.

Their rows may not be locked (groups), nor need a trigger store what it is given, and some take no
statement but the one that they were made for. Whether a table is a view says the database, once,
and only of models that Django does not manage.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from django.db import Error

from .. import conf
from . import collations

#: (alias, database) -> its views.
_views: dict[tuple[str, str], frozenset[str]] = {}
conf.on_reset(_views.clear)
collations.on_forget(_views.clear)


def is_view(connection: Any, model: Any) -> bool:
    """Whether a model's table is a view; if the database does not tell, it counts as one."""
    if model._meta.managed:
        return False
    place = (connection.alias, str(connection.settings_dict["NAME"]))
    found = _views.get(place)
    if found is None:
        try:
            connection.ensure_connection()
            # The driver's own cursor: neither logged nor counted as a query of the user's.
            with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
                tables = connection.introspection.get_table_list(cursor)
        except Error:
            return True
        found = _views[place] = frozenset(table.name for table in tables if table.type == "v")
    return model._meta.db_table in found
