"""``CACHEOPS_PREFIX``: a text for the front of keys, or a function of a query that makes one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .core.keys import Keys

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+").fullmatch


@dataclass(frozen=True)
class PrefixQuery:
    """What a ``CACHEOPS_PREFIX`` function is told: database aliases, tables, cached function."""

    dbs: list[str]
    tables: list[str]
    func: Callable[..., Any] | None = None

    @property
    def db(self) -> str:
        """The alias. Raises ``ImproperlyConfigured`` unless there is exactly one."""
        return self._only("dbs")

    @property
    def table(self) -> str:
        """The table. Raises ``ImproperlyConfigured`` unless there is exactly one."""
        return self._only("tables")

    def _only(self, name: str) -> str:
        found: list[str] = getattr(self, name)
        if len(found) != 1:
            raise ImproperlyConfigured(
                f"CACHEOPS_PREFIX asks for one of query.{name}, and there are {len(found)}: "
                f"{', '.join(found) or 'a key of the simple cache depends on no table'}."
            )
        return found[0]


def read_prefix(prefix: Any) -> str | Callable[[Any], str]:
    """The text, or the function, which may be named by its dotted path.

    Raises ``ImproperlyConfigured``.
    """
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
