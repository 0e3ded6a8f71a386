"""Views that remember: which call a request is, and how its response is found.

The flow of one request is a generator that asks for reads; a sync and an async loop perform them.
A response that names request headers in ``Vary`` is kept once for each of their values: its first
answer leaves only their names behind, so that the next one is looked up and stored by them.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest

from . import responses, visitors
from .backend import Answer, Backend, CacheKey, Call, Pack
from .calls import digest
from .memoize import Memo, equip
from .options import Options
from .responses import Fresh, Vary, VaryOn
from .visitors import Watch

_METHODS = ("GET", "HEAD")


class _Read(NamedTuple):
    call: Call
    pack: Pack


_Flow = Generator[_Read, Answer, Any]


def memoize_view(view: Any, backend: Backend, options: Options, vary: Vary) -> Any:
    """Decorate a view: a function, an async function, a method of a class-based view, its class.

    Of a class it gives a subclass.
    """
    if isinstance(view, type):
        dispatch = memoize_view(_dispatch(view), backend, options, vary)
        about = {"__module__": view.__module__, "__qualname__": view.__qualname__}
        return type(view)(view.__name__, (view,), {**about, "dispatch": dispatch})

    memo = Memo(view, options)
    asynchronous = iscoroutinefunction(view)
    wrapper = (_async if asynchronous else _sync)(view, memo, backend, vary)
    equip(wrapper, memo, backend)

    def key(*args: Any, **kwargs: Any) -> CacheKey:
        request = args[0] if args and hasattr(args[0], "META") else _Anonymous
        users = visitors.users_of_async if asynchronous else visitors.users
        variant = digest(vary.values(request, users(request) if vary.user else []))
        return CacheKey.of(backend, memo.call(args, kwargs)._replace(variant=variant))

    wrapper.key = wrapper.get_cache_key = key
    return wrapper


class _Anonymous:
    """Stands for the request when only its URI is known: a plain GET."""

    method = "GET"
    headers: Mapping[str, str] = {}
    COOKIES: Mapping[str, str] = {}


def _dispatch(view: Any) -> Any:
    """The ``dispatch`` of a class-based view as the kind of function that it is."""
    original = view.dispatch
    if not getattr(view, "view_is_async", False):
        return original

    @functools.wraps(original)
    async def dispatch(*args: Any, **kwargs: Any) -> Any:
        return await original(*args, **kwargs)

    return dispatch


def _sync(view: Any, memo: Memo, backend: Backend, vary: Vary) -> Any:
    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        request = request_of(args)
        call = _call(memo, request, args, kwargs)
        if call is None:
            return view(*args, **kwargs)

        def load() -> Fresh:
            with Watch(request) as visitor:
                response = view(*args, **kwargs)
                if responses.can_render(response):
                    response = response.render()
            return Fresh(response, visitor)

        users = visitors.users(request) if vary.user else []
        flow = _flow(call, request, vary, vary.values(request, users))
        step = next(flow)
        while True:
            answer = backend.read(step.call, load, step.pack)
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return end.value

    return wrapper


def _async(view: Any, memo: Memo, backend: Backend, vary: Vary) -> Any:
    @functools.wraps(view)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        request = request_of(args)
        call = _call(memo, request, args, kwargs)
        if call is None:
            return await view(*args, **kwargs)

        async def load() -> Fresh:
            with Watch(request) as visitor:
                response = await view(*args, **kwargs)
                if responses.can_render(response):
                    response = await sync_to_async(response.render)()
            return Fresh(response, visitor)

        users = await visitors.ausers(request) if vary.user else []
        flow = _flow(call, request, vary, vary.values(request, users))
        step = next(flow)
        while True:
            answer = await backend.aread(step.call, load, step.pack)
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return end.value

    return wrapper


def request_of(args: tuple[Any, ...]) -> Any:
    """The request among the arguments of a view or of a view's method. Raises ``TypeError``."""
    for arg in args[:2]:
        if isinstance(arg, HttpRequest) or (
            hasattr(arg, "build_absolute_uri") and hasattr(arg, "META")
        ):
            return arg
    raise TypeError("A cached view must be called with a request as its first argument.")


def _call(memo: Memo, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    if request.method not in _METHODS:
        return None
    if args[0] is not request:
        # A method: the view's instance lives for this request only, its class names it.
        return memo.call_if_possible(args, kwargs, (type(args[0]), *args[1:]))
    return memo.call_if_possible(args, kwargs)


def _flow(call: Call, request: Any, vary: Vary, texts: list[str]) -> _Flow:
    first = call._replace(variant=digest(texts))
    answer = yield _Read(first, functools.partial(responses.pack, vary=vary, known=()))
    if answer.hit and isinstance(answer.value, VaryOn):
        on = answer.value
        second = call._replace(variant=digest([*texts, *on.values(request)]))
        pack = functools.partial(responses.pack, vary=vary, known=on.headers)
        answer = yield _Read(second, pack)
    if isinstance(answer.value, Fresh):
        return answer.value.response
    return responses.conditional(request, responses.unpack(answer.value))
