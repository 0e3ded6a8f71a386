"""What a database says of its tables: asked once, and forgotten with all that was learnt of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import Error

from .. import conf
from . import collations
from .own_cursor import own_cursor


class Tables:
    """The tables of one kind; ``names`` asks a cursor of the driver for them."""

    def __init__(self, names: Callable[[Any, Any], Iterable[str]]) -> None:
        self._names = names
        #: (alias, database) -> the names, whatever their schema.
        self.known: dict[tuple[str, str], frozenset[str]] = {}
        conf.on_reset(self.known.clear)
        collations.on_forget(self.known.clear)

    def have(self, connection: Any, table: str) -> bool | None:
        """Whether a table is of this kind; ``None`` if the database does not tell."""
        place = (connection.alias, str(connection.settings_dict["NAME"]))
        found = self.known.get(place)
        if found is None:
            try:
                with own_cursor(connection) as cursor:
                    found = frozenset(self._names(connection, cursor))
            except Error:
                return None
            self.known[place] = found
        return table in found


def asked(sql: str) -> Tables:
    """The tables that a statement names."""

    def names(connection: Any, cursor: Any) -> list[str]:
        cursor.execute(sql)
        return [row[0] for row in cursor.fetchall()]

    return Tables(names)
