"""Every cached read of a run, held against the database; what differs is ``STALE``.

Installed by the worker. Each read is made twice, so that the test goes on with rows that were in
the cache, read by the plan that the first time taught. A first read that was a hit is run again
uncached: that query stands in the query log where the uncached one would have stood. So Django's
tests see the queries that they count. The cache's own look-ups are kept out of the log.
"""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections

from cacheops_lite import engine
from cacheops_lite.orm import reads, rows, rows_lookup, transactions, writes

Rows = list[tuple[Any, ...]]


class Recorder:
    """What the checks of one process found."""

    def __init__(self) -> None:
        #: hits: answered by the entry of an earlier query; replays: by its own, just stored;
        #: quick: planned without compiling.
        self.counts: Counter[str] = Counter()
        #: Why reads were not cached, and why loaded rows were not a hit a moment later.
        self.bypassed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.stale: list[str] = []

    def taken(self) -> list[str]:
        """The mismatches since the last call."""
        found, self.stale = self.stale, []
        return found


class Turn(threading.local):
    """Which time a read is being made in this thread: "", "first" or "second"."""

    time = ""
    expected: Rows | None = None
    was_hit = False


def install() -> Recorder:
    """Check every read from here on."""
    recorder, turn = Recorder(), Turn()
    _check_reads(recorder, turn)
    _read_twice(turn)
    _note_reasons(recorder)
    _hide_own_queries()
    return recorder


def _check_reads(recorder: Recorder, turn: Turn) -> None:
    read = engine.Engine.read

    def checked(self: Any, plan: Any, load: Callable[[], Any], **options: Any) -> Any:
        loaded: list[Any] = []

        def loading() -> Any:
            found = load()
            loaded.append(list(found))
            return found

        def again(outcome: Any) -> Any:
            """The read after it was made once."""
            with unlogged():
                second = read(self, plan, loading, **options)
            if not second.hit:
                recorder.refused[second.reason] += 1
                return outcome or second
            if not turn.was_hit:
                recorder.counts["replays"] += 1
            compare(second, turn.expected)
            return second

        def compare(outcome: Any, fresh: Any) -> None:
            if difference := differ(outcome.value, fresh):
                recorder.stale.append(f"{difference}\n  {statement_of(load)}"[:3000])

        if turn.time == "second":
            return again(None)
        outcome = read(self, plan, loading, **options)
        turn.was_hit = outcome.hit
        if outcome.hit:
            recorder.counts["hits"] += 1
            turn.expected = load()
            compare(outcome, turn.expected)
        else:
            turn.expected = loaded[0]
        return outcome if turn.time == "first" else again(outcome)

    engine.Engine.read = checked  # type: ignore[method-assign]


def _read_twice(turn: Turn) -> None:
    fetch, single = reads.fetch, reads.single
    replay, produce = rows.replay, rows.produce
    unbuilt: list[Any] = []

    def unbuilt_the_first_time(build: Callable[..., Any]) -> Callable[..., Any]:
        # Building instances sends signals, which tests count.
        return lambda *args: unbuilt if turn.time == "first" else build(*args)

    def twice(ask: Callable[[], Any]) -> Any:
        outer, turn.time, turn.expected = turn.time, "first", None
        try:
            answer = ask()
            if turn.expected is None:  # it went past the cache
                return answer
            turn.time = "second"
            return ask()
        finally:
            turn.time = outer

    rows.replay = unbuilt_the_first_time(replay)
    rows.produce = unbuilt_the_first_time(produce)
    reads.fetch = lambda queryset, profile: twice(lambda: fetch(queryset, profile))
    reads.single = lambda *args: twice(lambda: single(*args))


def _note_reasons(recorder: Recorder) -> None:
    plan_compiler = reads.plan_compiler

    def planned(*args: Any, **kwargs: Any) -> reads.Attempt:
        tried = plan_compiler(*args, **kwargs)
        if tried.reason:
            recorder.bypassed[tried.reason] += 1
        return tried

    def compared(query: Any, shape: Any, using: str, profile: Any, plan: Any, *rest: Any) -> None:
        recorder.counts["quick"] += 1

    reads.plan_compiler = planned
    reads.audit.append(compared)


def differ(cached: Rows, fresh: Rows | None) -> str:
    """How two answers differ, ``""`` if they do not.

    The order counts too: one database gives the same rows in the same order twice.
    """
    if fresh is None or len(cached) != len(fresh):
        return f"STALE: {cached!r} instead of {fresh!r}"
    for ours, theirs in zip(cached, fresh, strict=True):
        if not alike(tuple(ours), tuple(theirs)):
            return f"STALE: {ours!r} instead of {theirs!r}"
    return ""


def alike(one: Any, other: Any) -> bool:
    """The same value of the same type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if repr(one) == repr(other):
        return True
    if isinstance(one, (int, float, str, bytes, dict)):
        return False
    return bool(one == other) or pickle.dumps(one) == pickle.dumps(other)


def statement_of(load: Callable[[], Any]) -> str:
    """The SQL that a load runs."""
    said: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        said.append(f"{sql} {params!r}")
        return execute(sql, params, many, context)

    with unlogged(), ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            stack.enter_context(connection.execute_wrapper(note))
        load()
    return "; ".join(said)


def _hide_own_queries() -> None:
    look_up, own_transaction = rows_lookup.Lookup._run, writes.own_transaction

    def hidden(self: Any, *args: Any, **kwargs: Any) -> Any:
        with unlogged():
            return look_up(self, *args, **kwargs)

    @contextmanager
    def hidden_transaction(connection: Any) -> Iterator[None]:
        if transactions.open_transaction(connection):
            yield
            return
        block = own_transaction(connection)
        with unlogged():
            block.__enter__()
        try:
            yield
        except BaseException as error:
            with unlogged():
                swallowed = block.__exit__(type(error), error, error.__traceback__)
            if not swallowed:
                raise
        else:
            with unlogged():
                block.__exit__(None, None, None)

    rows_lookup.Lookup._run = hidden  # type: ignore[method-assign]
    writes.own_transaction = hidden_transaction


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep what runs inside out of the query logs."""
    open_now = list(connections.all(initialized_only=True))
    before = [(one, one.force_debug_cursor, len(one.queries_log)) for one in open_now]
    for one in open_now:
        one.force_debug_cursor = False
    try:
        yield
    finally:
        for one, forced, length in before:
            one.force_debug_cursor = forced
            while len(one.queries_log) > length:  # settings.DEBUG logs whatever is forced
                one.queries_log.pop()
