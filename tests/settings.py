"""The settings of the test suite: the example's, pointed at private servers.

They only say where the servers *will* listen; conftest.py starts them. Each xdist worker has a
folder of its own, which subprocesses of a test inherit through the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from settings_example import *  # noqa: F403
from settings_example import INSTALLED_APPS

from .clusters import free_port
from .databases import mariadb_settings, postgres_settings
from .servers import redis_url, temporary_folder

_variable = f"CACHEOPS_TEST_FOLDER_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
if _variable not in os.environ:
    os.environ[_variable] = str(temporary_folder())

TEST_FOLDER = Path(os.environ[_variable])

#: valkey (embedded), redis (the system's), cluster (three embedded nodes), the path of a server's
#: binary, or the URL of a running server, whose database is flushed at every test.
TEST_REDIS = os.environ.get("CACHEOPS_TEST_REDIS") or "valkey"

#: sqlite, postgres or mysql.
TEST_DB = os.environ.get("CACHEOPS_TEST_DB") or "sqlite"

INSTALLED_APPS = [*INSTALLED_APPS, "cacheops_lite.contrib.outbox", "tests"]

CACHEOPS_REDIS: Any = TEST_REDIS if "://" in TEST_REDIS else redis_url(TEST_FOLDER / "redis")

if TEST_REDIS == "cluster":
    _variable = f"CACHEOPS_TEST_PORTS_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    os.environ.setdefault(_variable, ",".join(str(free_port()) for _ in range(3)))
    TEST_PORTS = [int(port) for port in os.environ[_variable].split(",")]
    CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster"
    CACHEOPS_REDIS = f"redis://127.0.0.1:{TEST_PORTS[0]}/0"


def _database(name: str) -> dict[str, object]:
    if TEST_DB == "postgres":
        return postgres_settings(TEST_FOLDER / "db", name)
    if TEST_DB == "mysql":
        return mariadb_settings(TEST_FOLDER / "db", name)
    if TEST_DB == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(TEST_FOLDER / f"{name}.sqlite3"),
            # A file rather than memory: threads and subprocesses see one database, as in real use.
            "TEST": {"NAME": str(TEST_FOLDER / f"test_{name}.sqlite3")},
            "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
        }
    raise ValueError(f"CACHEOPS_TEST_DB={TEST_DB!r}: choose sqlite, postgres or mysql")


DATABASES = {"default": _database("cacheops"), "other": _database("other")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

TESTS_CUSTOMER_MODEL = "tests.BigCustomer"

# The schema of `tests` refers to contrib tables and has no migrations; so all are made in one go.
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None}

# Tests count the commands that a read costs; those of test_stats.py share what was counted.
CACHEOPS_STATS_INTERVAL = None
CACHEOPS_OUTBOX_INTERVAL = None
