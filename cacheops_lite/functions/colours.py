"""A flow that is written once, as ``async def``, for callers of both colours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from ..core.protocol import run

T = TypeVar("T")

Load = Callable[[], Any]
ALoad = Callable[[], Awaitable[Any]]


def finish(flow: Callable[[ALoad], Coroutine[Any, Any, T]], load: Load) -> T:
    """Run a flow that never suspends around a plain function, whatever that function raises."""

    async def aload() -> Any:
        try:
            return load()
        except StopIteration as error:  # no coroutine may let one out
            raise _Stopped(error) from error

    try:
        return run(flow(aload))
    except _Stopped as stopped:
        raise stopped.error from None


def at_once(function: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """A plain function as the flow awaits it for sync callers."""

    async def call(*args: Any) -> T:
        return function(*args)

    return call


def in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function as the flow awaits it for async callers: off the event loop."""
    return sync_to_async(function, thread_sensitive=False)


class _Stopped(Exception):
    """Carries a ``StopIteration`` of the function out of a coroutine."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__()
        self.error = error
