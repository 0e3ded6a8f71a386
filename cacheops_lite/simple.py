"""The simple caches that a project uses by name: ``cache`` in Redis, ``file_cache`` in files."""

from __future__ import annotations

from .filecache import FileCache
from .functions import cached, cached_view
from .memoize import CacheMiss
from .rediscache import RedisCache

__all__ = [
    "CacheMiss", "FileCache", "RedisCache", "cache", "cached", "cached_view", "file_cache",
]  # fmt: skip

cache = RedisCache()
file_cache = FileCache()
