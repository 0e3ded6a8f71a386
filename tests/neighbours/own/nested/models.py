"""A tree that is sorted by itself, and one that is not."""

from __future__ import annotations

from typing import Any

from django.db import models
from mptt.models import MPTTModel, TreeForeignKey


class Genre(MPTTModel):
    name = models.CharField(max_length=20)
    parent = TreeForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="children"
    )

    class MPTTMeta:
        order_insertion_by: Any = ["name"]


class Place(MPTTModel):
    name = models.CharField(max_length=20)
    parent = TreeForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="children"
    )


class Book(models.Model):
    genre = models.ForeignKey(Genre, on_delete=models.CASCADE)
    title = models.CharField(max_length=20)
