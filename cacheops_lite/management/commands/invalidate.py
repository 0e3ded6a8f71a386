"""``./manage.py invalidate all | app | app.model | app.model.pk …``: drop cached results."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Model

from cacheops_lite.invalidation import invalidate_all, invalidate_model, invalidate_obj


def _invalidate_models(models: list[type[Model]]) -> None:
    for model in models:
        invalidate_model(model)


class Command(BaseCommand):
    """Invalidate everything, an app, a model or one object."""

    help = "Invalidates cached results: everything, an app, a model, or one object."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Any number of targets."""
        parser.add_argument(
            "args",
            metavar="(all | <app> | <app>.<model> | <app>.<model>.<pk>)",
            nargs="+",
            help="what to invalidate",
        )

    def handle(self, *targets: str, **options: Any) -> None:
        """Check every target first, then invalidate."""
        for action in [self._action(target) for target in targets]:
            action()

    def _action(self, target: str) -> Any:
        if target == "all":
            return invalidate_all
        app_label, _, rest = target.partition(".")
        model_name, _, pk = rest.partition(".")
        try:
            config = apps.get_app_config(app_label)
            models = [config.get_model(model_name)] if model_name else list(config.get_models())
        except LookupError as error:
            raise CommandError(f"{target}: {error}") from None
        if not pk:
            return partial(_invalidate_models, models)
        model = models[0]
        try:
            obj = model._base_manager.all().nocache().get(pk=pk)
        except (ObjectDoesNotExist, ValueError, TypeError, ValidationError):
            raise CommandError(f"{target}: there is no {model._meta.label} with that key") from None
        return lambda: invalidate_obj(obj)
