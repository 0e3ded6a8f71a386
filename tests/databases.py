"""Private PostgreSQL and MariaDB servers, from the system's binaries, without durability.

Both refuse to run as root: then they, and what prepares their folders, run as another user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .servers import Server, ServerFailed, drop_to, short_folder


class DatabaseServer(Server):
    """PostgreSQL or MariaDB; ``settings`` is a value for Django's DATABASES."""

    settings: dict[str, Any]


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
            "-c", "max_prepared_transactions=4",
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
