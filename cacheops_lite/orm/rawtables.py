"""Which tables a raw statement may change: those that it names, and what hangs on them, or all."""

from __future__ import annotations

import re
from typing import Any

from ..core.entry import UNKNOWN, Change
from . import registry
from .collecting import collect, collect_everything
from .rawsql import words
from .targets import targets

#: Statements that change what a table is, not what its rows are, or only as they say.
_DEFINITIONS = frozenset({"create", "alter", "drop", "rename", "reindex", "refresh", "cluster"})


#: CREATE TEMPORARY TABLE IF NOT EXISTS a, in the words of each database.
_TEMPORARY = re.compile(
    r"\bcreate\s+(?:or\s+replace\s+)?(?:(?:local|global)\s+)?temp(?:orary)?\s+"
    r"(?:recursive\s+)?(?:table|view)\s+(?:if\s+not\s+exists\s+)?([^\s(]+)",
    re.IGNORECASE,
)


def temporary(text: str) -> frozenset[str]:
    """The known tables in whose place the statement puts temporary ones."""
    names = _TEMPORARY.findall(text)
    return registry.current().named_in(" ".join(names)) if names else frozenset()


def collect_named(connection: Any, text: str) -> None:
    """Collect what the statement ``text`` may change."""
    known = registry.current()
    named = known.named_in(text)
    if not named or _reaches_beyond(text, known):
        collect_everything(connection, "raw SQL")
        return
    reached = set(named)
    for table in named:
        reached |= known.deletion_reaches(table)
    for table in sorted(reached):
        if table in known.watched:
            model = known.models[table][0]._meta.concrete_model if table in known.models else None
            change = Change(table, UNKNOWN, UNKNOWN)
            collect(connection, [change], cause="raw SQL", model=model)


def _reaches_beyond(text: str, known: registry.Registry) -> bool:
    """Whether more than the tables that it names may change: a view, a partition, a procedure."""
    said = words(text)
    if said and said[0] in _DEFINITIONS and ";" not in text.rstrip("; \t\r\n"):
        return False
    written = targets(text)
    return (
        written is None
        # Django remakes a table of SQLite under this name, and then renames it.
        or not all(known.named_in(table.removeprefix("new__")) for table in written)
        or {"truncate", "cascade"} <= set(said)
    )
