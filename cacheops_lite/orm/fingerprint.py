"""Queryset -> entry key: equal exactly when the SQL, its parameters and the packing are equal."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from hashlib import blake2b
from typing import Any
from weakref import ref

import django
from django.conf import settings

#: 128 bits: a collision would be a wrong answer.
DIGEST_SIZE = 16

_PLAIN = frozenset({int, bool, float, type(None), decimal.Decimal, uuid.UUID})
_TEMPORAL = (datetime.date, datetime.time, datetime.timedelta)

#: Rows are converted by Django's fields: another feature release may convert otherwise.
_VERSION = f"{django.VERSION[0]}.{django.VERSION[1]}"

#: By identity: fields are equal to their copies, which may convert otherwise.
_field_tokens: dict[int, tuple[ref[Any], str]] = {}


class Unspellable(Exception):
    """A parameter or a field has no stable text, so its query has no key."""


def spell_param(value: Any) -> str:
    """One parameter as text: its type and its value, never one without the other.

    Raises ``Unspellable``, and nothing else.
    """
    kind = type(value)
    if kind is str:
        return f"s{len(value)}:{value}"
    try:
        if kind in _PLAIN:
            return f"{kind.__name__}:{value!r}"
        return _spelt(kind, value)
    except Unspellable:
        raise
    except Exception as error:  # an integer of very many digits; a class of somebody's
        raise Unspellable(f"a parameter of type {_name(kind)}, which has no text") from error


def _spelt(kind: type[Any], value: Any) -> str:
    if kind is bytes:
        return f"b{len(value)}:{value.hex()}"
    if isinstance(value, enum.Enum):
        # Drivers hand over a member that is a text or a number as just that.
        if isinstance(value, str):
            return spell_param(str.__str__(value))
        if isinstance(value, int):
            return spell_param(int(value))
        return f"{_name(kind)}={spell_param(value.value)}"
    if isinstance(value, (datetime.datetime, datetime.time)) and value.tzinfo is not None:
        # A zone tells by its text what it likes; drivers send how far it is from UTC.
        naive = value.replace(tzinfo=None)
        return _lasting(f"{_name(kind)}:{naive!r}:{value.utcoffset()!r}", naive)
    if isinstance(value, _TEMPORAL):
        return _lasting(f"{_name(kind)}:{value!r}", value)
    if isinstance(value, (list, tuple)):
        return f"{kind.__name__}[{','.join(map(spell_param, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{spell_param(k)}={spell_param(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (str, int, float, bytes)):
        return f"{_name(kind)}={spell_param(_plain(value))}"
    if isinstance(value, (bytearray, memoryview)):
        return f"{kind.__name__}:{bytes(value).hex()}"
    if hasattr(value, "obj") and kind.__module__.startswith(("psycopg", "django")):
        return f"{kind.__qualname__}({spell_param(value.obj)})"  # Json, Jsonb
    if hasattr(value, "adapted") and kind.__module__.startswith("psycopg2"):
        return f"{kind.__qualname__}({spell_param(value.adapted)})"
    if kind.__module__.startswith(("psycopg.types.range", "psycopg2._range")):
        limits = [value.isempty, value.lower_inc, value.upper_inc, value.lower, value.upper]
        return f"{_name(kind)}{spell_param(limits)}"
    raise Unspellable(f"a parameter of type {_name(kind)}")


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(value: Any) -> Any:
    """The value without its class; a class may convert to itself, as ``SafeString`` does."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return bytes(memoryview(value))


def _lasting(text: str, value: Any) -> str:
    """The text, unless it holds an address, which may be that of something else tomorrow."""
    if " at 0x" in text:
        raise Unspellable(f"{type(value).__qualname__} with an address in its text: {text[:200]}")
    return text


def spell_field(field: Any) -> str:
    """What decides how a column's values are converted: the output field.

    Raises ``Unspellable``.
    """
    if field is None:
        return "-"
    known = _field_tokens.get(id(field))
    if known is not None and known[0]() is field:
        return known[1]
    model = getattr(field, "model", None)
    kind = f"{type(field).__module__}.{type(field).__qualname__}"
    if model is not None and getattr(field, "name", None):
        token = f"{kind}@{model._meta.label}.{field.name}"
    else:
        try:
            _, _, args, kwargs = field.deconstruct()
            options = sorted(kwargs.items(), key=lambda item: item[0])
            text = f"{kind}{args!r}{options!r}"
        except Exception as error:
            raise Unspellable(f"a field of type {kind}, which does not tell its options") from error
        token = _lasting(text, field)
    key = id(field)
    _field_tokens[key] = (ref(field, lambda _: _field_tokens.pop(key, None)), token)
    return token


def text_hash(compiler: Any, sql: str, using: str, kind: str, packing: str) -> Any:
    """The hash of all but the parameters; copy it, and ``update`` it with them.

    ``kind`` is "rows" or "single"; ``packing`` says how rows become results; ``using`` is the
    database alias, or "" where profiles say that all databases hold the same data. Raises
    ``Unspellable``.
    """
    select = getattr(compiler, "select", None) or ()
    columns = ";".join(spell_field(_output_field(column[0])) for column in select)
    # What a stored moment becomes: naive, or aware in the zone of the connection.
    zone = compiler.connection.timezone_name if settings.USE_TZ else "naive"
    parts = [_VERSION, zone, kind, using, packing, columns, sql, ""]
    text = "\x00".join(parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE)


def digest(sql_hash: Any, params: tuple[Any, ...]) -> bytes:
    """The digest of a compiled query. Raises ``Unspellable``."""
    spelt = "\x00".join(map(spell_param, params))
    hasher = sql_hash.copy()
    hasher.update(spelt.encode("utf-8", "surrogatepass"))
    result: bytes = hasher.digest()
    return result


def _output_field(expression: Any) -> Any:
    try:
        return expression.output_field
    except Exception:  # an expression without a field is converted by the backend alone
        return None
