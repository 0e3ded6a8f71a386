"""``python -m benchmarks``: this package beside its peers, all on the same data, side by side.

Numbers of different runs or machines cannot be compared with each other; ratios of one run can.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests import databases, servers

from . import driver, page, peers, picture, quick, report

BEGAN = time.monotonic()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="only this package, on the demo's data")
    add("--database", choices=["sqlite", "postgres"], default="sqlite")
    add("--rounds", type=int, default=11, help="rounds of each workload (%(default)s)")
    add("--times", type=int, default=200, help="operations in a round at most (%(default)s)")
    add("--quantile", type=float, default=0.5,
        help="of a round's operations; less where the machine is busy (%(default)s)")  # fmt: skip
    add("--peers", nargs="+", choices=list(peers.PEERS), default=list(peers.PEERS))
    add("--only", default="", help="only workloads whose name contains this")
    add("--growth", action="store_true", help="only the growth curves, with 100,000 dependents")
    add("--processes", type=int, default=3, help="of mixed traffic; 0 leaves it out (%(default)s)")
    add("--seconds", type=float, default=2.0, help="of each round of traffic (%(default)s)")
    add("--environments", type=Path, default=None, help="where the environments of the peers are")
    add("--django", default="django>=5.2,<5.3", help="what pip shall install (%(default)s)")
    add("--json", type=Path, help="write all numbers here")
    add("--picture", nargs="?", type=Path, const=peers.ROOT / "docs" / "benchmarks.svg",
        help="draw the ratios (docs/benchmarks.svg)")  # fmt: skip
    add("--page", type=Path, help="write the tables here, for docs/benchmarks.rst to include")
    return parser.parse_args()


class Bench:
    """The servers and workers of one run."""

    def __init__(self, options: argparse.Namespace, stack: contextlib.ExitStack) -> None:
        self.options, self.stack = options, stack
        where = options.environments or peers.default_folder()
        wanted = dict.fromkeys(["none", *options.peers])  # the template is made without a cache
        self.pythons = {
            name: peers.python_of(peers.PEERS[name], where, options.database, options.django)
            for name in wanted
        }
        self.folder = servers.temporary_folder()
        self.server = servers.start_valkey("--databases", "8")
        stack.enter_context(self.server)
        self.host = ""
        if options.database == "postgres":
            self.host = str(stack.enter_context(databases.start_postgres()).folder)
        self.template = self.database("template")
        with contextlib.closing(self.worker("none", self.template)) as maker:
            maker.ask("make")

    def database(self, name: str) -> str:
        return name if self.options.database == "postgres" else str(self.folder / f"{name}.sqlite3")

    def worker(self, name: str, database: str) -> driver.Remote:
        """A new process; its part of the server is the peer's own."""
        number = list(peers.PEERS).index(name)
        return driver.Remote(
            peers.PEERS[name], self.pythons[name], self.folder,
            redis=f"{self.server.url}?db={number}", database=self.options.database,
            database_name=database, database_host=self.host,
        )  # fmt: skip

    def alone(self) -> dict[str, driver.Remote]:
        """One worker for each peer, each with a database of its own, in memory for SQLite."""
        found = {}
        for name in self.options.peers:
            own = self.database(f"own_{name}") if self.host else ":memory:"
            worker = found[name] = self.stack.enter_context(
                contextlib.closing(self.worker(name, own))
            )
            worker.ask("copy", template=self.template)
        return found

    def crowds(self) -> dict[str, list[driver.Remote]]:
        """Several workers for each peer on one database."""
        found: dict[str, list[driver.Remote]] = {}
        for name in self.options.peers:
            shared = self.database(f"mixed_{name}")
            found[name] = [
                self.stack.enter_context(contextlib.closing(self.worker(name, shared)))
                for _ in range(self.options.processes)
            ]
            found[name][0].ask("copy", template=self.template)
        return found


def main() -> int:
    """Run what was asked for; 1 if one of our own workloads was not what it says."""
    options = arguments()
    if options.quick:
        return quick.main()
    with contextlib.ExitStack() as stack:
        bench = Bench(options, stack)
        result = run(bench, options)
    print(f"{time.monotonic() - BEGAN:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    if options.page:
        options.page.write_text(page.write(result))
    if options.picture:
        options.picture.write_text(picture.draw(result))
    return int(any(peers.OURS in one["refused"] for one in result["workloads"].values()))


def run(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything and print it as it comes; all numbers."""
    workers = bench.alone()
    about = {name: worker.ask("hello") for name, worker in workers.items()}
    first = next(iter(about.values()))
    versions = {name: v for one in about.values() for name, v in one["versions"].items()}
    spelt = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    print(f"{options.database}, Python {sys.version.split()[0]}, {spelt}\n", flush=True)

    names = [] if options.growth else first["table"]
    points = {
        name: int(point)
        for what in first["curves"].values()
        for point, name in what["points"].items()
        if options.growth or int(point) < 100_000
    }
    found: dict[str, driver.Measured] = {}
    for name in dict.fromkeys([*names, *points]):
        if options.only in name:
            show(name)
            found[name] = driver.measure(
                workers, name, options.rounds, options.times, options.quantile
            )
    show("")
    titled = {name: one for name, one in found.items() if name in first["table"]}
    if titled:
        report.workloads(titled, options.peers)
    report.curves(found, first["curves"], [name for name in options.peers if name != "none"])

    sizes: dict[str, dict[str, float]] = {}
    traffic: dict[str, dict[str, float]] = {}
    if not options.growth and not options.only:
        for name in first["sizes"]:
            answers = {peer: worker.ask("bytes", name=name) for peer, worker in workers.items()}
            sizes[name] = {p: one["bytes"] for p, one in answers.items() if "bytes" in one}
        report.sizes(sizes, [name for name in options.peers if name != "none"])
    if options.processes and not options.growth and options.only in "mixed":
        for worker in workers.values():
            worker.close()
        show("mixed traffic")
        told = driver.mixed(bench.crowds(), max(1, options.rounds // 2), options.seconds)
        traffic = {peer: driver.middle(rounds) for peer, rounds in told.items()}
        show("")
        report.traffic(traffic, options.processes)
    return {
        "versions": versions,
        "python": sys.version.split()[0],
        "quantile": options.quantile,
        "database": options.database,
        "workloads": {
            name: {
                "us": {peer: one.median(peer) for peer in options.peers},
                "ratio": {peer: one.ratio(peer, peers.BASELINE) for peer in options.peers},
                "refused": one.refused,
            }
            for name, one in found.items()
        },
        "table": list(titled),
        "curves": first["curves"],
        "bytes": sizes,
        "mixed": traffic,
    }


def show(name: str) -> None:
    """What is being measured, for those who wait."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{name}", end="", file=sys.stderr, flush=True)
    elif name:
        print(f"{time.monotonic() - BEGAN:4.0f} s  {name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
