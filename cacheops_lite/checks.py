"""System checks: what is wrong with the configuration, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from . import conf, doctor, engine
from .orm import registry

#: What settings raise that cannot be meant.
_UNREADABLE = (ImproperlyConfigured, ImportError, TypeError, ValueError)


@checks.register("cacheops")
def check_configuration(**kwargs: Any) -> list[checks.CheckMessage]:
    """Settings that cannot work (E) or that probably mean something else (W)."""
    return list(_of_configuration())


def _of_configuration() -> Iterator[checks.CheckMessage]:
    try:
        current = conf.current()
        registry.current()
        _ = engine.current().codec  # reads CACHEOPS_SERIALIZER and CACHEOPS_COMPRESSION
    except _UNREADABLE as error:
        yield checks.Error(
            str(error),
            hint="The settings reference says what each setting may be.",
            id="cacheops_lite.E001",
        )
        return
    if current.redis is not None and current.sentinel is not None:
        yield checks.Error(
            "CACHEOPS_REDIS and CACHEOPS_SENTINEL are both set.",
            hint="Keep the one that leads to your Redis and remove the other.",
            id="cacheops_lite.E002",
        )
    if current.active and current.redis is None and current.sentinel is None:
        yield checks.Error(
            "CACHEOPS names models to cache, but CACHEOPS_REDIS is not set.",
            hint="Set CACHEOPS_REDIS = 'redis://localhost:6379/1' (or a dict of options).",
            id="cacheops_lite.E003",
        )
    labels = {model._meta.label_lower for model in apps.get_models(include_auto_created=True)}
    labels |= {f"{config.label.lower()}.*" for config in apps.get_app_configs()}
    for pattern in sorted(current.profiles.keys() - labels - {"*.*"} - conf.UNTRACKED_BY_DEFAULT):
        yield checks.Warning(
            f"CACHEOPS pattern {pattern!r} matches no installed app or model.",
            hint="Patterns are 'app_label.model_name', 'app_label.*' or '*.*'.",
            id="cacheops_lite.W001",
        )
    if hasattr(settings, "CACHEOPS_INSIDEOUT"):
        yield checks.Info(
            "CACHEOPS_INSIDEOUT is not needed: entries always carry what they depend on.",
            hint="Remove the setting.",
            id="cacheops_lite.I001",
        )
    if "cacheops" in settings.INSTALLED_APPS:
        yield checks.Error(
            "'cacheops' and 'cacheops_lite' are both installed; they patch the same methods.",
            hint="Remove 'cacheops' from INSTALLED_APPS.",
            id="cacheops_lite.E004",
        )


def _configured() -> engine.Engine | None:
    """The engine, if there is something to cache and one place for it: else it was said above."""
    try:
        current = conf.current()
        registry.current()
    except _UNREADABLE:
        return None
    used = current.active and (current.redis is None) != (current.sentinel is None)
    return engine.current() if used else None


@checks.register("cacheops")
def check_server(**kwargs: Any) -> list[checks.CheckMessage]:
    """Whether the configured server answers. The site works without it, only slower."""
    try:
        cache = _configured()
        unreachable = doctor.unreachable(cache) if cache is not None else None
    except ImproperlyConfigured as error:
        return [
            checks.Error(
                str(error),
                hint="Set CACHEOPS_REDIS to a URL or to redis-py's options, and "
                "CACHEOPS_CLIENT_CLASS, if at all, to the path of a class.",
                id="cacheops_lite.E005",
            )
        ]
    if unreachable is None:
        return []
    return [
        checks.Warning(
            unreachable.text,
            hint=f"{unreachable.hint} Until then every query is answered from the database.",
            id="cacheops_lite.W002",
        )
    ]


@checks.register("cacheops", deploy=True)
def check_waste(**kwargs: Any) -> list[checks.CheckMessage]:
    """``check --deploy``: settings, of the server and of Django, that waste the cache."""
    found: list[doctor.Finding] = []
    with suppress(Exception):  # the server does not answer: reported above
        cache = _configured()
        if cache is not None:
            found += doctor.waste(cache)
    return [
        checks.Warning(finding.text, hint=finding.hint, id="cacheops_lite.W003")
        for finding in found
        if finding.level != "ok"
    ] + _snapshots()


def _snapshots() -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f"Requests run in transactions of the database {alias!r} that read from a snapshot: "
            "inside them nothing is answered from the cache.",
            hint="Set its isolation_level to 'read committed', or ATOMIC_REQUESTS to False.",
            id="cacheops_lite.W004",
        )
        for alias in connections
        if connections[alias].settings_dict.get("ATOMIC_REQUESTS") and _snapshot(connections[alias])
    ]


def _snapshot(connection: Any) -> bool:
    options = connection.settings_dict.get("OPTIONS") or {}
    if connection.vendor == "sqlite":
        return "wal" in str(options.get("init_command", "")).lower()
    level = options.get("isolation_level")
    name = str(getattr(level, "name", level) or "").lower().replace("_", " ")
    return name in ("repeatable read", "serializable")
