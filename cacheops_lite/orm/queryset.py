"""What caching means for each method of a queryset and a manager.

``patch.py`` puts these functions onto Django's classes. Each one that wraps a method of Django's
takes the original as its first argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models.query import MAX_GET_RESULTS
from django.db.models.sql.constants import SINGLE

from .. import conf
from ..core.memo import Recent
from . import lazy, reads, shortcut, singles


class Choice(NamedTuple):
    """What ``.cache()``, ``.nocache()`` and ``.inplace()`` chose for one queryset."""

    ops: frozenset[str] | None = None
    timeout: float | None = None
    lock: bool | None = None
    inplace: bool = False


_DEFAULT = Choice()

#: The op that the next fetch of this context counts as: ``get()`` fetches too.
_op: ContextVar[str] = ContextVar("cacheops_lite_op", default="fetch")

#: The model of that fetch: on the way to it a field may ask for something else.
_of: ContextVar[Any] = ContextVar("cacheops_lite_of", default=None)

#: Where the next fetch of this context leaves its shape, for ``get()`` to learn from.
_shown: ContextVar[list[Any] | None] = ContextVar("cacheops_lite_shown", default=None)

#: What the next fetch of this context finds: ``get()`` has read none or several by the short way,
#: and Django shall say so.
_found: ContextVar[list[Any] | None] = ContextVar("cacheops_lite_found", default=None)

#: Profiles changed by what querysets chose.
_chosen: Recent[tuple[conf.Profile, Choice], conf.Profile] = Recent(1024)

#: What the next one-row query of this context is run by (count, exists, aggregate).
_single: ContextVar[Callable[[Any, Callable[[], Any]], Any] | None] = ContextVar(
    "cacheops_lite_single", default=None
)


def choice(queryset: Any) -> Choice:
    """What was chosen for a queryset."""
    chosen: Choice = queryset.__dict__.get("_cacheops", _DEFAULT)
    return chosen


def profile_for(queryset: Any, op: str) -> conf.Profile | None:
    """The profile under which ``op`` of this queryset is cached; ``None`` if it is not."""
    settings = conf.current()
    if not settings.active:
        return None
    chosen = queryset.__dict__.get("_cacheops", _DEFAULT)
    if chosen.ops is not None and op not in chosen.ops:
        return None
    model = queryset.model
    if model is None or model.__module__ == "__fake__":  # a model of a migration
        return None
    profile = settings.profile(model._meta.label_lower)
    if profile is None or queryset._for_write:
        return None
    # A queryset of remembered steps locks nothing: there is no such step.
    if lazy.node_of(queryset) is None and queryset.query.select_for_update:
        return None
    if chosen.ops is None:
        return profile if op in profile.ops else None
    known = _chosen.get((profile, chosen))
    if known is not None:
        return known
    timeout = chosen.timeout if chosen.timeout is not None else profile.timeout
    lock = chosen.lock if chosen.lock is not None else profile.lock
    made = replace(profile, ops=chosen.ops, timeout=timeout, lock=lock)
    _chosen.set((profile, chosen), made)
    return made


# -- new methods -------------------------------------------------------------------------------


def cache(
    self: Any,
    ops: str | Iterable[str] | None = None,
    timeout: float | None = None,
    lock: bool | None = None,
) -> Any:
    """Cache this queryset: ``ops`` (default: all), ``timeout`` in seconds, ``lock``.

    Returns a new queryset (the same one after ``inplace()``). Raises ``ImproperlyConfigured``
    if the model has no profile, or no timeout is known.
    """
    label = self.model._meta.label_lower
    settings = conf.current()
    profile = settings.profile(label)
    if settings.enabled and (profile is None or not profile.configured):
        raise ImproperlyConfigured(
            f"Caching is not configured for {label}. Name it in CACHEOPS, for example "
            f"{{'{label}': {{}}}} to cache by hand only, and set its timeout."
        )
    chosen = conf.ALL_OPS if ops is None else conf.read_ops(ops, ".cache(ops=…)")
    if timeout is not None:
        conf.read_timeout(timeout, ".cache(timeout=…)")
    if chosen and timeout is None and profile is not None and profile.timeout is None:
        raise ImproperlyConfigured(
            f'{label} has no "timeout" (seconds): pass .cache(timeout=…), or set it in its '
            "CACHEOPS profile or in CACHEOPS_DEFAULTS."
        )
    return _with(self, ops=chosen, timeout=timeout, lock=lock)


def nocache(self: Any) -> Any:
    """Do not cache this queryset."""
    return _with(self, ops=frozenset())


def inplace(self: Any) -> Any:
    """From here on filters change this queryset itself instead of copies: faster, and sharper."""
    return _with(self, inplace=True)


def cloning(self: Any, cloning: int = 1000) -> Any:
    """Undo ``inplace()`` (a true value), or do it (``0``)."""
    return _with(self, inplace=not cloning)


def _with(queryset: Any, **changes: Any) -> Any:
    current = choice(queryset)
    target = queryset if current.inplace or changes.get("inplace") else queryset._chain()
    target._cacheops = current._replace(**changes)
    if target._cacheops.inplace:
        lazy.materialize(target)
    return target


def invalidated_update(self: Any, **kwargs: Any) -> Any:
    """``update()``; every update invalidates here. Kept for projects that call it."""
    return self.update(**kwargs)


def cache_explain(self: Any, op: str = "fetch") -> Any:
    """Say whether this queryset is cached, under which key, on what it depends, and why not."""
    from .explain import explain

    return explain(self, op)


# -- wrapped methods ---------------------------------------------------------------------------


def _decided(queryset: Any) -> Any:
    """The queryset with its database decided: a router may name another one each time it is asked.

    A stand-in, for nothing may change on a queryset that others may be evaluating.
    """
    if queryset._db is not None or not router.routers:
        return queryset
    pinned = object.__new__(type(queryset))
    pinned.__dict__.update(queryset.__dict__)
    pinned._db = queryset.db
    return pinned


def clone(original: Callable[..., Any], self: Any) -> Any:
    """``_clone``: a copy keeps what was chosen."""
    copy = lazy.copy(self)
    if copy is not None:
        return copy
    chosen = self.__dict__.get("_cacheops")
    if chosen is None:
        return original(self)
    if chosen.inplace:
        return self
    copy = original(self)
    copy._cacheops = chosen
    return copy


def fetch_all(original: Callable[..., Any], self: Any) -> Any:
    """``_fetch_all``: rows from the cache, then Django's own prefetching."""
    if self._result_cache is not None and (
        self._prefetch_done or not self._prefetch_related_lookups
    ):
        return None
    op = _op.get()
    if op == "fetch" or _of.get() is not self.model:
        if self._result_cache is None:
            profile = profile_for(self, "fetch")
            if profile is not None:
                self._result_cache = reads.fetch(_decided(self), profile)
        return original(self)
    shown = _shown.get()
    op_token, shown_token = _op.set("fetch"), _shown.set(None)
    try:
        if self._result_cache is None and self.query.high_mark == MAX_GET_RESULTS:
            self._result_cache = _found.get()
        if self._result_cache is None:
            profile = profile_for(self, op)
            if profile is not None:
                self._result_cache = reads.fetch(_decided(self), profile, op, shown)
        return original(self)
    finally:
        _op.reset(op_token)
        _shown.reset(shown_token)


