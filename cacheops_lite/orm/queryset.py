"""What caching means for each method of a queryset and a manager.

``patch.py`` puts these functions onto Django's classes. Each one that wraps a method of Django's
takes the original as its first argument.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from django.db import router
from django.db.models.query import MAX_GET_RESULTS

from .. import conf
from . import lazy, reads, shortcut, singles
from .choices import profile_for


class Asked(NamedTuple):
    """A ``get()``, ``first()`` or ``last()`` under way, for the fetch that it comes down to."""

    #: On the way to that fetch a field may ask for something else.
    model: Any
    #: Where the fetch leaves its shape, to learn from.
    shown: list[reads.Shown] | None = None
    #: What was read by the short way, none or several: Django shall say so.
    found: list[Any] | None = None


_asked: ContextVar[Asked | None] = ContextVar("cacheops_lite_asked", default=None)


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
    asked = _asked.get()
    if asked is None or asked.model is not self.model:
        if self._result_cache is None:
            profile = profile_for(self, "fetch")
            if profile is not None:
                self._result_cache = reads.fetch(_decided(self), profile)
        return original(self)
    token = _asked.set(None)
    try:
        if self._result_cache is None and self.query.high_mark == MAX_GET_RESULTS:
            self._result_cache = asked.found
        if self._result_cache is None:
            profile = profile_for(self, "get")
            if profile is not None:
                self._result_cache = reads.fetch(_decided(self), profile, "get", asked.shown)
        return original(self)
    finally:
        _asked.reset(token)


def get(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``get``: the short way where it is exact, else Django's, whose fetch counts as op "get"."""
    profile = profile_for(self, "get")
    if profile is None and not conf.current().active:
        return original(self, *args, **kwargs)
    self = _decided(self)
    condition: tuple[str, Any] | None = None
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
            condition = shortcut.condition(args, kwargs)
            if condition is not None and not shortcut.untouched(self):
                condition = None
            if condition is not None:
                found = reads.get(self, place, *condition, profile)
                if found is not None and len(found) == 1:
                    return found[0]
        shown = []
    token = _asked.set(Asked(self.model, shown, found))
    try:
        return original(self, *args, **kwargs)
    finally:
        _asked.reset(token)
        # Two were shown where a field asked for rows of this very model on the way.
        if shown and len(shown) == 1 and profile is not None:
            if place is not None:
                reads.keep(place, shown[0].hot)
            if condition is not None:
                key, shape, _ = shown[0]
                shortcut.learn(self, self.db, profile.db_agnostic, *condition, key, shape)


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
    token = _asked.set(Asked(self.model, shown))
    try:
        return original(self)
    finally:
        _asked.reset(token)
        if len(shown) == 1 and place is not None:
            reads.keep(place, shown[0].hot)


def count(original: Callable[..., Any], self: Any) -> Any:
    """``count`` through the cache."""
    return _single(original, self, "count")


def exists(original: Callable[..., Any], self: Any) -> Any:
    """``exists`` through the cache."""
    return _single(original, self, "exists")


def _single(original: Callable[..., Any], self: Any, op: str) -> Any:
    profile = profile_for(self, op) if self._result_cache is None else None
    if profile is None:
        return singles.apart(lambda: original(self))
    self = _decided(self)
    return singles.single(self, op, profile, singles.asking(original, self))


def aggregate(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``aggregate`` through the cache."""
    profile = profile_for(self, "aggregate")
    if profile is None:
        return singles.apart(lambda: original(self, *args, **kwargs))
    self = _decided(self)
    ask = singles.asking(original, self, *args, **kwargs)
    return singles.aggregate(self, args, kwargs, profile, ask)
