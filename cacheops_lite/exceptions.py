"""What users may catch."""

from __future__ import annotations


class CacheopsError(Exception):
    """Base of the errors that this package raises."""


class StoreUnavailable(CacheopsError):
    """Redis did not answer, or answered with an error; the caller goes on without the cache."""


class InvalidationRefused(CacheopsError):
    """A commit was refused: its invalidation could not be announced to Redis.

    Raised only with ``CACHEOPS_DEGRADE_ON_FAILURE = False``; the transaction was rolled back.
    """
