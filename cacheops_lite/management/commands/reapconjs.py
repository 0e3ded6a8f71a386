"""``manage.py reapconjs``: says that it is not needed, so that old schedules do not fail."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...reaper import EXPLANATION


class Command(BaseCommand):
    """Accepts django-cacheops' options and explains."""

    help = "Not needed any more: no key of cacheops_lite outlives its time."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options of old schedules."""
        parser.add_argument("--chunk-size", type=int, default=1000)
        parser.add_argument("--min-conj-set-size", type=int, default=1000)
        parser.add_argument("--dry-run", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Explain."""
        self.stdout.write(EXPLANATION)
