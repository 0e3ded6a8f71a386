"""The package as a stranger meets it: imported, asked for its names and its version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import cacheops_lite

ROOT = Path(__file__).resolve().parents[1]


def python(code: str) -> str:
    """Run code in a fresh interpreter without Django settings; return what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_needs_no_settings() -> None:
    """``import cacheops_lite`` works without settings, and loads neither Django nor redis."""
    loaded = python(
        "import sys, cacheops_lite; dir(cacheops_lite); cacheops_lite.__version__;"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'django', 'redis'}))"
    )
    assert loaded == "[]"


def test_exceptions_are_there_without_settings() -> None:
    """What users catch can be imported anywhere, before Django is set up."""
    assert python(
        "from cacheops_lite import CacheopsError, InvalidationRefused, StoreUnavailable;"
        "print(issubclass(StoreUnavailable, CacheopsError))"
    ) == "True"  # fmt: skip


@pytest.mark.parametrize(
    "name", [n for n in cacheops_lite.__all__ if n not in ("VERSION", "__version__")]
)
def test_public_names_load_when_used(name: str) -> None:
    """Every name that the package promises is there, once Django is set up."""
    assert getattr(cacheops_lite, name) is not None
    assert name in dir(cacheops_lite)


def test_names_are_spelt_out() -> None:
    """Type checkers read ``__all__`` and the imports for them; both have every name."""
    homes = set(cacheops_lite._HOMES)
    assert set(cacheops_lite.__all__) == homes | {"VERSION", "__version__"}
    source = Path(str(cacheops_lite.__file__)).read_text()
    typing = source[source.index("if TYPE_CHECKING") : source.index("def __getattr__")]
    assert [name for name in sorted(homes) if not re.search(rf"\b{name}\b", typing)] == []


def test_unknown_names_are_refused() -> None:
    """A misspelt import fails at once, with the usual error."""
    with pytest.raises(AttributeError, match="cached_sa"):
        cacheops_lite.cached_sa  # noqa: B018


def test_the_version_is_written_once() -> None:
    """The build takes the version from the package, and the changelog knows it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "cacheops_lite/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev|post)\d+)?", cacheops_lite.__version__)
    assert f"\n{cacheops_lite.__version__}" in (ROOT / "CHANGELOG.rst").read_text()


def test_hooks_read_our_rules() -> None:
    """The ruff of the hooks is the oldest that ``make lint`` takes: it knows every rule we name."""
    config = ROOT / ".pre-commit-config.yaml"
    if not config.exists():
        pytest.skip("the sdist has no hooks")
    hooked = re.search(r"ruff-pre-commit\s+rev: v([\d.]+)", config.read_text())
    assert hooked
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert groups["lint"] == [f"ruff>={hooked[1]}"]


def test_data_files_are_beside_the_code() -> None:
    """The scripts and the typing marker are part of the package wherever it is installed."""
    spec = find_spec("cacheops_lite")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    assert (package / "py.typed").is_file()
    assert {path.stem for path in (package / "stores" / "lua").glob("*.lua")} >= {
        "ensure",
        "mark",
        "bump",
    }
