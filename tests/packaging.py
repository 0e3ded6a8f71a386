"""The package as it is published: ``python -m tests.packaging FOLDER`` looks into what was built.

The wheel must be complete and hold nothing else; it is installed where nothing is, and the tests of
the sdist run against it, away from the sources. Ends with 1 and the reason if something is wrong.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]

#: What is run against the installed package: imports, scripts, commands, each room once.
TESTS = [
    "tests/test_package.py",
    "tests/test_matrix.py",
    "tests/test_store_contract.py",
    "tests/test_explain.py",
    "tests/test_templates.py",
    "tests/acceptance/test_reads.py",
]


class Wrong(Exception):
    """What was built is not as it should be."""


def wanted() -> set[str]:
    """The files of the package in the sources."""
    package = ROOT / "cacheops_lite"
    return {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def look_into_wheel(wheel: Path) -> None:
    """Every file of the package, and nothing beside it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    ours = {name for name in names if ".dist-info/" not in name}
    if missing := wanted() - ours:
        raise Wrong(f"the wheel lacks {sorted(missing)}")
    if strays := ours - wanted():
        raise Wrong(f"the wheel has {sorted(strays)} too many")
    if not {"cacheops_lite/py.typed", "cacheops_lite/stores/lua/mark.lua"} <= ours:
        raise Wrong("py.typed or the scripts are not in the wheel")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in project["optional-dependencies"]:
        if f"Provides-Extra: {extra}" not in text:
            raise Wrong(f"the wheel does not offer the extra {extra}")


def look_into_sdist(sdist: Path, folder: Path) -> Path:
    """Unpack it; it must have what one needs to test and to document. The sources are taken out."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    needed = (
        "pyproject.toml README.rst LICENSE CHANGELOG.rst CONTRIBUTING.rst SECURITY.rst Makefile "
        "noxfile.py settings_example.py tests/conftest.py docs/index.rst examples/shop/models.py "
        ".ci/run .github/workflows/ci.yml .pre-commit-config.yaml"
    ).split()
    if missing := [name for name in needed if not (top / name).exists()]:
        raise Wrong(f"the sdist lacks {missing}")
    made = {PurePosixPath(p.relative_to(top)) for p in top.rglob("*") if "_build" in p.parts}
    if made:
        raise Wrong(f"the sdist has what was made: {sorted(map(str, made))[:3]}")
    shutil.rmtree(top / "cacheops_lite")
    return top


def run(command: list[str | Path], folder: Path) -> None:
    """A command that must succeed, without our sources on the path."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DJANGO"))}
    done = subprocess.run(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    sys.stdout.write(done.stdout[-2000:])
    if done.returncode:
        raise Wrong(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def try_installed(wheel: Path, sources: Path, folder: Path) -> None:
    """Install the wheel into an empty environment, import it, then run tests against it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run([python, "-m", "pip", "install", "-qq", "--upgrade", "pip>=25.1"], sources)
    run([python, "-m", "pip", "install", "-qq", str(wheel)], sources)
    run([python, "-W", "error", "-c", "import cacheops_lite; print(cacheops_lite.__version__)"],
        folder)  # fmt: skip
    run([python, "-m", "pip", "check"], sources)
    run([python, "-m", "pip", "install", "-qq", "--group", "test"], sources)
    run(
        [python, "-c", "import cacheops_lite; assert 'site-packages' in cacheops_lite.__file__"],
        sources,
    )
    run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS], sources)


def main(folder: Path) -> int:
    """Look at everything; the exit code."""
    try:
        (wheel,) = folder.glob("*.whl")
        (sdist,) = folder.glob("*.tar.gz")
        look_into_wheel(wheel)
        with tempfile.TemporaryDirectory() as away:
            (Path(away) / "sdist").mkdir()
            sources = look_into_sdist(sdist, Path(away) / "sdist")
            try_installed(wheel, sources, Path(away) / "environment")
    except Wrong as wrong:
        print(f"WRONG: {wrong}")
        return 1
    print(f"{wheel.name} and {sdist.name} are complete and work")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
