"""Why a queryset is cached or not, on what its results depend, and what it costs to drop them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models.query import MAX_GET_RESULTS
from django.db.models.sql.constants import SINGLE

from .. import conf, engine
from ..core.entry import Conj
from . import choices, planning, reads, singles

#: What can be explained.
OPS = ("count", "exists", "fetch", "get")


@dataclass(frozen=True)
class Explanation:
    """The answer of ``queryset.cache_explain()``; ``print()`` shows it in words."""

    #: The label of the model: ``"blog.Post"``.
    model: str
    #: The op that was asked about.
    op: str
    #: Whether a read now would go through the cache.
    cacheable: bool
    #: Why not; empty if it would.
    reason: str
    #: The key of the entry in Redis; empty if there is none.
    key: bytes = b""
    #: Table -> conjunctions ((column, text), …); ``()`` is any row of the table.
    dependencies: dict[str, tuple[Conj, ...]] = field(default_factory=dict)
    #: Tables whose rows become dependencies one by one when the result is known: (table, column).
    dynamic: tuple[tuple[str, str], ...] = ()
    #: Where conditions could not be used in full: (table, why).
    widened: tuple[tuple[str, str], ...] = ()
    #: Whether a valid result is stored now.
    cached: bool = False
    #: If not, why a read would miss: ``"absent"``, ``"stamp"`` and so on.
    miss: str = ""
    #: Seconds that a stored result lives.
    timeout: float | None = None
    #: Seconds that the stored result still lives.
    ttl: float | None = None

    def dropped_by(self) -> list[str]:
        """The writes that drop this result, in words."""
        found = []
        for table, conjs in self.dependencies.items():
            for conj in conjs:
                terms = " and ".join(f"{column}={text}" for column, text in conj)
                found.append(
                    f"a write of a row of {table} with {terms}, before or after it"
                    if conj
                    else f"any write of {table}"
                )
        found += [
            f"a write of a row of {table} that the result shows or joins, found by {column}"
            for table, column in self.dynamic
        ]
        return found

    def __str__(self) -> str:
        lines = [f"{self.model}.{self.op}: " + ("cacheable" if self.cacheable else self.reason)]
        if self.key:
            lines.append(f"  key      {self.key.decode(errors='replace')}")
            state = "yes" if self.cached else f"no ({self.miss or 'not cacheable now'})"
            left = f", {self.ttl:.0f} s left" if self.ttl is not None else ""
            lines.append(f"  cached   {state}, timeout {self.timeout} s{left}")
        lines += [f"  dropped by {write}" for write in self.dropped_by()]
        lines += [f"  widened  {table}: {why}" for table, why in self.widened]
        return "\n".join(lines)


def explain(queryset: Any, op: str) -> Explanation:
    """Explain one op of a queryset without running it.

    ``op`` is "fetch", "get", "count" or "exists"; raises ``ValueError`` for another. An aggregate
    hangs on its expressions, which a queryset does not have.
    """
    if op not in OPS:
        raise ValueError(
            f"cache_explain() tells of 'count', 'exists', 'fetch' or 'get'; got {op!r}."
        )
    label = queryset.model._meta.label
    settings = conf.current()
    profile = choices.profile_for(queryset, op)
    reason = ""
    if profile is None:
        reason = _why_not(queryset, op, settings)
        found = settings.profile(queryset.model._meta.label_lower)
        if found is None or queryset.query.select_for_update:
            # Some databases refuse to compile a locking query outside a transaction.
            return Explanation(label, op, False, reason)
        profile = replace(found, timeout=found.timeout or 1)
    query = queryset._chain().query
    if op == "get":
        if query.can_filter() and not query.distinct_fields:
            query.clear_ordering(force=True)
        query.set_limits(high=MAX_GET_RESULTS)
    if op in ("count", "exists"):
        query = _single_query(query, op, queryset.db)
        kind, packing = str(SINGLE), ""
    else:
        kind, packing = "rows", reads.packing(queryset)
    tried = planning.attempt(query, queryset.db, profile, kind, packing)
    reason = reason or tried.reason
    if tried.plan is None:
        return Explanation(label, op, False, reason)
    plan = tried.plan
    cache = engine.current()
    wanted = planning.read_plan(cache, plan, queryset.db, queryset.model._meta.db_table)
    cached, miss = False, ""
    if settings.active and not plan.reason:
        outcome = cache.peek(wanted, lambda data: cache.codec.bytes_to_rows(data, wanted.entry))
        cached, miss = outcome.hit, outcome.reason
    return Explanation(
        label, op, not reason, reason,
        key=wanted.entry,
        dependencies=plan.tables,
        dynamic=tuple((item.table, item.column) for item in plan.dynamic),
        widened=plan.widened,
        cached=cached, miss=miss, timeout=profile.timeout,
        ttl=cache.seconds_left(wanted.entry) if cached else None,
    )  # fmt: skip


def _single_query(query: Any, op: str, using: str) -> Any:
    from django.db.models import Count

    if op == "exists":
        return query.exists()
    captured: list[Any] = []

    class Caught(Exception):
        pass

    def catch(compiler: Any, execute: Any) -> Any:
        captured.append(compiler.query)
        raise Caught

    aggregation = query.clone().get_aggregation
    with suppress(Caught):
        singles.asking(aggregation, using, {"__count": Count("*")})(catch)
    return captured[0] if captured else query


def _why_not(queryset: Any, op: str, settings: conf.Settings) -> str:
    profile = settings.profile(queryset.model._meta.label_lower)
    if not settings.enabled:
        return "CACHEOPS_ENABLED is False"
    if profile is None:
        return "the profile forbids it (None), or CACHEOPS is empty"
    if not profile.configured:
        return "no CACHEOPS pattern names this model"
    if queryset.query.select_for_update:
        return "select_for_update()"
    if queryset._for_write:
        return "the queryset is read in order to write"
    chosen = choices.choice(queryset)
    if chosen.ops is not None:
        return f"op {op!r} was not chosen by .cache(ops=…), or .nocache() was called"
    return f"op {op!r} is not in the profile's ops; call .cache()"
