"""The simple caches that a project uses by name: ``cache`` in Redis, ``file_cache`` in files."""

from __future__ import annotations

from ..functions.backend import CacheMiss
from ..functions.decorators import cached, cached_view
from .in_files import FileCache
from .in_redis import RedisCache

__all__ = [
    "CacheMiss", "FileCache", "RedisCache", "cache", "cached", "cached_view", "file_cache",
]  # fmt: skip

cache = RedisCache()
file_cache = FileCache()
