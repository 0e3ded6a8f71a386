"""Django's own tests, out of its source distribution on PyPI, for the version that is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import django


def tests_folder(cache: Path) -> Path:
    """The folder of Django's tests below ``cache``; fetched at most once for a version.

    Raises ``SystemExit`` with what to do if the archive is neither there nor to be had.
    """
    version = django.get_version()
    folder = cache / f"django-{version}" / "tests"
    if (folder / "runtests.py").exists():
        return folder
    archive = cache / f"django-{version}.tar.gz"
    if not archive.exists():
        _download(version, cache)
    if not archive.exists():
        raise SystemExit(f"pip did not leave {archive.name} in {cache}; put it there yourself.")
    _extract(archive, folder)
    return folder


def _download(version: str, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    options = ["--no-binary", ":all:", "--no-deps", f"django=={version}", "--dest", str(cache)]
    result = subprocess.run(
        [*pip(), "download", *options], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise SystemExit(f"Django's sources were not to be had:\n{result.stdout}{result.stderr}")


def pip() -> list[str]:
    """pip for this interpreter: its own, or any other one told to work for it."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found, "--python", sys.executable]
    raise SystemExit("There is no pip to fetch Django's sources with.")


def _extract(archive: Path, folder: Path) -> None:
    unfinished = folder.with_name("unfinished")
    prefix = f"{folder.parent.name}/tests/"
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.name.startswith(prefix)]
        tar.extractall(unfinished, members=members, filter="data")
    (unfinished / prefix).rename(folder)
    shutil.rmtree(unfinished)