def get(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``get``: the short way where it is exact, else Django's, whose fetch counts as op "get"."""
    profile = profile_for(self, "get")
    if profile is None and not conf.current().active:
        return original(self, *args, **kwargs)
    self = _decided(self)
    asked: tuple[str, Any] | None = None
    shown: list[reads.Shown] | None = None
    found: list[Any] | None = None
    place = _place(self, profile, "get", args, kwargs) if profile is not None else None
    if profile is not None:
        if place is not None:
            found = reads.get_at(
                self, place, lambda: shortcut.long_query(self._chain(), args, kwargs), profile
            )
            if found is not None and len(found) == 1:
                return found[0]
        if found is None:
            asked = shortcut.condition(args, kwargs)
            if asked is not None and not shortcut.untouched(self):
                asked = None
            if asked is not None:
                found = reads.get(self, place, *asked, profile)
                if found is not None and len(found) == 1:
                    return found[0]
        shown = []
    op_token, shown_token, found_token = _op.set("get"), _shown.set(shown), _found.set(found)
    of_token = _of.set(self.model)
    try:
        return original(self, *args, **kwargs)
    finally:
        _op.reset(op_token)
        _of.reset(of_token)
        _shown.reset(shown_token)
        _found.reset(found_token)
        # Two were shown where a field asked for rows of this very model on the way.
        if shown and len(shown) == 1 and profile is not None:
            if place is not None:
                reads.keep(place, shown[0].hot)
            if asked is not None:
                key, shape, _ = shown[0]
                shortcut.learn(self, self.db, profile.db_agnostic, *asked, key, shape)


def _place(queryset: Any, profile: conf.Profile, name: str, args: Any, kwargs: Any) -> Any:
    """Where the answer of this very call is remembered; ``None`` if it cannot be."""
    node = lazy.node_of(queryset)
    if node is None or queryset._prefetch_related_lookups or queryset._sticky_filter:
        return None
    called = lazy.call_key(queryset, node, name, args, kwargs)
    return called and (called, queryset.db, profile.db_agnostic)


def one_end(original: Callable[..., Any], self: Any) -> Any:
    """``first`` and ``last``: their fetch counts as op "get" where that is cached."""
    profile = profile_for(self, "get") if self._result_cache is None else None
    if profile is None:
        return original(self)
    self = _decided(self)
    name = original.__name__
    place = _place(self, profile, name, tuple(map(str, self.model._meta.ordering or ())), {})
    if place is not None:
        found = reads.get_at(self, place, lambda: shortcut.end_query(self._chain(), name), profile)
        if found is not None:
            return found[0] if found else None
    shown: list[reads.Shown] = []
    token, of_token, shown_token = _op.set("get"), _of.set(self.model), _shown.set(shown)
    try:
        return original(self)
    finally:
        _op.reset(token)
        _of.reset(of_token)
        _shown.reset(shown_token)
        if len(shown) == 1 and place is not None:
            reads.keep(place, shown[0].hot)


def count(original: Callable[..., Any], self: Any) -> Any:
    """``count`` through the cache."""
    return original(self) if self._result_cache is not None else _single_op(original, self, "count")


def exists(original: Callable[..., Any], self: Any) -> Any:
    """``exists`` through the cache."""
    if self._result_cache is not None:
        return original(self)
    return _single_op(original, self, "exists")


def _single_op(original: Callable[..., Any], queryset: Any, op: str) -> Any:
    profile = profile_for(queryset, op)
    if profile is None:
        return original(queryset)
    queryset = _decided(queryset)

    return singles.single(queryset, op, profile, _asking(original, queryset))


def _asking(original: Callable[..., Any], *args: Any, **kwargs: Any) -> singles.Ask:
    """Django's method, its one-row query handed to a hook."""

    def ask(hook: Any) -> Any:
        token = _single.set(hook)
        try:
            return original(*args, **kwargs)
        finally:
            _single.reset(token)

    return ask


def aggregate(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``aggregate`` through the cache."""
    profile = profile_for(self, "aggregate")
    if profile is None:
        return original(self, *args, **kwargs)
    self = _decided(self)
    ask = _asking(original, self, *args, **kwargs)
    return singles.aggregate(self, args, kwargs, profile, ask)


def execute_sql(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``SQLCompiler.execute_sql``: the one-row query of count, exists and aggregate."""
    single = _single.get()
    if single is None or (args[0] if args else kwargs.get("result_type")) != SINGLE:
        return original(self, *args, **kwargs)
    token = _single.set(None)
    try:
        return single(self, lambda: original(self, *args, **kwargs))
    finally:
        _single.reset(token)
