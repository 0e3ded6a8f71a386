"""What one query of several, one inside another, says of the rows of its tables.

Besides its WHERE and ON clauses it is told by the queries around it: ``author = OuterRef("pk")``
inside a query for author 3 is about posts of author 3, and so is ``author IN (query)`` about what
the query selects. For a row of the inner query matters only for those rows of the outer one that
can be in the result at all, whatever the inner one answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.models.expressions import Col

from ..core import dnf
from . import joins, unread, values
from .where import ANY, Condition, Outer, WhereReader


class Level(NamedTuple):
    """``options``: alias -> conjunctions; ``texts``: what the queries inside are told."""

    options: dict[str, joins.Options]
    texts: Outer
    widened: unread.Notes


def read(
    query: Any, aliases: dict[str, joins.Alias], outer: Outer, sought: Any, limit: int
) -> Level:
    """Read one query.

    ``outer``: what is known of the columns of the queries around it; ``sought``: the column of
    theirs that is looked for among its rows, by IN, or None.
    """
    # What is left in HAVING and QUALIFY looks at groups, no row is kept out by it.
    where, *others = query.where.split_having_qualify(must_group_by=query.group_by is not None)
    reader = WhereReader({name: alias.table for name, alias in aliases.items()}, limit, outer)
    condition = reader.true(where) if where is not None else ANY
    if any(other is not None for other in others):
        reader.widened.add("a condition on groups or windows keeps out no row")
    if sought is not None:
        condition = dnf.conjoin([condition, _selected(query, aliases, reader, sought)], limit)
    said = {
        name: dnf.conjoin(map(reader.true, alias.restrictions), limit)
        for name, alias in aliases.items()
        if alias.restrictions
    }
    options = joins.project(condition, aliases, said, limit)
    return Level(options, _texts(options, aliases), reader.widened)


def _selected(
    query: Any, aliases: dict[str, joins.Alias], reader: WhereReader, sought: Any
) -> Condition:
    """What holds of the rows that answer ``sought IN (query)``, where each answers by itself."""
    columns = [*query.select, *query.annotation_select.values()]
    folded = query.group_by is not None or query.distinct_fields
    if query.is_sliced or folded or len(columns) != 1 or type(columns[0]) is not Col:
        return ANY
    column = columns[0]
    if column.alias not in aliases or _outer(column.alias, aliases):
        return ANY
    found = reader.carried(column, sought)
    # For NULL it matters whether there is any row: NULL NOT IN (nothing) is true.
    if found is None or values.NULL in found[1]:
        return ANY
    key, texts = found
    # And among the rows NULL matters for every value: 1 NOT IN (2, NULL) is unknown.
    null = () if column.target.primary_key else (values.NULL,)
    return dnf.one_of(key, (*sorted(texts), *null), reader.limit)


def _texts(options: dict[str, joins.Options], aliases: dict[str, joins.Alias]) -> Outer:
    """The columns of which it is known what they hold in every row that can be in the result."""
    known: Outer = {}
    for name, conjs in options.items():
        rows = [dict(conj) for conj in conjs]
        # Behind an outer join there may be no row at all.
        absent = {values.NULL} if _outer(name, aliases) else set()
        for column in set.intersection(*map(set, rows)) if rows else ():
            known[name, column] = frozenset(row[column] for row in rows) | absent
    return known


def _outer(name: str, aliases: dict[str, joins.Alias]) -> bool:
    return any(aliases[one].outer for one in joins.path(name, aliases))
