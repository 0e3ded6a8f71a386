"""The table of HTTP cases: cached views behind Django's own middleware, asked by its test client.

Each line is a view, the requests that are sent, and the number that each answer must carry: the
views count their calls, so an answer from the cache repeats a number.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.contrib import messages
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponsePermanentRedirect,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition
from django.views.decorators.vary import vary_on_cookie, vary_on_headers

from cacheops_lite import cached_view

pytestmark = pytest.mark.django_db(transaction=True)

calls = {"n": 0}


def count() -> str:
    calls["n"] += 1
    return str(calls["n"])


def text(**headers: str) -> HttpResponse:
    return HttpResponse(count(), headers={name.replace("_", "-"): v for name, v in headers.items()})


def plain(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return text()


def status(code: int) -> Any:
    return lambda request: HttpResponse(count(), status=code)


def control(value: str) -> Any:
    return lambda request: text(Cache_Control=value)


def sets_cookie(request: HttpRequest) -> HttpResponse:
    response = text()
    response.set_cookie("who", "me")
    return response


def template(request: HttpRequest) -> TemplateResponse:
    source = engines["django"].from_string("{{ number }}{{ more }}")
    return TemplateResponse(request, source, {"number": count()})


def with_token(request: HttpRequest) -> HttpResponse:
    get_token(request)
    return text()


def with_messages(request: HttpRequest) -> HttpResponse:
    list(messages.get_messages(request))
    return text()


def leaves_messages(request: HttpRequest) -> HttpResponse:
    messages.info(request, "hello")
    return text()


def not_found(request: HttpRequest) -> HttpResponse:
    count()
    raise Http404


def with_user(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{count()} {request.session.get('name')}")


def conditional(request: HttpRequest) -> HttpResponse:
    return text(ETag='"one"', Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")


class Ask(NamedTuple):
    """One request: headers, method, query, cookies; another client for another visitor."""

    headers: dict[str, str] = {}
    method: str = "get"
    query: str = ""
    visitor: str = "a"
    data: Any = None


def basic(name: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:x".encode()).decode()}


ANY, FR, DE = Ask(), Ask({"Accept-Language": "fr"}), Ask({"Accept-Language": "de"})
JSON, HTML = Ask({"Accept": "application/json"}), Ask({"Accept": "text/html"})
A, B = Ask(visitor="a"), Ask(visitor="b")
ALICE, BOB = Ask(basic("alice")), Ask(basic("bob"))

cached = cached_view(60)

#: Name: the view, the requests, the numbers of the answers ("-" for an answer without one).
TABLE: dict[str, tuple[Any, list[Ask], str]] = {
    # methods
    "get": (cached(plain), [ANY, ANY, ANY], "111"),
    "head after get": (cached(plain), [ANY, Ask(method="head"), Ask(method="head"), ANY], "1--1"),
    "post": (cached(plain), [ANY, Ask(method="post"), Ask(method="post"), ANY], "1231"),
    "put, patch, delete": (cached(plain), [ANY, Ask(method="put"), Ask(method="patch"), Ask(method="delete"), ANY], "12341"),
    "options, trace": (cached(plain), [ANY, Ask(method="options"), Ask(method="trace"), ANY], "1231"),
    # the address
    "query": (cached(plain), [Ask(query="a=1"), Ask(query="a=2"), Ask(query="a=1")], "121"),
    "host": (cached(plain), [ANY, Ask({"Host": "other"}), ANY], "121"),
    "scheme": (cached(plain), [ANY, Ask({"X-Forwarded-Proto": "https"}), ANY], "121"),
    # Vary
    "vary: accept": (cached(vary_on_headers("Accept")(plain)), [JSON, JSON, HTML, JSON, HTML], "12323"),
    "vary: declared": (cached_view(60, vary_headers="Accept")(plain), [JSON, JSON, HTML, JSON], "1121"),
    "vary: two headers": (cached(vary_on_headers("Accept", "X-A")(plain)), [JSON, JSON, Ask({"X-A": "1"}), Ask({"X-A": "1"}), JSON], "12332"),
    "vary: *": (cached(lambda request: text(Vary="*")), [ANY, ANY], "12"),
    "vary: cookie": (cached(vary_on_cookie(plain)), [Ask({"Cookie": "a=1"}), Ask({"Cookie": "a=1"}), Ask({"Cookie": "a=2"}), Ask({"Cookie": "a=1"})], "1232"),
    "vary: accept-encoding": (cached(gzip_page(lambda request: HttpResponse(count() + " " * 300))), [Ask({"Accept-Encoding": "br"}), Ask({"Accept-Encoding": "br"}), Ask({"Accept-Encoding": "x"})], "123"),
    "undeclared headers": (cached(plain), [JSON, HTML], "11"),
    "languages": (cached(lambda request: HttpResponse(count() + gettext(""))), [FR, DE, FR, DE], "1212"),
    # cookies and visitors
    "sets a cookie": (cached(sets_cookie), [ANY, ANY], "12"),
    "sets a cookie by hand": (cached(lambda request: text(Set_Cookie="a=1")), [ANY, ANY], "12"),
    "other cookies": (cached(plain), [Ask({"Cookie": "a=1"}), Ask({"Cookie": "a=2"})], "11"),
    "declared cookies": (cached_view(60, vary_cookies="a")(plain), [Ask({"Cookie": "a=1"}), Ask({"Cookie": "a=1; b=2"}), Ask({"Cookie": "a=2"})], "112"),
    "csrf token": (cached(with_token), [ANY, ANY], "12"),
    "messages shown": (cached(with_messages), [ANY, ANY], "12"),
    "messages left": (cached(leaves_messages), [ANY, ANY], "12"),
    "session": (cached(with_user), [A, A, B, A, B], "12323"),
    "session, declared": (cached_view(60, vary_cookies="sessionid")(with_user), [A, A, B, A, B], "11212"),
    "authorization": (cached(plain), [ALICE, ALICE, BOB, ANY, ANY, ALICE], "123445"),
    "authorization, public": (cached(control("public")), [ALICE, BOB, ANY, ALICE], "1121"),
    "authorization, declared": (cached_view(60, vary_headers="Authorization")(plain), [ALICE, BOB, ALICE, ANY, ANY], "12133"),
    # Cache-Control
    "private": (cached(control("private")), [ANY, ANY], "12"),
    "private for a field": (cached(control('private="Set-Cookie"')), [ANY, ANY], "12"),
    "no-store": (cached(control("max-age=60, No-Store")), [ANY, ANY], "12"),
    "no-cache": (cached(control("no-cache")), [ANY, ANY], "12"),
    "pragma": (cached(lambda request: text(Pragma="no-cache")), [ANY, ANY], "12"),
    "never_cache": (cached(never_cache(plain)), [ANY, ANY], "12"),
    "public, max-age": (cached(control("public, max-age=60")), [ANY, ANY], "11"),
    "what the client says": (cached(plain), [Ask({"Cache-Control": "no-cache"}), Ask({"Cache-Control": "no-store"})], "11"),
    # statuses
    **{f"status {code}": (cached(status(code)), [ANY, ANY], "12") for code in (201, 202, 203, 206, 400, 403, 404, 410, 500, 503)},
    "no content": (cached(lambda request: HttpResponse(status=204, headers={"X-Number": count()})), [ANY, ANY], "12"),
    "redirect": (cached(lambda request: HttpResponseRedirect("/" + count())), [ANY, ANY], "12"),
    "permanent redirect": (cached(lambda request: HttpResponsePermanentRedirect("/" + count())), [ANY, ANY], "12"),
    "not found": (cached(not_found), [ANY, ANY], "--"),
    # bodies
    "streamed": (cached(lambda request: StreamingHttpResponse([count()])), [ANY, ANY], "12"),
    "file": (cached(lambda request: FileResponse([count().encode()])), [ANY, ANY], "12"),
    "json": (cached(lambda request: JsonResponse({"n": count()})), [ANY, ANY], "11"),
    "late template": (cached(template), [ANY, ANY, Ask(method="head")], "11-"),
    "empty": (cached(lambda request: HttpResponse(headers={"X-Number": count()})), [ANY, ANY], "11"),
    "range": (cached(plain), [ANY, Ask({"Range": "bytes=0-0"})], "11"),
    # conditional requests
    "if-none-match": (cached(conditional), [ANY, Ask({"If-None-Match": '"one"'}), Ask({"If-None-Match": '"two"'}), Ask({"If-None-Match": '"two", W/"one"'}), Ask({"If-None-Match": "*"})], "1-1--"),
    "if-modified-since": (cached(conditional), [ANY, Ask({"If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}), Ask({"If-Modified-Since": "Sun, 31 Dec 2023 00:00:00 GMT"})], "1-1"),
    "if-match": (cached(conditional), [ANY, Ask({"If-Match": '"one"'}), Ask({"If-Match": '"two"'})], "11-"),
    "conditional, head": (cached(conditional), [Ask(method="head"), Ask({"If-None-Match": '"one"'}, "head")], "--"),
    "condition inside": (cached(condition(etag_func=lambda request: '"x"')(plain)), [Ask({"If-None-Match": '"x"'}), ANY, ANY, Ask({"If-None-Match": '"x"'})], "-11-"),
    "condition outside": (condition(etag_func=lambda request: '"x"')(cached(plain)), [ANY, ANY, Ask({"If-None-Match": '"x"'})], "11-"),
}  # fmt: skip

#: The statuses of answers without a number.
EMPTY = {
    "head after get": [200, 200], "not found": [404, 404], "late template": [200],
    "if-none-match": [304, 304, 304], "if-modified-since": [304], "if-match": [412],
    "conditional, head": [200, 304], "condition inside": [304, 304], "condition outside": [304],
}  # fmt: skip

urlpatterns = [path(f"{number}/", view) for number, (view, _, _) in enumerate(TABLE.values())]

behind_middleware = override_settings(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    LANGUAGES=[("en", "English"), ("fr", "French"), ("de", "German")],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MESSAGE_STORAGE="django.contrib.messages.storage.cookie.CookieStorage",
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.locale.LocaleMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
)


def visitor(name: str) -> Client:
    client = Client()
    session = client.session
    session["name"] = name
    session.save()
    client.cookies["sessionid"] = session.session_key
    return client


def number_of(response: Any) -> str:
    """The number that an answer carries, wherever it is."""
    body = b"".join(response.streaming_content) if response.streaming else response.content
    found = (
        body.decode() + response.headers.get("Location", "") + response.headers.get("X-Number", "")
    )
    if response.status_code in (304, 404, 412) and not body.isdigit():
        return "-"
    return next((char for char in found if char.isdigit()), "-")


@pytest.mark.parametrize("name", TABLE)
@behind_middleware
def test_case(name: str) -> None:
    """The answers of one line of the table are those that HTTP lets a shared cache give."""
    calls["n"] = 0
    _, asks, expected = TABLE[name]
    clients = {who: visitor(who) for who in ("a", "b")}
    where = f"/{list(TABLE).index(name)}/"
    got, empty = "", []
    for ask in asks:
        send: Callable[..., Any] = getattr(clients[ask.visitor], ask.method)
        url = f"{where}?{ask.query}" if ask.query else where
        response = send(url, headers=ask.headers)
        got += number_of(response)
        if got[-1] == "-":
            empty.append(response.status_code)
            assert not (response.content if response.status_code != 404 else b"")
        if name == "session":
            assert response.content.decode().endswith(ask.visitor), "somebody else's page"
    assert got == expected
    assert empty == EMPTY.get(name, [])


@behind_middleware
def test_other_caches_are_told() -> None:
    """What is told apart here is named in Vary, on a hit as on a miss, for the caches further on."""

    @cached_view(60, vary_headers=["Accept", "X-A"], vary_user=True)
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("a", headers={"Vary": "accept"})

    request = Client().get("/0/").wsgi_request
    for _ in range(2):
        names = {name.strip().lower() for name in view(request).headers["Vary"].split(",")}
        assert names == {"accept", "x-a", "cookie"}
