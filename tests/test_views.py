"""Views remember their responses, as far as HTTP lets a shared cache keep them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseNotFound,
    HttpResponseNotModified,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import CsrfViewMiddleware, get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.utils import timezone, translation
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject
from django.utils.http import http_date
from django.views import View
from django.views.generic import ListView

from cacheops_lite import CacheMiss, cached_view, cached_view_as, engine, file_cache

from .models import Author, Category

pytestmark = pytest.mark.django_db(transaction=True)

factory = RequestFactory()


@pytest.fixture(autouse=True)
def _own_settings(settings: Any, tmp_path: Any) -> None:
    settings.FILE_CACHE_DIR = str(tmp_path)
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]


def counting(
    decorator: Any, change: Callable[[HttpRequest, HttpResponse], Any] = lambda request, made: None
) -> Any:
    """A decorated view whose body tells how often it was called; `change` makes the response."""
    calls = 0

    @decorator
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        nonlocal calls
        calls += 1
        response = HttpResponse(str(calls))
        return change(request, response) or response

    return view


def bodies(view: Any, *requests: HttpRequest) -> str:
    return "".join(view(request).content.decode() for request in requests)


def get(path: str = "/hi", **extra: Any) -> HttpRequest:
    return factory.get(path, **extra)


DECORATORS = {
    "time": cached_view(60),
    "rows": cached_view_as(Category),
    "file": file_cache.cached_view(60),
}
every_cache = pytest.mark.parametrize("decorator", DECORATORS.values(), ids=DECORATORS.keys())


# -- the key ---------------------------------------------------------------------------------------


@every_cache
def test_only_the_uri_counts(decorator: Any) -> None:
    """Scheme, host, path and query make the key; who asks does not."""
    view = counting(decorator)
    again = get(REMOTE_ADDR="10.1.2.3", HTTP_USER_AGENT="other")
    assert bodies(view, get(), again, get("/bye"), get("/hi?a=1"), get("/hi?a=1")) == "11233"
    assert bodies(view, get(secure=True), get(HTTP_HOST="testserver:81"), get()) == "451"


def test_arguments_of_the_view_count() -> None:
    """What the URL pattern captures is part of the key, by name or position."""
    view = counting(cached_view(60))
    found = [view(get(), 1), view(get(), 2), view(get(), 1), view(get(), slug="a")]
    assert [response.content for response in found] == [b"1", b"2", b"1", b"3"]


def test_extra() -> None:
    """`extra` is a value, or a function of the request and the other arguments."""
    view = counting(cached_view_as(Category, extra=lambda request, *args: request.user.is_staff))
    staff, visitor = get(), get()
    staff.user, visitor.user = User(is_staff=True), AnonymousUser()
    assert bodies(view, visitor, staff, visitor, staff) == "1212"


@pytest.mark.parametrize(
    ("options", "variants"),
    [
        ({"vary_headers": "X-Version"}, [{}, {"HTTP_X_VERSION": "1"}, {"HTTP_X_VERSION": "2"}]),
        ({"vary_headers": ["A", "B"]}, [{"HTTP_A": "1"}, {"HTTP_B": "1"}]),
        ({"vary_cookies": "theme"}, [{}, {"HTTP_COOKIE": "theme=dark"}]),
    ],
)
@pytest.mark.parametrize("decorate", [cached_view, file_cache.cached_view])
def test_declared_variants(decorate: Any, options: Any, variants: list[Any]) -> None:
    """Responses that differ by declared headers or cookies are kept apart."""
    view = counting(decorate(60, **options))
    first = bodies(view, *(get(**variant) for variant in variants))
    assert first == "123"[: len(variants)]
    assert bodies(view, *(get(**variant) for variant in variants)) == first


def test_undeclared_cookies_do_not_count() -> None:
    """Only the cookies that were named tell visitors apart."""
    view = counting(cached_view(60, vary_cookies="theme"))
    one = get(HTTP_COOKIE="theme=dark; session=1")
    other = get(HTTP_COOKIE="session=2; theme=dark")
    assert bodies(view, one, other) == "11"


def test_users() -> None:
    """`vary_user=True` keeps a response for each user, and one for visitors."""
    view = counting(cached_view(60, vary_user=True))
    requests = []
    for user in (User(pk=1), User(pk=2), AnonymousUser()):
        requests.append(get())
        requests[-1].user = user
    assert bodies(view, *requests, *requests) == "123123"


@every_cache
def test_languages_and_time_zones(decorator: Any) -> None:
    """A page in the visitor's language or time zone is not shown to others."""
    view = counting(decorator)
    with translation.override("de"):
        german = bodies(view, get())
    with timezone.override("Asia/Tokyo"):
        tokyo = bodies(view, get())
    assert [german, tokyo, bodies(view, get(), get())] == ["1", "2", "33"]
    view.invalidate(get())
    with translation.override("de"):
        assert bodies(view, get()) == "4"


