"""Values of one kind of column -> their canonical text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv6Address, ip_address
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import models
from django.utils import timezone as django_timezone
from django.utils.dateparse import parse_date, parse_datetime

from .folding import fold


def is_plain(kind: str, value: Any) -> bool:
    """Whether a value is of the type that Django's own fields of a kind hand to the database."""
    return isinstance(value, _TYPES[kind]) and not (kind == "date" and isinstance(value, datetime))


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "bool": bool,
    "int": int,
    "text": str,
    "decimal": (Decimal, int),
    "date": date,
    "datetime": datetime,
    "time": time,
    "duration": timedelta,
    "uuid": UUID,
    "ip": str,
}


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


#: Kind -> (the field that says how the column is stored, value) -> text; ``None``: nobody knows.
#: They raise what they like for a value that the field does not accept.
SPELLERS: Final[dict[str, Callable[[Any, Any], str | None]]] = {
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
