"""Views that remember: what HTTP allows to store of a response, and what tells responses apart.

The rules are those of a shared cache (RFC 9111) where a view can know them: only complete 200
responses to GET and HEAD, none that sets cookies, carries a CSRF token, is streamed, or says
``private``, ``no-store`` or ``no-cache``. A response that names request headers in ``Vary`` is
kept once for each value of them: its first answer leaves only their names behind.

The flow of one request is a generator that asks for reads; a sync and an async loop perform them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.utils.cache import cc_delim_re, get_conditional_response
from django.utils.decorators import method_decorator
from django.utils.http import parse_http_date_safe
from django.utils.translation import get_language
from django.views import View

from .calls import digest
from .memoize import Answer, Backend, Call, Memo, Options, Pack, Unstored, equip

_METHODS = ("GET", "HEAD")
_UNSHARED = frozenset({"private", "no-store", "no-cache"})


@dataclass(frozen=True, slots=True)
class Vary:
    """What of a request makes another response, besides its URI and the view's arguments."""

    headers: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    user: bool = False
    language: bool = False

    def covers(self, header: str) -> bool:
        """Whether a header named in ``Vary`` is declared here."""
        if header in map(str.lower, self.headers):
            return True
        if header == "cookie":
            return self.user
        return header == "accept-language" and self.language

    def values(self, request: Any, user: Any) -> list[str]:
        """The texts that tell requests apart; ``user`` is the request's user, if asked for."""
        texts = [f"h:{name.lower()}={request.headers.get(name)}" for name in self.headers]
        texts += [f"c:{name}={request.COOKIES.get(name)!r}" for name in self.cookies]
        if self.user:
            texts.append(f"u:{getattr(user, 'pk', None)!r}")
        if self.language:
            texts.append(f"l:{get_language()}")
        if request.method == "HEAD":
            texts.append("HEAD")
        return texts


class VaryOn(NamedTuple):
    """Stored instead of a response: it differs by these request headers (lower case, sorted)."""

    headers: tuple[str, ...]


class Unrendered(NamedTuple):
    """Stored of a REST framework response that its view has yet to render, negotiated anew."""

    kind: type
    data: Any
    status: int
    template_name: Any
    headers: dict[str, str]
    exception: bool
    content_type: str | None


class _Read(NamedTuple):
    call: Call
    pack: Pack


Flow = Generator[_Read, Answer, Any]


def memoize_view(view: Any, backend: Backend, options: Options, vary: Vary) -> Any:
    """Decorate a view: a function, an async function, a method of a class-based view, its class."""
    if isinstance(view, type) and issubclass(view, View):
        decorate = functools.partial(
            memoize_view, backend=backend, options=options, vary=vary
        )
        return method_decorator(decorate, name="dispatch")(view)

    memo = Memo(view, options)

    if iscoroutinefunction(view):

        @functools.wraps(view)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            request = request_of(args)
            call = _call(memo, request, args, kwargs)
            if call is None:
                return await view(*args, **kwargs)

            async def load() -> Any:
                with_token = _has_token(request)
                response = await view(*args, **kwargs)
                if _renders(response):
                    await sync_to_async(response.render)()
                return _Fresh(response, not with_token and _has_token(request))

            user = await request.auser() if vary.user and hasattr(request, "auser") else None
            flow = _flow(call, request, vary, vary.values(request, user))
            answer: Answer | None = None
            while True:
                try:
                    step = next(flow) if answer is None else flow.send(answer)
                except StopIteration as end:
                    return end.value
                answer = await backend.aread(step.call, load, step.pack)

    else:

        @functools.wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            request = request_of(args)
            call = _call(memo, request, args, kwargs)
            if call is None:
                return view(*args, **kwargs)

            def load() -> Any:
                with_token = _has_token(request)
                response = view(*args, **kwargs)
                if _renders(response):
                    response.render()
                return _Fresh(response, not with_token and _has_token(request))

            user = getattr(request, "user", None) if vary.user else None
            flow = _flow(call, request, vary, vary.values(request, user))
            answer: Answer | None = None
            while True:
                try:
                    step = next(flow) if answer is None else flow.send(answer)
                except StopIteration as end:
                    return end.value
                answer = backend.read(step.call, load, step.pack)

    equip(wrapper, memo, backend)
    return wrapper