def test_one_language_for_all() -> None:
    """`vary_language=False` says that the response does not depend on the language."""
    view = counting(cached_view(60, vary_language=False))
    with translation.override("de"):
        german = bodies(view, get())
    assert german + bodies(view, get()) == "11"


# -- what is stored --------------------------------------------------------------------------------


@every_cache
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_other_methods_pass(decorator: Any, method: str) -> None:
    """Only GET and HEAD are cached; others always reach the view and drop nothing."""
    view = counting(decorator)
    assert bodies(view, get()) == "1"
    assert bodies(view, getattr(factory, method)("/hi"), getattr(factory, method)("/hi")) == "23"
    assert bodies(view, get()) == "1"


def test_head_and_get_are_kept_apart() -> None:
    """A view may answer HEAD without a body, which must not become the answer to GET."""
    view = counting(cached_view(60))
    head = factory.head("/hi")
    assert bodies(view, head, head, get(), head) == "1121"
    view.invalidate("http://testserver/hi")
    assert bodies(view, get(), head) == "34"


def test_a_request_is_needed() -> None:
    """Whoever decorates something else learns it at the first call."""
    with pytest.raises(TypeError, match="request"):
        counting(cached_view(60))("/hi")


def _streaming(request: HttpRequest, response: HttpResponse) -> Any:
    return StreamingHttpResponse(iter([b"a"]))


def _file(request: HttpRequest, response: HttpResponse) -> Any:
    import io

    return FileResponse(io.BytesIO(b"a"))


def _cookie(request: HttpRequest, response: HttpResponse) -> None:
    response.set_cookie("who", "me")


def _token(request: HttpRequest, response: HttpResponse) -> None:
    get_token(request)


def _control(**directives: Any) -> Any:
    return lambda request, response: patch_cache_control(response, **directives)


def _vary(*names: str) -> Any:
    return lambda request, response: patch_vary_headers(response, names)


NOT_STORED: dict[str, Any] = {
    "404": lambda request, response: HttpResponseNotFound(),
    "500": lambda request, response: HttpResponse(status=500),
    "206": lambda request, response: HttpResponse(status=206),
    "redirect": lambda request, response: HttpResponseRedirect("/bye"),
    "304": lambda request, response: HttpResponseNotModified(),
    "streaming": _streaming,
    "file": _file,
    "cookie": _cookie,
    "token": _token,
    "private": _control(private=True),
    "no-store": _control(no_store=True),
    "no-cache": _control(no_cache=True, max_age=0),
    "vary *": _vary("*"),
    "no response": lambda request, response: "text",
}


@every_cache
@pytest.mark.parametrize("change", NOT_STORED.values(), ids=NOT_STORED.keys())
def test_responses_that_are_not_stored(decorator: Any, change: Any) -> None:
    """Errors, redirects, streams, what is for one visitor, what says so: never kept."""
    calls = []

    def counted(request: HttpRequest, response: HttpResponse) -> Any:
        calls.append(1)
        return change(request, response)

    view = counting(decorator, counted)
    for number in (1, 2, 3):
        view(get())
        assert len(calls) == number


