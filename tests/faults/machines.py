"""Servers that a test may kill, freeze, restart with other data, or turn into replicas."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import servers


def missing(what: str) -> None:
    """A program or package is not there: in CI that is a failure, elsewhere a loud skip."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"NOT TESTED: {what} is missing")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Machine:
    """A Valkey server of a test's own; ``start`` is how it is made, given its folder."""

    def __init__(self, *options: str, binary: str | Path | None = None) -> None:
        self.binary = binary or servers.valkey_binary()
        self.options = options
        self.folder = servers.short_folder()
        self.frozen = False
        self.server = self._start()

    def _start(self) -> servers.KeyValueServer:
        return servers.start_redis(self.binary, *self.options, folder=self.folder)

    @property
    def socket(self) -> Path:
        return self.server.socket

    @property
    def url(self) -> str:
        return self.server.url

    @contextlib.contextmanager
    def client(self, **options: Any) -> Any:
        """A client behind the cache's back."""
        client = redis.Redis.from_url(self.url, **options)
        try:
            yield client
        finally:
            client.close()

    def command(self, *words: Any) -> Any:
        """The reply to one command."""
        with self.client() as client:
            return client.execute_command(*words)

    # -- what befalls it

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()

    def stop(self) -> None:
        self.server.stop()

    def restart(self, dump: Path | None = None) -> None:
        """Start it again: empty, or with the data of an old snapshot."""
        if dump is not None:
            self.folder.mkdir(exist_ok=True)
            shutil.copy(dump, self.folder / "dump.rdb")
        self.server = self._start()

    def snapshot(self, to: Path) -> Path:
        """Save the data now and keep a copy outside of the server's folder."""
        self.command("SAVE")
        shutil.copy(self.folder / "dump.rdb", to)
        return to

    def freeze(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)
        self.frozen = False

    def follow(self, primary: Machine | None) -> None:
        """Become a replica of another machine (which listens on ``port``), or a primary."""
        if primary is None:
            self.command("REPLICAOF", "NO", "ONE")
        else:
            self.command("REPLICAOF", "127.0.0.1", primary.port)

    @property
    def port(self) -> int:
        return int(self.options[self.options.index("--port") + 1])

    def close(self) -> None:
        if self.frozen:
            self.thaw()
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Machines:
    """Makes machines and ends them all."""

    def __init__(self) -> None:
        self.made: list[Machine] = []

    def __call__(self, *options: str, binary: str | Path | None = None) -> Machine:
        machine = Machine(*options, binary=binary)
        self.made.append(machine)
        return machine

    def close(self) -> None:
        for machine in self.made:
            machine.close()


def until(ready: Callable[[], Any], what: str = "it", seconds: float = 30) -> Any:
    """Wait until something is true; what a test waits for has no time of its own."""
    import time

    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if found := ready():
                return found
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.01)
