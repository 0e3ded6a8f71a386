"""One read of the ORM through the cache: may it, under which key, on what it depends, what it is.

The same path serves rows (``fetch``, ``get``) and single results (``count``, ``exists``,
``aggregate``, which Django asks for as one row); they differ in how the query is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.models.sql.constants import SINGLE
from django.utils.asyncio import async_unsafe

from .. import conf, engine, signals
from ..core.entry import ANY_ROW, Conj
from ..core.memo import Recent
from ..core.protocol import Outcome, ReadPlan, TablePlan
from . import conditions, fingerprint, registry, rows, transactions, values


class Plan(NamedTuple):
    """What is known of a query shape with its parameters: kept in the memo of the process."""

    digest: bytes
    tables: dict[str, tuple[Conj, ...]]
    dynamic: tuple[conditions.Dynamic, ...]
    reason: str
    widened: tuple[tuple[str, str], ...]


class Attempt(NamedTuple):
    """A query compiled and planned, ready to be read through the cache or explained."""

    compiler: Any
    plan: Plan | None
    reason: str


_plans: Recent[bytes, Plan] = Recent(4096)
conf.on_reset(_plans.clear)


@async_unsafe("You cannot call this from an async context - use a thread or sync_to_async.")
def _forbid_event_loop() -> None:
    """Raise as the database would, on a hit too."""


def attempt(query: Any, using: str, profile: conf.Profile, kind: str, packing: str) -> Attempt:
    """Compile and plan a query that is about to be run on its own compiler."""
    return plan_compiler(query.get_compiler(using), using, profile, kind, packing)


def plan_compiler(
    compiler: Any, using: str, profile: conf.Profile, kind: str, packing: str
) -> Attempt:
    """Plan what a compiler is about to run. Errors of the SQL are left to Django."""
    try:
        sql, params = compiler.as_sql()
    except (EmptyResultSet, FullResultSet):
        return Attempt(compiler, None, "the database is not asked (empty result)")
    compiled = (sql, params)
    compiler.as_sql = lambda: compiled  # compiling twice would cost as much as the query
    try:
        alias = "" if profile.db_agnostic else using
        digest = fingerprint.digest(compiler, sql, tuple(params), alias, kind, packing)
    except fingerprint.Unspellable as why:
        return Attempt(compiler, None, str(why))
    plan = _plans.get(digest)
    if plan is None:
        plan = _make_plan(compiler, sql, digest)
        _plans.set(digest, plan)
    if plan.reason:
        return Attempt(compiler, plan, plan.reason)
    return Attempt(compiler, plan, transactions.read_refusal(using, plan.tables))


def _make_plan(compiler: Any, sql: str, digest: bytes) -> Plan:
    found = conditions.analyse(compiler, sql)
    reason = found.reason
    tables = dict(found.tables)
    for dynamic in found.dynamic:
        tables.setdefault(dynamic.table, ())
    if not reason and not tables:
        reason = "no table to depend on"
    untracked = sorted(set(tables) - registry.current().tracked)
    if not reason and untracked:
        reason = f"tables that are not tracked: {', '.join(untracked)}"
    return Plan(digest, tables, found.dynamic, reason, found.widened)


def read_plan(cache: engine.Engine, plan: Plan, using: str, main: str) -> ReadPlan:
    """The plan under the names that keys carry."""
    dynamic = {item.table for item in plan.dynamic}
    tables = tuple(
        TablePlan(cache.table(table, using), conjs, table in dynamic)
        for table, conjs in plan.tables.items()
    )
    return ReadPlan(cache.entry_key(cache.table(main, using), plan.digest), tables)


def run(
    tried: Attempt,
    model: Any,
    using: str,
    profile: conf.Profile,
    load: Callable[[], rows.Rows],
) -> rows.Rows:
    """Read rows through the cache."""
    plan = tried.plan
    if plan is None or tried.reason:
        return load()
    _forbid_event_loop()
    cache = engine.current()
    wanted = read_plan(cache, plan, using, model._meta.db_table)
    codec = cache.codec
    context = wanted.entry
    outcome: Outcome = cache.read(
        wanted,
        load,
        encode=lambda value: codec.rows_to_bytes(value, context),
        decode=lambda data: codec.bytes_to_rows(data, context),
        timeout=profile.timeout or 0,
        dynamic=_dynamic(cache, plan, using) if plan.dynamic else None,
        lock=profile.lock,
    )
    if signals.cache_read.has_listeners(model):
        signals.cache_read.send(sender=model, func=None, hit=outcome.hit)
    found: rows.Rows = outcome.value
    return found


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


def fetch(queryset: Any, op: str, profile: conf.Profile) -> list[Any]:
    """The results of a queryset, through the cache."""
    tried = attempt(queryset.query, queryset.db, profile, "rows", packing(queryset))
    if tried.plan is None or tried.reason:
        return rows.evaluate(queryset, tried.compiler)
    found = run(
        tried, queryset.model, queryset.db, profile, lambda: rows.load_rows(tried.compiler)
    )
    return rows.replay(queryset, tried.compiler, found)


def packing(queryset: Any) -> str:
    """How rows of this queryset become results."""
    kind = queryset._iterable_class
    names = ",".join(map(str, queryset._fields)) if queryset._fields else ""
    return f"{queryset.model._meta.label}|{kind.__module__}.{kind.__qualname__}|{names}"


class Single:
    """Runs the one-row query that Django is about to make for count, exists or aggregate."""

    def __init__(self, model: Any, using: str, profile: conf.Profile) -> None:
        self.model, self.using, self.profile = model, using, profile
        #: Kept for explain: set instead of running.
        self.tried: Attempt | None = None

    def __call__(self, compiler: Any, execute: Callable[[], Any]) -> Any:
        tried = self.tried = plan_compiler(compiler, self.using, self.profile, SINGLE, "")

        def load() -> rows.Rows:
            row = execute()
            return [] if row is None else [tuple(row)]

        found = run(tried, self.model, self.using, self.profile, load)
        return found[0] if found else None
