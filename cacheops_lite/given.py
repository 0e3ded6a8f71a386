"""Single settings as given -> the values that they mean, or an error that says what to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

#: ``CACHEOPS_BREAKER``: Redis is left alone after so many ``failures`` in a row, for ``pause``
#: seconds, doubled by each failed attempt up to ``ceiling``; ``jitter`` is the part of a pause
#: that chance may take away.
BREAKER: Mapping[str, float] = {"failures": 1, "pause": 0.5, "ceiling": 10.0, "jitter": 0.2}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_timeout(timeout: Any, where: str) -> None:
    """Raise ``ImproperlyConfigured`` unless ``timeout`` is a positive number of seconds."""
    # Not by ``_is_number``: each ``.cache(timeout=…)`` comes here.
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


def read_jitter(jitter: Any) -> float:
    """``CACHEOPS_JITTER``: from 0 to less than 1. Raises ``ImproperlyConfigured``."""
    if not _is_number(jitter) or not 0 <= jitter < 1:
        raise ImproperlyConfigured(
            "CACHEOPS_JITTER is the share of a timeout that chance may take off, from 0 to less "
            f"than 1; got {jitter!r}."
        )
    return float(jitter)


def read_number(name: str, value: Any, least: float = 0, *, whole: bool = False) -> float:
    """A setting that is a number from ``least`` on. Raises ``ImproperlyConfigured``."""
    right = _is_number(value) and (not whole or isinstance(value, int))
    if not right or not least <= value < float("inf"):
        kind = "a whole number" if whole else "a number"
        raise ImproperlyConfigured(f"{name} must be {kind}, {least} or more; got {value!r}.")
    return int(value) if whole else float(value)


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
        number = _is_number(value)
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
