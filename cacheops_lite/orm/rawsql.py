"""What a raw SQL statement does, read from its words: nothing, a write, or transaction control."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from ..core.memo import by_text


class Kind(Enum):
    """What a statement means to the cache."""

    READ = "read"
    WRITE = "write"
    #: DDL: a write, and on MySQL and Oracle an implicit commit.
    DDL = "ddl"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    #: SAVEPOINT, RELEASE and ROLLBACK TO, which on SQLite may begin and commit a transaction.
    SAVEPOINT = "savepoint"
    #: SET TRANSACTION ISOLATION LEVEL … and the like: reads may come from an old snapshot.
    ISOLATION = "isolation"
    #: SET autocommit = … of MySQL.
    AUTOCOMMIT = "autocommit"
    #: Several statements, some of which begin or end transactions.
    MIXED = "mixed"
    #: Part of two-phase commit: takes effect for changes of other transactions too.
    PREPARED = "prepared"


_READS = frozenset(
    "select show values table pragma set reset use vacuum "
    "listen unlisten notify declare fetch move close lock unlock discard "
    "checkpoint deallocate prepare optimize check kill help handler flush attach detach "
    "comment grant revoke".split()
)
#: Before a statement that is looked at, and what says that it is run (MariaDB: ANALYZE UPDATE …).
_LOOKS = frozenset("explain describe desc analyze analyse".split())
_RUNS = frozenset({"analyze", "analyse"})
_DDL = frozenset("create alter drop truncate rename reindex refresh cluster".split())
_WRITE_WORD = re.compile(r"\b(insert|update|delete|merge|replace|truncate|into|call|do)\b")
_LOCKING_READ = re.compile(r"\bfor\s+(no\s+key\s+)?update\b")
_SKIPPED = re.compile(
    r"""
    --[^\n]*            # line comment
    | /\*.*?\*/         # block comment
    | '(?:[^']|'')*'    # string literal
    | "(?:[^"]|"")*"    # a name, or a string of MySQL
    | `(?:[^`]|``)*`
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$  # PostgreSQL: a body of code
    """,
    re.VERBOSE | re.DOTALL,
)
#: MariaDB: what comes before the statement for which some variables are set.
_FOR_ONE_STATEMENT = re.compile(r"\bfor\b", re.IGNORECASE)
#: Statements that hold others.
_BODY = re.compile(
    r"create\s+(or\s+replace\s+)?(\S+\s*=\s*\S+\s+|constraint\s+|aggregate\s+|temp\w*\s+)*"
    r"(trigger|procedure|function|event|package)\b"
)
#: MySQL: a backslash escapes, ``#`` begins a comment.
_SKIPPED_BY_MYSQL = re.compile(
    r"""
    (?:--|\#)[^\n]* | /\*.*?\*/
    | '(?:[^'\\]|''|\\.)*' | "(?:[^"\\]|""|\\.)*" | `(?:[^`]|``)*`
    """,
    re.VERBOSE | re.DOTALL,
)
#: Statements of MySQL, by their first words, that commit the transaction in which they are given.
_COMMITTING = re.compile(
    r"(create|drop)\s+(?!temporary\b)|alter|rename|truncate|grant|revoke|begin|start\s+transaction|"
    r"(un)?lock\s+table|analy[sz]e|optimize|check|repair|flush|reset|cache\s+index|load\s+index|"
    r"(un)?install|set\s+password",
)


def text_of(sql: Any, cursor: Any = None) -> str:
    """The text of a statement: str, bytes, or a driver's composed SQL."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, (bytes, bytearray)):
        return bytes(sql).decode("utf-8", "replace")
    as_string = getattr(sql, "as_string", None)
    if as_string is not None:
        try:
            return str(as_string(getattr(cursor, "cursor", cursor)))
        except Exception:  # a driver's own context is missing: its repr names the tables too
            return repr(sql)
    return str(sql)


def classify(sql: str) -> Kind:
    """Tell what a statement does. When in doubt it is a write."""
    head = sql[:7].lower()
    if head == "select ":
        return _classify_select(sql)
    return _classify(sql)


@by_text(512)
def _classify_select(sql: str) -> Kind:
    if not re.search(r"\binto\b|;", sql, re.IGNORECASE):
        return Kind.READ
    return _classify(sql)


@by_text(512)
def _classify(sql: str) -> Kind:
    if "/*!" in sql or "/*M!" in sql:
        return Kind.WRITE  # a comment that MySQL runs
    kind = _strongest(_SKIPPED.sub(" '' ", sql))
    if "\\" in sql or "#" in sql:
        # Databases do not agree on where strings and comments end.
        other = _strongest(_SKIPPED_BY_MYSQL.sub(" '' ", sql))
        return kind if kind is other else Kind.WRITE
    return kind


def _strongest(bare: str) -> Kind:
    """What the statements in one string do together."""
    if _BODY.match(bare.lstrip(" \t\r\n'").lower()):
        return Kind.DDL
    kinds = {_one(part) for part in bare.split(";") if part.strip(" \t\r\n('")}
    kinds.discard(Kind.READ)
    if not kinds:
        return Kind.READ
    if len(kinds) > 1 or ";" in bare.strip("; \t\r\n"):
        return Kind.WRITE if kinds <= {Kind.WRITE, Kind.DDL, Kind.PREPARED} else Kind.MIXED
    return kinds.pop()


@by_text(512)
def words(sql: str) -> tuple[str, ...]:
    """The words of a statement in lower case, without comments and quotes around names."""
    bare = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL).lower()
    return tuple(re.findall(r"[\w$]+", bare))


def commits_in_mysql(sql: str) -> bool:
    """Whether MySQL commits what was pending when it is given this statement."""
    return _COMMITTING.match(_SKIPPED_BY_MYSQL.sub(" ", sql).strip().lower()) is not None


def _one(statement: str) -> Kind:
    # Comments have become empty literals, and with a literal no statement begins.
    first, *rest = re.sub(r"[(),]", " ", statement.lower()).lstrip(" '\t\r\n").split() or [""]
    if first in ("begin", "start"):
        snapshot = "isolation" in rest or "snapshot" in rest
        return Kind.ISOLATION if snapshot else Kind.BEGIN
    if first in ("commit", "end"):
        return Kind.PREPARED if "prepared" in rest else Kind.COMMIT
    if first in ("rollback", "abort"):
        return Kind.SAVEPOINT if "to" in rest else Kind.ROLLBACK
    if first in ("savepoint", "release"):
        return Kind.SAVEPOINT
    if first == "prepare" and rest[:1] == ["transaction"]:
        return Kind.COMMIT
    if first == "set" and rest[:1] == ["statement"] and "for" in rest:
        kind = _one(_FOR_ONE_STATEMENT.split(statement, maxsplit=1)[1])
        return kind if kind in (Kind.READ, Kind.WRITE) else Kind.MIXED
    if first == "set" and "isolation" in statement.lower():
        return Kind.ISOLATION
    if first == "set" and "autocommit" in statement.lower():
        return Kind.AUTOCOMMIT
    if first in _LOOKS and _RUNS.isdisjoint((first, *rest)):
        return Kind.READ
    if first == "with" or first in _LOOKS or (first == "select" and "into" in rest):
        body = _LOCKING_READ.sub(" ", statement.lower())
        return Kind.WRITE if _WRITE_WORD.search(body) else Kind.READ
    if first == "copy":
        if re.match(r"\s*copy\s*\(", statement, re.IGNORECASE):
            return Kind.WRITE if _WRITE_WORD.search(statement.lower()) else Kind.READ
        return Kind.READ if "to" in rest and "from" not in rest else Kind.WRITE
    if first in _DDL:
        return Kind.DDL
    return Kind.READ if first in _READS else Kind.WRITE
