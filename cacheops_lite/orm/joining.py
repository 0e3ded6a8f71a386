"""Changes of what is no table (tags, cached functions): they join the transactions that are open.

A tag belongs to no database, so its change waits for the commit of every transaction that is open
in this thread. Until then those who would read under it compute for themselves: what they see may
never be committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import connections

from ..core.entry import Change
from . import scope
from .pending import open_transaction, pending
from .refusals import read_refusal

_ever = False


def ever() -> bool:
    """Whether anything has joined a transaction in this process so far."""
    return _ever


def join(changes: Sequence[Change], names: Iterable[str]) -> bool:
    """Let changes take effect at the commits to come; tell whether there will be any.

    The changes carry the names of keys; ``names`` is what ``refusal`` is asked about.
    """
    global _ever
    waiting = [one for one in connections.all(initialized_only=True) if open_transaction(one)]
    for connection in waiting:
        _ever = True
        state = pending(connection)
        state.dirty.update(names)
        for change in changes:
            state.add(change)
    scope.wrote(names)
    return bool(waiting)


def refusal(names: Iterable[str], *, snapshots: bool) -> str:
    """Why results that hang on ``names`` must not be used in this thread now; ``""`` if they may.

    ``snapshots``: nor where a transaction may show what was before the stamps.
    """
    asked = set(names)
    for connection in connections.all(initialized_only=True):
        if not pending(connection).dirty.isdisjoint(asked):
            return "the current transaction invalidates this result when it commits"
        if snapshots and (reason := read_refusal(connection.alias, ())):
            return reason
    return ""
