"""Fingerprints: results that are valid while the data is, whoever changes it.

Where rows change behind Django's back, no event tells of it. A fingerprint is asked instead, at
most every so many seconds, by one small SELECT: while it holds, a result is answered from the
cache; when it has moved, the result is computed again. What Django itself writes to tables that it
tracks has the fingerprint asked at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections, models

from .. import conf
from ..core.entry import ANY_ROW
from ..orm import refusals, registry, row_hash
from ..orm.pending import open_transaction
from .backend import Call
from .calls import digest, spell
from .refresh import Refresh
from .results import EngineBackend
from .samples import Resolved, Tables
from .times import number

__all__ = ["Fingerprint", "Newest", "RowHash"]

#: How long it is remembered what belonged to the fingerprint that is asked first, in seconds.
REMEMBERED = 7 * 24 * 60 * 60.0


class _Plan(NamedTuple):
    """A fingerprint under the settings in force, on one database."""

    using: str
    asked: row_hash.Asked
    first: row_hash.Asked | None
    call: Call
    resolved: Resolved
    #: Tables of whose writes nothing tells.
    unseen: str


class Fingerprint:
    """What the rows of a queryset (or of a model, or of ``"app.model"``) look like.

    The base of ``RowHash`` and ``Newest``, which take its options; a kind of your own defines
    ``statement``. ``every``: how many seconds old an answer may be; 0 asks at each call. A change
    is noticed no later than that, as far as clocks agree. ``first``: another, cheaper fingerprint
    of the same database, which is asked instead as long as it holds; what it does not see is not
    seen. ``clock``: seconds since the epoch.
    """

    def __init__(
        self,
        rows: Any,
        *,
        every: float | timedelta = 30.0,
        first: Fingerprint | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        period = number(every, "every is a number of seconds that is not negative", 0)
        self._rows, self._first, self.every = rows, first, float(period)
        self._known: tuple[conf.Settings, str, _Plan] | None = None
        self._published = EngineBackend(self.every or 1, True, self, Refresh(clock=clock))
        self._pairs = EngineBackend(REMEMBERED, None, self)

    # -- what kinds say ------------------------------------------------------------------------

    def statement(self, queryset: Any, using: str) -> row_hash.Asked:
        """The SELECT whose one row is the fingerprint; each kind defines it.

        ``queryset`` are the rows, ``using`` is the alias of their database. Gives a
        ``cacheops_lite.orm.row_hash.Asked``.
        """
        raise NotImplementedError("Take RowHash or Newest, or say what to ask the database.")

    def kind(self) -> list[Any]:
        """What tells apart two fingerprints of one queryset: the name of the class.

        A kind with arguments of its own adds them: ``[*super().kind(), self.argument]``.
        """
        return [type(self).__qualname__]

    # -- asking --------------------------------------------------------------------------------

    def text(self) -> str:
        """The fingerprint, at most ``every`` seconds old: 32 hex digits, good for an ETag."""
        return self.known()[0]

    async def atext(self) -> str:
        """``text`` for async callers."""
        found: str = await sync_to_async(self.text)()
        return found

    def known(self, *, fresh: bool = False) -> tuple[str, bool]:
        """The fingerprint, and whether the database was asked for it by this call, as it is if
        ``fresh``."""
        if not self.every or self.refusal() or not conf.current().enabled:
            return self.asked(), True
        by_us = False

        def load() -> str:
            nonlocal by_us
            by_us = True
            return self._asked_in_turn()

        return str(self._published.read(self._plan().call, load, refresh=fresh).value), by_us

    def asked(self) -> str:
        """The fingerprint as the database has it now."""
        plan = self._plan()
        return digest(row_hash.run(plan.asked, plan.using))

    def _asked_in_turn(self) -> str:
        plan = self._plan()
        if plan.first is None:
            return self.asked()
        cheap = plan.first
        found = row_hash.run(cheap, plan.using)

        def load() -> tuple[str, str]:
            # In one statement: a pair from two moments could be wrong for ever.
            row = row_hash.run(row_hash.both(cheap, plan.asked), plan.using)
            return digest(row[: len(found)]), digest(row[len(found) :])

        call = plan.call._replace(variant="pair")
        pair = self._pairs.read(call, load).value
        if pair[0] != digest(found):
            pair = self._pairs.read(call, load, refresh=True).value
        return str(pair[1])

    # -- where it may be cached ----------------------------------------------------------------

    def tables(self) -> frozenset[str]:
        """The tables that it looks at."""
        return self._plan().asked.tables

    def resolved(self) -> Resolved:
        """The tables that tell of changes, for the cache (see ``samples.Source``)."""
        return self._plan().resolved

    def refusal(self) -> str:
        """Why neither the fingerprint nor what hangs on it may be cached here and now."""
        plan = self._plan()
        if plan.unseen and open_transaction(connections[plan.using]):
            return f"in a transaction nothing tells of its writes to {plan.unseen}"
        return refusals.read_refusal(plan.using, plan.asked.tables)

    def _plan(self) -> _Plan:
        queryset, settings = self.queryset(), conf.current()
        using = queryset.db
        known = self._known
        if known is None or known[0] is not settings or known[1] != using:
            known = self._known = settings, using, self._make(queryset, using)
        return known[2]

    def _make(self, queryset: Any, using: str) -> _Plan:
        asked, first, names = self.statement(queryset, using), None, [spell(self.kind())]
        if self._first is not None:
            before = self._first.queryset().using(using)
            first = self._first.statement(before, using)
            names += [spell(self._first.kind()), spell(before)]
        name = digest([spell(queryset), *names])
        known = registry.current().tracked
        found: Tables = dict.fromkeys(sorted(asked.tables & known), (ANY_ROW,))
        return _Plan(
            using,
            asked,
            first,
            Call(Fingerprint.asked, "fingerprint", name),
            Resolved(name, {using: found}, self.every, True),
            asked.unread or ", ".join(sorted(asked.tables - known)),
        )

    def queryset(self) -> Any:
        """The rows. Raises ``TypeError``, ``ValueError``."""
        rows = self._rows
        if isinstance(rows, str):
            rows = apps.get_model(rows)
        if isinstance(rows, type) and issubclass(rows, models.Model):
            rows = rows._base_manager.all()
        elif isinstance(rows, models.Manager):
            rows = rows.all()
        if not isinstance(rows, models.QuerySet):
            raise TypeError(f"A fingerprint is of a model or a queryset, not of {rows!r}.")
        if rows._prefetch_related_lookups:  # type: ignore[attr-defined]
            raise ValueError(
                "A fingerprint does not see what prefetch_related() reads: give those rows a "
                "fingerprint of their own, cached_by takes several."
            )
        return rows


class RowHash(Fingerprint):
    """A hash of all columns that the queryset selects, or of the ``fields`` that are named.

    It sees every insert, update and delete that touches these columns. PostgreSQL, MySQL, MariaDB
    and SQLite make it; raises ``NotSupportedError`` for another database.
    """

    def __init__(
        self,
        rows: Any,
        fields: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(rows, **options)
        self._fields = tuple(fields) if fields is not None else None
        if isinstance(fields, str) or self._fields == ():
            raise TypeError("fields are names of fields, for example ['id', 'name'].")

    def statement(self, queryset: Any, using: str) -> row_hash.Asked:
        """Count, and the sum of the rows' hashes."""
        if self._fields is not None:
            queryset = queryset.values_list(*self._fields)
        return row_hash.hashed(queryset, using)

    def kind(self) -> list[Any]:
        """All columns, or these."""
        return [*super().kind(), self._fields]


class Newest(Fingerprint):
    """The newest value of a column and the number of rows: cheap, above all with an index.

    ``field`` defaults to the one with ``auto_now``. It sees what moves that value or the number:
    not an update that leaves the column alone, nor one that commits after a newer one did (then
    ``RowHash(rows, ["pk", field])`` is the safe way), nor a delete that an insert makes up for.
    """

    def __init__(
        self,
        rows: Any,
        field: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(rows, **options)
        self._field = field

    def statement(self, queryset: Any, using: str) -> row_hash.Asked:
        """Count, and the greatest value."""
        return row_hash.newest(queryset.values_list(self._name_of(queryset)), using)

    def kind(self) -> list[Any]:
        """This column."""
        return [*super().kind(), self._field]

    def _name_of(self, queryset: Any) -> str:
        if self._field is not None:
            return self._field
        for field in queryset.model._meta.concrete_fields:
            if getattr(field, "auto_now", False):
                return str(field.name)
        raise ValueError(
            f"{queryset.model._meta.label} has no field with auto_now: name one, or use RowHash."
        )
