"""One process: the tests of one package under pytest, with the cache or without it.

``python worker.py OUT cached|plain made|migrated SETTINGS PYTEST-ARGUMENT…``, in the folder of the package. Its
own ``tests`` package may have the name of ours, so what is needed of ours is imported first and
forgotten by that name. The outcomes are written to OUT as JSON.

With the cache every model and op is cached in memory, inside ``TestCase`` too
(``cacheops_lite.testing``), and every cached read is held against the database, twice, as in the
runs of Django's own tests.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import pytest  # noqa: E402

from tests.django_suite import differential  # noqa: E402

for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
    del sys.modules[name]
sys.path[:] = [*(path for path in sys.path if path != str(ROOT)), str(ROOT)]
sys.path.insert(0, str(Path.cwd()))

#: With the cache and without it: hashing well would take most of the time.
COMMON = {"PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"]}
OURS = {
    "CACHEOPS_REDIS": "memory://neighbours",
    "CACHEOPS": {"*.*": {"ops": "all", "timeout": 600}},
}


class Outcomes:
    """A plugin of pytest that notes how each test ended."""

    def __init__(self, cached: bool) -> None:
        self.cached = cached
        self.found: dict[str, list[str]] = {}
        self.recorder: Any = None

    @pytest.fixture(autouse=True)
    def _held_against_the_database(self, request: pytest.FixtureRequest) -> Iterator[None]:
        if self.cached and self.recorder is None:
            self.recorder = differential.install(commit=False)
        yield
        if self.recorder is not None:
            for _, difference in self.recorder.taken():
                self.found[request.node.nodeid] = ["stale", difference]

    def pytest_runtest_logreport(self, report: Any) -> None:
        known = self.found.get(report.nodeid, [""])[0]
        if known in ("stale", "failed") or (report.when != "call" and report.passed):
            return
        self.found[report.nodeid] = [report.outcome, report.longreprtext[-4000:]]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.found[report.nodeid] = ["failed", report.longreprtext[-4000:]]


def sqlite(database: dict[str, Any]) -> dict[str, Any]:
    """A database in memory in place of one whose server is not there."""
    if database.get("ENGINE") == "django.db.backends.sqlite3":
        return database
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


def add_to_settings(module: str, cached: bool) -> None:
    """Have the cache in the settings of the package, wherever they come from."""
    from django.conf import LazySettings, Settings

    def extended(values: Any) -> dict[str, Any]:
        common = {**COMMON, "DATABASES": {a: sqlite(d) for a, d in values["DATABASES"].items()}}
        if not cached:
            return common
        theirs = values["INSTALLED_APPS"]
        apps = type(theirs)(["cacheops_lite", *theirs])  # tests add to it what is of its type
        return {**common, **OURS, "INSTALLED_APPS": apps}

    if module:
        begin = Settings.__init__

        def started(self: Any, settings_module: str) -> None:
            begin(self, settings_module)
            for key, value in extended(vars(self)).items():
                setattr(self, key, value)
                self._explicit_settings.add(key)

        Settings.__init__ = started  # type: ignore[method-assign]
        return
    configure = LazySettings.configure

    def configured(self: Any, *args: Any, **options: Any) -> None:
        configure(self, *args, **{**options, **extended(options)})

    LazySettings.configure = configured  # type: ignore[method-assign]


def configure(place: str) -> None:
    """Settings that a package keeps in a dict, or makes by a function."""
    from django.conf import settings

    module, _, name = place.partition(":")
    values = getattr(importlib.import_module(module), name)
    settings.configure(**(values() if callable(values) else values))


def main(out: str, cached: bool, migrated: bool, settings: str, arguments: list[str]) -> None:
    """Run and write down."""
    if settings and ":" not in settings:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
    outcomes = Outcomes(cached)
    options = [
        "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:valkey", "-p", "no:asyncio",
        "-p", "no:warnings", "-o", "addopts=", "-o", "python_files=test_*.py tests.py *_tests.py",
        "--rootdir", str(Path.cwd()), "--continue-on-collection-errors",
    ]  # fmt: skip
    if not migrated:
        options.append("--no-migrations")
    add_to_settings("" if ":" in settings else settings, cached)
    if ":" in settings:
        configure(settings)
    if cached:
        options += ["-p", "cacheops_lite.testing.pytest_plugin", "-o", "cacheops=on"]
    pytest.main([*options, *arguments], plugins=[outcomes])
    counts = dict(outcomes.recorder.counts) if outcomes.recorder is not None else {}
    Path(out).write_text(json.dumps({"tests": outcomes.found, "counts": counts}))


if __name__ == "__main__":
    place, what, tables, where, *words = sys.argv[1:]
    main(place, what == "cached", tables == "migrated", where, words)
