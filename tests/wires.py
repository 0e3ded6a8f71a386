"""Threads that stop where a test wants them to, and a tap on the way to the store.

``Tap`` counts round trips and calls hooks at each; ``Actor`` is a thread with its own database
connection whose result or error is fetched with ``join()``; ``Gate`` stops an actor until opened.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection, connections

from cacheops_lite import engine

#: How long anything may take before a test gives up, in seconds.
PATIENCE = 20.0


class Gate:
    """A place where one actor waits."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait_here(self) -> None:
        """Stop until somebody opens; only the first who comes does."""
        if not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(PATIENCE), "nobody opened the gate"

    def wait_reached(self) -> None:
        assert self.reached.wait(PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        self.opened.set()


class Actor(threading.Thread):
    """Runs a function in a thread, with connections of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    def finish(self) -> Any:
        """Its result; raises its error."""
        self.join(PATIENCE)
        assert not self.is_alive(), "an actor hangs"
        if self.error is not None:
            raise self.error
        return self.result


def elsewhere(function: Callable[[], Any]) -> Any:
    """The result of a function run over another connection."""
    return Actor(function).finish()


class Tap:
    """Stands between the protocol and its transport."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        #: What was asked, in order: "mget", "set", "delete", or the scripts of one trip, "mark+mark".
        self.trips: list[str] = []
        #: Number of keys in each command.
        self.keys: list[int] = []
        self.hooks: list[Callable[[str], None]] = []

    @property
    def calm(self) -> Any:
        return self.transport.calm

    async def mget(self, keys: Sequence[bytes]) -> Any:
        self._note("mget", [len(keys)])
        return await self.transport.mget(keys)

    async def scripts(self, calls: Sequence[Any]) -> Any:
        self._note("+".join(call.name for call in calls), [len(call.keys) for call in calls])
        return await self.transport.scripts(calls)

    async def set(self, *args: Any, **kwargs: Any) -> Any:
        self._note("set", [1])
        return await self.transport.set(*args, **kwargs)

    async def delete(self, keys: Sequence[bytes]) -> None:
        self._note("delete", [len(keys)])
        await self.transport.delete(keys)

    async def sleep(self, seconds: float) -> None:
        await self.transport.sleep(seconds)

    def _note(self, trip: str, keys: list[int]) -> None:
        self.trips.append(trip)
        self.keys += keys
        for hook in self.hooks:
            hook(trip)


@contextmanager
def tapped() -> Iterator[Tap]:
    """A tap on this process's way to the store."""
    current = engine.current()
    tap = Tap(current.transport)
    current.__dict__["transport"] = tap
    try:
        yield tap
    finally:
        current.__dict__["transport"] = tap.transport


class Paused:
    """A function in an actor that stops at a gate, somewhere inside; left open at the end."""

    def __init__(self, function: Callable[[], Any], before: str = "", after: str = "") -> None:
        """Stop ``before`` a statement that begins so, or ``after`` one, at the next trip."""
        self.function, self.before, self.after = function, before.lower(), after.lower()
        self.gate = Gate()
        self.seen = False
        self.actor: Actor | None = None
        self.thread: threading.Thread | None = None

    def __enter__(self) -> Paused:
        self._tapped = tapped()
        tap = self._tapped.__enter__()
        tap.hooks.append(self._at_trip)
        self.actor = Actor(self._run)
        self.gate.wait_reached()
        return self

    def __exit__(self, *exc: object) -> None:
        self.gate.open()
        assert self.actor is not None
        self.actor.join(PATIENCE)
        self._tapped.__exit__(None, None, None)

    def finish(self) -> Any:
        """Open the gate and wait for the result."""
        self.gate.open()
        assert self.actor is not None
        return self.actor.finish()

    def _run(self) -> Any:
        self.thread = threading.current_thread()
        with connection.execute_wrapper(self._wrapper):
            return self.function()

    def _wrapper(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        start = sql.lstrip().lower()
        if self.before and start.startswith(self.before):
            self.gate.wait_here()
        result = execute(sql, params, many, context)
        if self.after and start.startswith(self.after):
            self.seen = True
        return result

    def _at_trip(self, trip: str) -> None:
        if self.seen and threading.current_thread() is self.thread:
            self.gate.wait_here()


def in_process(code: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, on the same databases and the same server."""
    process = start_process(code, *args)
    out, err = process.communicate(timeout=60)
    if check:
        assert process.returncode == 0, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


PRELUDE = """
import os, sys, signal, json, random, time
from django.conf import settings
for alias, name in json.loads(os.environ["CACHEOPS_TEST_NAMES"]).items():
    settings.DATABASES[alias]["NAME"] = name
import django
django.setup()
from django.db import connection, transaction, DatabaseError
from tests import models as m
from cacheops_lite import engine
"""


def start_process(code: str, *args: str) -> subprocess.Popen[str]:
    """Start code in a process of its own."""
    import json

    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "CACHEOPS_TEST_NAMES": json.dumps(names),
        },
    )
