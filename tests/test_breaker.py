"""The circuit breaker as users meet it: settings, one line per change, a signal, the check."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from cacheops_lite import conf, engine, signals
from cacheops_lite.stores.breaker import Breaker
from cacheops_lite.stores.client import make_client
from tests import models as m
from tests import servers

from .acceptance.tools import MANUAL, listening, messages, post

#: Before 5.1 redis-py does not close a unix socket that could not be connected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LOST = re.compile(r"Redis does not answer, .* asked again in \d+\.\d s: .*Error")
FOUND = re.compile(r"Redis answers again, after \d+\.\d s")


@pytest.fixture
def server(settings: Any) -> Iterator[servers.KeyValueServer]:
    made = servers.start_valkey()
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_REDIS = made.url
    yield made
    made.stop()


@pytest.mark.django_db(transaction=True)
def test_each_change_is_one_line_and_one_signal(
    settings: Any, server: servers.KeyValueServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Losing Redis and finding it again are told once each, however many reads there were."""
    settings.CACHEOPS_BREAKER = {"pause": 0.05, "ceiling": 0.05}
    post()
    list(m.Post.objects.cache())
    folder = server.folder
    caplog.set_level(logging.INFO, "cacheops_lite")
    with listening(signals.cache_reachable) as heard:
        server.stop()
        for _ in range(5):
            list(m.Post.objects.cache())
            time.sleep(0.06)
        with servers.start_valkey(folder=folder):
            deadline = time.monotonic() + 20
            while engine.current().breaker.open and time.monotonic() < deadline:
                list(m.Post.objects.cache())
                time.sleep(0.01)
            list(m.Post.objects.cache())
    assert [(one["reachable"], bool(one["reason"])) for one in heard] == [
        (False, True),
        (True, False),
    ]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert LOST.match(lines[0])
    assert FOUND.match(lines[1])


@pytest.mark.django_db(transaction=True)
def test_a_listener_that_fails_harms_nobody(server: servers.KeyValueServer) -> None:
    """An error in a receiver of ``cache_reachable`` does not reach who reads."""

    def broken(**named: Any) -> None:
        raise RuntimeError("a receiver of somebody else")

    post()
    signals.cache_reachable.connect(broken)
    try:
        server.stop()
        assert len(m.Post.objects.cache()) == 1
    finally:
        signals.cache_reachable.disconnect(broken)


def test_the_settings_reach_the_breaker(settings: Any) -> None:
    """CACHEOPS_BREAKER goes over the defaults, and all transports share the one breaker."""
    settings.CACHEOPS_BREAKER = {"failures": 3, "pause": 2}
    breaker = engine.current().breaker
    assert (breaker.failures, breaker.pause) == (3, 2)
    assert breaker.ceiling == conf.BREAKER["ceiling"]
    assert engine.current().transport.breaker is breaker


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([1], "dict"),
        ({"fails": 1}, "failures"),
        ({"failures": 0}, "whole number"),
        ({"failures": 1.5}, "whole number"),
        ({"failures": True}, "whole number"),
        ({"pause": 0}, "seconds"),
        ({"pause": "1"}, "seconds"),
        ({"ceiling": float("inf")}, "seconds"),
        ({"ceiling": 0.1}, "below the pause"),
        ({"jitter": 1}, "part of the pause"),
    ],
)
def test_settings_that_cannot_be_meant_are_errors(settings: Any, given: Any, words: str) -> None:
    """A CACHEOPS_BREAKER that cannot be meant is an error of the check and at first use."""
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_BREAKER = given
    (message,) = messages()
    assert "CACHEOPS_BREAKER" in message.msg and words in message.msg
    with pytest.raises(ImproperlyConfigured, match=words):
        conf.current()


def test_the_check_tells_why_it_is_open(settings: Any) -> None:
    """While Redis is left alone the system check says since which error."""
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_BREAKER = {"pause": 5}
    engine.current().breaker.failure("ConnectionError('its words')")
    (message,) = messages()
    assert message.id == "cacheops_lite.W002"
    assert "its words" in message.msg


class TestPolicy:
    """The breaker under a clock and a chance of its own."""

    now = 100.0

    def make(self, **options: Any) -> Breaker:
        return Breaker(monotonic=lambda: self.now, **options)

    def test_several_failures_in_a_row(self) -> None:
        """With ``failures`` it opens at the last of so many in a row; a success starts anew."""
        breaker = self.make(failures=3)
        for _ in range(2):
            breaker.failure()
            breaker.failure()
            assert breaker.allow() and not breaker.calm
            breaker.success()
            assert breaker.calm
        for _ in range(3):
            breaker.failure()
        assert breaker.open and not breaker.allow()

    def test_a_failed_probe_counts_at_once(self) -> None:
        """While it is open one failed probe is enough to go on waiting, and longer."""
        breaker = self.make(failures=3, pause=1)
        for _ in range(3):
            breaker.failure()
        self.now += 1
        assert breaker.allow()
        breaker.failure()
        self.now += 1
        assert not breaker.allow()
        self.now += 1
        assert breaker.allow()

    def test_jitter_shortens(self) -> None:
        """Chance takes away a part of each pause, and never makes one longer than the ceiling."""
        breaker = self.make(pause=10, ceiling=10, jitter=0.5, chance=lambda: 0.5)
        breaker.failure()
        self.now += 7.4
        assert not breaker.allow()
        self.now += 0.2
        assert breaker.allow()

    def test_changes_are_told_once(self) -> None:
        """``on_change`` hears of opening and closing, not of failures in between."""
        told: list[tuple[bool, str]] = []
        breaker = self.make(pause=1, on_change=lambda closed, why: told.append((closed, why)))
        breaker.success()
        breaker.failure("first")
        breaker.failure("straggler")
        self.now += 1
        assert breaker.allow()
        breaker.failure("probe")
        self.now += 2
        assert breaker.allow()
        breaker.success()
        assert told == [(False, "first"), (True, "")]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_sentinel_has_timeouts_too(asynchronous: bool) -> None:
    """Behind a Sentinel nobody waits without bound either, and nothing is repeated below us."""
    client = make_client(
        None,
        {"locations": [("127.0.0.1", 1)], "service_name": "main"},
        asynchronous=asynchronous,
    )
    options = client.connection_pool.connection_kwargs
    assert options["socket_timeout"] > 0 and options["socket_connect_timeout"] > 0
    assert options["retry"] is None