STORED: dict[str, Any] = {
    "plain": lambda request, response: None,
    "json": lambda request, response: JsonResponse({"a": 1}),
    "header": lambda request, response: HttpResponse("a", headers={"X-A": "1"}),
    "public": _control(public=True, max_age=60),
    "empty": lambda request, response: HttpResponse(b""),
    "charset": lambda request, response: HttpResponse("é".encode("latin-1"), charset="latin-1"),
    "reason": lambda request, response: HttpResponse("a", reason="Fine"),
    "template": lambda request, response: TemplateResponse(
        request, engines["django"].from_string("{{ a }}"), {"a": "b"}
    ),
}


@every_cache
@pytest.mark.parametrize("change", STORED.values(), ids=STORED.keys())
def test_responses_that_are_stored(decorator: Any, change: Any) -> None:
    """Content, type, status, reason and headers come back as they were."""
    calls = []

    def counted(request: HttpRequest, response: HttpResponse) -> Any:
        calls.append(1)
        return change(request, response)

    view = counting(decorator, counted)
    fresh, stored = view(get()), view(get())
    assert len(calls) == 1
    for response in (fresh, stored):
        assert isinstance(response, HttpResponse)
        if hasattr(response, "render"):
            response.render()
    for name in ("content", "status_code", "reason_phrase", "charset", "headers"):
        assert getattr(fresh, name) == getattr(stored, name), name
    if isinstance(fresh, JsonResponse):
        assert isinstance(stored, JsonResponse)


def test_a_token_that_was_there_before_does_not_count() -> None:
    """A token that middleware renewed is not the view's; one that the view used is."""

    def request() -> HttpRequest:
        made = get(HTTP_COOKIE="csrftoken=wrong")
        CsrfViewMiddleware(lambda request: HttpResponse()).process_request(made)
        assert made.META["CSRF_COOKIE_NEEDS_UPDATE"]
        return made

    assert bodies(counting(cached_view(60)), request(), request()) == "11"
    last = request()
    assert bodies(counting(cached_view(60, extra=1), _token), request(), last) == "12"
    assert last.META["CSRF_COOKIE_NEEDS_UPDATE"]


def test_renderings_happen_once() -> None:
    """A template response is stored rendered, and its template middleware sees a plain one."""
    rendered = []

    @cached_view(60)
    def view(request: HttpRequest) -> TemplateResponse:
        template = engines["django"].from_string("{{ value }}")
        return TemplateResponse(request, template, {"value": lambda: rendered.append(1)})

    view(get())
    stored = view(get())
    assert rendered == [1]
    assert type(stored) is HttpResponse


# -- Vary ------------------------------------------------------------------------------------------


@every_cache
def test_vary_is_respected(decorator: Any) -> None:
    """A response that names headers is kept for each of their values, once they are learned."""
    view = counting(decorator, _vary("Accept"))
    json, html = ({"HTTP_ACCEPT": value} for value in ("application/json", "text/html"))
    assert bodies(view, get(**json)) == "1"  # learned
    assert bodies(view, get(**json), get(**html), get(**json), get(**html), get()) == "23234"
    view.invalidate(get(**html))
    assert bodies(view, get(**json)) == "5"


def test_declared_headers_need_no_learning() -> None:
    """What the decorator names already is in the key from the first response on."""
    view = counting(cached_view(60, vary_headers="accept"), _vary("Accept"))
    assert bodies(view, get(HTTP_ACCEPT="a"), get(HTTP_ACCEPT="a"), get(HTTP_ACCEPT="b")) == "112"
    view = counting(cached_view(60, extra=1), _vary("Accept-Language"))
    assert bodies(view, get(), get()) == "11"
    view = counting(cached_view(60, extra=2, vary_cookies="a"), _vary("Cookie"))
    assert bodies(view, get(), get()) == "11"


