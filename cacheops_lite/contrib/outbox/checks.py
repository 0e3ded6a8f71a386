"""A check of the databases: has each the table that its commits shall write to?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import connections, router

from . import delivery
from .models import Undelivered


@checks.register(checks.Tags.database)
def check_tables(databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.Warning]:
    """Warn of databases without the table: their invalidations do not survive a process."""
    return [
        checks.Warning(
            f"The database {alias!r} has no table {delivery.TABLE}: what its commits invalidate is "
            "lost with the process if Redis cannot be told.",
            hint=f"Run ./manage.py migrate cacheops_outbox --database {alias}, or let a router "
            "refuse the model there.",
            id="cacheops_lite.W010",
        )
        for alias in databases or ()
        if router.allow_migrate_model(alias, Undelivered)
        and not delivery.usable(connections[alias])
    ]
