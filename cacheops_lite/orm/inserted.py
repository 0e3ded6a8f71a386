"""The rows that an INSERT has made, as its statement gives them or as they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.db.models.constants import OnConflict

from .. import conf
from ..core.entry import UNKNOWN, Change
from . import predicates, registry, stored, values
from .ranges import Row
from .rows_lookup import Lookup


def changes(
    compiler: Any, model: Any, fields: Mapping[str, Any] | None, returning: Any, returned: Any
) -> list[Change]:
    """What an INSERT did, which gave the values ``returned`` of the fields ``returning``.

    ``fields`` are those of the schemes in use, by column; ``None``: there are none.
    """
    query, table = compiler.query, model._meta.db_table
    if fields is None:
        # Nothing in use as far as we know; what comes into use meanwhile finds nothing known.
        return [Change(table, None, {})]
    if query.on_conflict == OnConflict.UPDATE or len(query.objs) > conf.current().lookup_limit:
        return [Change(table, UNKNOWN, UNKNOWN)]
    asked = predicates.of(fields)
    triggered = table in registry.current().triggered
    ignoring = query.on_conflict == OnConflict.IGNORE
    storage = stored.Storage(compiler.connection, ignoring=ignoring)
    back = [_returned(returning, returned, index) for index in range(len(query.objs))]
    rows, sure = _as_given(query, fields, back, storage)
    if triggered or asked or not sure:
        found = None
        if query.on_conflict is None:
            found = _read_back(compiler, model, fields, back)
        rows = found or [Row({}) if triggered else storage.surely(row) for row in rows]
    return [Change(table, None, predicates.assume(row, asked)) for row in rows]


def _returned(returning: Any, returned: Any, index: int) -> dict[str, Any]:
    """What the database told of one row: column -> value."""
    if not returning or not returned or index >= len(returned):
        return {}
    return {field.column: value for field, value in zip(returning, returned[index], strict=False)}


def _as_given(
    query: Any, fields: Mapping[str, Any], back: list[dict[str, Any]], storage: stored.Storage
) -> tuple[list[Row], bool]:
    """The rows as far as the statement tells, and whether it surely tells all."""
    given = {field.column: field for field in query.fields}
    rows, sure = [], True
    for obj, told in zip(query.objs, back, strict=True):
        row = Row(dict(fields))
        for column, field in fields.items():
            if values.converts(field):
                sure = False  # neither what it was given nor what it shows is what is stored
                continue
            if column in told:
                value = told[column]
            elif column in given:
                # Not ``pre_save``, which has run and left its result on the instance (auto_now):
                # when it runs again it could give another one.
                value = getattr(obj, given[column].attname)
                sure = sure and storage.as_given(field)
            elif field.primary_key or field.generated or field.has_db_default():
                value = models.Value(None)  # the database decides
            else:
                value = getattr(obj, field.attname, None)
            if hasattr(value, "resolve_expression"):
                sure = False
            elif (text := values.text(field, value)) is not None:
                row[column] = text
        rows.append(row)
    return rows, sure


def _read_back(
    compiler: Any, model: Any, fields: Mapping[str, Any], back: list[dict[str, Any]]
) -> list[Row] | None:
    """What the database made of the new rows; ``None`` if their primary keys are not known."""
    keys = []
    for obj, told in zip(compiler.query.objs, back, strict=True):
        key = tuple(
            told.get(pk.column, getattr(obj, pk.attname, None)) for pk in model._meta.pk_fields
        )
        if any(part is None or hasattr(part, "resolve_expression") for part in key):
            return None
        keys.append(key[0] if len(key) == 1 else key)
    found = Lookup(model, compiler.connection, fields).by_pks(keys)
    if found is None or len(found) != len(keys):
        return None
    return list(found.values())
