"""Relations that other libraries make, which are no ``ForeignObject`` of Django's."""

from __future__ import annotations

import pytest

from . import models as m
from .watching import Read, assert_dropped, assert_fresh, assert_hit, prime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def label() -> m.Label:
    found = m.Label.objects.create(name="old")
    m.Labelled.objects.create(name="x")
    m.Pointing.objects.create(name="x")
    return found


def test_what_a_relation_refers_to_need_not_be_known(label: m.Label) -> None:
    """A write goes through, and is seen, where such a relation fails when it is asked."""
    read = Read(lambda: m.Label.objects.filter(name__in=["old", "new"]))
    prime(read)
    label.name = "new"
    label.save()
    assert_fresh(read)
    prime(read)
    m.Label.objects.update(name="old")
    assert_fresh(read)


def test_a_relation_without_a_column_is_not_reached(label: m.Label) -> None:
    """No rule of the database can change a column that is not there."""
    read = Read(lambda: m.Labelled.objects.filter(name="x"))
    prime(read)
    m.Label.objects.update(name="new")
    assert_hit(read)


def test_a_relation_with_a_column_is_reached(label: m.Label) -> None:
    """What it refers to is not known, so an ON UPDATE rule may follow any column."""
    read = Read(lambda: m.Pointing.objects.filter(name="x"))
    prime(read)
    m.Label.objects.update(name="new")
    assert_dropped(read)