class _Fresh(NamedTuple):
    """What the view just returned, and whether it used a CSRF token for that."""

    response: Any
    token: bool


def request_of(args: tuple[Any, ...]) -> Any:
    """The request among the arguments of a view or of a view's method. Raises ``TypeError``."""
    for arg in args[:2]:
        if isinstance(arg, HttpRequest) or (
            hasattr(arg, "build_absolute_uri") and hasattr(arg, "META")
        ):
            return arg
    raise TypeError("A cached view must be called with a request as its first argument.")


def _call(
    memo: Memo, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call | None:
    if request.method not in _METHODS:
        return None
    if args[0] is not request:
        # A method: the view's instance lives for this request only, its class names it.
        args = (type(args[0]), *args[1:])
    return memo.call_if_possible(args, kwargs)


def _flow(call: Call, request: Any, vary: Vary, texts: list[str]) -> Flow:
    first = call._replace(variant=digest(texts) if texts else "")
    answer = yield _Read(first, functools.partial(_pack, vary=vary, known=()))
    if answer.hit and isinstance(answer.value, VaryOn):
        names = answer.value.headers
        more = [f"v:{name}={request.headers.get(name)}" for name in names]
        second = call._replace(variant=digest([*texts, *more]))
        answer = yield _Read(second, functools.partial(_pack, vary=vary, known=names))
    if isinstance(answer.value, _Fresh):
        return answer.value.response
    return _conditional(request, thaw(answer.value))


def _pack(fresh: _Fresh, *, vary: Vary, known: tuple[str, ...]) -> Any:
    """What to store of a fresh response. Raises ``Unstored``."""
    response = fresh.response
    if fresh.token or not _shareable(response):
        raise Unstored
    names = {name.lower() for name in cc_delim_re.split(response.headers.get("Vary", "")) if name}
    if "*" in names:
        raise Unstored
    names = {name for name in names if not vary.covers(name)}
    if names <= set(known):
        return freeze(response)
    if known:
        raise Unstored  # it varies on more than it did: found out anew once the names expire
    return VaryOn(tuple(sorted(names)))


def _shareable(response: Any) -> bool:
    if not isinstance(response, HttpResponseBase) or response.streaming:
        return False
    if response.status_code != 200 or response.cookies:
        return False
    control = cc_delim_re.split(response.headers.get("Cache-Control", "").lower())
    return _UNSHARED.isdisjoint(part.split("=", 1)[0].strip() for part in control)


def _renders(response: Any) -> bool:
    # A REST framework response can be rendered only after its view chose a renderer.
    return (
        callable(getattr(response, "render", None))
        and not getattr(response, "is_rendered", False)
        and (not hasattr(response, "data") or hasattr(response, "accepted_renderer"))
    )


def _has_token(request: Any) -> bool:
    return bool(request.META.get("CSRF_COOKIE_NEEDS_UPDATE"))


def freeze(response: Any) -> Any:
    """The form of a response that can be pickled and answered again."""
    if isinstance(response, SimpleTemplateResponse):
        if hasattr(response, "data"):
            if response.is_rendered:
                return response
            return Unrendered(
                type(response), response.data, response.status_code, response.template_name,
                dict(response.headers), response.exception, response.content_type,
            )  # fmt: skip
        # What template middleware looks for is gone once it is rendered and pickled.
        plain = HttpResponse(response.content, status=200, reason=response.reason_phrase)
        plain.headers = response.headers
        return plain
    return response


def thaw(stored: Any) -> Any:
    """A response from what ``freeze`` made of it."""
    if not isinstance(stored, Unrendered):
        return stored
    headers = stored.headers
    return stored.kind(
        data=stored.data, status=stored.status, template_name=stored.template_name,
        headers=headers, exception=stored.exception, content_type=stored.content_type,
    )  # fmt: skip


def _conditional(request: Any, response: Any) -> Any:
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


def split_vary(
    headers: Any = (), cookies: Any = (), user: bool = False, language: bool = False
) -> Vary:
    """A ``Vary`` from what users write: one name, or several."""

    def names(value: Any) -> tuple[str, ...]:
        return (value,) if isinstance(value, str) else tuple(value)

    return Vary(names(headers), names(cookies), user, language)


ViewDecorator = Callable[[Any], Any]
