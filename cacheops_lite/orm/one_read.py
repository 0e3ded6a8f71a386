"""One read of rows through the cache: answered, or loaded and stored; counted, and told.

The same path serves rows (``fetch``, ``get``) and single results (``count``, ``exists``,
``aggregate``, which Django asks for as one row); they differ in how the query is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

from django.utils.asyncio import async_unsafe

from .. import conf, counters, engine, pulse, signals
from ..core.entry import ANY_ROW, Conj
from ..core.protocol import Outcome
from . import rows, scope, values
from .planning import Plan, read_plan

#: Looked up here for the hit path; the dict stays the same one.
_lines = counters.lines


class _Unencodable(Exception):
    """Rows that were loaded and cannot be stored."""

    def __init__(self, found: rows.Rows) -> None:
        super().__init__()
        self.rows = found


@async_unsafe("You cannot call this from an async context - use a thread or sync_to_async.")
def _forbid_event_loop() -> None:
    """Raise as the database would, on a hit too."""


def through(
    plan: Plan,
    model: Any,
    using: str,
    profile: conf.Profile,
    op: str,
    load: Callable[[], rows.Rows],
) -> Outcome:
    """Read rows through the cache; the caller has made sure that it may."""
    _forbid_event_loop()
    started = perf_counter()
    line = _lines.get((model, op)) or counters.line(model, op)
    cache = engine.current()
    wanted = read_plan(cache, plan, using, model._meta.db_table)
    codec = cache.codec
    context = wanted.entry
    memo = scope.active()
    if memo is not None:
        give = memo.find(context)
        if give is not None:
            return _told(model, line, Outcome(give(), True, ""), started)
        ticket = memo.begin(context, plan.tables)

    def encode(found: rows.Rows) -> bytes:
        try:
            data = codec.rows_to_bytes(found, context)
        except Exception as error:  # a value that no pickler takes
            raise _Unencodable(found) from error
        line.stored_bytes += len(data)
        return data

    def decode(data: bytes) -> rows.Rows:
        line.hit_bytes += len(data)
        return codec.bytes_to_rows(data, context)

    try:
        outcome = cache.read(
            wanted,
            load,
            encode=encode,
            decode=decode,
            timeout=profile.timeout or 0,
            dynamic=_dynamic(cache, plan, using) if plan.dynamic else None,
            lock=profile.lock,
        )
    except _Unencodable as loaded:
        outcome = Outcome(loaded.rows, False, "unencodable", "unencodable")
    if memo is not None and (give := scope.giver(outcome.value)) is not None:
        memo.keep(ticket, give)
    return _told(model, line, outcome, started)


def _told(model: Any, line: counters.Line, outcome: Outcome, started: float) -> Outcome:
    """Count a read, and tell who listens."""
    if outcome.hit:
        finished = perf_counter()
        line.hits += 1
        line.hit_seconds += finished - started
    else:
        finished = line.missed(outcome, started)
    if finished > pulse.due:
        pulse.beat()
    if signals.cache_read.receivers and signals.cache_read.has_listeners(model):
        signals.cache_read.send(sender=model, func=None, hit=outcome.hit)
    return outcome


def _dynamic(
    cache: engine.Engine, plan: Plan, using: str
) -> Callable[[rows.Rows], Iterable[tuple[str, Conj]]]:
    """Dependencies that only the rows know, each table's up to a limit, then any row."""
    limit = cache.settings.dynamic_limit

    def discover(found: rows.Rows) -> Iterator[tuple[str, Conj]]:
        for item in plan.dynamic:
            table = cache.table(item.table, using)
            seen = {row[item.index] for row in found}
            seen.discard(None)
            texts = {values.text(item.field, value) for value in seen}
            if None in texts or len(texts) > limit:
                yield table, ANY_ROW
            else:
                for text in sorted(text for text in texts if text is not None):
                    yield table, ((item.column, text),)

    return discover
