"""What the cache did: of this process at any moment, of all processes through Redis.

Each process adds what it has counted to a hash in Redis, one for each hour, every
``CACHEOPS_STATS_INTERVAL`` seconds, after a request, a commit or a read, and at its end. A hash
lives for a day and holds a few numbers for each model and op.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from . import conf, counters, engine, pulse
from .core.protocol import run
from .exceptions import StoreUnavailable

__all__ = ["read", "reset", "share", "snapshot"]

logger = logging.getLogger("cacheops_lite")

#: Hours that can be looked back, and seconds for which each hour's numbers are kept.
HOURS = 24
_KEPT = (HOURS + 1) * 60 * 60

#: Measures that are told apart by a reason, and all that a line has.
_REASONS = frozenset({"misses", "refused", "uncached"})
_MEASURES = frozenset(
    f"{name[:-8]}_us" if name.endswith("_seconds") else name for name in counters.Line.__slots__
)

Flat = Mapping[tuple[str, str, str, str], int]

#: What this process has added in Redis already.
_shared: dict[tuple[str, str, str, str], int] = {}
_lock = threading.Lock()
_complained = False


def snapshot() -> dict[str, Any]:
    """What this process has counted since it began, or since ``reset()``.

    ``reads`` is a list with an item for each model or function and op; ``drops`` tells for each
    table or function what invalidated how often; ``events`` counts outages and refused commits.
    Times are seconds, sizes bytes of payload.
    """
    return _report(counters.totals())


def read(hours: int = 1) -> dict[str, Any]:
    """What all processes have counted in this hour and the ``hours - 1`` before it (24 at most).

    A process appears with what it has shared, see ``CACHEOPS_STATS_INTERVAL``. Raises
    ``StoreUnavailable``.
    """
    if not 1 <= hours <= HOURS:
        raise ValueError(f"Counters are kept for {HOURS} hours; {hours} were asked for.")
    cache = engine.current()
    now = int(time.time() // 3600)
    keys = [cache.protocol.keys.stats(hour) for hour in range(now - hours + 1, now + 1)]
    total: dict[tuple[str, str, str, str], int] = {}
    for numbers in run(cache.transport.tallies(keys)):
        for name, number in numbers.items():
            with contextlib.suppress(ValueError):  # not ours
                key = _key(name)
                total[key] = total.get(key, 0) + int(number)
    return _report(total)


def _key(name: bytes) -> tuple[str, str, str, str]:
    """What a number in Redis counts. Raises ``ValueError`` for what we have not put there."""
    parts = json.loads(name)
    if not isinstance(parts, list) or len(parts) != 4 or not all(type(p) is str for p in parts):
        raise ValueError(f"{parts!r} is no name of a number")
    who, op, measure, detail = parts
    known = {"drop": {"changes"}, "event": {measure}}.get(op, _MEASURES)
    if measure not in known or (op != "drop" and (measure in _REASONS) != bool(detail)):
        raise ValueError(f"{parts!r} is not counted here")
    return who, op, measure, detail


def share() -> None:
    """Add what was counted since the last time to the numbers in Redis.

    Raises ``StoreUnavailable``; then it is added the next time.
    """
    with _lock:
        news = {
            key: more
            for key, number in counters.totals().items()
            if (more := number - _shared.get(key, 0)) > 0
        }
        if not news:
            return
        cache = engine.current()
        amounts = {json.dumps(key).encode(): more for key, more in news.items()}
        hour = cache.protocol.keys.stats(int(time.time() // 3600))
        run(cache.transport.tally(hour, amounts, _KEPT * 1000))
        for key, more in news.items():
            _shared[key] = _shared.get(key, 0) + more


def reset() -> None:
    """Let this process count from zero. What it has shared stays."""
    with _lock:
        counters.reset()
        _shared.clear()


# -- now and then ------------------------------------------------------------------------------


def _interval() -> float | None:
    settings = conf.current()
    return settings.stats_interval if settings.active else None


def _share_quietly() -> None:
    global _complained
    try:
        share()
    except StoreUnavailable as error:
        if engine.current().calm and not _complained:
            _complained = True
            logger.warning(
                "The counters are not shared: %s. Allow this user HINCRBY, PEXPIRE and HGETALL on "
                "the keys <prefix>stats:*, or set CACHEOPS_STATS_INTERVAL = None.",
                error,
            )


def _last_words() -> None:
    """A process ends: share what is left, if Redis was in use and is well."""
    cache = engine.used()
    if cache is None or not cache.calm or not cache.settings.stats_interval:
        return
    with contextlib.suppress(Exception):
        share()


def install() -> None:
    """Share now and then, and at the end of the process."""
    pulse.register("stats", _share_quietly, _interval)
    atexit.register(_last_words)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _shared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# -- putting together --------------------------------------------------------------------------


def _report(numbers: Flat) -> dict[str, Any]:
    reads: dict[tuple[str, str], dict[str, Any]] = {}
    drops, events = [], {}
    for (name, op, measure, detail), number in sorted(numbers.items()):
        if op == "drop":
            drops.append({"name": name, "cause": detail, "changes": number})
        elif op == "event":
            events[measure] = number
        else:
            item = reads.setdefault((name, op), _empty(name, op))
            if measure in _REASONS:
                item[measure][detail] = number
            elif measure.endswith("_us"):
                item[f"{measure[:-3]}_seconds"] = number / 1e6
            else:
                item[measure] = number
    return {"reads": [_finished(item) for item in reads.values()], "drops": drops, "events": events}


def _empty(name: str, op: str) -> dict[str, Any]:
    item: dict[str, Any] = {"name": name, "op": op, "calls": 0, "hit_ratio": None}
    for measure in counters.Line.__slots__:
        if measure in _REASONS:
            item[measure] = {}
        else:
            item[measure] = 0.0 if measure.endswith("_seconds") else 0
    return item


def _finished(item: dict[str, Any]) -> dict[str, Any]:
    asked = item["hits"] + sum(item["misses"].values())
    item["calls"] = asked + sum(item["uncached"].values())
    item["hit_ratio"] = round(item["hits"] / asked, 4) if asked else None
    if item["op"] != "call":
        del item["computed"], item["compute_seconds"]
    else:
        # An estimate: a hit saved what computing took on average, less what it took itself.
        mean = item["compute_seconds"] / item["computed"] if item["computed"] else 0.0
        item["saved_seconds"] = (
            round(item["hits"] * mean - item["hit_seconds"], 6) if item["computed"] else None
        )
    return item
