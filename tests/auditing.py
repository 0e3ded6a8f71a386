"""The switch of the test suite: every query answered without compiling it is compiled as well.

And every step that a queryset takes without building its query is taken as Django does, too. What
is kept from users, because their query is no worse for it, is raised.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.models.sql.constants import SINGLE

from cacheops_lite.orm import explain, planning, reads


def compare(query: Any, using: str, profile: Any, packing: str, hot: reads.Hot) -> None:
    """The plan found by structure is the plan found by compiling, and so is what is asked."""
    if packing == "aggregate":
        return  # its query is made by the call; the answers are compared with the database's
    query = query.clone()
    if packing in ("count", "exists"):
        query = explain._single_query(query, packing, using)
        slow = planning.attempt(query, using, profile, SINGLE, "")
    else:
        slow = planning.attempt(query, using, profile, "rows", packing)
    plan = hot.plan
    assert slow.plan is not None
    assert slow.plan.digest == plan.digest, f"another key by structure: {query}"
    theirs = {table: set(conjs) for table, conjs in slow.plan.tables.items()}
    ours = {table: set(conjs) for table, conjs in plan.tables.items()}
    assert ours == theirs, f"other dependencies by structure: {query}"
    if hot.bound is not None:
        assert (hot.bound.statement.sql, hot.bound.params) == (slow.sql, slow.params)
        assert list(map(type, hot.bound.params)) == list(map(type, slow.params))


def complain(error: Exception) -> None:
    """An analysis that fails is an error of ours, which users only find in their logs."""
    raise error


def compare_step(queryset: Any, node: Any) -> None:
    """What a step seen before leads to is what Django makes of it now."""
    assert queryset._iterable_class is node.iterable
    assert queryset._fields == node.fields
    using = queryset._db or "default"  # a router would have to be asked
    assert spelt(queryset.query.clone(), using) == spelt(node.build(), using)


def spelt(query: Any, using: str) -> Any:
    """The SQL and its parameters, and what compiling does not show."""
    try:
        sql = query.get_compiler(using).as_sql()
    except (EmptyResultSet, FullResultSet) as error:
        sql = type(error)
    except Exception as error:
        sql = repr(error)
    return sql, query.used_aliases, query.filter_is_sticky, sorted(map(str, query.annotations))
