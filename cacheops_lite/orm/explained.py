"""Statements whose effect somebody tells himself: nobody reads their SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from .pending import Pending, pending


def is_explained(state: Pending, sql: Any) -> bool:
    """Whether the effect of a statement is told by whoever gives it to the cursor now."""
    return bool(state.explained) and isinstance(sql, str) and sql in state.explained[-1]


def explained(compiler: Any, run: Callable[[], Any]) -> Any:
    """Run a compiler whose caller collects what its statements do.

    They are known by their texts: others may run meanwhile on the same table, in ``pre_save`` of a
    field or in an execute wrapper.
    """
    told: set[str] = set()
    compiled = compiler.as_sql

    def as_sql(*args: Any, **kwargs: Any) -> Any:
        found = compiled(*args, **kwargs)
        told.update(sql for sql, _ in (found if isinstance(found, list) else (found,)))
        return found

    statements = pending(compiler.connection).explained
    statements.append(told)
    compiler.as_sql = as_sql
    try:
        return run()
    finally:
        del compiler.as_sql
        statements.pop()


@contextmanager
def unheeded(connection: Any) -> Iterator[Any]:
    """A cursor whose statements are nobody's business: they change nothing that is cached."""
    statements = pending(connection).explained
    statements.append(_Every())
    try:
        with closing(connection.cursor()) as cursor:
            yield cursor
    finally:
        statements.pop()


class _Every:
    """Holds whatever statement is asked for."""

    def __contains__(self, sql: object) -> bool:
        return True
