"""A field and a value to one canonical text: what the database may call equal is spelt alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import connections, models
from django.utils import timezone as django_timezone
from django.utils.dateparse import parse_date, parse_datetime

from .. import conf
from . import collations
from .folding import fold, known_collation

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
    name = _kind(field)
    # A connection with a zone of its own stores local times, where an hour of autumn is double.
    if name == "datetime" and settings.USE_TZ and _local_storage():
        return None
    return name


@lru_cache(maxsize=4096)
def _kind(field: Any) -> str | None:
    """What follows from the definition of the field alone."""
    field = _bearer(field)
    if field is None or _overrides(field, _TOUCHES_EQUALITY) or _reads_otherwise(field):
        return None
    name = next((name for cls, name in _KINDS if isinstance(field, cls)), None)
    collation = getattr(field, "db_collation", None)
    if collation and not known_collation(collation):
        return None
    # SQLite keeps a decimal as a double, which tells no more than 15 digits apart.
    if name == "decimal" and not 0 < (getattr(field, "max_digits", None) or 0) <= 15:
        return None
    return name


def _reads_otherwise(field: Any) -> bool:
    """Whether rows may show something else than what finds them: old values are read from rows."""
    if not hasattr(field, "from_db_value"):
        return False
    try:
        null = field.from_db_value(None, None, None)
    except Exception:
        return True
    return null is not None or not _overrides(field, _PREPARES)


def text(field: Any, value: Any, *, prepared: bool = False) -> str | None:
    """Spell ``value`` of ``field``; None when that cannot be done.

    ``value`` is what a user gives to ``filter()``, what an instance holds or what was loaded;
    ``prepared`` says that the field's ``get_prep_value()`` was applied already, as in a lookup.
    """
    if value is None:
        return NULL
    if hasattr(value, "resolve_expression"):
        return None
    name = kind(field)
    if name is None:
        return None
    bearer = _bearer(field)
    if prepared and name in _MOMENTS and isinstance(value, str):
        return None  # no field has seen it: the database reads it in a zone and a format of its own
    try:
        if isinstance(value, models.Model):
            value = getattr(value, bearer.attname)
        if not prepared and _overrides(bearer, _PREPARES):
            value = bearer.get_prep_value(value)
        return NULL if value is None else _SPELLERS[name](bearer, value)
    except Exception:
        # A value that the field does not accept: whatever the database made of it is unknown.
        return None


_MOMENTS: Final = frozenset({"date", "datetime", "time", "duration"})
#: Kinds of which the column of a database may keep or compare something else.
_ASKED: Final = _MOMENTS | {"text"}
_PREPARES: Final = frozenset({"get_prep_value", "to_python"})


def _bearer(field: Any) -> Any:
    """The field that says how the column is stored: the target of a relation, the output."""
    for _ in range(16):
        if getattr(field, "generated", False):
            field = field.output_field
        elif getattr(field, "remote_field", None) is not None:
            if not isinstance(field, models.ForeignKey) or _overrides(field, _TOUCHES_EQUALITY):
                return None
            field = field.target_field
        else:
            return field if isinstance(field, models.Field) else None
    return None


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


def _bool(field: Any, value: Any) -> str:
    return "1" if models.BooleanField.to_python(field, value) else "0"


def _int(field: Any, value: Any) -> str:
    return str(int(value))


def _text(field: Any, value: Any) -> str | None:
    return fold(value if isinstance(value, str) else str(value))


def _decimal(field: Any, value: Any) -> str | None:
    number = models.DecimalField.to_python(field, value)
    if not isinstance(number, Decimal) or not number.is_finite():
        return None
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    significant = "".join(map(str, digits)).lstrip("0")
    stripped = significant.rstrip("0")
    if not stripped:
        return "0"
    exponent += len(significant) - len(stripped)
    # What the column cannot hold is rounded on its way, nobody but the database knows how.
    if -exponent > field.decimal_places or len(stripped) + max(exponent, 0) > field.max_digits:
        return None
    return format(Decimal((sign, tuple(map(int, stripped)), exponent)), "f")


def _date(field: Any, value: Any) -> str:
    day = models.DateField.to_python(field, value)
    assert isinstance(day, date)
    return day.isoformat()


def _datetime(field: Any, value: Any) -> str | None:
    if isinstance(value, str):
        value = parse_datetime(value) or parse_date(value)
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001
    if settings.USE_TZ:
        if django_timezone.is_naive(value):
            value = django_timezone.make_aware(value, django_timezone.get_default_timezone())
        value = value.astimezone(UTC).replace(tzinfo=None)
    elif django_timezone.is_aware(value):
        return None
    return value.replace(fold=0).isoformat(" ")  # type: ignore[no-any-return]


def _time(field: Any, value: Any) -> str | None:
    moment = models.TimeField.to_python(field, value)
    assert isinstance(moment, time)
    return None if moment.tzinfo else moment.isoformat()


def _duration(field: Any, value: Any) -> str:
    return str(models.DurationField.to_python(field, value) // timedelta(microseconds=1))


def _uuid(field: Any, value: Any) -> str:
    return str(models.UUIDField.to_python(field, value).hex)


def _ip(field: Any, value: Any) -> str:
    address = ip_address(str(value).strip().removesuffix("/32").removesuffix("/128"))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.compressed


_SPELLERS: Final[dict[str, Callable[[Any, Any], str | None]]] = {
    "bool": _bool,
    "int": _int,
    "text": _text,
    "decimal": _decimal,
    "date": _date,
    "datetime": _datetime,
    "time": _time,
    "duration": _duration,
    "uuid": _uuid,
    "ip": _ip,
}
