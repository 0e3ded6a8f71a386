"""Whether the value in a statement is the value that the table then holds."""

from __future__ import annotations

from typing import Any

from . import collations
from .ranges import Row

#: Fields whose literals every supported database stores as they are given, or refuses.
_EXACT = frozenset(
    """AutoField BigAutoField SmallAutoField IntegerField BigIntegerField SmallIntegerField
    PositiveIntegerField PositiveBigIntegerField PositiveSmallIntegerField BooleanField CharField
    TextField SlugField URLField EmailField UUIDField DateField DateTimeField TimeField
    DurationField FilePathField FileField""".split()
)

#: Those of which nobody gives a value that does not fit.
_FITTING = frozenset("AutoField BigAutoField SmallAutoField BooleanField UUIDField".split())

_STRICT = frozenset({"STRICT_ALL_TABLES", "STRICT_TRANS_TABLES"})


class Storage:
    """What a database makes of the literals of one statement."""

    def __init__(self, connection: Any, *, ignoring: bool = False) -> None:
        self.connection = connection
        #: Whether what does not fit is made to fit: MySQL without a strict mode, or INSERT IGNORE.
        self.bends = connection.vendor == "mysql" and (
            ignoring or not _STRICT & connection.sql_mode
        )

    def as_given(self, field: Any) -> bool:
        """Whether a literal for ``field`` is stored as it is: not rounded, cut or replaced."""
        bearer = field
        while getattr(bearer, "remote_field", None) is not None and bearer.concrete:
            bearer = bearer.target_field
        if not type(bearer).__module__.startswith("django."):
            return False
        kind = bearer.get_internal_type()
        if kind == "DecimalField":  # what has more places than the field says cannot be spelt
            table, places = field.model._meta.db_table, bearer.decimal_places
            return not self.bends and collations.keeps(self.connection, table, field.column, places)
        return kind in (_FITTING if self.bends else _EXACT)

    def surely(self, row: Row) -> Row:
        """The columns of a row, as it was given, that are surely those in the table."""
        known = {one: text for one, text in row.items() if self.as_given(row.fields[one])}
        return Row(row.fields, known)


def forget_mode(connection: Any) -> None:
    """Ask for the mode again: Django remembers it for as long as there is a wrapper."""
    for name in ("sql_mode", "mysql_server_data"):
        vars(connection).pop(name, None)
