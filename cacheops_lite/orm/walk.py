"""Every expression in a query, down to the queries inside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models.expressions import Col
from django.db.models.query_utils import FilteredRelation, Q
from django.db.models.sql.query import Query

_LEAVES = (str, bytes, int, float)


def nodes(roots: Iterable[Any]) -> Iterator[Any]:
    """``roots`` and all that hangs below them; a Query is given but not entered."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is None or isinstance(node, _LEAVES):
            continue
        if isinstance(node, (list, tuple, set, frozenset)):
            stack.extend(node)
            continue
        yield node
        if isinstance(node, Query):
            continue
        query = getattr(node, "query", None)
        if isinstance(query, Query):  # a Subquery, or a QuerySet that nobody resolved yet
            stack.append(query)
        if isinstance(node, FilteredRelation):
            stack.append(node.resolved_condition)  # type: ignore[attr-defined]
        elif isinstance(node, Q):
            stack.extend(child[1] if isinstance(child, tuple) else child for child in node.children)
        elif hasattr(node, "get_source_expressions"):
            stack.extend(source for source in node.get_source_expressions() if source is not query)
            rhs = getattr(node, "rhs", None)
            if isinstance(rhs, (list, tuple)):
                stack.extend(rhs)
        elif hasattr(node, "children"):
            stack.extend(node.children)


def ordering(query: Query, compiler: Any = None) -> list[Any]:
    """What ``query`` is ordered by: expressions, and names where there is no compiler to ask."""
    if compiler is not None and not query.combinator:
        before = query.alias_refcount.copy()
        try:
            return [entry[0] for entry in compiler.get_order_by()]
        finally:
            query.reset_refcounts(before)
    meta = query.get_meta()
    items = [*query.extra_order_by, *query.order_by]
    if not items and query.default_ordering and meta is not None:
        items.extend(meta.ordering or ())
    return items


def parts(query: Query, compiler: Any = None) -> list[Any]:
    """The expressions that make up ``query``; with its ``compiler`` those that compiling adds."""
    found: list[Any] = [query.where, *query.select, *query.annotation_select.values()]
    names = {str(name).split("__")[0] for name in query.distinct_fields}
    grouping = query.group_by if isinstance(query.group_by, (list, tuple)) else ()
    for item in (*ordering(query, compiler), *grouping):
        if isinstance(item, str):
            # The name of an annotation that need not be selected.
            name = item.lstrip("-+")
            names.update((name, name.split("__")[0]))
        else:
            found.append(item)
    found.extend(node for name, node in query.annotations.items() if name in names)
    if compiler is not None:
        found.extend(entry[0] for entry in compiler.select or ())
    return found


def columns(roots: Iterable[Any]) -> set[tuple[str, str]]:
    """(alias, column) of every column that ``roots`` name, also from inside of subqueries."""
    found: set[tuple[str, str]] = set()
    stack: list[Any] = [list(roots)]
    while stack:
        for node in nodes([stack.pop()]):
            if isinstance(node, Query):
                stack.append(parts(node))
                stack.extend(restrictions(join) for join in node.alias_map.values())
                stack.append(list(node.combined_queries))
            elif isinstance(node, Col):
                found.add((node.alias, str(node.target.column)))
    return found


def restrictions(join: Any) -> list[Any]:
    """What else than equal columns stands in the ON clause of a join."""
    found: list[Any] = []
    if join.parent_alias is not None:
        found.append(join.join_field.get_extra_restriction(join.table_alias, join.parent_alias))
        if join.filtered_relation is not None:
            found.append(join.filtered_relation.resolved_condition)
    return [node for node in found if node is not None]
