"""The switch of the test suite: every query answered without compiling it is compiled as well."""

from __future__ import annotations

from typing import Any

from django.db.models.sql.constants import SINGLE

from cacheops_lite.orm import explain, reads


def compare(query: Any, using: str, profile: Any, packing: str, plan: reads.Plan) -> None:
    """The plan found by structure is the plan found by compiling."""
    query = query.clone()
    if packing in ("count", "exists"):
        query = explain._single_query(query, packing, using)
        slow = reads.attempt(query, using, profile, SINGLE, "")
    else:
        slow = reads.attempt(query, using, profile, "rows", packing)
    assert slow.plan is not None
    assert slow.plan.digest == plan.digest, f"another key by structure: {query}"
    theirs = {table: set(conjs) for table, conjs in slow.plan.tables.items()}
    ours = {table: set(conjs) for table, conjs in plan.tables.items()}
    assert ours == theirs, f"other dependencies by structure: {query}"
