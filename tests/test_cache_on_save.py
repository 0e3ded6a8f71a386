"""``cache_on_save``: a saved object is read again after its commit, by the ordinary way."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
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


@pytest.mark.parametrize("inside", [True, False])
@override_settings(CACHEOPS=BY_PK)
def test_an_error_of_the_read_is_nobodys(inside: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The object is saved; that it could not be read again is logged, and no error of ``save()``."""
    called: list[str] = []

    def refuse_reads(run: Any, sql: str, *args: Any) -> Any:
        if sql.startswith("SELECT"):
            raise DatabaseError("gone")
        return run(sql, *args)

    with connection.execute_wrapper(refuse_reads):
        if inside:
            with transaction.atomic():
                m.Tag.objects.create(name="red")
                m.Tag.objects.create(name="blue")
                transaction.on_commit(lambda: called.append("on_commit"))
        else:
            m.Tag.objects.create(name="red")
            m.Tag.objects.create(name="blue")
    assert m.Tag.objects.nocache().count() == 2
    assert called == (["on_commit"] if inside else [])
    assert caplog.text.count("tests.tag could not be read again") == 2
