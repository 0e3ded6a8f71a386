"""Run Django's own ORM tests with every model and every op cached, and compare every cached read.

``python -m tests.django_suite.run [--quick] [package…]``. A table says for each package what ran,
passed, failed by us and was stale. The exit code is 1 for anything that fails with the cache,
passes without it and is not listed in ``exceptions.txt``. Modes:

* ``as_is``: Django's ``TestCase`` as it is. Its transactions keep most reads from the cache.
* ``commit``: ``TestCase`` commits and flushes, so that every read may be cached.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import django

from tests import databases

from . import apps, source
from .worker_process import outcomes

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS = Path(__file__).with_name("exceptions.txt")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cacheops-lite-django"
MODES = ("as_is", "commit")
BAD = frozenset({"failed", "error", "stale"})


class Exception_(NamedTuple):
    """A line of ``exceptions.txt``."""

    mode: str
    pattern: str
    reason: str

    def covers(self, mode: str, test: str) -> bool:
        return self.mode in (mode, "both") and fnmatch.fnmatchcase(test, self.pattern)


def main() -> int:
    """Run, print, and return the exit code."""
    options = arguments()
    tests = source.tests_folder(options.folder)
    wanted = options.packages or (apps.QUICK if options.quick else apps.ORM + apps.USERS)
    there = [name for name in wanted if (tests / name.split(".")[0]).is_dir()]
    if missing := sorted(set(wanted) - set(there)):
        print(f"not in Django {django.get_version()}: {', '.join(missing)}")
    modes = options.mode or (["commit"] if options.quick else list(MODES))
    allowed = read_exceptions()
    database = None
    if options.db == "postgres":
        database = databases.start_postgres()
        os.environ["DJANGO_SUITE_POSTGRES"] = str(database.folder)
    try:
        bad = run_all(there, modes, tests, allowed, options)
    finally:
        if database is not None:
            database.stop()
    return 1 if bad else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", nargs="*", help="test packages of Django's; default: all")
    parser.add_argument("--quick", action="store_true", help="a selection, in commit mode only")
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--db", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--folder", type=Path, default=CACHE, help="where the sources are kept")
    parser.add_argument("--report", type=Path, help="write all outcomes there, as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="also why reads bypassed")
    return parser.parse_args()


HEADER = (
    f"{'package':28} {'mode':7} {'run':>5} {'passed':>6} {'skip':>5} {'base':>5} {'listed':>6} "
    f"{'OURS':>5} {'STALE':>5} {'hits':>6} {'replay':>6} {'again':>6} {'quick':>6} "
    f"{'refused':>7} {'bypass':>6} {'s':>5}"
)


def run_all(
    packages: list[str],
    modes: list[str],
    tests: Path,
    allowed: list[Exception_],
    options: argparse.Namespace,
) -> dict[str, str]:
    """Run every package in every mode; what failed by us, with its details."""
    print(f"Django {django.get_version()}, Python {sys.version.split()[0]}, {options.db}")
    print(HEADER, flush=True)
    bad: dict[str, str] = {}
    report: dict[str, Any] = {}
    used: set[Exception_] = set()
    total: Counter[str] = Counter()
    for mode in modes:
        for package in packages:
            began = time.monotonic()
            done = report[f"{mode} {package}"] = work(tests, package, mode, "cached")
            row, ours = judge(done, package, mode, tests, allowed, used)
            bad |= ours
            total += row
            print_row(package, mode, row, time.monotonic() - began)
            if options.verbose:
                for kind in ("bypassed", "refused"):
                    for why, count in Counter(done.get(kind, {})).most_common(8):
                        print(f"    {kind} {count}: {why}")
    print_row("all", "", total, 0)
    for name, details in bad.items():
        print(f"\n=== {name}\n{details}")
    if not options.packages and not options.quick and options.db == "sqlite":
        for line in allowed:
            if line.mode in (*modes, "both") and line not in used:
                print(f"listed, and does not fail: {line.mode} {line.pattern}")
    if options.report:
        options.report.write_text(json.dumps(report, indent=1))
    return bad


def print_row(package: str, mode: str, row: Counter[str], seconds: float) -> None:
    names = (
        ("run", 5), ("passed", 6), ("skipped", 5), ("base", 5), ("listed", 6), ("ours", 5),
        ("stale", 5), ("hits", 6), ("replays", 6), ("again", 6), ("quick", 6),
        ("refused", 7), ("bypassed", 6),
    )  # fmt: skip
    cells = " ".join(f"{row[name]:{width}}" for name, width in names)
    print(f"{package:28} {mode:7} {cells} {seconds:5.0f}", flush=True)


def judge(
    done: dict[str, Any],
    package: str,
    mode: str,
    tests: Path,
    allowed: list[Exception_],
    used: set[Exception_],
) -> tuple[Counter[str], dict[str, str]]:
    """Count the outcomes of a package, and say which failures are ours."""
    row: Counter[str] = Counter(outcome for outcome, _ in done["tests"].values())
    row["run"] = len(done["tests"])
    row += Counter(done.get("counts", {}))
    for kind in ("bypassed", "refused"):
        row[kind] = sum(done.get(kind, {}).values())
    ours: dict[str, str] = {}
    for test, (outcome, details) in done["tests"].items():
        if outcome not in BAD:
            continue
        lines = [line for line in allowed if line.covers(mode, test)]
        used.update(lines)
        if lines:
            row["listed"] += 1
        else:
            ours[f"{mode} {test}"] = f"{outcome}: {details}"
    if any(not details.startswith("stale") for details in ours.values()):
        baseline = work(tests, package, mode, "plain")["tests"]
        for name, details in list(ours.items()):
            # A stale read is ours, whatever else the test suffers from.
            if details.startswith("stale"):
                continue
            if baseline.get(name.partition(" ")[2], ["passed"])[0] in BAD:
                del ours[name]
                row["base"] += 1
    row["ours"] = len(ours)
    return row, ours


def work(tests: Path, package: str, mode: str, what: str) -> dict[str, Any]:
    """Run a package in a process of its own, with the cache ("cached") or without ("plain")."""
    done, said = outcomes(
        lambda out: ["-m", "tests.django_suite.worker", tests, package, mode, what, out],
        ROOT,
        {**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done or {"tests": {f"{package} as a whole": ["error", said]}}


def read_exceptions() -> list[Exception_]:
    """The lines of ``exceptions.txt``."""
    found = []
    for line in EXCEPTIONS.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            mode, pattern, reason = line.split(None, 2)
            found.append(Exception_(mode, pattern, reason))
    return found


if __name__ == "__main__":
    sys.exit(main())
