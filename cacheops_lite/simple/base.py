"""What simple caches have in common: keys that the user chooses, values that end by time.

A kind of cache says how a value is fetched, stored and removed. ``begin`` gives a token before a
value is computed; ``store`` with that token keeps the value only if nothing was stored or removed
under the key meanwhile. So whoever removes a value is never answered with an older one.
"""

from __future__ import annotations

import functools
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, overload

from asgiref.sync import sync_to_async

from .. import signals
from ..functions.colours import ALoad, Load, at_once, finish
from ..functions.memoize import (
    DESCRIPTORS,
    Answer,
    CacheMiss,
    Call,
    Pack,
    Unstored,
    as_it_is,
    memoize,
)
from ..functions.responses import Vary, names
from ..functions.signatures import Cached, CachedView, Decorator, P, R, ViewDecorator
from ..functions.views import memoize_view
from ..options import Options
from ..orm import scope

Timeout = float | timedelta | None


def in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run blocking input and output off the event loop."""
    return sync_to_async(function, thread_sensitive=False)


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
        """The value, or what ``default`` is or returns, which is stored then."""
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
        """Cache the results of a function here; see ``decorators.cached``."""
        return self._cached(timeout, extra, **options)

    @overload
    def cached_view(self, timeout: Callable[P, R], /) -> CachedView[P, R]: ...
    @overload
    def cached_view(
        self, timeout: float | timedelta | None = None, extra: Any = None, **options: Any
    ) -> ViewDecorator: ...
    def cached_view(self, timeout: Any = None, extra: Any = None, **options: Any) -> Any:
        """Cache the responses of a view here; see ``decorators.cached_view``."""
        return self._cached_view(timeout, extra, **options)

    def _cached(self, timeout: Any, extra: Any = None, **options: Any) -> Any:
        if callable(timeout) or isinstance(timeout, DESCRIPTORS):
            return self.cached()(timeout)
        backend = SimpleBackend(self, timeout)
        chosen = Options(extra=extra, **options)
        if chosen.tags:
            raise TypeError("Simple caches know no tags: use cached or cached_as of the package.")
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


class SimpleBackend:
    """Keeps results of functions in a simple cache.

    Variants of a call are stored with a random mark of the call, so removing the mark removes
    them all.
    """

    def __init__(self, cache: BaseCache, timeout: Timeout) -> None:
        self._cache, self._timeout = cache, timeout

    def read(
        self, call: Call, load: Load, pack: Pack = as_it_is, *, refresh: bool = False
    ) -> Answer:
        """Answer from the cache, or load and store."""
        return finish(lambda aload: self._read(at_once, call, aload, pack, refresh), load)

    async def aread(
        self, call: Call, load: ALoad, pack: Pack = as_it_is, *, refresh: bool = False
    ) -> Answer:
        """``read`` for async callers."""
        return await self._read(in_thread, call, load, pack, refresh)

    async def _read(
        self, way: Callable[..., Any], call: Call, load: ALoad, pack: Pack, refresh: bool
    ) -> Answer:
        mark = await way(self._mark)(call)
        try:
            if refresh:
                raise CacheMiss
            value = await way(self._get)(call, mark)
        except CacheMiss:
            _tell(call, hit=False)
            token = await way(self._cache.begin)(self.key(call), self._timeout)
            with scope.apart():
                value = await load()
            await way(self._store)(call, mark, value, pack, token)
            return Answer(value, False)
        _tell(call, hit=True)
        return Answer(value, True)

    def _mark(self, call: Call) -> str:
        if not call.variant:
            return ""
        fresh = functools.partial(secrets.token_hex, 8)
        mark: str = self._cache.get_or_set(self._main(call), fresh, self._timeout)
        return mark

    def _get(self, call: Call, mark: str) -> Any:
        stored = self._cache.get(self.key(call))
        if not mark:
            return stored
        of, value = stored
        if of != mark:
            raise CacheMiss
        return value

    def _store(self, call: Call, mark: str, value: Any, pack: Pack, token: Any) -> None:
        try:
            packed = pack(value)
        except Unstored:
            return
        stored = (mark, packed) if mark else packed
        self._cache.store(self.key(call), stored, self._timeout, token)

    def get(self, call: Call) -> Any:
        """The stored result of a call. Raises ``CacheMiss``."""
        return self._get(call, self._mark(call))

    def set(self, call: Call, value: Any) -> None:
        """Store a result for a call."""
        mark = self._mark(call)
        self._cache.set(self.key(call), (mark, value) if mark else value, self._timeout)

    def delete(self, call: Call) -> None:
        """Drop the results of a call, in every variant."""
        self._cache.delete(self._main(call))

    async def aget(self, call: Call) -> Any:
        """``get`` for async callers."""
        return await in_thread(self.get)(call)

    async def aset(self, call: Call, value: Any) -> None:
        """``set`` for async callers."""
        await in_thread(self.set)(call, value)

    async def adelete(self, call: Call) -> None:
        """``delete`` for async callers."""
        await in_thread(self.delete)(call)

    def _main(self, call: Call) -> str:
        return f"c:{call.digest}"

    def key(self, call: Call) -> str:
        """The key in the cache."""
        return f"c:{call.digest}:{call.variant}" if call.variant else self._main(call)

    def clear(self, calls: Call) -> None:
        """Not known here: a simple cache has no list of a function's calls."""
        raise NotImplementedError("Simple caches drop results one by one: use invalidate(…).")

    async def aclear(self, calls: Call) -> None:
        """``clear`` for async callers."""
        self.clear(calls)


def _tell(call: Call, *, hit: bool) -> None:
    if signals.cache_read.has_listeners():
        signals.cache_read.send(sender=None, func=call.func, hit=hit)
