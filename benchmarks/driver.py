"""Workers of all peers, asked in turn: short rounds, first to last and last to first."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .peers import ROOT, Peer


class WorkerFailed(RuntimeError):
    """A worker ended, or could not do what it was asked."""


class Remote:
    """A worker process of one peer."""

    def __init__(self, peer: Peer, python: Path, folder: Path, **variables: str) -> None:
        self.peer = peer
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BENCH_PEER": peer.name,
            **{f"BENCH_{name.upper()}": value for name, value in variables.items()},
        }
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder,
        )  # fmt: skip

    def tell(self, do: str, **options: Any) -> None:
        """Send a command without waiting for its answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The answer to the oldest command. Raises ``WorkerFailed``."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"the worker of {self.peer.title} ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self.peer.title}: {answer['error']}")
        return answer

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self.tell(do, **options)
        return self.hear()

    def close(self) -> None:
        """End the process. Repeating it does nothing."""
        assert self._process.stdin
        if self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Measured:
    """What one workload took for each peer: the medians of its rounds in µs, or why not."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[float]] = {}
        self.refused: dict[str, str] = {}

    def median(self, peer: str) -> float | None:
        """µs; ``None`` if the peer was not measured."""
        return statistics.median(self.rounds[peer]) if self.usable(peer) else None

    def ratio(self, peer: str, to: str) -> float | None:
        """The median of the ratios of the rounds, which ran side by side."""
        if not self.usable(peer) or not self.usable(to):
            return None
        pairs = zip(self.rounds[peer], self.rounds[to], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def usable(self, peer: str) -> bool:
        return bool(self.rounds.get(peer)) and peer not in self.refused


def measure(
    workers: Mapping[str, Remote], name: str, rounds: int, times: int, quantile: float = 0.5
) -> Measured:
    """One workload on all peers: of each round the median or another ``quantile``.

    What a peer cannot do or did wrong is not timed further.
    """
    found = Measured()
    active = []
    for worker in workers.values():
        worker.tell("prepare", name=name)
    for peer, worker in workers.items():
        try:
            if not worker.hear().get("skip"):
                active.append(peer)
        except WorkerFailed as error:
            found.refused[peer] = last_line(error)
    for turn in range(rounds + 1):
        for peer in active if turn % 2 else active[::-1]:
            if peer in found.refused:
                continue
            try:
                answer = workers[peer].ask("round", times=times)
            except WorkerFailed as error:
                found.refused[peer] = last_line(error)
                continue
            if answer["wrong"]:
                found.refused[peer] = answer["wrong"]
            elif turn:  # the first round only warms up
                found.rounds.setdefault(peer, []).append(percentile(sorted(answer["us"]), quantile))
    return found


def last_line(error: Exception) -> str:
    """What an error says in short; all of it goes to stderr."""
    print(error, file=sys.stderr)
    return str(error).strip().splitlines()[-1]


def mixed(
    crowds: Mapping[str, list[Remote]], rounds: int, seconds: float
) -> dict[str, list[dict[str, Any]]]:
    """Rounds of traffic, one crowd of workers after the other."""
    found: dict[str, list[dict[str, Any]]] = {peer: [] for peer in crowds}
    for turn in range(rounds):
        for peer in list(crowds) if turn % 2 else list(crowds)[::-1]:
            start = time.time() + 0.1
            for number, worker in enumerate(crowds[peer]):
                worker.tell(
                    "mixed", seconds=seconds, start=start, seed=turn * 100 + number,
                    warm=seconds / 2,
                )  # fmt: skip
            answers = [worker.hear() for worker in crowds[peer]]
            reads = sorted(us for answer in answers for us in answer["reads"])
            writes = sorted(us for answer in answers for us in answer["writes"])
            found[peer].append(
                {
                    "ops": (len(reads) + len(writes)) / seconds,
                    "hit_rate": sum(answer["hits"] for answer in answers) / max(len(reads), 1),
                    "errors": sum(answer["errors"] for answer in answers),
                    "p50": percentile(reads, 0.5),
                    "p99": percentile(reads, 0.99),
                    "write_p50": percentile(writes, 0.5),
                    "write_p99": percentile(writes, 0.99),
                }
            )
    return found


def percentile(values: Sequence[float], part: float) -> float:
    """Of sorted values; 0 if there are none."""
    return float(values[min(int(len(values) * part), len(values) - 1)]) if values else 0.0


def middle(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """The median of each number over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
