"""The app: installing it switches the outbox on."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """Installed by ``"cacheops_lite.contrib.outbox"`` in ``INSTALLED_APPS``."""

    name = "cacheops_lite.contrib.outbox"
    label = "cacheops_outbox"
    verbose_name = "Cacheops Lite: outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect; opens no socket and reads no database."""
        from . import checks, delivery  # noqa: F401 - importing registers the checks

        delivery.install()
