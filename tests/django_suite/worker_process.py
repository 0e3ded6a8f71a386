"""A part of somebody's tests in a process of its own, which leaves its outcomes in a file."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: After this a process is ended, in seconds.
MOST_SECONDS = 1800


def outcomes(
    words: Callable[[Path], list[Any]], cwd: Path, environment: dict[str, str]
) -> tuple[dict[str, Any], str]:
    """What Python, called with ``words(file)``, wrote into that file (JSON), and what it said."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        try:
            result = subprocess.run(
                [sys.executable, *map(str, words(out))], cwd=cwd, env=environment,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=MOST_SECONDS, check=False,
            )  # fmt: skip
            said = result.stdout + result.stderr
        except subprocess.TimeoutExpired:
            said = f"no end after {MOST_SECONDS} s"
        return (json.loads(out.read_text()) if out.exists() else {}), said[-3000:]
