"""Statements -> changes: what an INSERT, UPDATE or DELETE of the ORM did to which rows.

Old values are read from the database inside the transaction, under a row lock where there is one,
and only if a scheme in use needs them; new values come from the statement, or are read back where
the database decides them. What cannot be known is ``UNKNOWN``: it drops the table's results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.db.models.sql.constants import ROW_COUNT

from .. import conf, engine
from ..core.entry import UNKNOWN, Change
from ..core.memo import Recent
from . import collations, inserted, predicates, ranges, registry, updated, values
from .collecting import collect
from .explained import explained
from .instances import note_of
from .pending import pending
from .rows_lookup import Lookup
from .transactions import own_transaction
from .update_returning import joined
from .views import is_view, may_not_lock, no_locks

Execute = Callable[..., Any]


def insert(compiler: Any, execute: Execute, returning_fields: Any = None) -> Any:
    """Run an INSERT and collect the new rows."""
    model = _watched(compiler)
    connection = compiler.connection
    if model is None:
        return explained(compiler, lambda: execute(compiler, returning_fields))
    objs = compiler.query.objs
    with own_transaction(connection):
        fields = _schemes_fields(connection, model)
        rows = explained(compiler, lambda: execute(compiler, returning_fields))
        if fields is not None and _tables_only(connection, model):
            changes = [Change(model._meta.db_table, UNKNOWN, UNKNOWN)]
        else:
            changes = inserted.changes(compiler, model, fields, returning_fields, rows)
        note = note_of(objs[0]) if len(objs) == 1 else None
        collect(connection, changes, cause="insert", model=model, values=note)
        return rows


def update(
    compiler: Any, execute: Execute, instance: Any = None, *, returning: bool = False
) -> Any:
    """Run an UPDATE and collect the rows it changed.

    ``execute`` takes no argument and returns the number of rows, or with ``returning`` the rows.
    ``instance`` is the object that is being saved, if it is one.
    """
    model = _watched(compiler)
    connection = compiler.connection
    query = compiler.query
    if model is None:
        return explained(compiler, execute)
    if not query.values:
        # Only parents are written, each by a statement of its own that comes here too.
        return execute()
    with own_transaction(connection):
        fields = _schemes_fields(connection, model)
        assigned = {field.column: (field, value) for field, _, value in query.values}
        old, both, lookup = None, None, None
        if fields is not None and not (_tables_only(connection, model) or no_locks(connection)):
            lookup = Lookup(model, connection, fields)
            moves = updated.touches_keys(model, assigned)
            if not returning:
                both = joined(compiler, lookup, changes_keys=moves)
            if both is None:
                old = lookup.matching(query, changes_keys=moves)
        result = explained(compiler, partial(both.run, execute) if both is not None else execute)
        if both is not None:
            old = both.old
        count = result if isinstance(result, int) else len(result)
        if count == 0 and not query.related_updates:
            changes = _of_no_row(model, lookup, old)
        else:
            changes = updated.changes(connection, model, fields, assigned, old, count)
        if not changes:
            pending(connection).wrote({model._meta.db_table})  # see by_hand.m2m_changed
            return result
        collect(connection, changes, cause="update", model=model, values=note_of(instance))
        return result


def delete(compiler: Any, execute: Execute, result_type: Any, instance: Any = None) -> Any:
    """Run a DELETE and collect the rows that went, and the tables that database rules reach.

    ``instance`` is what is deleted, if it is known to be one: for ``cache_invalidated``.
    """
    connection = compiler.connection
    model = _watched(compiler)
    reached = registry.current().deletion_reaches(compiler.query.get_meta().db_table)
    if model is None and reached.isdisjoint(registry.current().watched):
        return explained(compiler, lambda: execute(compiler, result_type))
    if model is None:
        model = compiler.query.get_meta().concrete_model
    table = model._meta.db_table
    with own_transaction(connection):
        fields = _schemes_fields(connection, model)
        old, lookup = None, None
        if fields is not None and not (
            _tables_only(connection, model)
            or no_locks(connection)
            or may_not_lock(connection, model)
        ):
            lookup = Lookup(model, connection, fields)
            old = lookup.matching(compiler.query, changes_keys=True)
        result = explained(compiler, lambda: execute(compiler, result_type))
        count = _row_count(result, result_type)
        changes = [Change(other, UNKNOWN, UNKNOWN) for other in sorted(reached)]
        if count == 0:
            changes = _of_no_row(model, lookup, old)
            if not changes:
                pending(connection).wrote({table})  # see by_hand.m2m_changed
                return result
        elif fields is None:
            changes.append(Change(table, {}, None))
        elif old is None or len(old) != count:
            changes.append(Change(table, UNKNOWN, UNKNOWN))
        else:
            changes += [Change(table, row, None) for row in old.values()]
        collect(connection, changes, cause="delete", model=model, values=note_of(instance))
        return result


def _of_no_row(model: Any, lookup: Lookup | None, old: Any) -> list[Change]:
    """What a statement did that reports no row.

    A trigger or a rule may do something else instead, as soft deletes do, and a view reports what
    it likes. ``old`` are the rows that ``lookup``, if there is one, found before.
    """
    table, known = model._meta.db_table, registry.current()
    if lookup is not None and lookup.looked:
        odd = old != {}
    else:
        odd = not model._meta.managed
    if odd or table in known.triggered:
        return [Change(table, UNKNOWN, UNKNOWN)]
    return [Change(table, None, None)] if known.dependents(table) else []


def _row_count(result: Any, result_type: Any) -> int | None:
    if result_type == ROW_COUNT:
        return int(result or 0)
    count = getattr(result, "rowcount", None)
    return count if isinstance(count, int) and count >= 0 else None


# -- what is asked about rows ------------------------------------------------------------------


def _watched(compiler: Any) -> Any | None:
    """The model whose table a statement writes, if anybody may depend on it."""
    if not conf.current().profiles:
        return None
    model = compiler.query.get_meta().concrete_model
    return model if model._meta.db_table in registry.current().watched else None


def _schemes_fields(connection: Any, model: Any) -> Mapping[str, Any] | None:
    """Columns of the schemes in use -> fields; ``None`` if no old row needs to be looked up.

    An empty mapping says that the schemes are in use but none of their columns is ours.
    """
    settings = conf.current()
    if not settings.active:
        return None
    cache = engine.current()
    schemes = cache.known_schemes(cache.table(model._meta.db_table, connection.alias))
    if not schemes:
        return None
    fields = _fields.get((model, schemes))
    if fields is None:
        columns = {ranges.base(name) for scheme in schemes for name in scheme.split(",") if name}
        named = [one for one in model._meta.local_concrete_fields if one.column in columns]
        fields = {field.column: field for field in named if values.usable(field)}
        if len(fields) == len(named):  # what the others are may still be asked for
            _fields.set((model, schemes), fields)
    return predicates.watched(model._meta.db_table, fields, schemes)


#: (model, schemes) -> the fields of their columns, by column.
_fields: Recent[tuple[Any, tuple[str, ...]], dict[str, Any]] = Recent(512)
conf.on_reset(_fields.clear)
collations.on_forget(_fields.clear)


def _tables_only(connection: Any, model: Any) -> bool:
    """Whether no row is looked up: the profile does not want it, or they are those of a view."""
    profile = conf.current().profile(model._meta.label_lower)
    return (profile is not None and profile.mass == "table") or is_view(connection, model)
