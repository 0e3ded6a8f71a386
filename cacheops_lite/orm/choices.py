"""What ``.cache()``, ``.nocache()`` and ``.inplace()`` choose, and which profile that makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..core.memo import Recent
from . import lazy


class Choice(NamedTuple):
    """What ``.cache()``, ``.nocache()`` and ``.inplace()`` chose for one queryset."""

    ops: frozenset[str] | None = None
    timeout: float | None = None
    lock: bool | None = None
    inplace: bool = False


_DEFAULT = Choice()

#: Profiles changed by what querysets chose.
_adjusted: Recent[tuple[conf.Profile, Choice], conf.Profile] = Recent(1024)


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
    return _adjusted.get((profile, chosen)) or adjusted(profile, chosen)


def adjusted(profile: conf.Profile, chosen: Choice) -> conf.Profile:
    """A profile with what was chosen in place of its own."""
    given = {"ops": chosen.ops, "timeout": chosen.timeout, "lock": chosen.lock}
    changes: Any = {name: value for name, value in given.items() if value is not None}
    made = replace(profile, **changes)
    _adjusted.set((profile, chosen), made)
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
