"""Machines and proxies for each test, short times, and a checker around all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from cacheops_lite import engine

from .machines import Machine, Machines
from .processes import Processes
from .proxy import Proxy
from .world import Checker, checking, populate

PROFILES = {"*.*": {"timeout": 60}}
#: Combinations of everything with everything: minutes.
long = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("CACHEOPS_TEST_LONG"), reason="CACHEOPS_TEST_LONG=1 runs it"
    ),
]
#: Milliseconds that marks live; in tests a process that died is waited for.
MARK_TTL = 300


@pytest.fixture
def machines() -> Iterator[Machines]:
    made = Machines()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_machine() -> Iterator[Machine]:
    """One server for the tests of a module that leave it as it was."""
    made = Machine()
    yield made
    made.close()


@pytest.fixture
def machine(shared_machine: Machine) -> Machine:
    """A running server, empty, for tests that do not stop it."""
    shared_machine.command("FLUSHALL")
    return shared_machine


@pytest.fixture
def proxy(machine: Machine) -> Iterator[Proxy]:
    """A proxy in front of ``machine``."""
    made = Proxy(machine.socket)
    yield made
    made.close()


@pytest.fixture
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks of dead writers, locks of dead readers and pauses of the breaker are short."""
    monkeypatch.setattr(engine, "LOCK_TTL", 0.2)
    monkeypatch.setattr(
        engine, "CacheProtocol", partial(engine.CacheProtocol, mark_ttl_ms=MARK_TTL)
    )
    settings.CACHEOPS_BREAKER = {"pause": 0.01, "ceiling": 0.02}


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


@pytest.fixture
def checker(transactional_db: None, settings: Any, quick: None) -> Iterator[Checker]:
    """A populated database, short times, and every answer of the cache compared."""
    settings.CACHEOPS = PROFILES
    populate()
    with checking() as made:
        yield made
