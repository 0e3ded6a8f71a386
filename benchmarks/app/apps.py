"""The app under the label that the peers' settings name."""

from django.apps import AppConfig


class BenchConfig(AppConfig):
    """``bench.item`` and the others."""

    name = "benchmarks.app"
    label = "bench"
    default_auto_field = "django.db.models.BigAutoField"
