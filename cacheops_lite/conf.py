"""The only reader of Django's settings: frozen values, and a profile for each model.

``current()`` is what everything else asks. It is built once and dropped when a setting changes,
so ``override_settings`` holds from the next call on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .core.keys import Keys

ALL_OPS = frozenset({"get", "fetch", "count", "exists", "aggregate"})

#: Tables that Django itself writes all the time; tracked only if a pattern names them exactly.
UNTRACKED_BY_DEFAULT = frozenset({"sessions.session", "admin.logentry", "migrations.migration"})

#: The outbox's own table: invalidating must not invalidate.
NEVER_TRACKED = frozenset({"cacheops_outbox.undelivered"})

_PATTERN = re.compile(r"[^.*]+\.([^.*]+|\*)|\*\.\*").fullmatch
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+").fullmatch

PROFILE_KEYS = frozenset(
    {
        "ops", "timeout", "lock", "db_agnostic", "cache_on_save", "local_get",
        "depends_on", "mass", "triggers", "name",
    }
)  # fmt: skip

#: ``CACHEOPS_BREAKER``: Redis is left alone after so many ``failures`` in a row, for ``pause``
#: seconds, doubled by each failed attempt up to ``ceiling``; ``jitter`` is the part of a pause
#: that chance may take away.
BREAKER: Mapping[str, float] = {"failures": 1, "pause": 0.5, "ceiling": 10.0, "jitter": 0.2}


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


@dataclass(frozen=True)
class Settings:
    """Every setting of this package, checked and with its default."""

    enabled: bool = True
    profiles: Mapping[str, Profile | None] = field(default_factory=dict)
    redis: Mapping[str, Any] | str | None = None
    sentinel: Mapping[str, Any] | None = None
    client_class: str | type | None = None
    prefix: str | Callable[[Any], str] = ""
    serializer: Any = None
    degrade_on_failure: bool = True
    replica_lag: float = 0.0
    #: How `stores.breaker.Breaker` is made.
    breaker: Mapping[str, float] = field(default_factory=lambda: dict(BREAKER))
    #: Seconds after which a process adds its counters to those of the others; None: never.
    stats_interval: float | None = 60.0
    #: Seconds between looks for invalidations that nobody delivered; None: no outbox.
    outbox_interval: float | None = 5.0
    #: Whoever answers at our address has all that was ever acknowledged there.
    restarts_keep_data: bool = False
    #: Kinds of fields (``Field.get_internal_type()``) whose conditions never narrow.
    skip_fields: tuple[str, ...] = ()
    long_disjunction: int = 64
    lookup_limit: int = 100
    dynamic_limit: int = 100
    memo_size: int = 4096
    file_cache_dir: str = ""
    file_cache_timeout: int = 60 * 60 * 24 * 30
    secret_keys: tuple[bytes, ...] = ()

    @property
    def active(self) -> bool:
        """Whether there is anything to do at all: enabled, and some profile configured."""
        return self.enabled and bool(self.profiles)

    @cached_property
    def _found(self) -> dict[str, Profile | None]:
        return {}

    def profile(self, label: str) -> Profile | None:
        """The profile of ``"app.model"``; ``None`` where caching is forbidden (untracked)."""
        found = self._found
        try:
            return found[label]
        except KeyError:
            profile = found[label] = self._find(label.lower())
            return profile

    def _find(self, label: str) -> Profile | None:
        app = label.split(".", 1)[0]
        if label in NEVER_TRACKED:
            return None
        if label in self.profiles:
            return self.profiles[label]
        if label in UNTRACKED_BY_DEFAULT or not self.profiles:
            return None
        for pattern in (f"{app}.*", "*.*"):
            if pattern in self.profiles:
                return self.profiles[pattern]
        return Profile(configured=False)


_current: Settings | None = None

#: Settings that were in force in this process since somebody looked; cleared by whoever looks.
former: list[Settings] = []

_listeners: list[Callable[[], None]] = []


def current() -> Settings:
    """The settings in force. Raises ``ImproperlyConfigured`` with what to do."""
    return _current if _current is not None else _build()


def on_reset(listener: Callable[[], None]) -> None:
    """Have ``listener()`` called whenever the settings in force were dropped."""
    if listener not in _listeners:
        _listeners.append(listener)


def reset() -> None:
    """Forget the settings in force; the next ``current()`` reads them again."""
    global _current
    if _current is not None and not any(one.profiles == _current.profiles for one in former):
        former.append(_current)
    _current = None
    for listener in _listeners:
        listener()


def _setting_changed(*, setting: str, **kwargs: Any) -> None:
    # What is remembered of queries holds for one way of converting moments only.
    if setting.startswith(("CACHEOPS", "FILE_CACHE_", "SECRET_KEY", "USE_TZ", "TIME_ZONE")):
        reset()


setting_changed.connect(_setting_changed, dispatch_uid="cacheops_lite.conf")


def _build() -> Settings:
    global _current

    def get(name: str, default: Any) -> Any:
        return getattr(django_settings, name, default)

    base = Settings()
    _current = Settings(
        enabled=bool(get("CACHEOPS_ENABLED", True)),
        profiles=read_profiles(get("CACHEOPS", {}), get("CACHEOPS_DEFAULTS", {})),
        redis=get("CACHEOPS_REDIS", None),
        sentinel=get("CACHEOPS_SENTINEL", None),
        client_class=get("CACHEOPS_CLIENT_CLASS", None),
        prefix=read_prefix(get("CACHEOPS_PREFIX", "")),
        serializer=get("CACHEOPS_SERIALIZER", None),
        degrade_on_failure=bool(get("CACHEOPS_DEGRADE_ON_FAILURE", True)),
        replica_lag=float(get("CACHEOPS_REPLICA_LAG", 0)),
        breaker=read_breaker(get("CACHEOPS_BREAKER", {})),
        stats_interval=read_interval("CACHEOPS_STATS_INTERVAL", get, base.stats_interval),
        outbox_interval=read_interval("CACHEOPS_OUTBOX_INTERVAL", get, base.outbox_interval),
        restarts_keep_data=bool(get("CACHEOPS_RESTARTS_KEEP_DATA", False)),
        skip_fields=read_skip_fields(get("CACHEOPS_SKIP_FIELDS", ())),
        long_disjunction=int(get("CACHEOPS_LONG_DISJUNCTION", base.long_disjunction)),
        lookup_limit=int(get("CACHEOPS_LOOKUP_LIMIT", base.lookup_limit)),
        dynamic_limit=int(get("CACHEOPS_DYNAMIC_LIMIT", base.dynamic_limit)),
        memo_size=int(get("CACHEOPS_MEMO_SIZE", base.memo_size)),
        file_cache_dir=str(get("FILE_CACHE_DIR", "/tmp/cacheops_file_cache")),  # noqa: S108
        file_cache_timeout=int(get("FILE_CACHE_TIMEOUT", base.file_cache_timeout)),
        secret_keys=_secret_keys(),
    )
    return _current


def read_skip_fields(given: Any) -> tuple[str, ...]:
    """``CACHEOPS_SKIP_FIELDS``: names of kinds of fields, or classes of fields."""
    names = [
        item.__name__ if hasattr(item, "get_internal_type") else item
        for item in (() if isinstance(given, str) else given)
    ]
    if isinstance(given, str) or not all(isinstance(name, str) for name in names):
        raise ImproperlyConfigured(
            "CACHEOPS_SKIP_FIELDS must be a list of kinds of fields, as in ['TextField']; "
            f"got {given!r}."
        )
    return tuple(names)


def read_prefix(prefix: Any) -> str | Callable[[Any], str]:
    """``CACHEOPS_PREFIX``: a text for the front of keys, a function, or its dotted path."""
    if isinstance(prefix, str):
        if _DOTTED(prefix):
            try:
                prefix = import_string(prefix)
            except ImportError as error:
                raise ImproperlyConfigured(
                    f"CACHEOPS_PREFIX = {prefix!r} is no path of a function: {error}. If it is "
                    "the text itself, let it end with ':'."
                ) from error
        else:
            try:
                Keys(prefix)
            except ValueError as error:
                raise ImproperlyConfigured(f"CACHEOPS_PREFIX: {error}.") from error
    if not isinstance(prefix, str) and not callable(prefix):
        raise ImproperlyConfigured(
            "CACHEOPS_PREFIX must be a string, a function of a query, or its dotted path; "
            f"got {prefix!r}."
        )
    return cast("str | Callable[[Any], str]", prefix)


def read_interval(name: str, get: Callable[[str, Any], Any], default: Any) -> float | None:
    """A setting that is a number of seconds, or ``None`` or 0 for never."""
    value = get(name, default)
    if not value:
        return None
    read_timeout(value, f"{name} (None for never)")
    return float(value)


def read_breaker(given: Any) -> dict[str, float]:
    """``CACHEOPS_BREAKER`` over its defaults. Raises ``ImproperlyConfigured``."""
    if not isinstance(given, Mapping) or not given.keys() <= BREAKER.keys():
        raise ImproperlyConfigured(
            f"CACHEOPS_BREAKER must be a dict with some of the keys {sorted(BREAKER)}; "
            f"got {given!r}."
        )
    found = {**BREAKER, **given}
    for name, value in found.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name == "failures":
            right, what = number and isinstance(value, int) and value >= 1, "a whole number from 1"
        elif name == "jitter":
            right, what = number and 0 <= value < 1, "a part of the pause: from 0 to below 1"
        else:
            right, what = number and 0 < value < float("inf"), "a positive number of seconds"
        if not right:
            raise ImproperlyConfigured(f"CACHEOPS_BREAKER[{name!r}] must be {what}; got {value!r}.")
    if found["ceiling"] < found["pause"]:
        raise ImproperlyConfigured(
            "CACHEOPS_BREAKER: the ceiling must not be below the pause; "
            f"got {found['ceiling']!r} and {found['pause']!r}."
        )
    return found


def _secret_keys() -> tuple[bytes, ...]:
    keys = [django_settings.SECRET_KEY, *getattr(django_settings, "SECRET_KEY_FALLBACKS", ())]
    return tuple(key if isinstance(key, bytes) else str(key).encode() for key in keys)


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


def read_timeout(timeout: Any, where: str) -> None:
    """Raise ``ImproperlyConfigured`` unless ``timeout`` is a positive number of seconds."""
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not 0 < timeout < float("inf"):
        raise ImproperlyConfigured(
            f"{where} must be a positive number of seconds; got {timeout!r}."
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


def chosen(profile: Profile, **changes: Any) -> Profile:
    """A profile with some options replaced, for one queryset."""
    return replace(profile, **changes)


class _Readable:
    """``from cacheops_lite.conf import settings``: our settings by their names, with defaults."""

    _NAMES = {
        "CACHEOPS_ENABLED": "enabled",
        "CACHEOPS": "profiles",
        "CACHEOPS_REDIS": "redis",
        "CACHEOPS_SENTINEL": "sentinel",
        "CACHEOPS_CLIENT_CLASS": "client_class",
        "CACHEOPS_PREFIX": "prefix",
        "CACHEOPS_SERIALIZER": "serializer",
        "CACHEOPS_DEGRADE_ON_FAILURE": "degrade_on_failure",
        "CACHEOPS_REPLICA_LAG": "replica_lag",
        "CACHEOPS_BREAKER": "breaker",
        "CACHEOPS_STATS_INTERVAL": "stats_interval",
        "CACHEOPS_RESTARTS_KEEP_DATA": "restarts_keep_data",
        "CACHEOPS_OUTBOX_INTERVAL": "outbox_interval",
        "CACHEOPS_SKIP_FIELDS": "skip_fields",
        "CACHEOPS_LONG_DISJUNCTION": "long_disjunction",
        "FILE_CACHE_DIR": "file_cache_dir",
        "FILE_CACHE_TIMEOUT": "file_cache_timeout",
    }

    #: What no value in force stands for: profiles have taken the defaults in, and entries always
    #: carry what they depend on.
    _FIXED: Mapping[str, Any] = {"CACHEOPS_DEFAULTS": {}, "CACHEOPS_INSIDEOUT": True}

    def __getattr__(self, name: str) -> Any:
        if hasattr(django_settings, name):
            return getattr(django_settings, name)
        if name in self._FIXED:
            return self._FIXED[name]
        if name in self._NAMES:
            return getattr(current(), self._NAMES[name])
        raise AttributeError(name)


settings = _Readable()
