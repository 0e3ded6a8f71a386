"""What the caller of a decorator chooses besides where results are kept and what they hang on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of ``cached_as``, ``cached`` and ``cached_by``; views have ``extra`` and ``tags``."""

    #: Part of the key: a value, or a function of the call's arguments.
    extra: Any = None
    #: Stands for the function in the key instead of its module, name and line. Functions under one
    #: prefix share their results.
    prefix: str | None = None
    #: ``key_generator_callable(*args, **kwargs)`` -> a text for all arguments and ``extra``.
    key_generator_callable: Callable[..., str] | None = None
    #: ``args_rewrite(*args)`` -> what stands for the positional arguments in the key.
    args_rewrite: Callable[..., Any] | None = None
    #: Called with the arguments of the call after a hit; awaited if it is async.
    hit_callable: Callable[..., Any] | None = None
    #: The same after a miss.
    miss_callable: Callable[..., Any] | None = None
    #: False: remember only that the function was called; a hit returns True.
    store_result: bool = True
    #: Exceptions that are results: stored, and raised again on a hit.
    cache_exceptions: type[Exception] | tuple[type[Exception], ...] = ()
    #: What ``invalidate_tag`` drops the result by: a tag, several, or a function of the arguments.
    tags: Any = ()
    #: Raises ``TypeError``, which says what to use instead.
    cache_alias: None = None

    def __post_init__(self) -> None:
        if self.cache_alias is not None:
            raise TypeError(
                "cache_alias: results are kept where CACHEOPS_REDIS says, for only there can rows, "
                "tags and invalidate() drop them without a race. Leave it out; for a server of its "
                "own use RedisCache(…).cached, for files file_cache.cached."
            )
        object.__setattr__(self, "tags", tags.check(self.tags))
