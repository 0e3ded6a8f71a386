"""Run the tests of well-known Django packages with everything cached.

``python -m tests.neighbours.run [NAME…]``. Their sources come from PyPI into a folder that is kept.
A table says for each what ran, passed, failed without the cache too ("base"), failed for a listed
reason, failed by us and was stale; what is "base" is explained below it, test by test. The exit
code is 1 for anything that fails by us.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import django

from tests.django_suite import source
from tests.django_suite.worker_process import outcomes

from .packages import BASE, EXCEPTIONS, PACKAGES, WANTED, Package

HERE = Path(__file__).resolve().parent
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cacheops-lite-neighbours"
)
BAD = ("failed", "stale")

HEADER = f"{'package':32} {'run':>5} {'passed':>6} {'skip':>5} {'base':>5} {'listed':>6} {'OURS':>5} {'STALE':>5} {'hits':>7} {'replay':>7} {'s':>5}"  # fmt: skip


class NotThere(Exception):
    """A package cannot be had, or cannot be installed."""


def main() -> int:
    """Run, print, and return the exit code."""
    options = arguments()
    known = {package.name: package for package in PACKAGES}
    if unknown := set(options.names) - set(known):
        raise SystemExit(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    chosen = [known[name] for name in options.names] or list(PACKAGES)
    print(f"Django {django.get_version()}, Python {sys.version.split()[0]}")
    print(HEADER, flush=True)
    bad: dict[str, str] = {}
    base: dict[str, str] = {}
    skipped: list[str] = []
    for package in chosen:
        if package.long and not options.names and not options.all:
            skipped.append(f"{package.name}: takes long; name it, or say --all")
            continue
        try:
            sources = fetch(package, options.folder)
            needs = install(package, sources, options.folder)
        except NotThere as why:
            skipped.append(f"{package.name}: {why}")
            continue
        bad |= judge(package, sources, needs, base)
    for name, details in bad.items():
        print(f"\n=== {name}\n{details}")
    for name, why in base.items():
        print(f"BASE {name}: {why}")
    for line in skipped:
        print(f"SKIPPED {line}")
    if not options.names:
        for name, why in WANTED.items():
            print(f"NOT HERE {name}: {why}")
    return 1 if bad else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="packages; default: all that are quick")
    parser.add_argument("--all", action="store_true", help="the long ones, too")
    parser.add_argument("--folder", type=Path, default=CACHE, help="where the sources are kept")
    return parser.parse_args()


def fetch(package: Package, folder: Path) -> Path:
    """The folder of a package's sources, fetched and unpacked once."""
    home = folder / package.name
    unpacked = [path for path in home.glob("source/*") if path.is_dir()]
    if not unpacked:
        home.mkdir(parents=True, exist_ok=True)
        if not list(home.glob("*.tar.gz")):
            flags = ["--no-deps", "--no-binary", package.name, "--dest", str(home)]
            pip(["download", *flags, f"{package.name}=={package.version}".removesuffix("==")])
        archives = list(home.glob("*.tar.gz"))
        if not archives:
            raise NotThere("there is no source distribution")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(home / "source", filter="data")
        unpacked = [path for path in home.glob("source/*") if path.is_dir()]
    sources = unpacked[0]
    for target in package.targets:
        if not (folder_of(package, sources) / target).exists():
            raise NotThere(f"its source distribution has no {package.folder}/{target}")
    return sources


def folder_of(package: Package, sources: Path) -> Path:
    """Where its tests are run."""
    return HERE / "own" if package.own else sources / package.folder


def install(package: Package, sources: Path, folder: Path) -> Path:
    """What a package needs, in a folder of its own, under the Django that is installed here."""
    wanted = zlib.crc32(" ".join([sources.name, *package.needs]).encode())
    name = f"needs-{django.get_version()}-{sys.version_info.minor}-{wanted:08x}"
    place = folder / package.name / name
    if not place.exists():
        constraint = folder / "constraints.txt"
        constraint.write_text(f"django=={django.get_version()}\n")
        flags = ["--no-compile", "--target", str(place), "--constraint", str(constraint)]
        pip(["install", *flags, str(sources), *package.needs])
    return place


def pip(words: list[str]) -> None:
    done = subprocess.run(
        [*source.pip(), "-q", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotThere(f"pip {words[0]} failed: {(done.stdout + done.stderr).strip()[-600:]}")


def judge(package: Package, sources: Path, needs: Path, base: dict[str, str]) -> dict[str, str]:
    """Run a package, print its line; what failed by us, with its details.

    What fails without the cache, too, is added to ``base`` with its reason.
    """
    began = time.monotonic()
    done = work(package, sources, needs, "cached")
    row: Counter[str] = Counter(outcome for outcome, _ in done["tests"].values())
    row += Counter(done["counts"])
    ours: dict[str, str] = {}
    baseline: dict[str, Any] | None = None
    for test, (outcome, details) in done["tests"].items():
        if outcome not in BAD:
            continue
        if reason(EXCEPTIONS, package, test):
            row["listed"] += 1
            continue
        if outcome == "failed":
            if baseline is None:
                baseline = work(package, sources, needs, "plain")["tests"]
            if test in baseline and baseline[test][0] == "failed":
                row["base"] += 1
                base[f"{package.name} {test}"] = reason(BASE, package, test) or (
                    "NOT KNOWN WHY: " + " ".join(details.split())[-200:]
                )
                continue
        ours[f"{package.name} {test}"] = f"{outcome}: {details}"
    cells = [
        (len(done["tests"]), 5), (row["passed"], 6), (row["skipped"], 5), (row["base"], 5),
        (row["listed"], 6), (len(ours), 5), (row["stale"], 5), (row["hits"], 7),
        (row["replays"], 7), (round(time.monotonic() - began), 5),
    ]  # fmt: skip
    label = f"{package.name} {sources.name.rpartition('-')[2]}"
    print(f"{label:32} " + " ".join(f"{value:{width}}" for value, width in cells), flush=True)
    return ours


def reason(known: tuple[tuple[str, str, str], ...], package: Package, test: str) -> str:
    """Why this test is known to fail, ``""`` if it is not."""
    return next((why for name, part, why in known if name == package.name and part in test), "")


def work(package: Package, sources: Path, needs: Path, what: str) -> dict[str, Any]:
    """Run a package's tests in a process of its own."""
    tables = "migrated" if package.migrations else "made"
    environment = {**os.environ, **package.environment, "PYTHONPATH": str(needs)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    how = [what, tables, package.settings]
    done, said = outcomes(
        lambda out: [HERE / "worker.py", out, *how, *package.targets],
        folder_of(package, sources),
        environment,
    )
    if done.get("tests"):
        return done
    return {"tests": {f"{package.name} as a whole": ["failed", said]}, "counts": {}}


if __name__ == "__main__":
    sys.exit(main())