def test_more_headers_than_learned() -> None:
    """A response that varies on yet another header is never given to a wrong request."""

    def change(request: HttpRequest, response: HttpResponse) -> None:
        patch_vary_headers(response, ["Accept"])
        if request.headers.get("Accept") == "b":
            patch_vary_headers(response, ["X-Other"])

    view = counting(cached_view(60), change)
    assert bodies(view, get(HTTP_ACCEPT="a"), get(HTTP_ACCEPT="a"), get(HTTP_ACCEPT="a")) == "122"
    assert bodies(view, get(HTTP_ACCEPT="b", HTTP_X_OTHER="1")) == "3"
    assert bodies(view, get(HTTP_ACCEPT="b", HTTP_X_OTHER="2")) == "4"


@every_cache
def test_no_header_is_made_up(decorator: Any) -> None:
    """A response that varies on nothing has no ``Vary``, neither when it is made nor on a hit."""
    view = counting(decorator)
    assert ["Vary" in view(get()).headers for _ in range(2)] == [False, False]


# -- conditional requests --------------------------------------------------------------------------


@every_cache
def test_conditional_requests(decorator: Any) -> None:
    """A stored response answers If-None-Match and If-Modified-Since without its body."""
    now = int(time.time())

    def change(request: HttpRequest, response: HttpResponse) -> None:
        response.headers["ETag"] = '"one"'
        response.headers["Last-Modified"] = http_date(now)
        response.headers["Content-Type"] = "text/plain"

    view = counting(decorator, change)
    assert view(get(HTTP_IF_NONE_MATCH='"one"')).status_code == 200  # fresh: the view decides
    for headers, status in [
        ({"HTTP_IF_NONE_MATCH": '"one"'}, 304),
        ({"HTTP_IF_NONE_MATCH": 'W/"one", "two"'}, 304),
        ({"HTTP_IF_NONE_MATCH": '"two"'}, 200),
        ({"HTTP_IF_MODIFIED_SINCE": http_date(now)}, 304),
        ({"HTTP_IF_MODIFIED_SINCE": http_date(now - 10)}, 200),
        ({}, 200),
    ]:
        response = view(get(**headers))
        assert response.status_code == status, headers
        assert response.content == (b"1" if status == 200 else b"")
        assert response.headers["ETag"] == '"one"'


def test_conditional_requests_without_validators() -> None:
    """A response that has neither ETag nor Last-Modified is sent whole."""
    view = counting(cached_view(60))
    assert bodies(view, get(HTTP_IF_NONE_MATCH="*"), get(HTTP_IF_NONE_MATCH="*")) == "11"


# -- invalidation ----------------------------------------------------------------------------------


@every_cache
def test_invalidate_takes_a_request_or_its_uri(decorator: Any) -> None:
    """`invalidate(…)` of a view drops the response by request or by absolute URI."""
    view = counting(decorator)
    assert bodies(view, get(), get("/bye")) == "12"
    view.invalidate(get())
    assert bodies(view, get(), get("/bye")) == "32"
    view.invalidate("http://testserver/hi")
    assert bodies(view, get(), get("/bye")) == "42"


@every_cache
def test_keys_of_views(decorator: Any) -> None:
    """`key(…)` of a view reads, replaces and deletes the response to a plain GET."""
    view = counting(decorator)
    for about in (get(), "http://testserver/hi"):
        key = view.key(about)
        with pytest.raises(CacheMiss):
            key.get()
        view(get())
        assert key.get().status_code == 200
        key.set(HttpResponse("mine"))
        assert bodies(view, get()) == "mine"
        key.delete()


def test_rows_drop_responses() -> None:
    """A response hangs on the rows of its samples."""
    view = counting(cached_view_as(Category.objects.filter(title="a"), Author))
    assert bodies(view, get(), get()) == "11"
    Category.objects.create(title="b", slug="b")
    assert bodies(view, get()) == "1"
    Category.objects.create(title="a", slug="a")
    assert bodies(view, get()) == "2"


