"""What a raw SQL statement does, read from its words: nothing, a write, or transaction control."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Any


class Kind(Enum):
    """What a statement means to the cache."""

    READ = "read"
    WRITE = "write"
    #: DDL: a write, and on MySQL and Oracle an implicit commit.
    DDL = "ddl"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    #: SET TRANSACTION ISOLATION LEVEL … and the like: reads may come from an old snapshot.
    ISOLATION = "isolation"
    #: Part of two-phase commit: takes effect for changes of other transactions too.
    PREPARED = "prepared"


_READS = frozenset(
    "select show describe desc explain values table pragma set reset use analyze analyse vacuum "
    "listen unlisten notify declare fetch move close lock unlock savepoint release discard "
    "checkpoint deallocate prepare optimize check kill help handler flush attach detach "
    "comment grant revoke".split()
)
_DDL = frozenset("create alter drop truncate rename reindex refresh cluster".split())
_WRITE_WORD = re.compile(r"\b(insert|update|delete|merge|replace|truncate|into|call|do)\b")
_LOCKING_READ = re.compile(r"\bfor\s+(no\s+key\s+)?update\b")
_SKIPPED = re.compile(
    r"""
    --[^\n]*            # line comment
    | \#[^\n]*\n        # MySQL line comment
    | /\*.*?\*/         # block comment
    | '(?:[^'\\]|''|\\.)*'  # string literal
    """,
    re.VERBOSE | re.DOTALL,
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


@lru_cache(maxsize=512)
def _classify_select(sql: str) -> Kind:
    if not re.search(r"\binto\b|;", sql, re.IGNORECASE):
        return Kind.READ
    return _classify(sql)


@lru_cache(maxsize=512)
def _classify(sql: str) -> Kind:
    bare = _SKIPPED.sub(" '' ", sql)
    # Several statements in one string: the strongest decides.
    kinds = {_one(part) for part in bare.split(";") if part.strip(" \t\r\n(")}
    kinds.discard(Kind.READ)
    if not kinds:
        return Kind.READ
    return kinds.pop() if len(kinds) == 1 else Kind.WRITE


def _one(statement: str) -> Kind:
    words = statement.lower().replace("(", " ").split()
    first, rest = words[0], words[1:]
    if first in ("begin", "start"):
        snapshot = "isolation" in rest or "snapshot" in rest
        return Kind.ISOLATION if snapshot else Kind.BEGIN
    if first in ("commit", "end"):
        return Kind.PREPARED if "prepared" in rest else Kind.COMMIT
    if first in ("rollback", "abort"):
        return Kind.READ if "to" in rest else Kind.ROLLBACK
    if first == "prepare" and rest[:1] == ["transaction"]:
        return Kind.COMMIT
    if first == "set" and "isolation" in rest:
        return Kind.ISOLATION
    if first == "explain" and "analyze" not in rest:
        return Kind.READ
    if first in ("with", "explain") or (first == "select" and "into" in rest):
        body = _LOCKING_READ.sub(" ", statement.lower())
        return Kind.WRITE if _WRITE_WORD.search(body) else Kind.READ
    if first == "copy":
        return Kind.READ if "to" in rest and "from" not in rest else Kind.WRITE
    if first in _DDL:
        return Kind.DDL
    return Kind.READ if first in _READS else Kind.WRITE
