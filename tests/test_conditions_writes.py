"""Each shape of query of ``test_conditions.py``: a write that must drop it, and one that must not.

The rows are made up from the dependencies and written for real: for each condition a row that
meets it, which must drop the cached result, and for each table a row that meets none, which must
leave it.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models

from cacheops_lite.orm import values

from . import models as m
from .test_conditions import EXACT, explain
from .test_conditions_soundness import rows_of
from .watching import hits

pytestmark = [pytest.mark.django_db(transaction=True)]

MODELS = {
    model._meta.db_table: model for model in apps.get_models(include_auto_created=True)
    if not model._meta.proxy
}  # fmt: skip
FRESH = itertools.count(1000)


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    """A row of most kinds under the keys that the queries ask for; foreign keys may dangle."""
    if connection.vendor != "sqlite":
        pytest.skip("writes rows whose foreign keys lead nowhere")
    ContentType.objects.get_for_model(m.Post)
    connection.disable_constraint_checking()
    for key in range(1, 5):
        word = f"word{key}"
        m.Author.objects.create(pk=key, name=word)
        m.Category.objects.create(pk=key, title=word, slug=word, parent_id=key - 1 or None)
        m.Tag.objects.create(pk=key, name=word)
        m.Person.objects.create(pk=key, name=word)
        m.Owner.objects.create(pk=key, name=word)
        m.Toy.objects.create(pk=key, code=word)
        m.Profile.objects.create(pk=key, author_id=key)
        m.Ignoring.objects.create(pk=key, owner_id=key)
    for key in range(1, 8):
        post = m.Post.objects.create(
            pk=key, title="word", category_id=key % 4 + 1, author_id=key % 4 + 1, views=key % 3,
            editor_id=key % 2 or None, published=key % 2 == 0,
        )  # fmt: skip
        post.tags.add(key % 4 + 1)
    for key in range(1, 4):
        m.Pizzeria.objects.create(pk=key, name="word", stars=key)
    yield
    connection.enable_constraint_checking()


def of_text(field: Any, text: str) -> Any:
    """A value that is spelt like this."""
    kind = values.kind(field)
    if text == values.NULL:
        return None
    if kind == "bool":
        return text == "1"
    if kind == "int":
        return Decimal(text) / 100 if isinstance(field, m.Cents) else int(text)
    if kind == "decimal":
        return Decimal(text)
    if kind == "date":
        return dt.date.fromisoformat(text)
    if kind == "duration":
        return dt.timedelta(microseconds=int(text))
    return text


def another(field: Any, texts: set[str]) -> Any:
    """A value that is spelt like none of these."""
    kind = values.kind(field)
    options: dict[Any, list[Any]] = {
        "bool": [True, False],
        "date": [dt.date(1999, 1, 1)],
        "duration": [dt.timedelta(days=99)],
        "uuid": ["f" * 32],
        "text": ["zz", "yy"],
        "decimal": [Decimal("77.7")],
    }
    for value in options.get(kind, [next(FRESH)]):
        if values.text(field, value) not in texts:
            return value
    return None


def fields_of(model: Any) -> dict[str, Any]:
    return {field.column: field for field in model._meta.local_concrete_fields}


def row(model: type[models.Model], given: dict[str, Any]) -> Any:
    """A row of the model's own table with these values by column."""
    fields = fields_of(model)
    instance = model()
    for column, field in fields.items():
        if column in given:
            setattr(instance, field.attname, given[column])
        elif not field.null and not field.has_default() and (
            field.unique or values.kind(field) == "int"
        ):  # fmt: skip
            setattr(instance, field.attname, another(field, set()))
    return instance


def write(model: type[models.Model], given: dict[str, Any]) -> None:
    """Write a row with these values: one that is there, or else a new one."""
    names = {fields_of(model)[column].attname: value for column, value in given.items()}
    found = model._base_manager.filter(**names).first() if given else None
    (found or row(model, given)).save_base(raw=True)


def wanted(queryset: Any) -> dict[str, list[dict[str, str]]]:
    """table -> what a row must hold to matter; ``{}`` any row."""
    found = explain(queryset)
    result: dict[str, list[dict[str, str]]] = {
        table: [dict(conj) for conj in conjs] for table, conjs in found.tables.items()
    }
    for item in found.dynamic:
        known = result.setdefault(item.table, [])
        for shown in rows_of(queryset):
            text = values.text(item.field, shown[item.index])
            if text is not None and text != values.NULL:
                known.append({item.column: text})
    return result


def read(make: Any) -> bool:
    """Read through the cache; whether it was a hit."""
    with hits() as seen:
        list(make().all().cache())
    (hit,) = seen
    return hit


@pytest.mark.parametrize("make", [case[1] for case in EXACT], ids=[case[0] for case in EXACT])
def test_a_write_that_drops_and_one_that_does_not(make: Any) -> None:
    """Rows that meet a condition drop the result; rows that meet none do not."""
    try:
        read(make)
    except ValueError:
        pytest.skip("decided without SQL")
    assert read(make)
    assert m.Odd.items.create(name="x")  # a table that none of them names
    assert read(make)
    for table in wanted(make()):
        conditions = wanted(make())[table]
        model = MODELS[table]
        fields = fields_of(model)
        for terms in conditions[:3]:
            write(model, {name: of_text(fields[name], text) for name, text in terms.items()})
            assert not read(make), f"a row of {table} with {terms} was missed"
            assert read(make)
        if {} in conditions:
            continue
        # None of the conditions holds if none of their columns does.
        texts: dict[str, set[str]] = {}
        for terms in wanted(make())[table]:
            for name, text in terms.items():
                texts.setdefault(name, set()).add(text)
        others = {name: another(fields[name], texts[name]) for name in texts}
        write(model, others)
        assert read(make), f"a row of {table} with {others} need not have dropped it"
