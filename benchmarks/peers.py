"""Who is measured, and the virtual environment of each, made from PyPI once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

#: What every environment has: one Django, one client with its parser in C.
COMMON = ["redis[hiredis]>=5"]
DATABASES = {"sqlite": [], "postgres": ["psycopg[binary]>=3.2"]}


class Peer(NamedTuple):
    """A way of caching: its name in tables, its environment, what that holds."""

    name: str
    title: str
    environment: str
    requirements: tuple[str, ...] = ()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("none", "no cache", "none"),
        Peer("cacheops", "django-cacheops 7.2", "cacheops", ("django-cacheops==7.2",)),
        Peer("insideout", "7.2 insideout", "cacheops", ("django-cacheops==7.2",)),
        Peer("cachalot", "django-cachalot", "cachalot", ("django-cachalot",)),
        Peer("ours", "cacheops_lite", "ours", ("--editable", str(ROOT))),
    )
}
BASELINE = "cacheops"
OURS = "ours"


def default_folder() -> Path:
    """Below the environment that runs this, else a folder of this user for temporary things."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "bench"
    return Path(tempfile.gettempdir()) / f"cacheops-lite-bench-{os.getuid()}"


def python_of(peer: Peer, folder: Path, database: str, django: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there.

    Raises ``RuntimeError`` with what pip said.
    """
    wanted = [django, *COMMON, *DATABASES["postgres"], *peer.requirements]
    if database != "postgres":
        wanted.remove(*DATABASES["postgres"])
    place = folder / peer.environment
    python = place / "bin" / "python"
    stamp = place / "installed"
    text = "\n".join([sys.version, *wanted, _dependencies(peer)])
    if stamp.exists() and set(text.splitlines()) <= set(stamp.read_text().splitlines()):
        return python
    print(f"Making the environment of {peer.environment} (once)", file=sys.stderr)
    _run([sys.executable, "-m", "venv", "--clear", str(place)])
    quiet = ["install", "-qq", "--disable-pip-version-check"]
    _run([str(python), "-m", "pip", *quiet, *wanted])
    stamp.write_text(text)
    return python


def _dependencies(peer: Peer) -> str:
    """What makes our own environment new: changed metadata of the package."""
    if peer.name != OURS:
        return ""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
