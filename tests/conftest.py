"""Servers for the session, and an empty cache for every test."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import django
import hypothesis
import pytest
import redis
from django.conf import settings
from django.db import connection

from . import clusters, databases, servers

if TYPE_CHECKING:
    from pathlib import Path

# Machines are busy: no example is late. In CI the same examples each time, so that a red run means
# a change; everywhere else new ones at every run.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    """redis-py 5.0 leaves it to the collector to close a socket that could not be connected."""
    if redis.__version__.startswith("5.0."):
        config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")


def pytest_report_header() -> str:
    """Say what this run covers, so that no combination is left out silently."""
    return (
        f"Python {platform.python_version()}, Django {django.get_version()}, "
        f"redis-py {redis.__version__}, server {settings.TEST_REDIS}, database {settings.TEST_DB}"
    )


@pytest.fixture(scope="session", autouse=True)
def running_servers() -> Iterator[None]:
    """Start what the settings point at; stop it after the last test."""
    folder: Path = settings.TEST_FOLDER
    started: list[servers.Server | clusters.Cluster] = []
    if settings.TEST_REDIS == "cluster":
        started.append(clusters.Cluster(ports=settings.TEST_PORTS))
    elif "://" not in settings.TEST_REDIS:
        # NOTE: one server for each worker, because tests flush it.
        binary = settings.TEST_REDIS
        if binary == "valkey":
            started.append(servers.start_valkey(folder=folder / "redis"))
        else:
            name = "redis-server" if binary == "redis" else binary
            started.append(servers.start_redis(name, folder=folder / "redis"))
    if settings.TEST_DB == "postgres":
        started.append(databases.start_postgres(folder=folder / "db"))
    elif settings.TEST_DB == "mysql":
        started.append(databases.start_mariadb(folder=folder / "db"))
    yield
    for server in reversed(started):
        server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    running_servers: None, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """The test databases are made after their server runs."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """PostgreSQL drops a test database only when nobody is connected to it any more.

    Connections of threads that asgiref keeps, or that a test killed, may still be there.
    """
    yield
    if settings.TEST_DB == "postgres":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname LIKE 'test_%%'"
            )


@pytest.fixture(scope="session")
def redis_client(running_servers: None) -> Iterator[redis.Redis]:
    """A client of the server that the settings name, for looking behind the cache's back."""
    kind: Any = redis.RedisCluster if settings.TEST_REDIS == "cluster" else redis.Redis
    client = kind.from_url(settings.CACHEOPS_REDIS)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def clean_cache(redis_client: redis.Redis) -> Iterator[None]:
    """Each test starts with an empty server and a cache that remembers nothing."""
    from cacheops_lite.orm import lazy, planning, reads

    from .auditing import compare, compare_step, complain

    redis_client.flushdb()
    reset_cacheops()
    reads.audit[:] = [compare]
    lazy.audit[:] = [compare_step]
    planning.audit[:] = [complain]
    # Any test may come across a step for the second time, so each one does.
    lazy.keep_at_once = True
    yield
    reset_cacheops()


@pytest.fixture
async def closed_after() -> AsyncIterator[None]:
    """The sockets of the engine belong to the event loop of the test, and end before it."""
    from cacheops_lite import engine

    yield
    await engine.current().aclose()


def reset_cacheops() -> None:
    """Forget settings, sockets, memos and failed tables: the one hook for state of the package."""
    if engine := sys.modules.get("cacheops_lite.engine"):  # else nothing was used yet
        engine.conf.reset()
        engine._overdue.clear()


def pytest_sessionstart(session: pytest.Session) -> None:
    # Inherited by subprocesses of tests, which need the same settings.
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
