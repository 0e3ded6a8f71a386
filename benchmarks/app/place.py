"""Where the rows are: made once by the worker without a cache, copied by the others."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import Any

from django.core.management import call_command
from django.db import connection

from . import data


def make() -> None:
    """Fill the template that the others copy (and this worker reads)."""
    if os.environ["BENCH_DATABASE"] == "postgres":
        _create_postgres("")
    call_command("migrate", run_syncdb=True, verbosity=0)
    data.fill()
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    connection.close()  # PostgreSQL copies no database that somebody uses


def copy(template: str) -> None:
    """Have a database of our own that holds what the template holds."""
    name = os.environ["BENCH_DATABASE_NAME"]
    if os.environ["BENCH_DATABASE"] == "postgres":
        _create_postgres(template)
    elif name == ":memory:":
        connection.ensure_connection()
        with sqlite3.connect(template) as source:
            source.backup(connection.connection)
        source.close()
    else:
        shutil.copyfile(template, name)


def _admin() -> Any:
    import psycopg

    return psycopg.connect(
        host=os.environ["BENCH_DATABASE_HOST"], user="cacheops", dbname="postgres", autocommit=True
    )


def _create_postgres(template: str) -> None:
    name = os.environ["BENCH_DATABASE_NAME"]
    with _admin() as admin:
        admin.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
