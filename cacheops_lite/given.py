"""Single settings as given -> the values that they mean, or an error that says what to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .core.keys import Keys

#: ``CACHEOPS_BREAKER``: Redis is left alone after so many ``failures`` in a row, for ``pause``
#: seconds, doubled by each failed attempt up to ``ceiling``; ``jitter`` is the part of a pause
#: that chance may take away.
BREAKER: Mapping[str, float] = {"failures": 1, "pause": 0.5, "ceiling": 10.0, "jitter": 0.2}

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+").fullmatch


def read_timeout(timeout: Any, where: str) -> None:
    """Raise ``ImproperlyConfigured`` unless ``timeout`` is a positive number of seconds."""
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not 0 < timeout < float("inf"):
        raise ImproperlyConfigured(
            f"{where} must be a positive number of seconds; got {timeout!r}."
        )


def read_skip_fields(given: Any) -> tuple[str, ...]:
    """``CACHEOPS_SKIP_FIELDS``: names of kinds of fields, or classes of fields."""
    names = [
        item.__name__ if hasattr(item, "get_internal_type") else item
        for item in (() if isinstance(given, str) else given)
    ]
    if isinstance(given, str) or not all(isinstance(name, str) for name in names):
        raise ImproperlyConfigured(
            "CACHEOPS_SKIP_FIELDS must be a list of kinds of fields, as in ['TextField']; "
            f"got {given!r}."
        )
    return tuple(names)


def read_prefix(prefix: Any) -> str | Callable[[Any], str]:
    """``CACHEOPS_PREFIX``: a text for the front of keys, a function, or its dotted path."""
    if isinstance(prefix, str):
        if _DOTTED(prefix):
            try:
                prefix = import_string(prefix)
            except ImportError as error:
                raise ImproperlyConfigured(
                    f"CACHEOPS_PREFIX = {prefix!r} is no path of a function: {error}. If it is "
                    "the text itself, let it end with ':'."
                ) from error
        else:
            try:
                Keys(prefix)
            except ValueError as error:
                raise ImproperlyConfigured(f"CACHEOPS_PREFIX: {error}.") from error
    if not isinstance(prefix, str) and not callable(prefix):
        raise ImproperlyConfigured(
            "CACHEOPS_PREFIX must be a string, a function of a query, or its dotted path; "
            f"got {prefix!r}."
        )
    return cast("str | Callable[[Any], str]", prefix)


def read_jitter(jitter: Any) -> float:
    """``CACHEOPS_JITTER``: from 0 to less than 1. Raises ``ImproperlyConfigured``."""
    number = isinstance(jitter, (int, float)) and not isinstance(jitter, bool)
    if not number or not 0 <= jitter < 1:
        raise ImproperlyConfigured(
            "CACHEOPS_JITTER is the share of a timeout that chance may take off, from 0 to less "
            f"than 1; got {jitter!r}."
        )
    return float(jitter)


def read_number(name: str, value: Any, least: float = 0, *, whole: bool = False) -> float:
    """A setting that is a number from ``least`` on. Raises ``ImproperlyConfigured``."""
    kinds = int if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not least <= value < float("inf"):
        kind = "a whole number" if whole else "a number"
        raise ImproperlyConfigured(f"{name} must be {kind}, {least} or more; got {value!r}.")
    return float(value) if not whole else int(value)


def read_interval(name: str, get: Callable[[str, Any], Any], default: Any) -> float | None:
    """A setting that is a number of seconds, or ``None`` or 0 for never."""
    value = get(name, default)
    if not value:
        return None
    read_timeout(value, f"{name} (None for never)")
    return float(value)


def read_breaker(given: Any) -> dict[str, float]:
    """``CACHEOPS_BREAKER`` over its defaults. Raises ``ImproperlyConfigured``."""
    if not isinstance(given, Mapping) or not given.keys() <= BREAKER.keys():
        raise ImproperlyConfigured(
            f"CACHEOPS_BREAKER must be a dict with some of the keys {sorted(BREAKER)}; "
            f"got {given!r}."
        )
    found = {**BREAKER, **given}
    for name, value in found.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name == "failures":
            right, what = number and isinstance(value, int) and value >= 1, "a whole number from 1"
        elif name == "jitter":
            right, what = number and 0 <= value < 1, "a part of the pause: from 0 to below 1"
        else:
            right, what = number and 0 < value < float("inf"), "a positive number of seconds"
        if not right:
            raise ImproperlyConfigured(f"CACHEOPS_BREAKER[{name!r}] must be {what}; got {value!r}.")
    if found["ceiling"] < found["pause"]:
        raise ImproperlyConfigured(
            "CACHEOPS_BREAKER: the ceiling must not be below the pause; "
            f"got {found['ceiling']!r} and {found['pause']!r}."
        )
    return found
