"""What gives another answer for the same rows: clocks, random numbers, sequences, sessions."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from django.db.models import DateField, TimeField
from django.db.models.expressions import BaseExpression, RawSQL, Value
from django.db.models.functions import Now, Random
from django.db.models.lookups import Lookup
from django.db.models.sql.where import ExtraWhere

from ..core.memo import by_text
from .tables import tokens

_CLASSES: Final = (Now, Random)
#: Names of classes that only some versions of Django or optional apps have.
_CLASS_NAMES: Final = frozenset({"RandomUUID", "TransactionNow", "UUID4", "UUID7"})

_FUNCTIONS: Final = frozenset({
    # random
    "rand", "random", "random_normal", "randomblob", "random_bytes", "setseed", "newid", "uuid",
    "uuid_short", "uuidv4", "uuidv7", "uuid_v4", "uuid_v7", "gen_random_uuid", "gen_random_bytes",
    "sys_guid", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4",
    # clocks
    "now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday",
    "sysdate", "curdate", "curtime", "unix_timestamp", "utc_date", "utc_time", "utc_timestamp",
    "getdate", "sysdatetime", "age",
    # sequences
    "nextval", "currval", "lastval", "setval", "last_insert_id", "last_insert_rowid",
    # the session and the server
    "changes", "total_changes", "connection_id", "current_setting", "set_config", "database",
    "found_rows", "row_count", "pg_backend_pid", "txid_current", "pg_current_xact_id", "version",
    "user", "schema", "current_database", "current_schemas", "current_query", "inet_client_addr",
    "inet_client_port", "inet_server_addr", "pg_postmaster_start_time", "pg_is_in_recovery",
    "pg_current_wal_lsn", "pg_snapshot_xmin", "pg_current_snapshot", "txid_current_snapshot",
    "txid_current_if_assigned", "pg_current_xact_id_if_assigned", "row_security_active",
    "sleep", "pg_sleep", "pg_sleep_for", "pg_sleep_until", "get_lock", "release_lock",
    "is_free_lock", "is_used_lock", "pg_advisory_lock", "pg_try_advisory_lock",
})  # fmt: skip
#: Functions that tell the present moment where they are given none (SQLite).
_CLOCKS: Final = frozenset({"date", "time", "datetime", "julianday", "unixepoch"})
#: SQL functions that are called without parentheses.
_WORDS: Final = frozenset({
    "current_date", "current_time", "current_timestamp", "current_user", "session_user",
    "system_user", "localtime", "localtimestamp", "current_role", "current_catalog",
    "current_schema", "sysdate", "systimestamp",
})  # fmt: skip
#: Strings that become another moment each time a database reads them as a date.
_NOW: Final = re.compile(r"'?\s*(now|today|tomorrow|yesterday|localtime)\s*'?", re.IGNORECASE)
_SELECT: Final = re.compile(r"\bselect\b", re.IGNORECASE)


def why_expression(node: Any) -> str:
    """Why a query with this one node (not its children) is not cached; '' if it may be."""
    if isinstance(node, (RawSQL, ExtraWhere)):
        return "raw SQL"
    cls = type(node)
    if isinstance(node, _CLASSES) or (
        cls.__name__ in _CLASS_NAMES and cls.__module__.startswith("django.")
    ):
        return f"volatile: {cls.__name__}"
    if isinstance(node, Value) and isinstance(node.value, str) and _NOW.fullmatch(node.value):
        return f"volatile: {node.value!r}"
    if isinstance(node, Lookup) and _reads_words(node):
        return f"volatile: a word for a moment in {cls.__name__}"
    # A template is SQL by hand; one that reads tables is not seen by anybody else.
    if isinstance(node, BaseExpression):
        extra = getattr(node, "extra", None) or {}
        parts = [extra.get("template"), extra.get("function"), extra.get("expressions")]
        parts += [getattr(node, "template", None), getattr(node, "function", None)]
        if any(isinstance(part, str) and _SELECT.search(part) for part in parts):
            return f"raw SQL in {cls.__name__}"
    return ""


def _reads_words(node: Any) -> bool:
    """Whether a moment is compared with texts like "today", which no field has made a date."""
    options = node.rhs if isinstance(node.rhs, (list, tuple, set, frozenset)) else ()
    return any(
        isinstance(option, str) and not option.lstrip()[:1].isdigit() for option in options
    ) and isinstance(getattr(node.lhs, "output_field", None), (DateField, TimeField))


@by_text(1024)
def why_sql(sql: str) -> str:
    """Why ``sql`` gives another answer each time; '' if no such function is known in it."""
    previous = called = ""
    for token in tokens(sql):
        if token.text == "(" and previous in _FUNCTIONS:
            return f"volatile: {previous}()"
        if token.text == ")" and called in _CLOCKS:
            return f"volatile: {called}()"
        called = previous if token.text == "(" else ""
        previous = ""
        if token.kind == "word":
            previous = token.text.lower()
            if previous in _WORDS:
                return f"volatile: {previous}"
        elif token.kind == "string" and _NOW.fullmatch(token.text):
            return f"volatile: {token.text}"
    return ""


def own_sql(node: Any) -> bool:
    """Whether a class from outside Django writes the SQL of ``node``."""
    cls: Any = type(node)
    return _writes_sql(cls)


@lru_cache(maxsize=1024)
def _writes_sql(cls: type) -> bool:
    return any(
        not base.__module__.startswith("django.")
        and any(name == "as_sql" or name.startswith("as_") for name in vars(base))
        for base in cls.__mro__
        if base is not object
    )
