"""Middleware: each request remembers what it has read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from .orm.scope import request_scope

__all__ = ["RequestScopeMiddleware", "request_scope"]


class RequestScopeMiddleware:
    """The same cached query or function twice in one request: the second time costs nothing.

    Put ``"cacheops_lite.middleware.RequestScopeMiddleware"`` first in ``MIDDLEWARE``. It is sync or
    async as its surroundings are. For tasks and commands there is ``with request_scope(): …``.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._acall(request)
        with request_scope():
            return self.get_response(request)

    async def _acall(self, request: Any) -> Any:
        with request_scope():
            waiting: Awaitable[Any] = self.get_response(request)
            return await waiting
