"""Several processes' caches in one test: each an engine with its own sockets, memo and debts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.db import connections

from cacheops_lite import conf, engine
from tests.wires import PRELUDE


class Processes:
    """Engines by name; what one remembers the others do not know."""

    def __init__(self) -> None:
        self._engines: dict[str, engine.Engine] = {}

    def start(self, name: str, url: Any, **settings: Any) -> engine.Engine:
        """A process whose server is at ``url``; one of the same name ends."""
        self.end(name)
        made = engine.Engine(replace(conf.current(), **{"redis": url, **settings}))
        self._engines[name] = made
        return made

    def names(self) -> list[str]:
        return list(self._engines)

    def end(self, name: str) -> None:
        """The process ends; what it still owed is forgotten with it."""
        if old := self._engines.pop(name, None):
            old.close()

    @contextmanager
    def on(self, name: str) -> Iterator[engine.Engine]:
        """Be this process for a while."""
        conf.current()
        before, engine._engine = engine._engine, self._engines[name]
        try:
            yield self._engines[name]
        finally:
            engine._engine = before

    def close(self) -> None:
        for name in list(self._engines):
            self.end(name)


class Companion:
    """A program of its own on the test's databases, which takes and gives lines of JSON.

    Its code sees ``hear()`` and ``say(value)``, and what ``tests.wires.PRELUDE`` names.
    """

    PRELUDE = """
def say(value):
    print(json.dumps(value), flush=True)
def hear():
    line = sys.stdin.readline()
    return json.loads(line) if line else None
"""

    def __init__(self, code: str, *args: str, first: str = "", **environment: str) -> None:
        names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            [sys.executable, "-c", first + PRELUDE + self.PRELUDE + code, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "CACHEOPS_TEST_NAMES": json.dumps(names),
                **environment,
            },
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, value: Any) -> None:
        """Send a value; do not wait."""
        assert self.process.stdin is not None
        print(json.dumps(value), file=self.process.stdin, flush=True)

    def hear(self) -> Any:
        """Wait for a value. A program that has ended fails the test with what it complained of."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(30)
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.errors()}")
        return json.loads(line)

    def ask(self, value: Any) -> Any:
        """Send a value, wait for the answer."""
        self.tell(value)
        return self.hear()

    def errors(self) -> str:
        """What it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read()[-5000:]

    def finish(self) -> None:
        """Let it end by itself; anything but a clean exit fails the test."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(60)
        assert code == 0, f"it ended with {code}:\n{self.errors()}"
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Companion:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
