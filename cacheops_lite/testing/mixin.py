"""For unittest: a mixin that gives each test of a class an empty cache, or none."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .asserts import Reads, assert_cached, assert_hits, assert_not_cached
from .switch import MEMORY, caching, clear, no_caching

if TYPE_CHECKING:
    Base = unittest.TestCase
else:
    Base = object


class CacheopsTestMixin(Base):
    """Put it before Django's class: ``class PostTests(CacheopsTestMixin, TestCase)``."""

    #: Whether the tests of this class cache.
    cacheops: bool = True
    #: Where: the memory of the process, ``None`` for the project's server, or a ``CACHEOPS_REDIS``.
    cacheops_redis: str | Mapping[str, Any] | None = MEMORY

    @classmethod
    def setUpClass(cls) -> None:
        """Switch before the class makes its data."""
        cls.enterClassContext(caching(cls.cacheops_redis) if cls.cacheops else no_caching())
        super().setUpClass()

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Begin with nothing cached."""
        clear()
        return super().run(result)

    def assertCached(self, queryset: Any, op: str = "fetch") -> None:  # noqa: N802
        """A read of the queryset would be a hit now."""
        assert_cached(queryset, op)

    def assertNotCached(self, queryset: Any, op: str = "fetch") -> None:  # noqa: N802
        """A read of the queryset would ask the database now."""
        assert_not_cached(queryset, op)

    def assertHits(  # noqa: N802
        self, hits: int, misses: int | None = None
    ) -> AbstractContextManager[Reads]:
        """Inside the block so many reads are answered from the cache."""
        return assert_hits(hits, misses)
