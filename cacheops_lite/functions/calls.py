"""A function and the arguments of one call -> one digest, equal exactly for equal calls.

Only what has a stable text takes part: text that is the same in every process and names one value
only. The address in a default ``repr`` is neither, so such an argument is ``Unstable`` and the
call is not cached, rather than answered with what another object gave.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.utils.encoding import force_str
from django.utils.functional import Promise

_ATOMS = frozenset({type(None), bool, int, float, str, bytes, Decimal, UUID})


class Unstable(TypeError):
    """An argument has no stable text; the message says which and what to do."""


def spell(value: Any) -> str:
    """The stable text of a value. Raises ``Unstable``.

    Model instances are spelt by label and primary key, requests by their absolute URI, sets and
    dicts without regard to order.
    """
    kind = type(value)
    if kind in _ATOMS:
        return repr(value)
    if kind is tuple or kind is list:
        return f"[{','.join(map(spell, value))}]"
    if kind is dict:
        return _mapping(value)
    return _other(value)


def _mapping(value: Mapping[Any, Any]) -> str:
    return (
        "{" + ",".join(sorted(f"{spell(key)}:{spell(item)}" for key, item in value.items())) + "}"
    )


def _other(value: Any) -> str:
    # isinstance() rather than type(): a SimpleLazyObject is what it wraps.
    if isinstance(value, models.Model):
        return _instance(value)
    if isinstance(value, type):
        return f"<{value.__module__}.{value.__qualname__}>"
    if hasattr(value, "build_absolute_uri"):
        return repr(str(value.build_absolute_uri()))
    if isinstance(value, str):  # SafeString, TextChoices
        return repr(str.__str__(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return repr(bytes(value))
    if isinstance(value, enum.Enum) and not isinstance(value, int):
        return f"<{_class_name(value)}.{value.name}>"
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, Promise):  # lazy translations, in the language of this moment
        return repr(force_str(value))
    if isinstance(value, datetime.datetime | datetime.time):
        return f"<{value.isoformat()} {value.fold} {value.tzinfo}>"
    if isinstance(value, datetime.date):
        return f"<{value.isoformat()}>"
    if isinstance(value, datetime.timedelta):
        return f"<{value // datetime.timedelta.resolution}us>"
    if isinstance(value, models.QuerySet):
        return _queryset(value)
    if isinstance(value, Sequence):
        return f"[{','.join(map(spell, value))}]"
    if isinstance(value, set | frozenset):
        return f"<{','.join(sorted(map(spell, value)))}>"
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, functools.partial):
        return f"<{spell(value.func)}{spell(value.args)}{spell(value.keywords)}>"
    if inspect.isroutine(value):
        return _routine(value)
    return _by_its_own_text(value)


def _class_name(value: Any) -> str:
    kind = value.__class__
    return f"{kind.__module__}.{kind.__qualname__}"


def _instance(value: models.Model) -> str:
    label = value._meta.label_lower
    if value.pk is not None:
        database = value._state.db or "default"
        return f"<{label}.{spell(value.pk)}{'' if database == 'default' else '@' + database}>"
    # Not saved yet: nothing but its values tells it from another one.
    fields = {field.attname: getattr(value, field.attname) for field in value._meta.concrete_fields}
    return f"<{label}{_mapping(fields)}>"


def _queryset(value: models.QuerySet[Any]) -> str:
    try:
        sql, params = value.query.get_compiler(value.db).as_sql()
    except EmptyResultSet:
        sql, params = "", ()
    how = (value.model._meta.label_lower, value.db, value._iterable_class.__qualname__)
    return f"<{spell(how)}{spell(sql)}{spell(tuple(params))}>"


def _routine(value: Any) -> str:
    text = function_name(value)
    owner = getattr(value, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        text += f"({spell(owner)})"
    return f"<{text}>"


def _by_its_own_text(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"<{_class_name(value)}{_mapping(fields)}>"
    kind = value.__class__
    if kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__:
        text = str(value)
        # An address or an ellipsis: not the same everywhere, or not the whole value.
        if " at 0x" not in text and "..." not in text:
            return f"<{_class_name(value)}:{text!r}>"
    raise Unstable(
        f"A value of type {_class_name(value)} has no stable text, so a call with it cannot be "
        "cached. Give its class a __str__ that names the value, or pass what it depends on instead."
    )


def function_name(func: Callable[..., Any], *, line: bool = True) -> str:
    """Module, qualified name and line of a function: what it is called in every process."""
    while isinstance(func, functools.partial):
        func = func.func
    func = inspect.unwrap(func)
    code = getattr(func, "__code__", None)
    name = getattr(func, "__qualname__", None) or func.__class__.__qualname__
    module = getattr(func, "__module__", None) or func.__class__.__module__
    if not line or code is None or getattr(func, "__globals__", {}).get("CACHEOPS_DEBUG"):
        return f"{module}.{name}"
    # The line tells apart local functions and lambdas of one name.
    return f"{module}.{name}:{code.co_firstlineno}"


def digest(texts: Iterable[str]) -> str:
    """128 bits over some texts, as hex: a collision would be a wrong answer."""
    whole = blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.hexdigest()


class Namer:
    """Names the calls of one function: an argument by position or by name makes one call."""

    def __init__(self, func: Callable[..., Any], prefix: str | None = None) -> None:
        self.name = prefix or function_name(func)
        try:
            self._signature: inspect.Signature | None = inspect.signature(func)
        except (ValueError, TypeError):
            self._signature = None

    def name_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], extra: Any = None) -> str:
        """The digest of a call. Raises ``Unstable``."""
        if self._signature is not None and kwargs:
            try:
                bound = self._signature.bind(*args, **kwargs)
            except TypeError:
                pass  # the function itself will say so better
            else:
                args, kwargs = bound.args, bound.kwargs
        return self.name_rewritten(args, kwargs, extra)

    def name_text(self, text: str) -> str:
        """The digest of a call that somebody else has named. Raises ``Unstable``."""
        if not isinstance(text, str):
            raise Unstable(f"key_generator_callable must return a text, not {text!r}.")
        return digest((self.name, text))

    def name_rewritten(self, args: Any, kwargs: dict[str, Any], extra: Any = None) -> str:
        """The digest of a call whose arguments were replaced. Raises ``Unstable``."""
        try:
            return digest((self.name, spell(args), spell(kwargs), spell(extra)))
        except RecursionError:
            raise Unstable("An argument is nested too deeply, or contains itself.") from None
