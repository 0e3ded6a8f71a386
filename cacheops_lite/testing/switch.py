"""The cache on or off for a part of a test run, apart from every other cache.

What is cached is kept in the memory of the process, or on a server under a prefix of its own, so
that tests disturb neither each other, nor parallel processes of tests, nor a site that runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.test import override_settings

from .. import conf, engine
from ..orm import patch, testcases

#: The store of tests: dicts in this process, no server.
MEMORY = "memory://tests"

#: How many ``caching()`` blocks are open in this process.
_depth = 0


def own_prefix() -> str:
    """What leads the keys of this process of tests: ``tests-<xdist worker>-<process id>:``."""
    return f"tests-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}:"


@contextmanager
def caching(redis: str | Mapping[str, Any] | None = MEMORY) -> Iterator[None]:
    """Cache inside, beginning with nothing; a context manager or a decorator.

    ``redis`` is where: by default the memory of this process, ``None`` for the server of the
    project's settings, or anything that ``CACHEOPS_REDIS`` may be. Inside ``django.test.TestCase``
    and pytest-django's ``db`` what a statement or an ``atomic`` block wrote counts as committed,
    although the test's own transaction will be rolled back.
    """
    global _depth
    settings = conf.current()
    changes: dict[str, Any] = {
        "CACHEOPS_ENABLED": True,
        "CACHEOPS_PREFIX": _prefixed(settings.prefix, own_prefix()),
    }
    if redis is not None:
        changes |= {"CACHEOPS_REDIS": redis, "CACHEOPS_SENTINEL": None}
    with override_settings(**changes):
        clear()
        if _depth == 0:
            testcases.on_rollback.append(clear)
            patch.install_in_tests()
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
            if _depth == 0:
                patch.uninstall_in_tests()
                testcases.on_rollback.remove(clear)
            clear()


@contextmanager
def no_caching() -> Iterator[None]:
    """Ask the database for everything inside; a context manager or a decorator."""
    with override_settings(CACHEOPS_ENABLED=False):
        yield


def clear() -> None:
    """Forget everything that ``caching()`` has stored in this process. Elsewhere do nothing."""
    prefix = own_prefix()
    settings = conf.current()
    if not settings.enabled or prefix not in _text(settings.prefix):
        return
    cache = engine.current()
    store = cache.memory_store
    if store is not None:
        store.flush()
        return
    keys = list(cache.client.scan_iter(match=f"*{_literal(prefix)}*", count=1000))
    for start in range(0, len(keys), 1000):
        cache.client.unlink(*keys[start : start + 1000])


class _Prefixed:
    """A ``CACHEOPS_PREFIX`` function of the project, with the prefix of the tests before it."""

    def __init__(self, project: Callable[[Any], str], own: str) -> None:
        self.project, self.own = project, own

    def __call__(self, query: Any) -> str:
        return self.own + self.project(query)


def _prefixed(project: str | Callable[[Any], str], own: str) -> str | Callable[[Any], str]:
    if own in _text(project):  # inside another caching()
        return project
    return project + own if isinstance(project, str) else _Prefixed(project, own)


def _text(prefix: str | Callable[[Any], str]) -> str:
    return prefix if isinstance(prefix, str) else getattr(prefix, "own", "")


def _literal(text: str) -> str:
    """A text as a pattern of SCAN that matches nothing else."""
    return re.sub(r"([\\*?\[\]^])", r"\\\1", text)
