"""The Django app: ``ready()`` puts caching onto Django's classes and registers the checks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig

from . import pulse


def _beat(**kwargs: Any) -> None:
    pulse.beat()


class CacheopsLiteConfig(AppConfig):
    """Installed by ``"cacheops_lite"`` in ``INSTALLED_APPS``."""

    name = "cacheops_lite"
    label = "cacheops_lite"
    verbose_name = "Cacheops Lite"

    def ready(self) -> None:
        """Connect; opens no socket and reads no database."""
        from django.core.signals import request_finished

        from . import (
            checks,  # noqa: F401 - importing registers them
            stats,
        )
        from .orm import patch

        patch.install()
        stats.install()
        request_finished.connect(_beat, dispatch_uid="cacheops_lite.pulse")