# -- what can be decorated -------------------------------------------------------------------------


def test_without_parentheses() -> None:
    """`@cached_view` alone caches without a timeout."""
    assert bodies(counting(cached_view), get(), get()) == "11"
    assert bodies(counting(file_cache.cached_view), get(), get()) == "11"


def test_a_list_is_not_cached() -> None:
    """As with functions, a list alone leaves the view as it is."""
    assert bodies(counting(cached_view_as([])), get(), get()) == "12"


class Counting(View):
    calls = 0

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        type(self).calls += 1
        return HttpResponse(str(self.calls))

    post = get


def test_class_based_views() -> None:
    """The function that as_view() gives is a view like any other."""

    class Own(Counting):
        pass

    view = cached_view_as(Category)(Own.as_view())
    assert bodies(view, get(), get(), factory.post("/hi"), get()) == "1121"


def test_classes() -> None:
    """Decorating the class gives a class whose requests are cached; the original is unchanged."""

    class Own(Counting):
        pass

    decorated = cached_view_as(Category)(Own)
    assert issubclass(decorated, Own)
    view = decorated.as_view()
    assert bodies(view, get(), get(), factory.post("/hi"), get()) == "1121"
    assert bodies(Own.as_view(), get()) == "1"[:0] + str(Own.calls)


def test_methods_of_class_based_views() -> None:
    """A method may be decorated directly, or through Django's method_decorator."""

    class Direct(Counting):
        @cached_view(60)
        def get(self, request: HttpRequest, number: int) -> HttpResponse:
            return super().get(request)

    @method_decorator(cached_view(60), name="get")
    class Wrapped(Counting):
        pass

    view = Direct.as_view()
    found = [view(get(), number).content for number in (1, 1, 2)]
    assert found == [b"1", b"1", b"2"]
    Direct.get.invalidate(Direct, "http://testserver/hi", 1)
    assert view(get(), 1).content == b"3"
    assert bodies(Wrapped.as_view(), get(), get(), get("/bye")) == "112"


def test_generic_views() -> None:
    """A ListView is cached rendered, and computed anew when its model changes."""

    class Index(ListView):
        model = Category

        def render_to_response(self, context: Any, **kwargs: Any) -> TemplateResponse:
            template = engines["django"].from_string("{{ object_list|length }}")
            return TemplateResponse(self.request, template, context)

    view = cached_view_as(Category)(Index.as_view())
    assert bodies(view, get(), get()) == "00"
    Category.objects.create(title="a", slug="a")
    assert bodies(view, get(), get()) == "11"


# -- async -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("closed_after")
@every_cache
async def test_async_views(decorator: Any) -> None:
    """Coroutine views are cached like others, their late templates too."""
    calls = 0

    @decorator
    async def view(request: HttpRequest, late: bool = False) -> HttpResponse:
        nonlocal calls
        calls += 1
        if late:
            template = engines["django"].from_string("{{ a }}")
            return TemplateResponse(request, template, {"a": calls})
        return HttpResponse(str(calls))

    requests = AsyncRequestFactory()
    for _ in range(2):
        assert (await view(requests.get("/hi"))).content == b"1"
        assert (await view(requests.get("/hi"), late=True)).content == b"2"
        await view(requests.post("/hi"))
        calls -= 1
    await view.ainvalidate(requests.get("/hi"))
    assert (await view(requests.get("/hi"))).content == b"3"


@pytest.mark.usefixtures("closed_after")
async def test_async_users() -> None:
    """The user of an async request is asked for without blocking."""

    @cached_view(60, vary_user=True)
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str((await request.auser()).pk))

    for pk in (1, 2, 1):
        request = AsyncRequestFactory().get("/hi")

        async def auser(pk: int = pk) -> User:
            return User(pk=pk)

        request.auser = auser
        assert (await view(request)).content == str(pk).encode()


