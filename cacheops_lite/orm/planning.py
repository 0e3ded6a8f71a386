"""Compiling a query and planning its read: its key, what it depends on, or why it is not cached."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet, FullResultSet

from .. import conf, engine
from ..core.entry import Conj
from ..core.memo import Sized
from ..core.plans import weight_of
from ..core.protocol import ReadPlan, TablePlan
from . import collations, conditions, fingerprint, refusals, registry, templates
from .dynamic import Dynamic


class Plan(NamedTuple):
    """What is known of a query shape with its parameters: kept in the memo of the process."""

    digest: bytes
    tables: dict[str, tuple[Conj, ...]]
    dynamic: tuple[Dynamic, ...]
    reason: str
    widened: tuple[tuple[str, str], ...]

    def weight(self) -> int:
        """About how many bytes its conjunctions have."""
        return sum(map(weight_of, self.tables.values()))


class Attempt(NamedTuple):
    """A query compiled and planned, ready to be read through the cache or explained."""

    compiler: Any
    plan: Plan | None
    reason: str
    sql_hash: Any = None
    sql: str = ""
    params: tuple[Any, ...] = ()


logger = logging.getLogger("cacheops_lite")

#: Called with each error of an analysis: the switch by which tests are told.
audit: list[Callable[[Exception], None]] = []
#: What was logged already: the error, and where it came from.
_failures: set[tuple[str, str, int]] = set()
conf.on_reset(_failures.clear)

_plans: Sized[bytes, Plan] = Sized(4096, lambda _, plan: plan.weight())
#: Plans under the names that keys carry; not kept where a prefix function decides at each call.
_ready: Sized[bytes, ReadPlan] = Sized(8192, lambda _, plan: plan.weight())

#: What remembers plans, and how many for each one of ``CACHEOPS_MEMO_SIZE``.
_memos: list[tuple[Sized[Any, Any], int]] = []


def remember(memo: Sized[Any, Any], share: int) -> None:
    """Have a memo of plans forget them when they may be others, and be as large as it should."""
    conf.on_reset(memo.clear)
    collations.on_forget(memo.clear)
    _memos.append((memo, share))


remember(_plans, 1)
remember(_ready, 2)
remember(templates.filled, 2)


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
    compiler.as_sql = lambda *args, **kwargs: compiled  # compiling again would cost a query's time
    params = tuple(params)
    alias = "" if profile.db_agnostic else using
    try:
        sql_hash = fingerprint.text_hash(compiler, sql, alias, kind, packing)
        digest = fingerprint.digest(sql_hash, params)
    except fingerprint.Unspellable as why:
        return Attempt(compiler, None, str(why))
    plan = _plans.get(digest)
    if plan is None:
        if not collations.known(compiler.connection):
            return Attempt(compiler, None, "the database does not tell its collations")
        for memo, share in _memos:
            memo.size = share * conf.current().memo_size
        try:
            plan = _make_plan(compiler, sql, digest)
        except Exception as error:
            return Attempt(compiler, None, _failed(error))
        _plans.set(digest, plan)
    reason = plan.reason or refusals.read_refusal(using, plan.tables)
    return Attempt(compiler, plan, reason, sql_hash, sql, params)


def _failed(error: Exception) -> str:
    """Why a query is not cached whose analysis failed: it is the user's, and the error is ours."""
    for check in audit:
        check(error)
    *_, place = traceback.extract_tb(error.__traceback__)
    name = type(error).__qualname__
    kind = (name, place.filename, place.lineno or 0)
    if kind not in _failures:
        _failures.add(kind)
        logger.error("cacheops_lite: a query could not be analysed, and is not cached: please "
                     "report this", exc_info=error)  # fmt: skip
    return f"the analysis of the query failed ({name}); the log says where"


def _make_plan(compiler: Any, sql: str, digest: bytes) -> Plan:
    found = conditions.analyse(compiler, sql, conf.current().long_disjunction)
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
    fixed = isinstance(cache.settings.prefix, str)
    ready = _ready.get(plan.digest) if fixed else None
    if ready is None:
        dynamic = {item.table for item in plan.dynamic}
        tables = tuple(
            TablePlan(cache.table(table, using), conjs, table in dynamic)
            for table, conjs in plan.tables.items()
        )
        digest = plan.digest
        if not fixed:
            # A shared main table joined to a tenant's: each tenant has an entry of its own.
            names = "\0".join(table.table for table in tables)
            digest = blake2b(names.encode(), key=digest, digest_size=len(digest)).digest()
        ready = ReadPlan(cache.entry_key(cache.table(main, using), digest), tables)
        if fixed:
            _ready.set(plan.digest, ready)
    return ready
