"""Statements -> changes: what an INSERT, UPDATE or DELETE of the ORM did to which rows.

Old values are read from the database inside the transaction, under a row lock where there is one,
and only if a scheme in use needs them; new values come from the statement, or are read back where
the database decides them. What cannot be known is ``UNKNOWN``: it drops the table's results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from django.db import models
from django.db.models.constants import OnConflict
from django.db.models.sql.constants import ROW_COUNT

from .. import conf, engine
from ..core.entry import UNKNOWN, Change
from . import predicates, ranges, registry, stored, values
from .collecting import collect
from .pending import pending
from .rows_lookup import Lookup
from .transactions import own_transaction
from .update_returning import joined

Execute = Callable[..., Any]


def _watched(compiler: Any) -> Any | None:
    """The model whose table a statement writes, if anybody may depend on it."""
    settings = conf.current()
    if not settings.profiles:
        return None
    model = compiler.query.get_meta().concrete_model
    known = registry.current()
    table = model._meta.db_table
    return model if table in known.tracked or known.dependents(table) else None


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
    columns = {ranges.base(name) for scheme in schemes for name in scheme.split(",") if name}
    fields = {
        field.column: field
        for field in model._meta.local_concrete_fields
        if field.column in columns and values.usable(field)
    }
    return predicates.watched(model._meta.db_table, fields, schemes)


# -- INSERT ------------------------------------------------------------------------------------


def insert(compiler: Any, execute: Execute, returning_fields: Any = None) -> Any:
    """Run an INSERT and collect the new rows."""
    model = _watched(compiler)
    connection = compiler.connection
    if model is None:
        return explained(compiler, lambda: execute(compiler, returning_fields))
    with own_transaction(connection):
        fields = _schemes_fields(connection, model)
        rows = explained(compiler, lambda: execute(compiler, returning_fields))
        collect(
            connection,
            _inserted(compiler, model, fields, returning_fields, rows),
            cause="insert",
            model=model,
            values=note_of(compiler.query.objs[0]) if len(compiler.query.objs) == 1 else None,
        )
        return rows


def _inserted(
    compiler: Any,
    model: Any,
    fields: Mapping[str, Any] | None,
    returning_fields: Any,
    returned: Any,
) -> list[Change]:
    query, table = compiler.query, model._meta.db_table
    unknown = [Change(table, UNKNOWN, UNKNOWN)]
    if fields is None:
        # Nothing in use as far as we know; what comes into use meanwhile finds nothing known.
        return [Change(table, None, {})]
    if (
        query.on_conflict == OnConflict.UPDATE
        or len(query.objs) > conf.current().lookup_limit
        or _mass_only(model)
    ):
        return unknown
    given = {field.column: field for field in query.fields}
    bends = stored.bends(compiler.connection, ignoring=query.on_conflict == OnConflict.IGNORE)
    read_back = table in registry.current().triggered or bool(predicates.of(fields))
    rows: list[ranges.Row] = []
    for index, obj in enumerate(query.objs):
        back = _returned_values(returning_fields, returned, index)
        row = ranges.Row(dict(fields))
        for column, field in fields.items():
            if column in back:
                value = back[column]
            elif column in given:
                value = _given_value(query, given[column], obj)
                read_back = read_back or not stored.as_given(field, bends)
            elif field.primary_key or field.generated or field.has_db_default():
                value = models.Value(None)  # the database decides
            else:
                value = getattr(obj, field.attname, None)
            if hasattr(value, "resolve_expression"):
                read_back = True
                continue
            text = values.text(field, value)
            if text is not None:
                row[column] = text
        rows.append(row)
    if read_back:
        found = None
        if query.on_conflict is None:
            found = _read_back_inserted(compiler, model, fields, returning_fields, returned)
        triggered = table in registry.current().triggered
        rows = found or [ranges.Row({}) if triggered else stored.surely(row, bends) for row in rows]
    return [Change(table, None, predicates.assume(row, predicates.of(fields))) for row in rows]


def _mass_only(model: Any) -> bool:
    profile = conf.current().profile(model._meta.label_lower)
    return profile is not None and profile.mass == "table"


def _given_value(query: Any, field: Any, obj: Any) -> Any:
    # ``pre_save`` already ran for the statement and leaves its result on the instance (auto_now);
    # calling it again could give another answer.
    return getattr(obj, field.attname)


def _returned_values(returning_fields: Any, returned: Any, index: int) -> dict[str, Any]:
    if not returning_fields or not returned or index >= len(returned):
        return {}
    return {
        field.column: value for field, value in zip(returning_fields, returned[index], strict=False)
    }


def _read_back_inserted(
    compiler: Any, model: Any, fields: Mapping[str, Any], returning_fields: Any, returned: Any
) -> list[ranges.Row] | None:
    """What the database made of the new rows; ``None`` if their primary keys are not known."""
    pk_fields = model._meta.pk_fields
    keys = []
    for index, obj in enumerate(compiler.query.objs):
        back = _returned_values(returning_fields, returned, index)
        key = tuple(back.get(pk.column, getattr(obj, pk.attname, None)) for pk in pk_fields)
        if any(part is None or hasattr(part, "resolve_expression") for part in key):
            return None
        keys.append(key[0] if len(key) == 1 else key)
    found = Lookup(model, compiler.connection, fields).by_pks(keys)
    if found is None or len(found) != len(keys):
        return None
    return list(found.values())


# -- UPDATE ------------------------------------------------------------------------------------


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
        old, both = None, None
        if fields is not None and not _mass_only(model):
            lookup = Lookup(model, connection, fields)
            changes_keys = _touches_keys(model, assigned)
            if not returning:
                both = joined(compiler, lookup, changes_keys=changes_keys)
            if both is None:
                old = lookup.matching(query, changes_keys=changes_keys)
        result = explained(compiler, partial(both.run, execute) if both is not None else execute)
        if both is not None:
            old = both.old
        count = result if isinstance(result, int) else len(result)
        if count == 0 and not query.related_updates:
            pending(connection).dirty.add(model._meta.db_table)  # told: see by_hand.m2m_changed
            return result
        collect(
            connection,
            _updated(connection, model, fields, assigned, old, count),
            cause="update",
            model=model,
            values=note_of(instance),
        )
        return result


def _touches_keys(model: Any, assigned: Iterable[str]) -> bool:
    unique = {field.column for field in model._meta.local_concrete_fields if field.unique}
    unique |= {field.column for field in model._meta.pk_fields}
    for names in model._meta.total_unique_constraints:
        unique |= {model._meta.get_field(name).column for name in names.fields}
    return not unique.isdisjoint(assigned)


def _updated(
    connection: Any,
    model: Any,
    fields: Mapping[str, Any] | None,
    assigned: Mapping[str, tuple[Any, Any]],
    old: Mapping[Any, ranges.Row] | None,
    count: int,
) -> list[Change]:
    table = model._meta.db_table
    changes = [Change(reached, UNKNOWN, UNKNOWN) for reached in _referring_tables(model, assigned)]
    if fields is None:
        return [Change(table, {}, {}), *changes]
    if old is None or len(old) != count:
        return [Change(table, UNKNOWN, UNKNOWN), *changes]
    decided: dict[str, str] = {}
    undecided = (
        table in registry.current().triggered
        or any(field.generated for field in fields.values())
        or bool(predicates.of(fields))
    )
    bends = stored.bends(connection)
    for column, (field, value) in assigned.items():
        if column not in fields:
            continue
        if hasattr(value, "resolve_expression") or not stored.as_given(field, bends):
            undecided = True
            continue
        if hasattr(value, "prepare_database_save"):
            value = value.prepare_database_save(field)
        text = values.text(field, value)
        if text is None:
            undecided = True
        else:
            decided[column] = text
    new: Mapping[Any, ranges.Row] | None
    if undecided:
        moved = any(field.column in assigned for field in model._meta.pk_fields)
        new = None if moved else Lookup(model, connection, fields).by_pks(list(old))
    else:
        new = {pk: row.changed(decided) for pk, row in old.items()}
    if new is None or len(new) != len(old):
        return [Change(table, UNKNOWN, UNKNOWN), *changes]
    return [Change(table, row, new[pk]) for pk, row in old.items()] + changes


def _referring_tables(model: Any, assigned: Mapping[str, Any]) -> set[str]:
    """Tables that ON UPDATE rules of the database may change: only if a key is assigned."""
    return {
        relation.related_model._meta.db_table
        for relation in model._meta.related_objects
        if relation.related_model is not None
        and any(
            target.column in assigned
            # Until Django 6.0 a many-to-many field is concrete, too, and refers to no column.
            for target in getattr(relation.field, "foreign_related_fields", ())
        )
    } & registry.current().tracked


# -- DELETE ------------------------------------------------------------------------------------


def delete(compiler: Any, execute: Execute, result_type: Any, instance: Any = None) -> Any:
    """Run a DELETE and collect the rows that went, and the tables that database rules reach.

    ``instance`` is what is deleted, if it is known to be one: for ``cache_invalidated``.
    """
    connection = compiler.connection
    model = _watched(compiler)
    reached = registry.current().deletion_reaches(compiler.query.get_meta().db_table)
    if model is None and reached.isdisjoint(registry.current().tracked):
        return explained(compiler, lambda: execute(compiler, result_type))
    if model is None:
        model = compiler.query.get_meta().concrete_model
    table = model._meta.db_table
    with own_transaction(connection):
        fields = _schemes_fields(connection, model)
        old = None
        if fields is not None and not _mass_only(model):
            old = Lookup(model, connection, fields).matching(compiler.query, changes_keys=True)
        result = explained(compiler, lambda: execute(compiler, result_type))
        count = _row_count(result, result_type)
        if count == 0:
            pending(connection).dirty.add(table)  # told: see by_hand.m2m_changed
            return result
        changes = [Change(other, UNKNOWN, UNKNOWN) for other in sorted(reached)]
        if fields is None:
            changes.append(Change(table, {}, None))
        elif old is None or len(old) != count:
            changes.append(Change(table, UNKNOWN, UNKNOWN))
        else:
            changes += [Change(table, row, None) for row in old.values()]
        collect(connection, changes, cause="delete", model=model, values=note_of(instance))
        return result


def _row_count(result: Any, result_type: Any) -> int | None:
    if result_type == ROW_COUNT:
        return int(result or 0)
    count = getattr(result, "rowcount", None)
    return count if isinstance(count, int) and count >= 0 else None


# -- shared ------------------------------------------------------------------------------------


def explained(compiler: Any, run: Callable[[], Any]) -> Any:
    """Run a statement whose effect is collected by its compiler, not read from its SQL.

    It is known by its text: others may run meanwhile on the same table, in ``pre_save`` of a field
    or in an execute wrapper.
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


def note_of(obj: Any) -> dict[str, Any] | None:
    """An instance's values by attribute name, for ``cache_invalidated``."""
    if not isinstance(obj, models.Model):
        return None
    return {name: value for name, value in vars(obj).items() if not name.startswith("_")}


def row_of(model: Any, obj: Any) -> ranges.Row:
    """What an instance says of its row in the table of ``model`` (columns that can be spelt)."""
    row = ranges.Row({field.column: field for field in model._meta.local_concrete_fields})
    for field in model._meta.local_concrete_fields:
        if field.attname not in obj.__dict__ or not values.usable(field):
            continue
        value = obj.__dict__[field.attname]
        if hasattr(value, "resolve_expression"):
            continue
        text = values.text(field, value)
        if text is not None:
            row[field.column] = text
    return predicates.assume_all(model._meta.db_table, row)
