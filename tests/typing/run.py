"""Run mypy on users' code and compare what it says with what the lines say: ``make types``.

``users.py`` is read with our plugin, ``without_plugin.py`` with it and without. Exit code 1 and the differences if it says something else.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROJECT = HERE.parent / "documented" / "project"

CONFIGURATION = """
[mypy]
strict = true
plugins = {plugins}
mypy_path = {project}:{root}
show_error_codes = false
[mypy.plugins.django-stubs]
django_settings_module = settings
[mypy-redis.*]
ignore_missing_imports = true
"""


OURS = "cacheops_lite.contrib.mypy_plugin"
DJANGOS = "mypy_django_plugin.main"

#: What is read under which plugins.
READ = (
    ("users.py", f"{OURS}, {DJANGOS}"),
    ("without_plugin.py", DJANGOS),
    ("without_plugin.py", f"{OURS}, {DJANGOS}"),
)


def said_by_mypy(path: Path, plugins: str) -> dict[int, list[str]]:
    """What mypy says of each line, without the packages of names."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "mypy.ini"
        configuration.write_text(CONFIGURATION.format(project=PROJECT, root=ROOT, plugins=plugins))
        command = [sys.executable, "-m", "mypy", "--config-file", str(configuration)]
        cache = ["--cache-dir", os.environ.get("MYPY_CACHE_DIR", str(ROOT / ".mypy_cache/users"))]
        done = subprocess.run(
            [*command, *cache, str(path)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{PROJECT}:{ROOT}"},
            capture_output=True,
            text=True,
        )
    found: dict[int, list[str]] = {}
    for line in done.stdout.splitlines():
        match = re.match(rf".*{re.escape(path.name)}:(\d+): (error|note): (.*)", line)
        if '" defined here' in line or '" defined in "' in line:
            continue  # where the called one stands: said by some versions
        if match:
            found.setdefault(int(match[1]), []).append(plain(f"{match[2]}: {match[3]}"))
        elif not line.startswith(("Found ", "Success")):
            found.setdefault(0, []).append(line)
    if done.returncode not in (0, 1):
        found.setdefault(0, []).append(done.stderr)
    return found


def plain(text: str) -> str:
    """``a.b.QuerySet[c.d.Post]`` -> ``QuerySet[Post]``; revealed types as comments say them."""
    text = re.sub(r"\b(?:[a-z_]\w*\.)+([A-Za-z_]\w*)", r"\1", text)
    text = re.sub(r"\bUnion\[([^\[\]]+), None\]", r"\1 | None", text)  # so said before mypy 1.18
    return re.sub(r'note: Revealed type is "(.*)"', r"is \1", text)


def differences(path: Path, plugins: str) -> Iterator[str]:
    """Where mypy and the comments do not agree."""
    said = said_by_mypy(path, plugins)
    yield from said.pop(0, [])
    for number, line in enumerate(path.read_text().splitlines(), 1):
        comment = re.search(r"  # ((?:is|error:) .*)", line)
        heard = said.get(number, [])
        if comment is None and heard:
            yield f"{number}: {line.strip()}\n    nothing expected, mypy says: {heard}"
        elif comment is not None and not any(agrees(comment[1], one) for one in heard):
            yield f"{number}: {line.strip()}\n    mypy says: {heard or 'nothing'}"


def agrees(wanted: str, heard: str) -> bool:
    """A type exactly, a message in part."""
    if wanted.startswith("is "):
        return heard == wanted
    return heard.startswith("error: ") and wanted.removeprefix("error: ") in heard


def main() -> int:
    """Compare; the exit code."""
    wrong = False
    for name, plugins in READ:
        found = list(differences(HERE / name, plugins))
        print("\n".join(found) or f"mypy reads {name} as it is meant ({plugins})")
        wrong = wrong or bool(found)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
