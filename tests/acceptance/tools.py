"""Counting what a read or a write costs, and looking at what is in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from django.core import checks
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from redis.connection import AbstractConnection

from tests import models as m
from tests.watching import hits

#: ``transaction.savepoint``, as Django 6.1 calls it.
savepoint = getattr(transaction, "savepoint_create", None) or transaction.savepoint

#: Everything is cached without being asked.
ALL = {"*.*": {"ops": "all", "timeout": 60}}
#: Everything is cached where the code asks for it.
MANUAL = {"*.*": {"timeout": 60}}


class Costs:
    """What a block cost: statements sent to the database, round trips and commands to Redis."""

    def __init__(self) -> None:
        self.sql: list[str] = []
        self.trips = 0
        self.sent: list[str] = []
        #: Whether each cached read was a hit.
        self.hits: list[bool] = []

    @property
    def commands(self) -> Counter[str]:
        return Counter(self.sent)

    def __repr__(self) -> str:
        return f"sql={self.sql} trips={self.trips} sent={self.sent} hits={self.hits}"


def commands_in(data: bytes) -> list[str]:
    """The names of the commands in what goes to a server, as Redis' protocol spells them."""
    found, position = [], 0
    while position < len(data):
        end = data.index(b"\r\n", position)
        words, position = int(data[position + 1 : end]), end + 2
        for index in range(words):
            end = data.index(b"\r\n", position)
            size = int(data[position + 1 : end])
            if index == 0:
                found.append(data[end + 2 : end + 2 + size].decode())
            position = end + 2 + size + 2
    return found


@contextmanager
def costs(*aliases: str) -> Iterator[Costs]:
    """Count what the block costs; ``aliases`` are the databases to watch (default: "default")."""
    seen = Costs()
    original = AbstractConnection.send_packed_command

    def counting(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        seen.trips += 1
        seen.sent += commands_in(command if isinstance(command, bytes) else b"".join(command))
        return original(self, command, *args, **kwargs)

    captures = [CaptureQueriesContext(connections[alias]) for alias in aliases or ("default",)]
    for capture in captures:
        capture.__enter__()
    AbstractConnection.send_packed_command = counting
    try:
        with hits() as seen.hits:
            yield seen
    finally:
        AbstractConnection.send_packed_command = original
        for capture in captures:
            capture.__exit__(None, None, None)
            seen.sql += [query["sql"] for query in capture.captured_queries]


def is_cached(read: Callable[[], Any]) -> bool:
    """Whether a read is answered by the cache the second time: a hit, and no SQL."""
    read()
    with costs() as second:
        read()
    assert bool(second.hits and all(second.hits)) == (not second.sql), second
    return not second.sql


def stored(client: redis.Redis, kind: str = "q") -> list[bytes]:
    """The keys of a kind that Redis holds (``q`` entries, ``gen``, ``conj``, ``schemes``)."""
    return sorted(key for key in client.keys(b"*") if f"{kind}:{{".encode() in key)


def post(title: str = "a post", **values: Any) -> m.Post:
    """A post with what it needs."""
    if "author" not in values:
        values["author"] = m.Author.objects.get_or_create(name="Ann")[0]
    if "category" not in values:
        values["category"] = m.Category.objects.get_or_create(slug="one", title="one")[0]
    return m.Post.objects.create(title=title, **values)


def messages() -> list[checks.CheckMessage]:
    """What our system checks have to say."""
    return checks.run_checks(tags=["cacheops"])


@contextmanager
def listening(signal: Any) -> Iterator[list[dict[str, Any]]]:
    """What a signal says inside the block, in order."""
    heard: list[dict[str, Any]] = []

    def receiver(**named: Any) -> None:
        named.pop("signal")
        heard.append(named)

    signal.connect(receiver)
    try:
        yield heard
    finally:
        signal.disconnect(receiver)
