"""A granular, self-invalidating cache of Django's ORM in Redis or Valkey.

Public names are loaded when they are first used: importing the package needs no settings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"  # the only place
VERSION = tuple(int(part) for part in __version__.split(".") if part.isdigit())

_HOMES = {
    name: home
    for home, names in {
        "exceptions": "CacheopsError InvalidationRefused StoreUnavailable",
        "functions.by_fingerprint": "Fingerprinted cached_by",
        "functions.decorators": "cached cached_as cached_view cached_view_as",
        "functions.fingerprints": "Fingerprint Newest RowHash",
        "functions.policies": "on_change",
        "functions.results": "invalidate_functions",
        "functions.tags": "ainvalidate_tag invalidate_tag",
        "invalidation": "ainvalidate_all ainvalidate_model ainvalidate_obj invalidate_all "
        "invalidate_model invalidate_obj no_invalidation",
        "middleware": "request_scope",
        "reaper": "reap_conjs",
        "simple": "CacheMiss FileCache RedisCache cache file_cache",
        "templatetags.cacheops": "CacheopsLibrary invalidate_fragment",
    }.items()
    for name in names.split()
}

# Spelt out, for type checkers.
__all__ = [
    "VERSION", "CacheMiss", "CacheopsError", "CacheopsLibrary", "FileCache", "Fingerprint",
    "Fingerprinted", "InvalidationRefused", "Newest", "RedisCache", "RowHash", "StoreUnavailable",
    "__version__", "ainvalidate_all", "ainvalidate_model", "ainvalidate_obj", "ainvalidate_tag",
    "cache", "cached", "cached_as", "cached_by", "cached_view", "cached_view_as", "file_cache",
    "invalidate_all", "invalidate_fragment", "invalidate_functions", "invalidate_model",
    "invalidate_obj", "invalidate_tag", "no_invalidation", "on_change", "reap_conjs",
    "request_scope",
]  # fmt: skip

if TYPE_CHECKING:
    from .exceptions import CacheopsError, InvalidationRefused, StoreUnavailable
    from .functions.by_fingerprint import Fingerprinted, cached_by
    from .functions.decorators import cached, cached_as, cached_view, cached_view_as
    from .functions.fingerprints import Fingerprint, Newest, RowHash
    from .functions.policies import on_change
    from .functions.results import invalidate_functions
    from .functions.tags import ainvalidate_tag, invalidate_tag
    from .invalidation import (
        ainvalidate_all,
        ainvalidate_model,
        ainvalidate_obj,
        invalidate_all,
        invalidate_model,
        invalidate_obj,
        no_invalidation,
    )
    from .middleware import request_scope
    from .reaper import reap_conjs
    from .simple import CacheMiss, FileCache, RedisCache, cache, file_cache
    from .templatetags.cacheops import CacheopsLibrary, invalidate_fragment


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
