"""What a process does now and then, on somebody's back: after a read, a commit or a request.

There is no thread of our own: threads do not survive a fork, and would keep a process awake that
has nothing to do. Jobs never run inside an event loop, and never two at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

logger = logging.getLogger("cacheops_lite")


@dataclass
class Job:
    """Something to do every so many seconds; ``None`` for never."""

    run: Callable[[], None]
    every: Callable[[], float | None]
    #: When it is due (``perf_counter()``); None: its interval has not been asked for yet.
    next: float | None = None


#: The ``perf_counter()`` at which the next job is due: readers compare before they call `beat`.
due = float("inf")

#: Seconds until a job that could not say how often it wants to run is asked again.
LATER = 60.0

_jobs: dict[str, Job] = {}
_lock = threading.Lock()


def register(name: str, run: Callable[[], None], every: Callable[[], float | None]) -> None:
    """Have ``run()`` called about every ``every()`` seconds, at first after that time."""
    _jobs[name] = Job(run, every)
    plan()


def plan() -> None:
    """Ask all jobs anew how often they want to run: settings have changed."""
    global due
    for job in _jobs.values():
        job.next = None
    due = 0.0 if _jobs else float("inf")


def hurry(name: str) -> None:
    """Let a job run at the next beat."""
    global due
    if name in _jobs:
        _jobs[name].next = due = 0.0


def beat() -> None:
    """Run what is due, unless this is an event loop or another thread is at it. Never raises."""
    global due
    now = perf_counter()
    if now < due or _in_event_loop() or not _lock.acquire(blocking=False):
        return
    try:
        due = float("inf")
        for name, job in list(_jobs.items()):
            if job.next is None or job.next <= now:
                _turn(name, job, now)
            due = min(due, job.next or 0.0)
    finally:
        _lock.release()


def _turn(name: str, job: Job, now: float) -> None:
    waiting, job.next = job.next is None, now + LATER
    try:
        every = job.every()
        job.next = now + every if every else float("inf")
        if every and not waiting:
            job.run()
    except Exception:
        logger.exception("cacheops_lite: the job %r failed", name)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
