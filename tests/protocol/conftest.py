"""A clock, a store, and processes on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cacheops_lite.stores.memory import MemoryStore

from .rig import Clock, Process

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock, server_id=b"server1")


@pytest.fixture
def make(store: MemoryStore, clock: Clock) -> Callable[..., Process]:
    return lambda **options: Process(store, clock, **options)


@pytest.fixture
def process(make: Callable[..., Process]) -> Process:
    return make()
