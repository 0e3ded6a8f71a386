"""What of one visitor goes into a response: tokens, messages, the session, credentials.

Django tells other caches of these later, in middleware around the view; here they must be noticed
while the view runs.
"""

from __future__ import annotations

import functools
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

#: Django sets this in ``request.META`` when a CSRF token was asked for.
_TOKEN_FLAG = "CSRF_COOKIE_NEEDS_UPDATE"  # noqa: S105 (a name)


class Watch:
    """Notices what a view uses of its visitor; what others had used before does not count."""

    def __init__(self, request: Any) -> None:
        self._meta = request.META
        self._session = getattr(request, "session", None)
        self._messages = getattr(request, "_messages", None)
        #: A CSRF token was made, or messages for this visitor were shown or left.
        self.private = False
        #: The session was asked for something.
        self.session = False
        #: The request carries credentials.
        self.authorized = authorized(request)

    def __enter__(self) -> Watch:
        self._token = self._meta.pop(_TOKEN_FLAG, None)
        self._accessed = bool(getattr(self._session, "accessed", False))
        self._told = self._seen_messages()
        if self._accessed:
            self._session.accessed = False  # type: ignore[union-attr]
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.private = bool(self._meta.get(_TOKEN_FLAG)) or self._seen_messages() != self._told
        self.session = bool(getattr(self._session, "accessed", False))
        if self._token is not None:
            self._meta[_TOKEN_FLAG] = self._token
        if self._accessed:
            self._session.accessed = True  # type: ignore[union-attr]

    def _seen_messages(self) -> tuple[bool, bool]:
        return (
            bool(getattr(self._messages, "used", False)),
            bool(getattr(self._messages, "added_new", False)),
        )


def authorized(request: Any) -> bool:
    """Whether a request carries credentials in its ``Authorization`` header."""
    return "Authorization" in request.headers


def users(request: Any) -> list[str]:
    """The user that a synchronous view reads, as text; one text for all who have no key."""
    return [_text(getattr(request, "user", None))]


async def ausers(request: Any) -> list[str]:
    """The user that an async view reads, without blocking; two if there are two to choose from."""
    if not hasattr(request, "auser"):
        return await sync_to_async(users)(request)
    asked = _text(await request.auser())
    if not hasattr(request, "user"):
        return [asked]
    if _agree(request) and not hasattr(request, "_cached_user"):
        return [asked]  # request.user would ask the database for the same
    (found,) = await sync_to_async(users)(request)
    return [found] if found == asked else [found, asked]


def users_of_async(request: Any) -> list[str]:
    """``ausers`` for synchronous callers; raises ``RuntimeError`` in a loop if it has to wait."""
    if not hasattr(request, "auser") or _agree(request):
        return users(request)
    return async_to_sync(ausers)(request)


def _agree(request: Any) -> bool:
    """Whether ``user`` and ``auser`` are both as Django's middleware made them: of the session."""
    user, auser = getattr(request, "user", None), request.auser
    made = getattr(user, "__dict__", {}).get("_setupfunc")
    asked = auser.func if isinstance(auser, functools.partial) else None
    return all(
        getattr(function, "__module__", "") == "django.contrib.auth.middleware"
        for function in (made, asked)
    )


def _text(user: Any) -> str:
    # With its model: a project may know customers and staff, both with a key of 1.
    key = getattr(user, "pk", None)
    model = getattr(getattr(user, "_meta", None), "concrete_model", None)
    return repr(key) if key is None or model is None else f"{model._meta.label_lower}={key!r}"
