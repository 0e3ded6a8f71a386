"""What a place for results is: the calls it is asked for, its answers, the key of a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from .. import signals
from .colours import ALoad, Load


class CacheMiss(Exception):
    """Nothing is stored under this key."""


class Unstored(Exception):
    """Raised by a ``Pack``: this value is for the caller only."""


class Call(NamedTuple):
    """One call of a function, or all of its calls, where it has no digest.

    ``family`` names the functions that share results; ``variant`` tells apart several results of
    the one call.
    """

    func: Callable[..., Any]
    family: str
    digest: str = ""
    variant: str = ""
    tags: tuple[str, ...] = ()


class Answer(NamedTuple):
    """A value, and whether it was stored before (in the form that ``Pack`` gave it)."""

    value: Any
    hit: bool


#: A fresh value -> what to store of it. Raises ``Unstored``.
Pack = Callable[[Any], Any]


def as_it_is(value: Any) -> Any:
    """Store a value unchanged."""
    return value


class Backend(Protocol):
    """A place for results. ``get`` and ``aget`` raise ``CacheMiss``."""

    def read(
        self, call: Call, load: Load, pack: Pack = as_it_is, *, refresh: bool = False
    ) -> Answer: ...
    async def aread(
        self, call: Call, load: ALoad, pack: Pack = as_it_is, *, refresh: bool = False
    ) -> Answer: ...
    def get(self, call: Call) -> Any: ...
    async def aget(self, call: Call) -> Any: ...
    def set(self, call: Call, value: Any) -> None: ...
    async def aset(self, call: Call, value: Any) -> None: ...
    def delete(self, call: Call) -> None: ...
    async def adelete(self, call: Call) -> None: ...
    def key(self, call: Call) -> str: ...
    def clear(self, calls: Call) -> None: ...
    async def aclear(self, calls: Call) -> None: ...


class CacheKey(str):
    """The key of one call's result; reads, replaces and deletes it."""

    __slots__ = ("backend", "call")
    backend: Backend
    call: Call

    @classmethod
    def of(cls, backend: Backend, call: Call) -> CacheKey:
        """The key of a call."""
        self = cls(backend.key(call))
        self.backend, self.call = backend, call
        return self

    def get(self) -> Any:
        """The stored value. Raises ``CacheMiss``."""
        return self.backend.get(self.call)

    async def aget(self) -> Any:
        """``get`` for async callers."""
        return await self.backend.aget(self.call)

    def set(self, value: Any) -> None:
        """Store ``value`` as the result of the call."""
        self.backend.set(self.call, value)

    async def aset(self, value: Any) -> None:
        """``set`` for async callers."""
        await self.backend.aset(self.call, value)

    def delete(self) -> None:
        """Drop the result of the call."""
        self.backend.delete(self.call)

    async def adelete(self) -> None:
        """``delete`` for async callers."""
        await self.backend.adelete(self.call)


def tell(call: Call, *, hit: bool) -> None:
    """Tell who listens to ``signals.cache_read``."""
    if signals.cache_read.has_listeners():
        signals.cache_read.send(sender=None, func=call.func, hit=hit)
