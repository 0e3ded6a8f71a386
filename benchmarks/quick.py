"""``make bench ARGS=--quick``: microseconds for hits, misses and writes, on the demo's data.

SQLite in this process is the fastest database there is, so the first column is the hardest
competitor that a cache can have. Numbers of other machines cannot be compared with each other.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import django

from examples.demo import screen
from tests import servers


def measure(run: Callable[[], object], before: Callable[[], object], times: int) -> float:
    """The median of ``times`` runs, in microseconds; ``before`` is not timed."""
    taken = []
    for _ in range(times):
        before()
        began = time.perf_counter_ns()
        run()
        taken.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


def nothing() -> None:
    pass


def reads(times: int) -> None:
    from cacheops_lite import invalidate_all
    from examples.demo.reads import QUERIES

    lines = []
    for query in QUERIES.values():
        rows = query.rows

        def cached(query=query, rows=rows) -> object:  # type: ignore[no-untyped-def]
            return query.run(rows().cache())

        def uncached(query=query, rows=rows) -> object:  # type: ignore[no-untyped-def]
            return query.run(rows().nocache())

        cached()
        lines.append(
            (
                query.name,
                f"{measure(uncached, nothing, times):.0f}",
                f"{measure(cached, nothing, times):.0f}",
                f"{measure(cached, invalidate_all, times // 5):.0f}",
            )
        )
    screen.table(["query", "uncached µs", "hit µs", "miss µs"], lines, "lrrr")


def writes(times: int) -> None:
    from django.test import override_settings

    from examples.demo.models import Subdivision

    quebec = Subdivision.objects.get(code="CA-QC")

    def update() -> None:
        Subdivision.objects.filter(country="CA").update(name="x")

    lines = []
    for name, run in (("save() of one object", quebec.save), ("update() of 13 rows", update)):
        tracked = measure(run, nothing, times)
        with override_settings(CACHEOPS={}):
            plain = measure(run, nothing, times)
        lines.append((name, f"{plain:.0f}", f"{tracked:.0f}"))
    screen.table(["write", "without us µs", "with us µs"], lines, "lrr")


def main(times: int = 300) -> int:
    """Run on a private server and a database of its own."""
    folder = Path(tempfile.mkdtemp(prefix="cacheops-bench-"))
    try:
        with servers.start_valkey() as server:
            os.environ["CACHEOPS_REDIS"] = servers.redis_url(server.folder)
            os.environ["DATABASE"] = "sqlite"
            os.environ["DATABASE_NAME"] = str(folder / "bench.sqlite3")
            os.environ["DJANGO_SETTINGS_MODULE"] = "examples.demo.settings"
            django.setup()
            from django.core.management import call_command
            from django.db import connection

            from examples.demo.load import SOURCES, insert

            call_command("migrate", run_syncdb=True, verbosity=0)
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous=OFF")  # the disk is not what is measured
            for objects in SOURCES.values():
                insert(objects())
            screen.title(f"Medians of {times} runs, Django {django.get_version()}")
            reads(times)
            writes(times)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0
