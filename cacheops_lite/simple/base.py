"""What simple caches have in common: keys that the user chooses, values that end by time.

A kind of cache says how a value is fetched, stored and removed. ``begin`` gives a token before a
value is computed; ``store`` with that token keeps the value only if nothing was stored or removed
under the key meanwhile. So whoever removes a value is never answered with an older one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, overload

from ..functions.backend import CacheMiss
from ..functions.colours import in_thread
from ..functions.memoize import DESCRIPTORS, memoize
from ..functions.options import Options
from ..functions.refresh import Refreshing
from ..functions.responses import Vary, names
from ..functions.signatures import Cached, CachedView, Decorator, P, R, ViewDecorator
from ..functions.views import memoize_view
from .backend import SimpleBackend

Timeout = float | timedelta | None

#: Options of decorators that take more than a value and its timeout.
_ELSEWHERE = frozenset({"tags", "lock", *Refreshing.__annotations__})


class BaseCache(ABC):
    """A cache of values by key. Timeouts are in seconds, or ``timedelta``."""

    # -- what a kind of cache says -------------------------------------------------------------

    @abstractmethod
    def get(self, cache_key: str) -> Any:
        """The value. Raises ``CacheMiss``."""

    @abstractmethod
    def begin(self, cache_key: str, timeout: Timeout = None) -> Any:
        """A token for ``store``, to be taken before the value is computed."""

    @abstractmethod
    def store(self, cache_key: str, data: Any, timeout: Timeout, token: Any) -> None:
        """Store a value that was computed after ``begin`` gave ``token``."""

    @abstractmethod
    def set(self, cache_key: str, data: Any, timeout: Timeout = None) -> None:
        """Store a value; values that are being computed do not replace it."""

    @abstractmethod
    def add(self, cache_key: str, data: Any, timeout: Timeout = None) -> bool:
        """Store a value if there is none; tell whether it was stored."""

    @abstractmethod
    def delete(self, cache_key: str) -> None:
        """Remove a value, and those that are being computed."""

    # -- what follows --------------------------------------------------------------------------

    def get_or_set(self, cache_key: str, default: Any, timeout: Timeout = None) -> Any:
        """The value; if there is none, ``default`` or what it returns, which is then stored."""
        try:
            return self.get(cache_key)
        except CacheMiss:
            token = self.begin(cache_key, timeout)
            value = default() if callable(default) else default
            self.store(cache_key, value, timeout, token)
            return value

    def get_many(self, cache_keys: Iterable[str]) -> dict[str, Any]:
        """The values that are there, by key."""
        found = {}
        for key in cache_keys:
            try:
                found[key] = self.get(key)
            except CacheMiss:
                continue
        return found

    def set_many(self, data: Mapping[str, Any], timeout: Timeout = None) -> None:
        """Store several values."""
        for key, value in data.items():
            self.set(key, value, timeout)

    def delete_many(self, cache_keys: Iterable[str]) -> None:
        """Remove several values."""
        for key in cache_keys:
            self.delete(key)

    async def aget(self, cache_key: str) -> Any:
        """``get`` for async callers."""
        return await in_thread(self.get)(cache_key)

    async def aset(self, cache_key: str, data: Any, timeout: Timeout = None) -> None:
        """``set`` for async callers."""
        await in_thread(self.set)(cache_key, data, timeout)

    async def aadd(self, cache_key: str, data: Any, timeout: Timeout = None) -> bool:
        """``add`` for async callers."""
        return bool(await in_thread(self.add)(cache_key, data, timeout))

    async def adelete(self, cache_key: str) -> None:
        """``delete`` for async callers."""
        await in_thread(self.delete)(cache_key)

    async def aget_many(self, cache_keys: Iterable[str]) -> dict[str, Any]:
        """``get_many`` for async callers."""
        found: dict[str, Any] = await in_thread(self.get_many)(cache_keys)
        return found

    async def aset_many(self, data: Mapping[str, Any], timeout: Timeout = None) -> None:
        """``set_many`` for async callers."""
        await in_thread(self.set_many)(data, timeout)

    async def adelete_many(self, cache_keys: Iterable[str]) -> None:
        """``delete_many`` for async callers."""
        await in_thread(self.delete_many)(cache_keys)

    async def aget_or_set(self, cache_key: str, default: Any, timeout: Timeout = None) -> Any:
        """``get_or_set`` for async callers; ``default`` may be a coroutine function."""
        try:
            return await self.aget(cache_key)
        except CacheMiss:
            token = await in_thread(self.begin)(cache_key, timeout)
            value = default() if callable(default) else default
            if hasattr(value, "__await__"):
                value = await value
            await in_thread(self.store)(cache_key, value, timeout, token)
            return value

    # -- decorators ----------------------------------------------------------------------------

    @overload
    def cached(self, timeout: Callable[P, R], /) -> Cached[P, R]: ...
    @overload
    def cached(
        self, timeout: float | timedelta | None = None, extra: Any = None, **options: Any
    ) -> Decorator: ...
    def cached(self, timeout: Any = None, extra: Any = None, **options: Any) -> Any:
        """Cache the results of a function here, as ``cacheops_lite.cached`` does.

        The class says which options are missing.
        """
        return self._cached(timeout, extra, **options)

    @overload
    def cached_view(self, timeout: Callable[P, R], /) -> CachedView[P, R]: ...
    @overload
    def cached_view(
        self, timeout: float | timedelta | None = None, extra: Any = None, **options: Any
    ) -> ViewDecorator: ...
    def cached_view(self, timeout: Any = None, extra: Any = None, **options: Any) -> Any:
        """Cache the responses of a view here, as ``cacheops_lite.cached_view`` does.

        The class says which options are missing.
        """
        return self._cached_view(timeout, extra, **options)

    def _cached(self, timeout: Any, extra: Any = None, **options: Any) -> Any:
        if callable(timeout) or isinstance(timeout, DESCRIPTORS):
            return self.cached()(timeout)
        backend = SimpleBackend(self, timeout)
        if missing := sorted(_ELSEWHERE & options.keys()):
            raise TypeError(
                f"Simple caches know no {', '.join(missing)}: use cached of the package."
            )
        chosen = Options(extra=extra, **options)
        return lambda func: memoize(func, backend, chosen)

    def _cached_view(
        self,
        timeout: Any,
        extra: Any = None,
        *,
        vary_headers: str | Iterable[str] = (),
        vary_cookies: str | Iterable[str] = (),
        vary_user: bool = False,
        vary_language: bool | None = None,
    ) -> Any:
        if callable(timeout):
            return self.cached_view()(timeout)
        backend = SimpleBackend(self, timeout)
        vary = Vary(names(vary_headers), names(vary_cookies), vary_user, vary_language)
        return lambda view: memoize_view(view, backend, Options(extra=extra), vary)
