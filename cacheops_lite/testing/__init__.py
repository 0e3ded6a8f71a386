"""Help for the tests of projects: the cache on or off, empty for each test, and what was cached.

``docs/guide_testing.rst`` shows it. The pytest fixtures are in ``testing.pytest_plugin``.
"""

from __future__ import annotations

from .asserts import Reads, assert_cached, assert_hits, assert_not_cached
from .mixin import CacheopsTestMixin
from .switch import caching, clear, no_caching

__all__ = [
    "CacheopsTestMixin", "Reads", "assert_cached", "assert_hits", "assert_not_cached", "caching",
    "clear", "no_caching",
]  # fmt: skip
