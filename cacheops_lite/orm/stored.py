"""Whether the value in a statement is the value that the table then holds."""

from __future__ import annotations

from typing import Any

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


def bends(connection: Any, *, ignoring: bool = False) -> bool:
    """Whether what does not fit is made to fit: MySQL without a strict mode, or INSERT IGNORE."""
    return connection.vendor == "mysql" and (ignoring or not _STRICT & connection.sql_mode)


def forget_mode(connection: Any) -> None:
    """Ask for the mode again: Django remembers it for as long as there is a wrapper."""
    for name in ("sql_mode", "mysql_server_data"):
        vars(connection).pop(name, None)


def as_given(field: Any, bends: bool) -> bool:
    """Whether a literal for ``field`` is stored as it is: not rounded, cut or replaced."""
    while getattr(field, "remote_field", None) is not None and field.concrete:
        field = field.target_field
    known = _FITTING if bends else _EXACT
    return type(field).__module__.startswith("django.") and field.get_internal_type() in known


def surely(row: Row, bends: bool) -> Row:
    """The columns of a row, as it was given, that are surely those in the table."""
    known = {column: text for column, text in row.items() if as_given(row.fields[column], bends)}
    return Row(row.fields, known)
