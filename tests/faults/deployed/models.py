"""The model in its releases: ``old``, then ``new`` with a column more, then ``last`` with one less."""

from __future__ import annotations

import os
from typing import Any

from django.db import models

from cacheops_lite import cached, cached_as

RELEASE = os.environ.get("DEPLOYED", "old")


class Item(models.Model):
    name = models.CharField(max_length=20)
    color = models.CharField(max_length=20)
    if RELEASE != "last":
        size = models.IntegerField(default=0)
    if RELEASE != "old":
        weight = models.IntegerField(null=True)


class Box(models.Model):
    label = models.CharField(max_length=20)
    item = models.ForeignKey(Item, on_delete=models.CASCADE)


class Thing:
    """What a function returns; it moved between the releases."""

    def __init__(self, value: Any) -> None:
        self.value = value


if RELEASE == "old":
    Thing.__qualname__ = Thing.__name__ = "OldThing"
    OldThing = Thing


@cached(timeout=60)
def thing() -> Any:
    return Thing("thing")


@cached_as(Item, timeout=60)
def names() -> list[str]:
    return sorted(Item.objects.nocache().values_list("name", flat=True))
