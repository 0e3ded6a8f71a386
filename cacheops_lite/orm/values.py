"""A field and a value to one canonical text: what the database may call equal is spelt alike."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.conf import settings
from django.db import connections, models

from .. import conf
from . import collations, texts
from .folding import known_collation

#: The text of NULL; no value is spelt in upper case.
NULL: Final = "NULL"

#: What of a field decides how the database compares it; who overrides it is not understood.
_TOUCHES_EQUALITY: Final = frozenset({
    "cast_db_type", "collation", "db_check", "db_collation", "db_parameters", "db_type",
    "get_col", "get_db_converters", "get_db_prep_save", "get_db_prep_value", "get_internal_type",
    "get_lookup", "get_placeholder", "get_placeholder_sql", "rel_db_type", "select_format",
})  # fmt: skip

_KINDS: Final[tuple[tuple[type[models.Field[Any, Any]], str], ...]] = (
    (models.BooleanField, "bool"),
    (models.IntegerField, "int"),
    (models.CharField, "text"),
    (models.TextField, "text"),
    (models.FileField, "text"),
    (models.FilePathField, "text"),
    (models.DecimalField, "decimal"),
    (models.DateTimeField, "datetime"),
    (models.DateField, "date"),
    (models.TimeField, "time"),
    (models.DurationField, "duration"),
    (models.UUIDField, "uuid"),
    (models.GenericIPAddressField, "ip"),
)


def usable(field: Any) -> bool:
    """Whether the column of ``field`` may be a term: its equality can be reproduced.

    A table that several models share is read by one and written by another, so all of them must
    spell the column alike. ``CACHEOPS_SKIP_FIELDS`` takes out what the user does not want there.
    """
    skipped = conf.current().skip_fields
    if skipped and field.get_internal_type() in skipped:
        return False
    own = kind(field)
    kept = collations.foldable if own == "text" else collations.exact
    if own in _ASKED and not kept(_table(field), str(field.column)):
        return False
    return own is not None and all(
        kind(other) == own for other in _columns().get((_table(field), field.column), ())
    )


def why_unusable(field: Any) -> str:
    """Why the column of ``field`` is not a term."""
    name = type(field).__name__
    if kind(field) is None:
        return f"the equality of a {name} cannot be reproduced"
    if kind(field) in _MOMENTS and not collations.exact(_table(field), str(field.column)):
        return "the database rounds this column"
    if not collations.foldable(_table(field), str(field.column)):
        return "the database compares this column by a collation of its own"
    return "models that share the table store this column in different ways"


def kind(field: Any) -> str | None:
    """How values of ``field`` are spelt, or None if they cannot be.

    Columns of one kind that the database calls equal have the same text.
    """
    name = _nature(field).kind
    # A connection with a zone of its own stores local times, where an hour of autumn is double.
    if name == "datetime" and settings.USE_TZ and _local_storage():
        return None
    return name


def converts(field: Any) -> bool:
    """Whether a value of ``field`` in Python may be another than the one in the database.

    So it is where a class from outside Django prepares values or reads them in its own way: what
    an instance holds, or a row of a result, then does not say what is stored. What is stored, and
    what a lookup has prepared, say it.
    """
    return _nature(field).converts


class _Nature(NamedTuple):
    """What follows from the definition of a field alone."""

    kind: str | None
    #: Says how the column is stored; ``None`` if that is not known.
    bearer: Any
    converts: bool


@lru_cache(maxsize=4096)
def _nature(field: Any) -> _Nature:
    bearers = list(_bearers(field))
    bearer = bearers[-1]
    own = bearer is None or any(
        _overrides(one, _CONVERTS) or hasattr(one, "from_db_value") for one in bearers
    )
    if bearer is None or _overrides(bearer, _TOUCHES_EQUALITY):
        return _Nature(None, bearer, own)
    name = next((name for cls, name in _KINDS if isinstance(bearer, cls)), None)
    collation = getattr(bearer, "db_collation", None)
    if collation and not known_collation(collation):
        name = None
    # SQLite keeps a decimal as a double, which tells no more than 15 digits apart.
    if name == "decimal" and not 0 < (getattr(bearer, "max_digits", None) or 0) <= 15:
        name = None
    return _Nature(name, bearer, own)


def text(field: Any, value: Any, *, prepared: bool = False) -> str | None:
    """Spell ``value`` of ``field``; None when that cannot be done.

    ``value`` is what a user gives to ``filter()``, what an instance holds or what was loaded;
    ``prepared`` says that it is what the database is given, as in a lookup, or what it gave, as
    in a column that is `unconverted`. Of fields that convert only those can be spelt.
    """
    _, bearer, converting = _nature(field)
    if converting and not prepared:
        return None
    if value is None:
        return NULL
    if hasattr(value, "resolve_expression"):
        return None
    name = kind(field)
    if name is None or (converting and not texts.is_plain(name, value)):
        return None
    if prepared and name in _MOMENTS and isinstance(value, str):
        return None  # no field has seen it: the database reads it in a zone and a format of its own
    try:
        if isinstance(value, models.Model):
            value = getattr(value, bearer.attname)
        return NULL if value is None else texts.SPELLERS[name](bearer, value)
    except Exception:
        # A value that the field does not accept: whatever the database made of it is unknown.
        return None


_MOMENTS: Final = frozenset({"date", "datetime", "time", "duration"})
#: Kinds of which the column of a database may keep or compare something else.
_ASKED: Final = _MOMENTS | {"text"}
#: What makes of a value what is stored, and of that what is shown.
_CONVERTS: Final = frozenset({"from_db_value", "get_prep_value", "to_python"})


def _bearers(field: Any) -> Iterator[Any]:
    """``field`` and what stands behind it, to what says how the column is stored.

    That is the target of a relation, or the output; ``None`` where it is not known.
    """
    for _ in range(16):
        yield field
        if getattr(field, "generated", False):
            field = field.output_field
        elif getattr(field, "remote_field", None) is not None:
            if not isinstance(field, models.ForeignKey) or _overrides(field, _TOUCHES_EQUALITY):
                break
            field = field.target_field
        else:
            if not isinstance(field, models.Field):
                break
            return
    yield None


def _overrides(field: Any, names: frozenset[str]) -> bool:
    """Whether a class from outside Django, somewhere in that of ``field``, defines one of them."""
    cls: Any = type(field)
    return _class_overrides(cls, names)


@lru_cache(maxsize=1024)
def _class_overrides(cls: type, names: frozenset[str]) -> bool:
    return any(
        not base.__module__.startswith("django.") and not names.isdisjoint(vars(base))
        for base in cls.__mro__
        if base is not object
    )


def _table(field: Any) -> str:
    model = getattr(field, "model", None)
    return model._meta.db_table if model is not None else ""


_shared: tuple[list[Any], dict[tuple[str, str], list[Any]]] = ([], {})


def _columns() -> dict[tuple[str, str], list[Any]]:
    """(table, column) -> fields, where more than one model has it."""
    global _shared
    every = apps.get_models(include_auto_created=True, include_swapped=True)
    if _shared[0] is not every:  # the registry keeps the list until a model is added
        found: dict[tuple[str, str], list[Any]] = {}
        for model in every:
            if not model._meta.proxy:
                for field in model._meta.local_concrete_fields:
                    if field.column is not None:
                        key = (model._meta.db_table, field.column)
                        found.setdefault(key, []).append(field)
        _shared = (every, {key: fields for key, fields in found.items() if len(fields) > 1})
    return _shared[1]


def _local_storage() -> bool:
    return any(config.get("TIME_ZONE") for config in connections.settings.values())
