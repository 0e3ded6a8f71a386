"""The only reader of our settings: frozen values, and a profile for each model.

``current()`` is what everything else asks. It is built once and dropped when a setting changes,
so ``override_settings`` holds from the next call on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from .given import (
    BREAKER,
    read_breaker,
    read_interval,
    read_jitter,
    read_number,
    read_skip_fields,
    read_timeout,
)
from .prefixes import read_prefix
from .profiles import ALL_OPS, PROFILE_KEYS, Profile, read_ops, read_profiles

__all__ = [
    "ALL_OPS",
    "BREAKER",
    "PROFILE_KEYS",
    "Profile",
    "Settings",
    "current",
    "on_reset",
    "read_ops",
    "read_timeout",
    "reset",
]


#: Tables that Django itself writes all the time; tracked only if a pattern names them exactly.
UNTRACKED_BY_DEFAULT = frozenset({"sessions.session", "admin.logentry", "migrations.migration"})

#: The outbox's own table: invalidating must not invalidate.
NEVER_TRACKED = frozenset({"cacheops_outbox.undelivered"})


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
    #: The share of a timeout by which results may run out earlier, each at a moment of its own.
    jitter: float = 0.0
    #: How payloads are squeezed: "zstd", "lz4" or not at all.
    compression: str | None = None
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

    def whole(name: str, default: int, least: int = 0) -> int:
        return int(read_number(name, get(name, default), least, whole=True))

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
        replica_lag=read_number("CACHEOPS_REPLICA_LAG", get("CACHEOPS_REPLICA_LAG", 0)),
        jitter=read_jitter(get("CACHEOPS_JITTER", 0)),
        compression=get("CACHEOPS_COMPRESSION", None),
        breaker=read_breaker(get("CACHEOPS_BREAKER", {})),
        stats_interval=read_interval("CACHEOPS_STATS_INTERVAL", get, base.stats_interval),
        outbox_interval=read_interval("CACHEOPS_OUTBOX_INTERVAL", get, base.outbox_interval),
        restarts_keep_data=bool(get("CACHEOPS_RESTARTS_KEEP_DATA", False)),
        skip_fields=read_skip_fields(get("CACHEOPS_SKIP_FIELDS", ())),
        long_disjunction=whole("CACHEOPS_LONG_DISJUNCTION", base.long_disjunction, 1),
        lookup_limit=whole("CACHEOPS_LOOKUP_LIMIT", base.lookup_limit),
        dynamic_limit=whole("CACHEOPS_DYNAMIC_LIMIT", base.dynamic_limit),
        memo_size=whole("CACHEOPS_MEMO_SIZE", base.memo_size, 1),
        file_cache_dir=str(get("FILE_CACHE_DIR", "/tmp/cacheops_file_cache")),  # noqa: S108
        file_cache_timeout=whole("FILE_CACHE_TIMEOUT", base.file_cache_timeout),
        secret_keys=_secret_keys(),
    )
    return _current


def _secret_keys() -> tuple[bytes, ...]:
    keys = [django_settings.SECRET_KEY, *getattr(django_settings, "SECRET_KEY_FALLBACKS", ())]
    return tuple(key if isinstance(key, bytes) else str(key).encode() for key in keys)


class _Readable:
    """``from cacheops_lite.conf import settings``: our settings by their names, with defaults."""

    #: The name of a setting -> the field that has its value.
    _NAMES = {"CACHEOPS": "profiles"} | {
        name.upper() if name.startswith("file_") else f"CACHEOPS_{name.upper()}": name
        for name in Settings.__dataclass_fields__
        if name not in ("profiles", "secret_keys")
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
