"""The rows that an UPDATE has changed: what they were, and what was assigned or is read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import models

from ..core.entry import UNKNOWN, Change
from . import predicates, registry, stored, values
from .ranges import Row
from .rows_lookup import Lookup

#: Column -> the field, and the value or expression that a statement assigns to it.
Assigned = Mapping[str, tuple[Any, Any]]


def changes(
    connection: Any,
    model: Any,
    fields: Mapping[str, Any] | None,
    assigned: Assigned,
    old: Mapping[Any, Row] | None,
    count: int,
) -> list[Change]:
    """What an UPDATE did that touched ``count`` rows.

    ``fields`` are those of the schemes in use, by column (``None``: there are none), ``old`` the
    rows as they were, by primary key (``None``: nobody knows).
    """
    table = model._meta.db_table
    reached = [Change(one, UNKNOWN, UNKNOWN) for one in _referring_tables(model, assigned)]
    if fields is None:
        return [Change(table, {}, {}), *reached]
    new = None
    if old is not None and len(old) == count:
        new = _new_rows(connection, model, fields, assigned, old)
    if old is None or new is None or new.keys() != old.keys():
        return [Change(table, UNKNOWN, UNKNOWN), *reached]
    return [Change(table, row, new[pk]) for pk, row in old.items()] + reached


def _new_rows(
    connection: Any,
    model: Any,
    fields: Mapping[str, Any],
    assigned: Assigned,
    old: Mapping[Any, Row],
) -> Mapping[Any, Row] | None:
    """The rows as they are now; ``None`` if they cannot be found again."""
    known = _texts(connection, model, fields, assigned)
    if known is not None:
        return {pk: row.changed(known) for pk, row in old.items()}
    if any(field.column in assigned for field in model._meta.pk_fields):
        return None
    return Lookup(model, connection, fields).by_pks(list(old))


def _texts(
    connection: Any, model: Any, fields: Mapping[str, Any], assigned: Assigned
) -> dict[str, str] | None:
    """What was assigned to the columns of ``fields``; ``None`` if the database decides some."""
    if (
        model._meta.db_table in registry.current().triggered
        or any(field.generated for field in fields.values())
        or predicates.of(fields)
    ):
        return None
    found = {}
    storage = stored.Storage(connection)
    for column, (field, value) in assigned.items():
        if column not in fields:
            continue
        if hasattr(value, "resolve_expression") or not storage.as_given(field):
            return None
        if hasattr(value, "prepare_database_save"):
            value = value.prepare_database_save(field)
        text = values.text(field, value)
        if text is None:
            return None
        found[column] = text
    return found


def touches_keys(model: Any, assigned: Iterable[str]) -> bool:
    """Whether rows elsewhere may refer to what is assigned, which takes the stronger lock."""
    unique = {field.column for field in model._meta.local_concrete_fields if field.unique}
    unique |= {field.column for field in model._meta.pk_fields}
    for names in model._meta.total_unique_constraints:
        unique |= {model._meta.get_field(name).column for name in names.fields}
    return not unique.isdisjoint(assigned)


def _referring_tables(model: Any, assigned: Assigned) -> set[str]:
    """Tables that ON UPDATE rules of the database may change: only if a key is assigned."""
    return {
        relation.related_model._meta.db_table
        for relation in model._meta.related_objects
        if relation.related_model is not None and _follows(relation.field, assigned)
    } & registry.current().watched


def _follows(field: Any, assigned: Assigned) -> bool:
    """Whether the column of ``field``, a relation, may follow one that is assigned."""
    if isinstance(field, models.ForeignObject):
        return any(target.column in assigned for target in field.foreign_related_fields)
    # Another library's field need not say what it refers to; without a column, nothing follows.
    return getattr(field, "column", None) is not None
