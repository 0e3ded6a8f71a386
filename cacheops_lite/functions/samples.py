"""What ``cached_as`` is told to cache like: samples -> the tables and conjunctions to depend on.

A sample is a model (any row of its table), an instance (its row), a queryset (the rows that meet
its conditions), a policy (the rows that its predicate takes), or a list of those. Resolved at the
first call and again when settings change, so decorating at import time needs neither the settings
nor the app registry.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from django.core.exceptions import EmptyResultSet, FullResultSet, ImproperlyConfigured
from django.db import models, router

from .. import conf, engine
from ..core.entry import ANY_ROW, Conj
from ..core.protocol import TablePlan
from ..orm import choices, planning, reads, refusals, registry, tables
from ..orm.ranges import TRUE
from .calls import Unstable, digest, spell
from .policies import Policy

#: Table -> conjunctions, any of which a changed row may meet.
Tables = dict[str, tuple[Conj, ...]]


@dataclass(frozen=True)
class Resolved:
    """What some samples come to under the settings in force."""

    #: Names the samples: two different querysets make two entries.
    digest: str
    #: By database alias.
    tables: dict[str, Tables]
    #: Seconds.
    timeout: float
    lock: bool
    #: Why nothing can be cached like these samples; empty if it can.
    reason: str = ""

    def refusal(self) -> str:
        """Why the cache must not be used now, for example in a transaction that wrote a table."""
        if self.reason:
            return self.reason
        for alias, found in self.tables.items():
            reason = refusals.read_refusal(alias, found)
            if reason:
                return reason
        return ""

    def plans(self, cache: engine.Engine) -> Iterator[TablePlan]:
        """The dependencies under the names that keys carry."""
        seen: dict[str, dict[Conj, None]] = {}
        for alias, found in self.tables.items():
            for table, conjs in found.items():
                seen.setdefault(cache.table(table, alias), {}).update(dict.fromkeys(conjs))
        for name, merged in seen.items():
            yield TablePlan(name, (ANY_ROW,) if ANY_ROW in merged else tuple(merged))


class Source(Protocol):
    """What results hang on: the samples of a decorator, or a fingerprint."""

    def resolved(self) -> Resolved: ...


class Samples:
    """The samples of one decorator."""

    def __init__(
        self, samples: Iterable[Any], timeout: float | None = None, lock: bool | None = None
    ) -> None:
        self._samples = tuple(_flat(samples))
        self._timeout, self._lock = timeout, lock
        self._settings: conf.Settings | None = None
        self._resolved: Resolved | None = None

    def resolved(self) -> Resolved:
        """The samples under the settings in force. Raises ``ImproperlyConfigured``."""
        settings = conf.current()
        if self._resolved is None or self._settings is not settings:
            self._resolved = self._resolve(settings)
            self._settings = settings
        return self._resolved

    def _resolve(self, settings: conf.Settings) -> Resolved:
        names, reasons = [], []
        timeouts, locks = [self._timeout], [self._lock]
        merged: dict[str, Tables] = {}
        for sample in self._samples:
            found = _one(sample, settings)
            names.append(found.digest)
            reasons.append(found.reason)
            if self._timeout is None:
                timeouts.append(found.timeout or None)
            if self._lock is None:
                locks.append(found.lock)
            for alias, conjs in found.tables.items():
                known = merged.setdefault(alias, {})
                for table, more in conjs.items():
                    known[table] = known.get(table, ()) + more
        given = [timeout for timeout in timeouts if timeout is not None]
        if not given:
            raise ImproperlyConfigured(
                "No timeout (seconds) is known: pass timeout=…, or set it in the CACHEOPS profiles "
                "of the samples or in CACHEOPS_DEFAULTS."
            )
        reason = next(filter(None, reasons), "")
        if reason:
            warnings.warn(
                f"Nothing is cached like these samples: {reason}", RuntimeWarning, stacklevel=6
            )
        return Resolved(digest(names), merged, min(given), any(locks), reason)


def _flat(samples: Iterable[Any]) -> Iterator[Any]:
    for sample in samples:
        if isinstance(sample, list | tuple | set | frozenset):
            yield from _flat(sample)
        elif isinstance(sample, models.Manager):
            yield sample.all()
        elif isinstance(sample, models.QuerySet | models.Model | Policy) or (
            isinstance(sample, type) and issubclass(sample, models.Model)
        ):
            yield sample
        else:
            raise TypeError(
                "Cache like a model, a queryset, an instance, on_change(…) or a list of those, "
                f"not like {sample!r}."
            )


def _one(sample: Any, settings: conf.Settings) -> Resolved:
    model = sample.model if isinstance(sample, models.QuerySet | Policy) else sample
    label = model._meta.label_lower
    profile = settings.profile(label)
    if profile is None or not profile.configured:
        raise ImproperlyConfigured(
            f"Caching is not configured for {label}. Name it in CACHEOPS, for example "
            f"{{'{label}': {{}}}}, and set its timeout."
        )
    if isinstance(sample, models.QuerySet):
        return _queryset(sample, profile)
    if isinstance(sample, models.Model):
        alias = sample._state.db or router.db_for_read(type(sample), instance=sample)
        rows = type(sample)._base_manager.using(alias).filter(pk=sample.pk)
        return _queryset(rows, profile)
    alias = router.db_for_read(model)
    lineage = (model, *model._meta.get_parent_list())
    found: Tables = {each._meta.db_table: (ANY_ROW,) for each in lineage}
    name = spell(model)
    if isinstance(sample, Policy) and sample.column is not None:
        found[model._meta.db_table] = (((sample.column, TRUE),),)
        name += sample.column
    return _checked(name, alias, found, profile)


def _queryset(sample: Any, profile: conf.Profile) -> Resolved:
    profile = choices.adjusted(profile, choices.choice(sample))
    alias = sample.db
    sample = sample._chain()
    sample.query.select_for_update = False  # it is compiled here, where no transaction may be open
    tried = planning.attempt(sample._chain().query, alias, profile, "rows", reads.packing(sample))
    plan = tried.plan
    if plan is None or plan.reason:
        return _coarsely(sample, alias, profile)
    found = dict(plan.tables)
    for item in plan.dynamic:
        found[item.table] = (ANY_ROW,)  # the rows that would tell are not there
    return _checked(plan.digest.hex(), alias, found, profile)


def _coarsely(sample: Any, alias: str, profile: conf.Profile) -> Resolved:
    """Depend on every table that a query names, whatever it does with them.

    A query may be no good for caching its own rows (their order is random, say) and still tell
    what a function looks at.
    """
    found: Tables = {sample.model._meta.db_table: (ANY_ROW,)}
    reason = ""
    try:
        sql, _ = sample._chain().query.get_compiler(alias).as_sql()
        named, reason = tables.sources(sql)
        found.update({source.name: (ANY_ROW,) for source in named})
        name = spell(sample)
    except (EmptyResultSet, FullResultSet):
        name = spell(sample)
    except Unstable as why:
        name, reason = "", str(why)
    return _checked(name, alias, found, profile, reason)


def _checked(
    name: str,
    alias: str,
    found: Tables,
    profile: conf.Profile,
    reason: str = "",
) -> Resolved:
    untracked = sorted(set(found) - registry.current().tracked)
    if untracked and not reason:
        reason = f"tables that are not tracked: {', '.join(untracked)}"
    return Resolved(name, {alias: found}, profile.timeout or 0, profile.lock, reason)
