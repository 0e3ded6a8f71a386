"""What of one visitor goes into a response: tokens, messages, the session, credentials.

Django tells other caches of these later, in middleware around the view; here they must be noticed
while the view runs.
"""

from __future__ import annotations

from typing import Any

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
