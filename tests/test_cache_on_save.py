"""``cache_on_save``: a saved object is read again after its commit, by the ordinary way."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import override_settings

from . import models as m
from .watching import hits

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

BY_PK = {"tests.tag": {"ops": "get", "timeout": 60, "cache_on_save": True}}
BY_NAME = {"tests.tag": {"ops": "get", "timeout": 60, "cache_on_save": "name"}}


@override_settings(CACHEOPS=BY_PK)
def test_cached_by_key() -> None:
    """After ``save()`` the first ``get(pk=…)`` is a hit."""
    tag = m.Tag.objects.create(name="red")
    with hits() as seen:
        assert m.Tag.objects.get(pk=tag.pk).name == "red"
    assert seen == [True]


@override_settings(CACHEOPS=BY_NAME)
def test_cached_by_field() -> None:
    """The option may name the field by which objects are got."""
    tag = m.Tag.objects.create(name="red")
    tag.name = "blue"
    tag.save()
    with hits() as seen:
        assert m.Tag.objects.get(name="blue") == tag
    assert seen == [True]


@override_settings(CACHEOPS=BY_PK)
def test_after_the_commit_only() -> None:
    """In a transaction nothing is stored before the commit, and nothing after a rollback."""
    with transaction.atomic():
        tag = m.Tag.objects.create(name="red")
        with hits() as seen:
            m.Tag.objects.get(pk=tag.pk)
        assert seen == []
    with hits() as seen:
        m.Tag.objects.get(pk=tag.pk)
    assert seen == [True]
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        tag.name = "never"
        tag.save()
        raise ZeroDivisionError
    assert m.Tag.objects.get(pk=tag.pk).name == "red"


@override_settings(CACHEOPS=BY_PK)
def test_not_what_the_instance_says() -> None:
    """What is cached is what the database holds, not what the instance was made of (A10)."""
    tag = m.Tag.objects.create(name="red")
    with transaction.atomic():
        tag.name = "first"
        tag.save()
        m.Tag.objects.filter(pk=tag.pk).update(name="last")
    assert m.Tag.objects.get(pk=tag.pk).name == "last"
