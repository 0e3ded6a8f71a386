"""Locks that a forked child finds open, whichever of its parent's threads held them."""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakSet

_owners: WeakSet[Any] = WeakSet()


def new_lock(owner: Any) -> Any:
    """A reentrant lock for the ``_lock`` of an object, which gets a new one in each forked child.

    The thread that held the old one does not exist in the child, so it would never be let go. What
    it guards must be whole at every moment: steps that were begun are not undone.
    """
    _owners.add(owner)
    return threading.RLock()


def _after_fork() -> None:
    for owner in list(_owners):
        owner._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
