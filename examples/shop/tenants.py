"""Two shops on one server: the host of the request chooses the database, and leads the keys."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponse

host: ContextVar[str] = ContextVar("host", default="red.example")

DATABASES = {"red.example": "default", "blue.example": "blue"}


class TenantMiddleware:
    """Remembers the shop of the request: the blue one for ``blue.…``, else the red one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        blue = request.get_host().startswith("blue.")
        token = host.set("blue.example" if blue else "red.example")
        try:
            return self.get_response(request)
        finally:
            host.reset(token)


class TenantRouter:
    """The database of the shop that is visited."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return DATABASES[host.get()]

    db_for_write = db_for_read


def cacheops_prefix(query: Any) -> str:
    """Each shop has keys of its own."""
    return f"{host.get()}:"
