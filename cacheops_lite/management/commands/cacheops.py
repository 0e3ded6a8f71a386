"""``./manage.py cacheops``: ``check`` the server, ``explain`` a query, ``stats``, ``deliver``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Manager, QuerySet

from cacheops_lite import conf, doctor, engine, report
from cacheops_lite import stats as counted
from cacheops_lite.exceptions import StoreUnavailable
from cacheops_lite.orm.explain import OPS
from cacheops_lite.rights import acl_line


class Command(BaseCommand):
    """Look into the cache."""

    help = "Explains a queryset, checks the server, shows counters, delivers the outbox."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Subcommands."""
        commands = parser.add_subparsers(dest="command", required=True, metavar="command")
        explain = commands.add_parser(
            "explain", help="say whether and how a queryset is cached, and what drops it"
        )
        explain.add_argument(
            "queryset",
            help="a Python expression, as in the shell: models are known by their names, and by "
            "app_label.Model where two have the same name",
        )
        explain.add_argument("--op", default="fetch", choices=OPS, help="which op")
        check = commands.add_parser(
            "check", help="try the server: connection, rights, version, memory, clock, speed"
        )
        check.add_argument("--json", action="store_true", help="one JSON list")
        check.add_argument(
            "--acl", action="store_true", help="print the Redis user that is needed, try nothing"
        )
        commands.add_parser(
            "deliver", help="invalidate what dead or cut off processes left in the outbox"
        )
        stats = commands.add_parser(
            "stats", help="what all processes counted lately: hits, misses, invalidations, time"
        )
        stats.add_argument(
            "--hours",
            type=int,
            default=1,
            choices=range(1, counted.HOURS + 1),
            metavar="N",
            help=f"this hour and the N - 1 before it, up to {counted.HOURS} (default: 1)",
        )
        stats.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        """Run the subcommand."""
        getattr(self, f"do_{command}")(**options)

    def do_explain(self, queryset: str, op: str, **options: Any) -> None:
        """Print the explanation. The expression is trusted, as that of ``shell -c`` is."""
        try:
            value = eval(queryset, _names())  # noqa: S307 - typed by who runs the site
        except Exception as error:
            raise CommandError(f"{queryset}: {type(error).__name__}: {error}") from error
        if isinstance(value, Manager):
            value = value.all()
        if not isinstance(value, QuerySet):
            raise CommandError(f"{queryset} is a {type(value).__name__}, not a queryset.")
        self.stdout.write(str(value.cache_explain(op)))

    def do_stats(self, hours: int, **options: Any) -> None:
        """Print what all processes have shared."""
        if conf.current().stats_interval is None:
            raise CommandError(
                "Processes keep their counters to themselves: set CACHEOPS_STATS_INTERVAL to a "
                "number of seconds, or call cacheops_lite.stats.snapshot() in the process."
            )
        try:
            found = counted.read(hours)
        except StoreUnavailable as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
        else:
            self.stdout.writelines(f"{line}\n" for line in report.lines(found))

    def do_check(self, acl: bool, **options: Any) -> None:
        """Examine the server; fail if the cache cannot work with it."""
        prefix = conf.current().prefix
        if acl:
            static = prefix if isinstance(prefix, str) else ""
            self.stdout.write(acl_line(static, cluster=engine.current().clustered))
            return
        found = list(doctor.examine())
        if options["json"]:
            self.stdout.write(json.dumps([finding._asdict() for finding in found], indent=2))
        else:
            for level, text, hint in found:
                self.stdout.write(f"{level:7}  {text}" + (f"\n{'':9}{hint}" if hint else ""))
        errors = sum(finding.level == "error" for finding in found)
        if errors:
            raise CommandError(f"{errors} of {len(found)} findings are errors.")

    def do_deliver(self, **options: Any) -> None:
        """Deliver all rows of the outbox."""
        if not apps.is_installed("cacheops_lite.contrib.outbox"):
            raise CommandError(
                "There is no outbox: add 'cacheops_lite.contrib.outbox' to INSTALLED_APPS and "
                "run ./manage.py migrate."
            )
        from cacheops_lite.contrib.outbox import delivery

        try:
            engine.current().ping()
        except StoreUnavailable as error:
            raise CommandError(f"Nothing was delivered: {error}") from error
        self.stdout.write(f"Delivered: {delivery.deliver()}")


def _names() -> dict[str, Any]:
    import django.db.models

    names: dict[str, Any] = {
        name: getattr(django.db.models, name) for name in django.db.models.__all__
    }
    for config in apps.get_app_configs():
        names[config.label] = type(config.label, (), {m.__name__: m for m in config.get_models()})
        names.update({model.__name__: model for model in config.get_models()})
    return names
