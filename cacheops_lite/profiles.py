"""``CACHEOPS`` and ``CACHEOPS_DEFAULTS`` as given -> a frozen profile for each pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .given import read_timeout

ALL_OPS = frozenset({"get", "fetch", "count", "exists", "aggregate"})

_PATTERN = re.compile(r"[^.*]+\.([^.*]+|\*)|\*\.\*").fullmatch

PROFILE_KEYS = frozenset(
    {
        "ops", "timeout", "lock", "db_agnostic", "cache_on_save", "local_get",
        "depends_on", "mass", "triggers", "name",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """What a model may cache, and for how long (``timeout`` in seconds)."""

    ops: frozenset[str] = frozenset()
    timeout: float | None = None
    lock: bool = False
    db_agnostic: bool = False
    cache_on_save: bool | str = False
    local_get: bool = False
    #: "app.model" labels: a write of one of them is a write of this model's table too.
    depends_on: tuple[str, ...] = ()
    #: What ``update()`` and ``delete()`` do: look the "rows" up (to a limit), or drop the "table".
    mass: str = "rows"
    #: Triggers of the database change rows as they are written: read them back.
    triggers: bool = False
    #: False for a model that no pattern names: its writes are tracked, but ``.cache()`` refuses.
    configured: bool = True


def read_profiles(
    patterns: Mapping[Any, Any], defaults: Mapping[str, Any]
) -> dict[str, Profile | None]:
    """Check and freeze ``CACHEOPS`` (patterns ``app.model``, ``app.*``, ``*.*``)."""
    if not isinstance(patterns, Mapping):
        raise ImproperlyConfigured(
            f"CACHEOPS must be a dict from 'app.model' patterns to profiles; got {patterns!r}."
        )
    profiles: dict[str, Profile | None] = {}
    for pattern, options in patterns.items():
        if not isinstance(pattern, str) or not _PATTERN(pattern):
            raise ImproperlyConfigured(
                f"CACHEOPS pattern {pattern!r} must be 'app.model', 'app.*' or '*.*'."
            )
        if options is None:
            profiles[pattern.lower()] = None
        elif isinstance(options, Mapping):
            profiles[pattern.lower()] = _profile(pattern, {**defaults, **options})
        else:
            raise ImproperlyConfigured(
                f"CACHEOPS[{pattern!r}] must be a dict, or None to forbid; got {options!r}."
            )
    return profiles


def _profile(pattern: str, options: Mapping[str, Any]) -> Profile:
    where = f"CACHEOPS[{pattern!r}]"
    unknown = set(options) - PROFILE_KEYS
    if unknown:
        raise ImproperlyConfigured(
            f"{where} has unknown keys {sorted(unknown)}; known are {sorted(PROFILE_KEYS)}."
        )
    ops = read_ops(options.get("ops", ()), where)
    timeout = options.get("timeout")
    if timeout is None and ops:
        raise ImproperlyConfigured(
            f'{where} has no "timeout" (seconds); set it there or in CACHEOPS_DEFAULTS.'
        )
    if timeout is not None:
        read_timeout(timeout, f'{where}: "timeout"')
    if options.get("mass", "rows") not in ("rows", "table"):
        raise ImproperlyConfigured(f'{where}: "mass" must be "rows" or "table".')
    depends_on = options.get("depends_on", ())
    if isinstance(depends_on, str):
        depends_on = (depends_on,)
    return Profile(
        ops=ops,
        timeout=timeout,
        lock=bool(options.get("lock", False)),
        db_agnostic=bool(options.get("db_agnostic", False)),
        cache_on_save=options.get("cache_on_save", False),
        local_get=bool(options.get("local_get", False)),
        depends_on=tuple(str(label).lower() for label in depends_on),
        mass=options.get("mass", "rows"),
        triggers=bool(options.get("triggers", False)),
    )


def read_ops(ops: str | Iterable[str] | None, where: str = "ops") -> frozenset[str]:
    """Spell ``ops`` as a set. Raises ``ImproperlyConfigured`` for an unknown op."""
    if ops is None:
        return frozenset()
    if not isinstance(ops, Iterable):
        raise ImproperlyConfigured(
            f"{where}: ops must be 'all', an op or a collection of ops; got {ops!r}."
        )
    names = frozenset({ops} if isinstance(ops, str) else ops)
    if "all" in names:
        names = (names - {"all"}) | ALL_OPS
    if names - ALL_OPS:
        raise ImproperlyConfigured(
            f"{where}: unknown ops {sorted(map(str, names - ALL_OPS))}; "
            f"known are {sorted(ALL_OPS)}, 'all'."
        )
    return names
