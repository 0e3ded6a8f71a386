"""What may be stored of a view's response, what tells responses apart, and their stored form.

The rules are those of a shared cache (RFC 9111) as far as a view can know them: only complete 200
responses, none that sets cookies, carries a CSRF token or messages, is streamed, or says
``private``, ``no-store`` or ``no-cache``; of a request with credentials only what says ``public``,
``s-maxage`` or ``must-revalidate``.
What the session went into varies by cookies. A 304 answers one client's validators, so it is never
stored; a stored 200 answers them itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.utils import timezone
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import parse_http_date_safe
from django.utils.translation import get_language

from .backend import Unstored
from .visitors import Watch, authorized

_UNSHARED = frozenset({"private", "no-store", "no-cache"})
_PUBLIC = frozenset({"public", "s-maxage", "must-revalidate"})


@dataclass(frozen=True, slots=True)
class Vary:
    """What of a request makes another response, besides its URI and the view's arguments."""

    headers: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    user: bool = False
    #: ``None``: as ``USE_I18N`` says.
    language: bool | None = None

    @property
    def by_language(self) -> bool:
        """Whether responses differ by the active language."""
        return settings.USE_I18N if self.language is None else self.language

    def covers(self, header: str) -> bool:
        """Whether a header (lower case) that a response names in ``Vary`` is declared here."""
        if header in map(str.lower, self.headers):
            return True
        if header == "cookie":
            return self.user or bool(self.cookies)
        return header == "accept-language" and self.by_language

    @property
    def by_session(self) -> bool:
        """Whether responses to two sessions are told apart."""
        return self.user or settings.SESSION_COOKIE_NAME in self.cookies

    @property
    def header_names(self) -> list[str]:
        """What other caches must be told to tell apart."""
        return [*self.headers, *(["Cookie"] if self.user or self.cookies else [])]

    def values(self, request: Any, users: Iterable[str]) -> list[str]:
        """The texts that tell requests apart; ``users`` those of its user, if asked for."""
        texts = [f"h:{name.lower()}={request.headers.get(name)!r}" for name in self.headers]
        texts += [f"c:{name}={request.COOKIES.get(name)!r}" for name in self.cookies]
        texts += [f"u:{user}" for user in users]
        if self.by_language:
            texts.append(f"l:{get_language()}")
        if settings.USE_TZ:
            texts.append(f"z:{timezone.get_current_timezone()}")
        if request.method == "HEAD":
            texts.append("HEAD")
        if authorized(request) and not self.covers("authorization"):
            texts.append("authorized")
        return texts


def names(value: str | Iterable[str]) -> tuple[str, ...]:
    """What users write for one name, or several."""
    return (value,) if isinstance(value, str) else tuple(value)


class Fresh(NamedTuple):
    """What a view just returned, and what of its visitor it used for that."""

    response: Any
    visitor: Watch


class VaryOn(NamedTuple):
    """Stored instead of a response: it differs by these request headers (lower case, sorted)."""

    headers: tuple[str, ...]

    def values(self, request: Any) -> list[str]:
        """The texts that tell requests apart."""
        return [f"v:{name}={request.headers.get(name)!r}" for name in self.headers]


class Unrendered(NamedTuple):
    """Stored of a REST framework response that is rendered later, negotiated for each request."""

    kind: type
    data: Any
    status: int
    template_name: Any
    headers: dict[str, str]
    exception: bool
    content_type: str | None


def pack(fresh: Fresh, vary: Vary, known: tuple[str, ...]) -> Any:
    """What to store of a fresh response that was asked for with the headers ``known`` in its key.

    Raises ``Unstored``.
    """
    response, visitor = fresh
    if visitor.private or not _shareable(response):
        raise Unstored
    if visitor.authorized and not vary.covers("authorization") and not _public(response):
        raise Unstored
    found = {name.lower() for name in _parts(response.headers.get("Vary", ""))}
    if "*" in found:
        raise Unstored
    found = {name for name in found if not vary.covers(name)}
    declared = vary.header_names
    if visitor.session and not vary.by_session:
        found.add("cookie")
        declared.append("Cookie")
    if declared:  # without names Django would set an empty header
        patch_vary_headers(response, declared)
    if found <= set(known):
        return _freeze(response)
    if known:
        raise Unstored  # it varies on more than it did: learned anew when the known names expire
    return VaryOn(tuple(sorted(found)))


def unpack(stored: Any) -> Any:
    """A response from what ``pack`` made of one."""
    if not isinstance(stored, Unrendered):
        return stored
    return stored.kind(
        data=stored.data, status=stored.status, template_name=stored.template_name,
        headers=stored.headers, exception=stored.exception, content_type=stored.content_type,
    )  # fmt: skip


def _parts(header: str) -> list[str]:
    return [part.strip() for part in header.split(",") if part.strip()]


def _shareable(response: Any) -> bool:
    if not isinstance(response, HttpResponseBase) or response.streaming:
        return False
    if response.status_code != 200 or response.cookies or "Set-Cookie" in response.headers:
        return False
    control = _control(response)
    if not control and "no-cache" in response.headers.get("Pragma", "").lower():
        return False
    return _UNSHARED.isdisjoint(control)


def _public(response: Any) -> bool:
    """Whether a response may be stored although the request had credentials (RFC 9111, 3.5)."""
    return not _PUBLIC.isdisjoint(_control(response))


def _control(response: Any) -> set[str]:
    """The names of the directives of ``Cache-Control``."""
    parts = _parts(response.headers.get("Cache-Control", "").lower())
    return {part.partition("=")[0].strip() for part in parts}


def _freeze(response: Any) -> Any:
    if not isinstance(response, SimpleTemplateResponse):
        return response
    found: Any = response
    if hasattr(response, "data"):
        if response.is_rendered:
            return response
        return Unrendered(
            type(found), found.data, found.status_code, found.template_name,
            dict(found.headers), found.exception, found.content_type,
        )  # fmt: skip
    # What template middleware looks for is lost when a rendered response is pickled.
    plain = HttpResponse(response.content, reason=response.reason_phrase)
    plain.headers = response.headers
    return plain


def can_render(response: Any) -> bool:
    """Whether this response is to be rendered by whoever called the view."""
    # One of REST framework is rendered only after its view has chosen a renderer.
    return (
        callable(getattr(response, "render", None))
        and not getattr(response, "is_rendered", False)
        and (not hasattr(response, "data") or hasattr(response, "accepted_renderer"))
    )


def conditional(request: Any, response: Any) -> Any:
    """Answer 304 to a client that has this very response already."""
    etag = response.headers.get("ETag")
    modified = response.headers.get("Last-Modified")
    if not etag and not modified:
        return response
    return get_conditional_response(
        request,
        etag=etag,
        last_modified=parse_http_date_safe(modified) if modified else None,
        response=response,
    )
