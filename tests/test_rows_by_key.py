"""A write by primary key reads of the old row what the schemes in use ask for, and no more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from . import models as m
from .watching import hits

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


def named(name: str) -> Any:
    return lambda: list(m.Author.objects.filter(name=name))


def selects(write: Any) -> int:
    with CaptureQueriesContext(connection) as sent:
        write()
    return sum(query["sql"].lstrip("( ").startswith("SELECT") for query in sent)


def is_hit(read: Any) -> bool:
    with hits() as seen:
        read()
    return seen[0]


def test_nothing_is_read_for_the_key_alone() -> None:
    """While results hang on the key only, ``save()`` sends no SELECT, and drops what it must."""
    one, other = m.Author.objects.create(name="a"), m.Author.objects.create(name="b")
    for name in "cde":
        assert m.Author.objects.get(pk=one.pk).name == one.name
        assert m.Author.objects.get(pk=other.pk).name == "b"
        one.name = name
        assert selects(one.save) == 0
        assert not is_hit(lambda: m.Author.objects.get(pk=one.pk))
        assert m.Author.objects.get(pk=one.pk).name == name
        assert is_hit(lambda: m.Author.objects.get(pk=other.pk))
    m.Author.objects.filter(pk=one.pk).update(name="f")
    assert m.Author.objects.get(pk=one.pk).name == "f"


def test_the_old_row_is_read_where_a_scheme_asks_for_it() -> None:
    """The old and the new value of a column in use are dropped, others stay, each time."""
    one = m.Author.objects.create(name="0")
    for n in range(4):
        names = [str(n), str(n + 1), "x"]
        for name in names:
            list(m.Author.objects.filter(name=name))
        one.name = str(n + 1)
        # PostgreSQL: the UPDATE itself brings the old row.
        assert selects(one.save) == (0 if connection.vendor == "postgresql" else 1)
        assert not is_hit(named(names[0]))
        assert not is_hit(named(names[1]))
        assert is_hit(named("x"))
        assert list(m.Author.objects.filter(name=names[1])) == [one]
        assert list(m.Author.objects.filter(name=names[0])) == []


def test_values_are_converted_as_ever() -> None:
    """Columns that the database gives in another form are spelt as conditions spell them."""
    category = m.Category.objects.create(title="c", slug="c")
    author = m.Author.objects.create(name="a")
    one = m.Post.objects.create(category=category, author=author, published=True, rating="1.50")
    for published, rating in ((False, "2.5"), (True, "1.5"), (False, "3")):
        reads = [
            lambda: list(m.Post.objects.filter(published=True)),
            lambda: list(m.Post.objects.filter(published=False)),
            lambda: list(m.Post.objects.filter(rating="2.50")),
        ]
        for read in reads:
            read()
        one.published, one.rating = published, rating
        one.save()
        assert reads[0]() == ([one] if published else [])
        assert reads[1]() == ([] if published else [one])
        assert reads[2]() == ([one] if rating == "2.5" else [])


def test_keys_of_all_kinds() -> None:
    """Keys that are no plain numbers, keys out of range, keys that are changed."""
    token = m.Token.objects.create()
    given = {m.Token._meta.pk.attname: token.pk}
    for _ in range(3):
        m.Token.objects.get(pk=token.pk)
        token.save()
        assert m.Token.objects.filter(pk=token.pk).count() == 1
        assert m.Token.objects.filter(pk=uuid.uuid4()).update(**given) == 0
    author = m.Author.objects.create(name="a")
    for key in (0, -1, 2**31, 2**63, 2**70, str(author.pk)):
        list(m.Author.objects.filter(name="a"))
        found = m.Author.objects.filter(pk=key).update(name="a")
        assert found == (1 if key == str(author.pk) else 0)
    m.Author.objects.get(pk=author.pk)
    assert m.Author.objects.filter(pk=author.pk + 1000).count() == 0
    m.Author.objects.filter(pk=author.pk).update(id=author.pk + 1000)
    assert m.Author.objects.filter(pk=author.pk + 1000).count() == 1
    with pytest.raises(m.Author.DoesNotExist):
        m.Author.objects.get(pk=author.pk)


def test_a_row_that_is_not_there() -> None:
    """A write that finds no row drops nothing."""
    author = m.Author.objects.create(name="a")
    read = lambda: list(m.Author.objects.filter(name="a"))  # noqa: E731
    read()
    with transaction.atomic():
        assert m.Author.objects.filter(pk=author.pk + 1).update(name="a") == 0
    assert is_hit(read)
