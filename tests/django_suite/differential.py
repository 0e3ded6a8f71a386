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
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import connections
from django.test import TransactionTestCase

from cacheops_lite import engine
from cacheops_lite.orm import lazy, planning, reads, rows, rows_lookup, singles, writes
from cacheops_lite.orm.pending import open_transaction
from tests import auditing

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
        #: (test id or "" for the one under way, what differs).
        self.stale: list[tuple[str, str]] = []
        #: While the database is flushed, which reads a lot.
        self.resting = False
        #: The reads of the test under way: entry key -> how to look again.
        self.made: dict[bytes, tuple[Any, ...]] = {}

    def look_again(self, test: str, when: str) -> None:
        """Hold what the cache would answer now to the reads of this test against the database."""
        with unlogged():
            for cache, plan, load, decode, zones in self.made.values():
                if zones != zones_now():  # the same query would be another one
                    continue
                outcome = cache.peek(plan, decode)
                if not outcome.hit:
                    continue
                self.counts["again"] += 1
                try:
                    fresh: Any = load()
                except Exception as error:
                    fresh = None
                    self.said(test, f"STALE {when}: a hit where the database says {error!r}")
                else:
                    sql = statement_of(load)  # none: its queryset has kept its results since
                    if sql and (difference := differ(outcome.value, fresh)):
                        self.said(test, f"{when}: {difference}\n  {plan}\n  {sql}")

    def forget(self) -> None:
        """A test is over."""
        self.made.clear()

    def said(self, test: str, difference: str) -> None:
        self.stale.append((test, difference[:3000]))

    def taken(self) -> list[tuple[str, str]]:
        """The mismatches since the last call."""
        found, self.stale = self.stale, []
        return found


class Turn(threading.local):
    """Which time a read is being made in this thread: "", "first" or "second"."""

    time = ""
    expected: Rows | None = None
    was_hit = False


def install(commit: bool) -> Recorder:
    """Check every read from here on; ``commit``: tests commit what they write."""
    recorder, turn = Recorder(), Turn()
    if commit:
        _look_again_after_tests(recorder)
    _check_reads(recorder, turn)
    _read_twice(recorder, turn)
    _note_reasons(recorder)
    _hide_own_queries()
    return recorder


def _check_reads(recorder: Recorder, turn: Turn) -> None:
    read = engine.Engine.read

    def checked(self: Any, plan: Any, load: Callable[[], Any], **options: Any) -> Any:
        if recorder.resting:
            return read(self, plan, load, **options)
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
                recorder.said("", f"{difference}\n  {statement_of(load)}")

        if turn.time == "second":
            return again(None)
        try:
            outcome = read(self, plan, loading, **options)
        finally:
            if loaded:  # also if the rows cannot be encoded
                turn.was_hit, turn.expected = False, loaded[0]
        if threading.current_thread() is threading.main_thread():
            recorder.made[plan.entry] = (self, plan, load, options["decode"], zones_now())
        if outcome.hit:
            recorder.counts["hits"] += 1
            turn.was_hit, turn.expected = True, load()
            compare(outcome, turn.expected)
        return outcome if turn.time == "first" else again(outcome)

    engine.Engine.read = checked  # type: ignore[method-assign]


def _read_twice(recorder: Recorder, turn: Turn) -> None:
    fetch, get, get_at = reads.fetch, reads.get, reads.get_at
    single, aggregate = singles.single, singles.aggregate
    replay, produce = rows.replay, rows.produce
    unbuilt: list[Any] = []

    def unbuilt_the_first_time(build: Callable[..., Any]) -> Callable[..., Any]:
        # Building instances sends signals, which tests count.
        return lambda *args, **kw: unbuilt if turn.time == "first" else build(*args, **kw)

    def twice(ask: Callable[[], Any]) -> Any:
        if recorder.resting:
            return ask()
        outer, turn.time, turn.expected = (turn.time, turn.expected), "first", None
        try:
            answer = ask()
            if turn.expected is None:  # it went past the cache
                return answer
            turn.time = "second"
            return ask()
        finally:
            turn.time, turn.expected = outer

    def fetch_twice(queryset: Any, *args: Any, **kwargs: Any) -> Any:
        if (
            lazy.node_of(queryset) is None and queryset.query.combinator
        ):  # compiling changes it, and even what it was cloned from
            return fetch(queryset, *args, **kwargs)
        return twice(lambda: fetch(queryset, *args, **kwargs))

    rows.replay = unbuilt_the_first_time(replay)
    rows.produce = unbuilt_the_first_time(produce)
    reads.fetch = fetch_twice
    reads.get = lambda *args, **kw: twice(lambda: get(*args, **kw))
    reads.get_at = lambda *args, **kw: twice(lambda: get_at(*args, **kw))
    singles.single = lambda *args, **kw: twice(lambda: single(*args, **kw))
    singles.aggregate = lambda *args, **kw: twice(lambda: aggregate(*args, **kw))


def _look_again_after_tests(recorder: Recorder) -> None:
    tear_down = TransactionTestCase._fixture_teardown

    def looking(self: Any) -> None:
        recorder.look_again(self.id(), "at the end of the test")
        recorder.resting = True
        try:
            tear_down(self)
        finally:
            recorder.resting = False
        recorder.look_again(self.id(), "after the flush")
        recorder.forget()

    TransactionTestCase._fixture_teardown = looking  # type: ignore[method-assign]


def _note_reasons(recorder: Recorder) -> None:
    plan_compiler = planning.plan_compiler

    def planned(*args: Any, **kwargs: Any) -> planning.Attempt:
        tried = plan_compiler(*args, **kwargs)
        if tried.reason:
            recorder.bypassed[tried.reason] += 1
        return tried

    def check_quick(*known: Any) -> None:
        recorder.counts["quick"] += 1
        try:
            auditing.compare(*known)
        except AssertionError as difference:
            recorder.said("", f"PLAN: {difference}")

    def check_step(*known: Any) -> None:
        recorder.counts["steps"] += 1
        try:
            auditing.compare_step(*known)
        except AssertionError as difference:
            recorder.said("", f"STEP: {difference}")

    planning.plan_compiler = planned
    reads.audit.append(check_quick)
    lazy.audit.append(check_step)
    planning.audit.append(lambda error: recorder.said("", f"ANALYSIS: {error!r}"))
    lazy.keep_at_once = True


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


def zones_now() -> tuple[Any, ...]:
    """What decides, beside the query, what moments in its rows become."""
    zones = [one.timezone_name for one in connections.all(initialized_only=True)]
    return (settings.USE_TZ, *zones)


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
    own_transaction = writes.own_transaction

    def hidden(look_up: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(look_up)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            with unlogged():
                return look_up(self, *args, **kwargs)

        return method

    @contextmanager
    def hidden_transaction(connection: Any) -> Iterator[None]:
        if open_transaction(connection):
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

    for name in ("_run", "_by_key"):
        setattr(rows_lookup.Lookup, name, hidden(getattr(rows_lookup.Lookup, name)))
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
