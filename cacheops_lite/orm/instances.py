"""What an instance says of its row."""

from __future__ import annotations

from typing import Any

from django.db import models

from . import predicates, ranges, values


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
