"""Results of functions in a simple cache, by a key for each call."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..functions.backend import Answer, CacheMiss, Call, Pack, Unstored, as_it_is, tell
from ..functions.colours import ALoad, Load, at_once, finish, in_thread
from ..orm import scope

if TYPE_CHECKING:
    from .base import BaseCache, Timeout


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
            tell(call, hit=False)
            token = await way(self._cache.begin)(self.key(call), self._timeout)
            with scope.apart():
                value = await load()
            await way(self._store)(call, mark, value, pack, token)
            return Answer(value, False)
        tell(call, hit=True)
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
