"""The decorator machine: a function and a place for its results -> a function that remembers.

Where the results are kept, and what makes them invalid, is the business of a ``Backend``; this
file only names calls, asks, and hands the function what other code expects to find on it.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.utils.functional import cached_property as django_cached_property

from .. import conf
from . import tags
from .backend import Answer, Backend, CacheKey, Call
from .calls import Namer, Unstable, function_name
from .colours import ALoad, Load
from .options import Options


class Raised(NamedTuple):
    """The stored form of an exception that counts as a result."""

    error: Exception


class Memo:
    """One decorated function: names its calls, and knows what of a result is stored."""

    def __init__(self, func: Callable[..., Any], options: Options) -> None:
        self.func = func
        self.options = options
        self._namer = Namer(func, options.prefix)
        #: Without the line: what is invalidated by the next release is invalid for this one too.
        self.calls = Call(func, options.prefix or function_name(func, line=False))
        self._complained: set[str] = set()

    def call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], named: tuple[Any, ...] | None = None
    ) -> Call:
        """Name a call, by the arguments ``named`` if they are given. Raises ``Unstable``."""
        call = self.untagged(args, kwargs, named)
        if not self.options.tags:
            return call
        return call._replace(tags=tags.of_call(self.options.tags, args, kwargs))

    def untagged(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], named: tuple[Any, ...] | None = None
    ) -> Call:
        """``call`` without its tags, which take no part in its name."""
        return self.calls._replace(digest=self._digest(args, kwargs, named))

    def _digest(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], named: tuple[Any, ...] | None
    ) -> str:
        options, namer = self.options, self._namer
        kwargs.pop("_refresh", None)
        if options.key_generator_callable is not None:
            return namer.name_text(options.key_generator_callable(*args, **kwargs))
        extra = options.extra
        if callable(extra):
            extra = extra(*args, **kwargs)
        if named is not None:
            args = named
        if options.args_rewrite is not None:
            return namer.name_rewritten((options.args_rewrite(*args),), kwargs, extra)
        return namer.name_call(args, kwargs, extra)

    def call_if_possible(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], named: tuple[Any, ...] | None = None
    ) -> Call | None:
        """Name a call; ``None`` if it cannot be cached, with a warning once for each reason."""
        if not conf.current().enabled:
            return None
        try:
            return self.call(args, kwargs, named)
        except Unstable as why:
            text = f"{self._namer.name} is not cached: {why}"
            if text not in self._complained and len(self._complained) < 100:
                self._complained.add(text)
                warnings.warn(text, RuntimeWarning, stacklevel=4)
            return None

    def pack(self, value: Any) -> Any:
        """What to store of a result."""
        return value if self.options.store_result or isinstance(value, Raised) else True

    def tell(self, answer: Answer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call who wants to know of hits, or of misses."""
        options = self.options
        told = options.hit_callable if answer.hit else options.miss_callable
        return told(*args, **kwargs) if told is not None else None

    def finish(self, answer: Answer) -> Any:
        """What to return, or raise, for an answer."""
        if isinstance(answer.value, Raised):
            raise answer.value.error
        return answer.value

    def loader(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Load:
        """The function call behind a miss."""
        expected = self.options.cache_exceptions
        if not expected:
            return functools.partial(self.func, *args, **kwargs)

        def load() -> Any:
            try:
                return self.func(*args, **kwargs)
            except expected as error:
                return Raised(error)

        return load

    def aloader(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ALoad:
        """``loader`` of an async function."""
        expected = self.options.cache_exceptions
        if not expected:
            return functools.partial(self.func, *args, **kwargs)

        async def load() -> Any:
            try:
                return await self.func(*args, **kwargs)
            except expected as error:
                return Raised(error)

        return load


#: What can be decorated and is not callable itself.
DESCRIPTORS = (
    property, classmethod, staticmethod, functools.cached_property, django_cached_property,
)  # fmt: skip


def memoize(func: Any, backend: Backend, options: Options) -> Any:
    """Decorate a function, an async function, a method, a property or a cached property."""
    if isinstance(func, property):
        getter = memoize(func.fget, backend, options)
        return property(getter, func.fset, func.fdel, func.__doc__)
    if isinstance(func, classmethod | staticmethod):
        return type(func)(memoize(func.__func__, backend, options))
    if isinstance(func, functools.cached_property | django_cached_property):
        inner = getattr(func, "real_func", None) or func.func  # Django keeps it under that name
        return type(func)(memoize(inner, backend, options))

    memo = Memo(func, options)

    def take_refresh(kwargs: dict[str, Any]) -> bool:
        return bool(kwargs.pop("_refresh", False)) if kwargs else False

    if iscoroutinefunction(func):

        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            refresh = take_refresh(kwargs)
            call = memo.call_if_possible(args, kwargs)
            if call is None:
                return await func(*args, **kwargs)
            answer = await backend.aread(
                call, memo.aloader(args, kwargs), memo.pack, refresh=refresh
            )
            told = memo.tell(answer, args, kwargs)
            if inspect.isawaitable(told):
                await told
            return memo.finish(answer)

    else:

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            refresh = take_refresh(kwargs)
            call = memo.call_if_possible(args, kwargs)
            if call is None:
                return func(*args, **kwargs)
            answer = backend.read(call, memo.loader(args, kwargs), memo.pack, refresh=refresh)
            memo.tell(answer, args, kwargs)
            return memo.finish(answer)

    equip(wrapper, memo, backend)
    return wrapper


def equip(wrapper: Any, memo: Memo, backend: Backend) -> None:
    """Hang on a decorated function what invalidates and names its results."""

    def key(*args: Any, **kwargs: Any) -> CacheKey:
        return CacheKey.of(backend, memo.call(args, kwargs))

    def invalidate(*args: Any, **kwargs: Any) -> None:
        backend.delete(memo.untagged(args, kwargs))

    async def ainvalidate(*args: Any, **kwargs: Any) -> None:
        await backend.adelete(memo.untagged(args, kwargs))

    wrapper.key = wrapper.get_cache_key = key
    wrapper.invalidate = invalidate
    wrapper.ainvalidate = ainvalidate
    wrapper.invalidate_all = functools.partial(backend.clear, memo.calls)
    wrapper.ainvalidate_all = functools.partial(backend.aclear, memo.calls)
