"""Which columns a database compares, or keeps, by rules that the spelling does not cover.

Models rarely say: a text takes the collation of its table or database, or of a migration by hand,
and a column of an older table may keep no fractions of seconds. So the database is asked, once per
process and database, past the query log. Such columns are no terms; their tables' dependencies are
wider instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from django.db import Error

from .folding import known_collation
from .own_cursor import own_cursor

#: (table, column, collation) of each text column, "rounded" of a moment that is cut or rounded,
#: "scale n" of a decimal with n places; SQLite: (table, "", the SQL that made it).
_QUESTIONS: Final[dict[str, str]] = {
    "mysql": """
        SELECT table_name, column_name, collation_name FROM information_schema.columns
        WHERE table_schema = DATABASE() AND collation_name IS NOT NULL
        UNION ALL SELECT table_name, column_name, 'rounded' FROM information_schema.columns
        WHERE table_schema = DATABASE() AND datetime_precision < 6
        AND data_type IN ('datetime', 'timestamp', 'time')
        UNION ALL SELECT table_name, column_name, CONCAT('scale ', numeric_scale)
        FROM information_schema.columns
        WHERE table_schema = DATABASE() AND data_type = 'decimal'
        UNION ALL SELECT '', '', @@collation_database
    """,
    # All others compare bytes, whatever they are called. What says how many digits of a second are
    # kept is -1 for all of them; of an interval it says more, and Django makes none that has it.
    # Of a decimal it holds precision and scale, as numerictypmodin() packs them.
    "postgresql": """
        SELECT c.relname, a.attname, CASE
            WHEN coalesce(base.typname, t.typname) <> 'numeric' THEN 'nondeterministic'
            WHEN coalesce(nullif(a.atttypmod, -1), t.typtypmod) = -1 THEN 'scale 1000'
            ELSE 'scale ' ||
                ((coalesce(nullif(a.atttypmod, -1), t.typtypmod) - 4 & 2047) # 1024) - 1024
            END
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_catalog.pg_type base ON base.oid = t.typbasetype
        LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
        WHERE a.attnum > 0 AND NOT a.attisdropped
        AND (
            NOT l.collisdeterministic OR 'citext' IN (t.typname, base.typname)
            OR coalesce(base.typname, t.typname)
                IN ('timestamp', 'timestamptz', 'time', 'timetz', 'interval')
            AND coalesce(nullif(a.atttypmod, -1), t.typtypmod) NOT IN (-1, 6)
            OR coalesce(base.typname, t.typname) = 'numeric'
        )
    """,
    "sqlite": """
        SELECT tbl_name, '', sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%COLLATE%'
    """,
}
_COLLATE: Final = re.compile(r"""'[^']*'|\bCOLLATE\s+["`\[]?([^"`\],)]+)""", re.IGNORECASE)

Column = tuple[str, str]


class Rules(NamedTuple):
    """What one database says of its columns; names are in lower case."""

    odd: frozenset[Column]
    #: Every table that it has named.
    tables: frozenset[str]
    #: Whether a table that it has not named has columns that may be terms.
    default: bool
    #: How many places the decimals have; a name that is in several schemas has the fewest.
    scales: Mapping[Column, int]

    def exact(self, table: str, column: str) -> bool:
        """Whether the column keeps what it is given."""
        return (table.lower(), column.lower()) not in self.odd

    def foldable(self, table: str, column: str) -> bool:
        """Whether the column compares by rules that folding covers."""
        table = table.lower()
        if not self.exact(table, column) or (table, "") in self.odd:
            return False
        return self.default or table in self.tables

    def keeps(self, table: str, column: str, places: int) -> bool:
        """Whether the column is known to keep as many decimal places."""
        return self.scales.get((table.lower(), column.lower()), -1) >= places


#: (alias, database) -> rules.
_rules: dict[tuple[str, str], Rules] = {}
_forgetful: list[Callable[[], None]] = []


def known(connection: Any) -> bool:
    """Whether the rules of this connection's database are known; asks for them if not."""
    key = _place(connection)
    if key in _rules:
        return True
    rows = _ask(connection)
    if rows is None:
        return False
    _rules[key] = rules_of(connection.vendor, rows)
    return True


def _place(connection: Any) -> tuple[str, str]:
    return (connection.alias, str(connection.settings_dict["NAME"]))


def keeps(connection: Any, table: str, column: str, places: int) -> bool:
    """Whether a column of this connection's database is known to keep as many decimal places."""
    if connection.vendor == "sqlite":  # 15 digits, whatever the column is declared to be
        return True
    rules = _rules.get(_place(connection))
    return rules is not None and rules.keeps(table, column, places)


def foldable(table: str, column: str) -> bool:
    """Whether no database asked so far compares the column by rules that nobody checked."""
    return all(rules.foldable(table, column) for rules in _rules.values())


def exact(table: str, column: str) -> bool:
    """Whether no database asked so far cuts or rounds what the column, no text, is given."""
    return all(rules.exact(table, column) for rules in _rules.values())


def forget() -> None:
    """Ask again, as the tables have changed."""
    _rules.clear()
    for call in _forgetful:
        call()


def on_forget(call: Callable[[], None]) -> None:
    """Call it whenever what was learnt of the rules is out of date."""
    _forgetful.append(call)


def rules_of(vendor: str, rows: Iterable[tuple[str, str, str]]) -> Rules:
    """The rules that follow from the answer of a database of this vendor."""
    odd: set[Column] = set()
    tables: set[str] = set()
    scales: dict[Column, int] = {}
    default = vendor in _QUESTIONS
    for table, column, said in rows:
        name = (table.lower(), column.lower())
        if said.startswith("scale "):
            scales[name] = min(int(said[6:]), scales.get(name, 1000))
            continue
        covered = not odd_in(said) if vendor == "sqlite" else known_collation(said)
        if not table:
            default = covered
            continue
        tables.add(name[0])
        if not covered:
            odd.add(name)
    return Rules(frozenset(odd), frozenset(tables), default, scales)


def odd_in(sql: str) -> bool:
    """Whether the statement that made a table of SQLite names a collation that is not known."""
    names = (match[1] for match in _COLLATE.finditer(sql))
    return any(name and not known_collation(name.strip()) for name in names)


def _ask(connection: Any) -> list[tuple[str, str, str]] | None:
    """The answer of the database, or None if there is none."""
    question = _QUESTIONS.get(connection.vendor)
    if question is None:
        return []
    try:
        with own_cursor(connection) as cursor:
            cursor.execute(question)
            return [(str(one), str(two), str(three)) for one, two, three in cursor.fetchall()]
    except Error:
        return None
