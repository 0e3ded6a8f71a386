"""What a peer calls things: caching by hand, dropping what depends on an object."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

PEER = os.environ.get("BENCH_PEER", "none")

#: Whether the peer caches results at all.
CACHES = PEER != "none"


def by_hand(queryset: Any) -> Any:
    """``.cache()`` where there is such a thing."""
    return queryset.cache() if hasattr(queryset, "cache") else queryset


def invalidator() -> Callable[[Any], Any] | None:
    """A function of an object, or ``None``."""
    drop: Callable[[Any], Any] | None = None
    if PEER in ("cacheops", "insideout"):
        drop = import_module("cacheops").invalidate_obj
    elif PEER == "ours":
        drop = import_module("cacheops_lite").invalidate_obj
    elif PEER == "cachalot":
        invalidate = import_module("cachalot.api").invalidate
        drop = lambda instance: invalidate(type(instance))  # noqa: E731
    return drop


def versions() -> dict[str, str]:
    """Of everything that has a part in the numbers."""
    from importlib import metadata

    found = {}
    for name in ("django", "django-cacheops", "django-cachalot", "cacheops-lite", "redis",
                 "hiredis", "psycopg"):  # fmt: skip
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
