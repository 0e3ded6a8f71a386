"""What a connection does besides: its commits are told, its rollbacks and ends forget.

``patch.py`` puts these functions around the methods of Django's connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

from . import stored, testcases, transactions
from .pending import pending


def commit(original: Callable[..., Any], self: Any) -> Any:
    return transactions.settle(self, lambda: original(self))


def rollback(original: Callable[..., Any], self: Any) -> Any:
    try:
        return original(self)
    finally:
        transactions.rolled_back(self)


def close(original: Callable[..., Any], self: Any) -> Any:
    try:
        return original(self)
    finally:
        pending(self).forget()


def connect(original: Callable[..., Any], self: Any) -> Any:
    # A connection that was lost in a transaction took its changes with it.
    state = pending(self)
    if state.mode_set:
        stored.forget_mode(self)
    state.reconnected()
    return original(self)


def commit_hooks(original: Callable[..., Any], self: Any) -> Any:
    transactions.run_afterwards(self)
    return original(self)


def set_autocommit(
    original: Callable[..., Any], self: Any, autocommit: bool, *args: Any, **kw: Any
) -> Any:
    state = pending(self)
    if not autocommit:
        # Only ``atomic`` asks for a BEGIN at once.
        forced = args[0] if args else kw.get("force_begin_transaction_with_broken_autocommit")
        state.by_atomic = bool(forced)
    elif not self.in_atomic_block:
        state.manual = False
        if state.dirty or state.raw:
            # Drivers commit what is open when autocommit is switched on.
            return transactions.settle(self, lambda: original(self, autocommit, *args, **kw))
    return original(self, autocommit, *args, **kw)


def leave_atomic(original: Callable[..., Any], self: Any, *exc_info: Any) -> None:
    try:
        original(self, *exc_info)
    finally:
        transactions.commit_in_test(transaction.get_connection(self.using))
        if self._from_testcase:
            for forget in testcases.on_rollback:
                forget()


def savepoint(original: Callable[..., Any], self: Any) -> Any:
    sid = original(self)
    pending(self).savepoint_began(sid)
    return sid


def savepoint_rollback(original: Callable[..., Any], self: Any, sid: Any) -> Any:
    result = original(self, sid)
    pending(self).savepoint_rolled_back(sid)
    return result


def savepoint_commit(original: Callable[..., Any], self: Any, sid: Any) -> Any:
    result = original(self, sid)
    pending(self).savepoint_released(sid)
    return result