def by_user(**seen: Any) -> HttpRequest:
    """A request with what middleware would set on it: ``user``, ``auser``."""
    request = AsyncRequestFactory().get("/hi")
    for name, user in seen.items():

        async def auser(user: Any = user) -> Any:
            return user

        setattr(request, name, auser if name == "auser" else user)
    return request


@pytest.mark.usefixtures("closed_after")
async def test_async_users_without_auser() -> None:
    """Where only `request.user` is set, an async view tells users by that; it may be lazy."""

    @cached_view(60, vary_user=True)
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(await sync_to_async(lambda: request.user.pk)()))

    stored = {await sync_to_async(User.objects.create)(username=name): name for name in "ab"}
    for user in [*stored, *stored]:
        lazy = SimpleLazyObject(functools.partial(User.objects.get, username=stored[user]))
        assert (await view(by_user(user=user))).content == str(user.pk).encode()
        assert (await view(by_user(user=lazy))).content == str(user.pk).encode()


@pytest.mark.usefixtures("closed_after")
async def test_async_users_that_differ() -> None:
    """An async view may read either of two users, so its response belongs to both together."""

    @cached_view(60, vary_user=True)
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{request.user.pk} {(await request.auser()).pk}")

    for one, other in [(1, 1), (2, 1), (1, 2), (2, 2), (2, 1), (1, 2)]:
        response = await view(by_user(user=User(pk=one), auser=User(pk=other)))
        assert response.content == f"{one} {other}".encode()


def test_users_of_two_models() -> None:
    """Two users of different models are two, also if their keys are the same."""
    view = counting(cached_view(60, vary_user=True))
    requests = [get() for _ in range(4)]
    for request, model in zip(requests, [User, Author, User, Author], strict=True):
        request.user = model(pk=1)
    assert bodies(view, *requests) == "1212"


def test_async_keys_of_users() -> None:
    """`key(…)` of an async view names what the view stored for the users of a request."""

    @cached_view(60, vary_user=True)
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("fresh")

    async def answers(request: HttpRequest) -> HttpResponse:
        try:
            return await view(request)
        finally:
            await engine.current().aclose()

    user = User.objects.create(username="a")
    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = (
        user.pk,
        settings.AUTHENTICATION_BACKENDS[0],
    )
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()

    def logged_in() -> HttpRequest:
        request = by_user()
        request.session = session
        AuthenticationMiddleware(lambda request: HttpResponse()).process_request(request)
        return request

    for make in (
        logged_in,
        functools.partial(by_user, user=User(pk=7)),
        functools.partial(by_user, auser=User(pk=8)),
        functools.partial(by_user, user=User(pk=9), auser=User(pk=10)),
        by_user,
    ):
        view.key(make()).set(HttpResponse("set"))
        assert async_to_sync(answers)(make()).content == b"set"
    request = logged_in()
    async_to_sync(answers)(request)
    assert not hasattr(request, "_cached_user")  # who was asked for once is enough


@pytest.mark.usefixtures("closed_after")
async def test_async_classes() -> None:
    """Classes with async handlers can be decorated, or what their as_view() gives."""

    class Own(View):
        calls = 0

        async def get(self, request: HttpRequest) -> HttpResponse:
            Own.calls += 1
            return HttpResponse(str(Own.calls))

    by_class, by_view = cached_view(60)(Own).as_view(), cached_view(60)(Own.as_view())
    found = [
        (await view(AsyncRequestFactory().get("/hi"))).content
        for view in (by_class, by_class, by_view, by_view)
    ]
    assert found == [b"1", b"1", b"2", b"2"]


# -- settings --------------------------------------------------------------------------------------


@every_cache
def test_disabled(decorator: Any) -> None:
    """CACHEOPS_ENABLED=False leaves views alone."""
    view = counting(decorator)
    with override_settings(CACHEOPS_ENABLED=False):
        assert bodies(view, get(), get()) == "12"
    assert bodies(view, get(), get()) == "33"
