"""Functions and views that remember: ``cached_as`` until rows change, ``cached`` for a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Unpack, overload

from .memoize import DESCRIPTORS, memoize
from .options import Options
from .refresh import Refresh, Refreshing, only, take
from .responses import Vary, names
from .results import EngineBackend, invalidate_functions
from .samples import Samples
from .signatures import Cached, CachedView, Decorator, P, R, ViewDecorator
from .tags import Tags
from .times import seconds
from .views import memoize_view

__all__ = ["cached", "cached_as", "cached_view", "cached_view_as", "invalidate_functions"]


def cached_as(
    *samples: Any,
    timeout: float | timedelta | None = None,
    extra: Any = None,
    lock: bool | None = None,
    keep_fresh: bool = True,
    **options: Any,
) -> Decorator:
    """Cache the results of a function until rows change that the samples stand for.

    ``samples`` are models, querysets, instances, ``on_change(…)``, or lists of those. (A list as
    the only sample leaves the function uncached: an empty page of a ``Paginator`` may be one.)
    ``timeout`` (seconds) and ``lock`` default to what their profiles say; with ``lock`` one caller
    computes while the others wait for it, 5 seconds at most. ``extra`` is a further part of the
    key: a value, or a function of the call's arguments. ``keep_fresh`` is accepted and always true.
    The other ``options`` are those of ``options.Options`` and ``refresh.Refreshing``.

    Raises ``TypeError`` without samples. A call raises ``ImproperlyConfigured`` if a sample's model
    has no profile, or no timeout is known.
    """
    if _is_list(samples):
        return _undecorated
    backend = _backend_as(samples, timeout, lock, take(options))
    chosen = Options(extra=extra, **options)
    return lambda func: memoize(func, backend, chosen)


def cached_view_as(
    *samples: Any,
    timeout: float | timedelta | None = None,
    extra: Any = None,
    lock: bool | None = None,
    keep_fresh: bool = True,
    vary_headers: str | Iterable[str] = (),
    vary_cookies: str | Iterable[str] = (),
    vary_user: bool = False,
    vary_language: bool | None = None,
    tags: Tags = (),
    **refreshing: Unpack[Refreshing],
) -> ViewDecorator:
    """Cache the responses of a view until rows change that the samples stand for.

    The key is the absolute URI, the view's other arguments, what ``extra`` gives, the request's
    headers and cookies named in ``vary_headers`` and ``vary_cookies``, the user (``vary_user``),
    the active language (``vary_language``; ``None``: with ``USE_I18N``), the time zone (with
    ``USE_TZ``), and whether it is GET or HEAD. Other methods are not cached, nor are responses that
    are incomplete or for one visitor. ``refreshing`` are the options of ``refresh.Refreshing``.
    """
    if _is_list(samples):
        return _undecorated
    backend = _backend_as(samples, timeout, lock, only({**refreshing}))
    vary = Vary(names(vary_headers), names(vary_cookies), vary_user, vary_language)
    return lambda view: memoize_view(view, backend, Options(extra=extra, tags=tags), vary)


@overload
def cached(timeout: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def cached(
    timeout: float | timedelta | None = None,
    extra: Any = None,
    *,
    lock: bool = False,
    **options: Any,
) -> Decorator: ...
def cached(timeout: Any = None, extra: Any = None, *, lock: bool = False, **options: Any) -> Any:
    """Cache the results of a function for ``timeout`` seconds, or until they are invalidated.

    Without a timeout they are kept for a year. Also as ``@cached`` without parentheses. For
    ``extra``, ``lock`` and ``options`` see ``cached_as``.
    """
    if callable(timeout) or isinstance(timeout, DESCRIPTORS):
        return cached()(timeout)
    backend = EngineBackend(timeout, lock, policy=take(options))
    chosen = Options(extra=extra, **options)
    return lambda func: memoize(func, backend, chosen)


@overload
def cached_view(timeout: Callable[P, R], /) -> CachedView[P, R]: ...
@overload
def cached_view(
    timeout: float | timedelta | None = None,
    extra: Any = None,
    *,
    lock: bool = False,
    vary_headers: str | Iterable[str] = (),
    vary_cookies: str | Iterable[str] = (),
    vary_user: bool = False,
    vary_language: bool | None = None,
    tags: Tags = (),
    **refreshing: Unpack[Refreshing],
) -> ViewDecorator: ...
def cached_view(
    timeout: Any = None,
    extra: Any = None,
    *,
    lock: bool = False,
    vary_headers: str | Iterable[str] = (),
    vary_cookies: str | Iterable[str] = (),
    vary_user: bool = False,
    vary_language: bool | None = None,
    tags: Tags = (),
    **refreshing: Unpack[Refreshing],
) -> Any:
    """Cache the responses of a view for ``timeout`` seconds, or until they are invalidated.

    ``timeout`` is that of ``cached``, the other options are those of ``cached_view_as``. Also as
    ``@cached_view`` without parentheses.
    """
    if callable(timeout):
        return cached_view()(timeout)
    backend = EngineBackend(timeout, lock, policy=only({**refreshing}))
    vary = Vary(names(vary_headers), names(vary_cookies), vary_user, vary_language)
    return lambda view: memoize_view(view, backend, Options(extra=extra, tags=tags), vary)


def _backend_as(
    samples: tuple[Any, ...],
    timeout: float | timedelta | None,
    lock: bool | None,
    policy: Refresh | None,
) -> EngineBackend:
    if not samples:
        raise TypeError("cached_as needs a model, a queryset or an instance to cache like.")
    found = Samples(samples, seconds(timeout), lock)
    return EngineBackend(timeout, lock, found, policy)


def _is_list(samples: tuple[Any, ...]) -> bool:
    # NOTE: a Paginator's object_list is a list instead of a queryset when a page is empty.
    return len(samples) == 1 and isinstance(samples[0], list)


def _undecorated(func: Any) -> Any:
    return func
