"""One peer in a process of its own: a JSON object on each line of stdin, one on each of stdout.

``python -m benchmarks.worker`` with the variables that ``app/settings.py`` reads.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from typing import Any

import django

#: A round ends after so many ns, though not before so many operations.
ROUND = 50_000_000
LEAST = 3
#: Operations before each round that are not timed.
WARM = 10


class Worker:
    """Answers commands; keeps the workload that is being measured."""

    def __init__(self) -> None:
        self.name = ""
        self.case: Any = None
        self.turn = 0

    def hello(self) -> dict[str, Any]:
        """Who this is and what it can run."""
        from . import catalogue, dialects

        return {
            "versions": dialects.versions(),
            "table": list(catalogue.TABLE),
            "sizes": list(catalogue.SIZES),
            "curves": {
                curve: {
                    "unit": unit,
                    "points": {point: catalogue.name_of(curve, point) for point in points},
                }
                for curve, (unit, points) in catalogue.CURVES.items()
            },
        }

    def make(self) -> dict[str, Any]:
        """Fill the template of the database."""
        from .app import place

        place.make()
        return {}

    def copy(self, template: str) -> dict[str, Any]:
        """Take the template's rows over."""
        from .app import place

        place.copy(template)
        return {}

    def prepare(self, name: str) -> dict[str, Any]:
        """Make a workload ready; ``skip`` if this peer has no such thing."""
        from . import catalogue
        from .watch import Keys

        self.case = None
        gc.unfreeze()
        Keys().clear()
        self.name, self.turn = name, 0
        self.case = catalogue.find(name)()
        if self.case is None:
            return {"skip": True}
        if self.case.kind == "hit":
            for _ in range(3):
                for run in self.case.runs:
                    run()
        gc.collect()
        gc.freeze()  # so that collecting before each round takes no time
        return {}

    def round(self, times: int) -> dict[str, Any]:
        """Time some operations: ``us`` of each, and ``wrong`` if they were not what they say."""
        gc.collect()
        self.case.before()
        if self.case.kind == "drop":
            return self._drops(min(times, self.case.most))
        return self._ops(min(times, self.case.most))

    def _ops(self, times: int) -> dict[str, Any]:
        from . import dialects, watch

        case, runs = self.case, self.case.runs
        hit = case.kind == "hit" and dialects.CACHES
        taken: list[float] = []
        wrong = done = 0
        clock = time.perf_counter_ns
        start = 0 if case.kind == "miss" else self.turn
        for run in () if case.kind == "miss" else runs[:WARM]:
            run()  # other peers had the processor's caches
        until = clock() + ROUND
        with watch.queries() as asked:
            for done in range(times):
                run = runs[(start + done) % len(runs)]
                before = asked.count
                began = clock()
                run()
                ended = clock()
                taken.append((ended - began) / 1000)
                wrong += (asked.count != before) if hit else (asked.count == before)
                if ended > until and done + 1 >= LEAST:
                    break
            self.turn = start + done + 1
            if wrong:
                what = "hits asked" if hit else "operations did not ask"
                return {"us": taken, "wrong": f"{wrong} of {done + 1} {what} the database"}
            if case.kind == "miss" and dialects.CACHES:
                before = asked.count
                for run in runs[: done + 1]:
                    run()
                if asked.count != before:
                    return {"us": taken, "wrong": "what was missed is not a hit the second time"}
        return {"us": taken, "wrong": ""}

    def _drops(self, times: int) -> dict[str, Any]:
        from . import watch

        drop, depends = self.case.runs
        taken: list[float] = []
        for _ in range(times):
            self.case.between()
            with watch.queries() as asked:
                depends()
                if asked.count:
                    return {"us": taken, "wrong": "the dependent was not cached"}
            began = time.perf_counter_ns()
            drop()
            taken.append((time.perf_counter_ns() - began) / 1000)
            with watch.queries() as asked:
                depends()
                if not asked.count:
                    return {"us": taken, "wrong": "the dependent was not dropped"}
        return {"us": taken, "wrong": ""}

    def bytes(self, name: str) -> dict[str, Any]:
        """How many bytes a cached result takes in the server, everything divided by results."""
        from . import catalogue, dialects, watch

        keys = watch.Keys()
        runs = catalogue.SIZES[name]()
        keys.clear()  # choosing what to ask for has asked, too
        for run in runs:
            run()
        with watch.queries() as asked:
            for run in runs:
                run()
        if asked.count or not dialects.CACHES:
            return {"skip": True}
        return {"bytes": keys.size() / len(runs)}

    def mixed(self, **options: Any) -> dict[str, Any]:
        """Read and write what many read and write."""
        from . import mixed

        return mixed.run(**options)


def main() -> None:
    """Serve until stdin closes."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.app.settings"
    django.setup()
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception:
            answer = {"error": traceback.format_exc()}
        out.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
