"""The Django app: ``ready()`` puts caching onto Django's classes and registers the checks."""

from __future__ import annotations

from django.apps import AppConfig


class CacheopsLiteConfig(AppConfig):
    """Installed by ``"cacheops_lite"`` in ``INSTALLED_APPS``."""

    name = "cacheops_lite"
    label = "cacheops_lite"
    verbose_name = "Cacheops Lite"

    def ready(self) -> None:
        """Connect; opens no socket and reads no database."""
        from . import checks  # noqa: F401 - importing registers them
        from .orm import patch

        patch.install()
