"""One small SELECT that tells whether the rows of a queryset have changed: hash, count, newest.

The hash is made and added up *in the database*: each row's columns become one text, that text a
128-bit hash, and the hashes are summed, which does not depend on the order of rows. The columns are
those that the queryset selects, and what it is ordered by, for that decides which row comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import NotSupportedError, connections, models
from django.db.models.expressions import ColPairs

from . import tables

#: More arguments than this one function of SQLite may not take.
MOST_ARGUMENTS: Final = 90
_FUNCTION: Final = "cacheops_row"
_AGGREGATE: Final = "cacheops_rows"


class Asked(NamedTuple):
    """A SELECT of one row: ``sql``, ``params``, ``tables`` and ``unread``.

    ``tables`` is a frozenset of the names of the tables that it reads; ``unread`` says why they are
    not known, and is empty if they are.
    """

    sql: str
    params: tuple[Any, ...]
    tables: frozenset[str]
    unread: str


class _Inner(NamedTuple):
    sql: str
    params: tuple[Any, ...]
    #: Quoted names of the columns, and what Django knows them as.
    columns: list[tuple[str, Any]]


def hashed(queryset: Any, using: str) -> Asked:
    """Count and hash of what a queryset selects. Raises ``NotSupportedError``, ``ValueError``."""
    inner = _inner(queryset, using)
    if inner is None:
        return Asked("SELECT 0", (), frozenset(), "")
    make = _BY_VENDOR.get(connections[using].vendor)
    if make is None:
        raise NotSupportedError(
            f"No hash of rows is known for {connections[using].vendor}: use Newest(…, field)."
        )
    return _asked(make(inner), inner)


def newest(queryset: Any, using: str) -> Asked:
    """Count and greatest value of the one column that a queryset selects."""
    inner = _inner(queryset.order_by() if not queryset.query.is_sliced else queryset, using)
    if inner is None:
        return Asked("SELECT 0", (), frozenset(), "")
    column, _ = inner.columns[0]
    return _asked(f"SELECT COUNT(*) AS n, MAX({column}) AS newest FROM ({inner.sql}) r", inner)


def both(one: Asked, other: Asked) -> Asked:
    """Two of them in one statement, so that both tell of the same moment."""
    return Asked(
        f"SELECT a.*, b.* FROM ({one.sql}) a CROSS JOIN ({other.sql}) b",
        (*one.params, *other.params),
        one.tables | other.tables,
        one.unread or other.unread,
    )


def run(asked: Asked, using: str) -> tuple[str, ...]:
    """The row that the database answers, as texts."""
    connection = connections[using]
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        raw = connection.connection
        raw.create_function(_FUNCTION, -1, _row, deterministic=True)
        raw.create_aggregate(_AGGREGATE, -1, _Rows)
    with connection.cursor() as cursor:
        cursor.execute(asked.sql, asked.params)
        return tuple(str(value) for value in cursor.fetchone())


def _asked(sql: str, inner: _Inner) -> Asked:
    named, unread = tables.sources(inner.sql)
    return Asked(sql, inner.params, frozenset(source.name for source in named), unread)


def _inner(queryset: Any, using: str) -> _Inner | None:
    """What a queryset selects and what it is ordered by, under names of our own."""
    query = queryset.query.clone()
    if "?" in query.order_by:
        raise ValueError("Rows in a random order have no fingerprint: leave order_by('?') out.")
    query.select_for_update = False
    compiler = query.get_compiler(using)
    original = compiler.pre_sql_setup
    more: list[tuple[str, Any]] = []

    def pre_sql_setup(*args: Any, **kwargs: Any) -> Any:
        extra, order_by, group_by = original(*args, **kwargs)
        if query.combinator:
            return extra, order_by, group_by
        if not extra:
            extra = [
                (expression, (compiler.ordering_parts.search(sql)[1], params), None)
                for expression, (sql, params, is_ref) in order_by or ()
                if not is_ref
            ]
        extra = [(expression, sql, f"order{i}") for i, (expression, sql, _) in enumerate(extra)]
        more.extend((name, expression) for expression, _, name in extra)
        # Which rows come first matters only where there is a limit.
        return extra, order_by if query.is_sliced else None, group_by

    compiler.pre_sql_setup = pre_sql_setup
    try:
        sql, params = compiler.as_sql(with_col_aliases=True)
    except EmptyResultSet:
        return None
    named = [(alias, expression) for expression, _, alias in compiler.select]
    if any(alias is None or isinstance(expression, ColPairs) for alias, expression in named):
        raise ValueError("A composite primary key has no fingerprint: name its fields instead.")
    quote = connections[using].ops.quote_name
    columns = [(quote(alias), expression) for alias, expression in (*named, *more)]
    return _Inner(sql, tuple(params), columns)


# -- by database -------------------------------------------------------------------------------


def _postgresql(inner: _Inner) -> str:
    # A record's text tells NULL from '' and quotes what it must.
    record = ", ".join(column for column, _ in inner.columns)
    halves = ", ".join(
        f"COALESCE(SUM(('x' || {half}(h, 16))::bit(64)::bigint::numeric), 0) AS {half}_half"
        for half in ("left", "right")
    )
    return (
        f"SELECT COUNT(*) AS n, {halves} FROM"
        f" (SELECT md5(ROW({record})::text) AS h FROM ({inner.sql}) r) t"
    )


def _mysql(inner: _Inner) -> str:
    # A hash of each column first: of a longer text than fits a packet it would be NULL.
    parts = ", ".join(
        f"COALESCE(MD5(CAST({_in_full(column, expression)} AS BINARY)), '-')"
        for column, expression in inner.columns
    )
    halves = ", ".join(
        f"COALESCE(SUM(CAST(CONV({half}(h, 16), 16, 10) AS UNSIGNED)), 0) AS {half}_half"
        for half in ("left", "right")
    )
    return (
        f"SELECT COUNT(*) AS n, {halves} FROM"
        f" (SELECT MD5(CONCAT({parts})) AS h FROM ({inner.sql}) r) t"
    )


def _in_full(column: str, expression: Any) -> str:
    """FLOAT shows six digits of the seven that it keeps, unless it is made a DOUBLE."""
    field = getattr(expression, "output_field", None)
    return f"({column} + 0E0)" if isinstance(field, models.FloatField) else column


def _sqlite(inner: _Inner) -> str:
    names: Sequence[str] = [column for column, _ in inner.columns]
    while len(names) > MOST_ARGUMENTS:
        names = [
            f"{_FUNCTION}({', '.join(names[start : start + MOST_ARGUMENTS])})"
            for start in range(0, len(names), MOST_ARGUMENTS)
        ]
    return f"SELECT COUNT(*) AS n, {_AGGREGATE}({', '.join(names)}) AS h FROM ({inner.sql}) r"


def _row(*values: Any) -> bytes:
    """SQLite has no hash of its own; it runs in this process, and so do its functions."""
    whole = blake2b(digest_size=16)
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        whole.update(b"%s:%d:" % (type(value).__name__.encode(), len(data)))
        whole.update(data)
    return whole.digest()


class _Rows:
    def __init__(self) -> None:
        self.total = 0

    def step(self, *values: Any) -> None:
        self.total += int.from_bytes(_row(*values), "big")

    def finalize(self) -> str:
        return f"{self.total:x}"


_BY_VENDOR: dict[str, Callable[[_Inner], str]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "sqlite": _sqlite,
}
