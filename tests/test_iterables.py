"""Querysets with iterables of their own, and parameters of classes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from django.utils.safestring import mark_safe

from .models import Tag
from .watching import hits

pytestmark = pytest.mark.django_db(transaction=True)


class InTwoSteps(ModelIterable):
    """Finds the keys first, by a queryset that it derives, then the objects."""

    def __iter__(self) -> Iterator[Any]:
        keys = [row["pk"] for row in self.queryset.values("pk", "name")]
        found = self.queryset.model._default_manager.in_bulk(keys)
        for key in keys:
            yield found[key]


def queryset(iterable: type) -> QuerySet[Tag]:
    found = Tag.objects.filter(group="a").order_by("name")
    found._iterable_class = iterable
    return found


def answers(iterable: type, cached: bool) -> list[Any]:
    made = queryset(iterable)
    return list(made.cache() if cached else made.nocache())


@pytest.fixture(autouse=True)
def tags() -> None:
    Tag.objects.bulk_create(Tag(name=name, group="a") for name in "xyz")


def test_an_iterable_may_derive_querysets() -> None:
    """What an iterable asks of querysets made of its own is answered as without the cache.

    The second and the third time answer rows that were stored, without compiling.
    """
    for _ in range(3):
        assert answers(InTwoSteps, cached=True) == answers(InTwoSteps, cached=False)
    Tag.objects.filter(name="y").update(name="w")
    for _ in range(3):
        names = [tag.name for tag in answers(InTwoSteps, cached=True)]
        assert names == ["w", "x", "z"]


def test_an_iterable_may_take_its_queryset_again() -> None:
    """Counting, testing and going on with a copy see the database, not the rows replayed."""
    for _ in range(3):
        (count, exists, names) = _counted(cached=True)
        assert (count, exists, names) == _counted(cached=False) == (3, True, ["z", "y", "x"])


def _counted(cached: bool) -> tuple[Any, ...]:
    made = queryset(Counted)
    (answer,) = list(made.cache() if cached else made.nocache())
    return answer


class Counted(ModelIterable):
    """The copies have the ordinary iterable."""

    def __iter__(self) -> Iterator[Any]:
        whole = self.queryset.order_by("-name")
        whole._iterable_class = ModelIterable
        yield (whole.count(), whole.exists(), [tag.name for tag in whole])


@pytest.mark.parametrize("value", [mark_safe("x"), type("Text", (str,), {"__str__": lambda s: s})("x")])  # fmt: skip
def test_texts_that_convert_to_themselves(value: str) -> None:
    """A ``SafeString`` out of a template is a parameter like another."""
    for expected in ([False], [True]):
        with hits() as seen:
            assert [tag.name for tag in Tag.objects.filter(name=value).cache()] == ["x"]
        assert seen == expected
