"""For pytest: ``pytest_plugins = ["cacheops_lite.testing.pytest_plugin"]`` in conftest.py.

Tests run with the cache off, unless they ask for the fixture ``cacheops``, or the ini option
``cacheops`` says ``on``; then a test with the fixture ``no_cacheops`` runs without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini option."""
    parser.addini("cacheops", "whether tests cache by default: on or off", default="off")


def _on(config: pytest.Config) -> bool:
    value = str(config.getini("cacheops")).lower()
    if value not in ("on", "off"):
        raise pytest.UsageError(f"the ini option cacheops must be on or off, not {value!r}")
    return value == "on"


@pytest.fixture(scope="session", autouse=True)
def _cacheops_away_from_others() -> Iterator[None]:
    """Fixtures of wider scopes and the making of test databases use no cache."""
    from .switch import no_caching

    with no_caching():
        yield


@pytest.fixture(autouse=True)
def _cacheops_by_default(request: pytest.FixtureRequest) -> None:
    """What the ini option says."""
    if _on(request.config) and "no_cacheops" not in request.fixturenames:
        request.getfixturevalue("cacheops")


@pytest.fixture
def cacheops() -> Iterator[ModuleType]:
    """The cache is on and empty; the value is ``cacheops_lite.testing`` with its asserts."""
    from .. import testing

    with testing.caching():
        yield testing


@pytest.fixture
def no_cacheops() -> Iterator[None]:
    """The cache is off."""
    from .switch import no_caching

    with no_caching():
        yield
