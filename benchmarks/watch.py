"""What a worker looks at while it measures: queries of the database, keys of the server."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

CHUNK = 1000


class Queries:
    """Statements sent to the database inside ``with``; BEGIN and the like are not counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            self.count += 1
        return execute(sql, params, many, context)


@contextmanager
def queries() -> Iterator[Queries]:
    """Count the statements that reach the database."""
    counter = Queries()
    with connection.execute_wrapper(counter):
        yield counter


@functools.cache
class Keys:
    """The peer's own database of the server, seen by a client of ours. There is one."""

    def __init__(self) -> None:
        import redis

        self.client = redis.Redis.from_url(os.environ["BENCH_REDIS"])

    def clear(self) -> None:
        """Remove everything."""
        self.client.flushdb()

    def all(self) -> list[bytes]:
        """Every key."""
        return list(self.client.scan_iter(count=CHUNK))

    def size(self) -> int:
        """What all keys and values take in the server, in bytes."""
        return sum(self._each(self.all(), lambda pipe, key: pipe.memory_usage(key, samples=0)))

    def pad(self, number: int) -> None:
        """Have at least so many keys, by strangers that nobody asks for."""
        names = [b"stranger:%d" % n for n in range(number - self.client.dbsize())]
        self._each(names, lambda pipe, name: pipe.set(name, b"x" * 200, ex=3600))

    def save(self) -> list[tuple[bytes, int, bytes]]:
        """Every key with its time to live (ms, 0 = for ever) and its value."""
        keys = self.all()
        lives = self._each(keys, lambda pipe, key: pipe.pttl(key))
        values = self._each(keys, lambda pipe, key: pipe.dump(key))
        return [
            (key, max(life, 0), value)
            for key, life, value in zip(keys, lives, values, strict=True)
            if value is not None
        ]

    def restore(self, saved: list[tuple[bytes, int, bytes]]) -> None:
        """Have exactly these keys again."""
        self.clear()
        self._each(saved, lambda pipe, item: pipe.restore(item[0], item[1], item[2]))

    def _each(self, items: Any, command: Any) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(items), CHUNK):
            pipe = self.client.pipeline(transaction=False)
            for item in items[start : start + CHUNK]:
                command(pipe, item)
            found.extend(pipe.execute())
        return found
