"""What a compiled query depends on: per table, the conjunctions of which a changed row meets one.

The promise: if a change of one row changes the result, then the row before it or the row after it
satisfies a conjunction of its table. A query is read level by level, from the outside to the
innermost subquery; at each level the WHERE clause says which rows of which table can take part at
all, whatever is made of them afterwards. What no level explains is caught at the end by comparing
with the tables that the SQL names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.db.models.expressions import RawSQL, Subquery
from django.db.models.fields.related_lookups import RelatedIn
from django.db.models.lookups import In
from django.db.models.sql.query import Query
from django.db.models.sql.subqueries import AggregateQuery

from ..core import dnf
from ..core.entry import Conj, conjunction
from . import dynamic, joins, levels, volatile, walk
from .dynamic import Dynamic
from .tables import Source, sources
from .where import Outer

#: How many conjunctions a table may have before they are widened.
LONG_DISJUNCTION: Final = 64


@dataclass(frozen=True)
class Conditions:
    """The dependencies of a query.

    ``tables``: table -> conjunctions; ``((),)`` is any row, ``()`` no row at all.
    ``dynamic``: what is to be added for every row of the result.
    ``reason``: why the query must not be cached, '' if it may.
    ``widened``: (table, why) where conditions became coarser than the query.
    """

    tables: dict[str, tuple[Conj, ...]]
    dynamic: tuple[Dynamic, ...]
    reason: str
    widened: tuple[tuple[str, str], ...]


def analyse(compiler: Any, sql: str, limit: int = LONG_DISJUNCTION) -> Conditions:
    """The dependencies of the query that ``compiler`` has just compiled to ``sql``.

    At most ``limit`` conjunctions come out for a table.
    """
    reading = _Reading(compiler.connection, sql, limit)
    reading.level(compiler.query, compiler)
    reading.check_tables()
    return Conditions(
        tables={table: reading.conjunctions(table) for table in reading.options},
        dynamic=tuple(dict.fromkeys(reading.dynamic)),
        reason=reading.reason or volatile.why_sql(sql),
        widened=tuple(dict.fromkeys(reading.widened)),
    )


class _Reading:
    """One analysis under way."""

    def __init__(self, connection: Any, sql: str, limit: int) -> None:
        self.connection = connection
        self.limit = limit
        self.sources, unread = sources(sql)
        self.reason = f"not understood: {unread}" if unread else ""
        self.options: dict[str, list[dnf.Conjunct[str]]] = {}
        self.seen: set[Source] = set()
        self.dynamic: list[Dynamic] = []
        self.widened: list[tuple[str, str]] = []

    def refuse(self, reason: str) -> None:
        self.reason = self.reason or reason

    def any_row(self, table: str, why: str) -> None:
        self.options.setdefault(table, []).append(frozenset())
        self.widened.append((table, why))

    def level(
        self,
        query: Any,
        compiler: Any = None,
        outer: Outer | None = None,
        sought: Any = None,
    ) -> None:
        """Read one query, and those inside it.

        ``outer``: what is known of the columns of the enclosing queries; ``sought``: the column
        of theirs that is looked for among the rows of this one, by IN.
        """
        for known in (query, compiler):
            if known is not None and not type(known).__module__.startswith("django."):
                return self.refuse(f"unknown {type(known).__qualname__}")
        if not isinstance(query, Query):
            return self.refuse(f"unknown {type(query).__qualname__}")
        if query.extra_tables or query.extra_order_by or not self.prefetches(query):
            self.refuse("raw SQL: extra()")
        outer = outer or {}
        if isinstance(query, AggregateQuery):
            self.expressions(query.annotation_select.values(), query, outer)
            return self.level(query.inner_query, outer=outer)
        if query.combinator:
            self.expressions(walk.parts(query), query, outer)
            for part in query.combined_queries:
                self.level(part, outer=outer)
            return None
        used = {
            name: join
            for name, join in query.alias_map.items()
            if query.alias_refcount.get(name) or self.source(join) in self.sources
        }
        aliases = joins.tree(query.alias_map, used)
        if isinstance(aliases, str):
            self.refuse(aliases)
            aliases = {}
        self.seen.update(self.source(join) for join in used.values())
        level = levels.read(query, aliases, outer, sought, self.limit)
        self.widened += level.widened
        self.tables(query, aliases, level.options, compiler)
        self.expressions(
            [*walk.parts(query, compiler), *(alias.restrictions for alias in aliases.values())],
            query,
            outer | level.texts if aliases else {},
            compiler,
        )
        return None

    def tables(
        self,
        query: Any,
        aliases: dict[str, joins.Alias],
        options: dict[str, joins.Options],
        compiler: Any,
    ) -> None:
        """Add what one level says of its tables to what is known of them."""
        known = dynamic.find(compiler, aliases) if compiler is not None else {}
        raw = {sql.rpartition(".")[0] for sql, _ in query.extra.values()}
        quote = self.connection.ops.quote_name
        for name, alias in aliases.items():
            found = self.options.setdefault(alias.table, [])
            if name not in known or quote(alias.table) in raw:
                found.extend(options[name])
            elif (shown := known[name]) is not None:
                if dnf.is_any(tuple(options[name])):
                    self.dynamic.append(shown)
                else:
                    found.extend(options[name])

    def expressions(
        self, roots: Iterable[Any], query: Any, outer: Outer, compiler: Any = None
    ) -> None:
        """Refuse what is not to be cached among ``roots``, and read the queries inside."""
        inner: dict[int, Query] = {}
        sought: dict[int, list[Any]] = {}
        for node in walk.nodes(roots):
            if isinstance(node, Query):
                inner[id(node)] = node
                sought.setdefault(id(node), []).append(None)
                continue
            if type(node) in (In, RelatedIn) and isinstance(node.rhs, Query):
                sought.setdefault(id(node.rhs), []).append(node.lhs)
            if type(node) is RawSQL and (node.sql, node.params) in query.extra.values():
                continue  # a column of ``prefetch_related``, or refused already
            reason = volatile.why_expression(node)
            if reason:
                self.refuse(reason)
            elif volatile.own_sql(node):
                self.foreign(node, query, compiler)
        for found, subquery in inner.items():
            # Named by one IN, be it met twice, and by nothing else.
            columns = [column for column in sought[found] if column is not None]
            alone = 2 * len(columns) == len(sought[found]) and len(set(map(id, columns))) == 1
            self.level(subquery, outer=outer, sought=columns[0] if alone else None)

    def prefetches(self, query: Any) -> bool:
        """Whether all of ``extra(select=…)`` are columns that ``prefetch_related`` asks for."""
        quote = self.connection.ops.quote_name
        tables = {quote(join.table_name) for join in query.alias_map.values()}
        for name, (sql, params) in query.extra.items():
            table, _, column = sql.rpartition(".")
            plain = table in tables and column == quote(column.strip('"`')) and not params
            if not plain or not name.startswith("_prefetch_related_val_"):
                return False
        return True

    def foreign(self, node: Any, query: Any, compiler: Any) -> None:
        """An expression that writes its own SQL: every row of what it reads by itself."""
        if isinstance(node, Subquery):
            return None  # its tables are compared with those of the whole SQL
        try:
            compiler = compiler or query.get_compiler(connection=self.connection)
            sql, _ = compiler.compile(node)
        except Exception:
            return self.refuse(f"unknown expression {type(node).__qualname__}")
        found, unread = sources(sql)
        if unread:
            self.refuse(f"unknown expression {type(node).__qualname__}: {unread}")
        for source in found:
            self.unexplained(source, f"read by {type(node).__qualname__}")
        return None

    def source(self, join: Any) -> Source:
        """How the FROM clause names ``join``."""
        quoted = self.connection.ops.quote_name(join.table_name)
        found, _ = sources(f"SELECT 1 FROM {quoted}")
        name = next(iter(found)).name if found else join.table_name
        alias = join.table_alias
        return Source(name, name.rpartition(".")[2] if alias == join.table_name else alias)

    def check_tables(self) -> None:
        """The safety net: what the SQL reads and no level explained is any row."""
        for source in self.sources - self.seen:
            self.unexplained(source, "read by SQL that was not understood")

    def unexplained(self, source: Source, why: str) -> None:
        tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
        # A name may hold a schema, quoted or not.
        names = {table.replace('"', "").replace("`", ""): table for table in tables}
        if source.name in names:
            self.any_row(names[source.name], why)
        else:
            self.refuse(f"unknown table {source.name}")

    def conjunctions(self, table: str) -> tuple[Conj, ...]:
        exact = dnf.absorb(self.options[table])
        options = dnf.widen(exact, self.limit)
        if len(options) < len(exact):
            self.widened.append((table, f"more than {self.limit} conditions"))
        return tuple(sorted(map(conjunction, options)))
