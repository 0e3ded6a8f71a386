"""CACHEOPS_RESTARTS_KEEP_DATA: what another run of the server left behind is trusted, or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cacheops_lite import cached, engine, invalidate_model
from tests import models as m
from tests import servers
from tests.watching import hits

from .acceptance.tools import MANUAL

pytestmark = pytest.mark.django_db(transaction=True)

Restart = Callable[[], None]


@pytest.fixture
def restart(settings: Any, tmp_path: Path) -> Iterator[Restart]:
    """Kill the server and start it with the data that it had acknowledged."""
    running: list[servers.KeyValueServer] = []
    folder = servers.short_folder()

    def start() -> None:
        for old in running:
            old.stop()
        running[:] = [
            servers.start_valkey(
                "--dir", str(tmp_path), "--appendonly", "yes", "--appendfsync", "always",
                folder=folder,
            )
        ]  # fmt: skip

    start()
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_REDIS = running[0].url
    settings.CACHEOPS_BREAKER = {"pause": 0.01, "ceiling": 0.01}
    yield start
    running[0].stop()


def read() -> tuple[list[str], bool]:
    """The names of tags, and whether that was a hit."""
    with hits() as seen:
        found = sorted(tag.name for tag in m.Tag.objects.cache())
    return found, seen == [True]


def prime() -> None:
    while not read()[1]:
        pass


@pytest.mark.parametrize("keep", [False, True])
def test_what_was_cached_before_a_restart(settings: Any, restart: Restart, keep: bool) -> None:
    """By default a restart makes everything a miss; with the promise kept data are answered."""
    settings.CACHEOPS_RESTARTS_KEEP_DATA = keep
    m.Tag.objects.create(name="a")
    prime()
    restart()
    assert read() == (["a"], keep)
    prime()


@pytest.mark.parametrize("keep", [False, True])
def test_what_was_dropped_before_a_restart(settings: Any, restart: Restart, keep: bool) -> None:
    """What had been invalidated before the restart is invalid after it, and writes go on dropping."""
    settings.CACHEOPS_RESTARTS_KEEP_DATA = keep
    m.Tag.objects.create(name="a")
    prime()
    m.Tag.objects.create(name="b")
    restart()
    assert read() == (["a", "b"], False)
    prime()
    m.Tag.objects.create(name="c")
    assert read() == (["a", "b", "c"], False)
    prime()
    invalidate_model(m.Tag)
    assert read() == (["a", "b", "c"], False)


def test_the_promise_can_be_made_and_taken_back(settings: Any, restart: Restart) -> None:
    """Each way to see the setting distrusts what was cached under the other, and is never stale."""
    for turn, keep in enumerate([False, True, False, True]):
        settings.CACHEOPS_RESTARTS_KEEP_DATA = keep
        assert read() == ([str(number) for number in range(turn)], False)
        prime()
        m.Tag.objects.create(name=str(turn))


def test_async_transports_promise_the_same(settings: Any, restart: Restart) -> None:
    """Cached async functions share what the sync ones have cached under the promise."""
    settings.CACHEOPS_RESTARTS_KEEP_DATA = True
    ran: list[int] = []

    @cached(timeout=60)
    async def answer() -> int:
        ran.append(1)
        return 42

    async def ask() -> int:
        found = await answer()
        await engine.current().aclose()
        return found

    assert asyncio.run(ask()) == 42
    restart()
    assert asyncio.run(ask()) == 42
    assert ran == [1]
