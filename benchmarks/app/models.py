"""Rows as they are in many projects: a dozen columns, foreign keys, one many-to-many relation."""

from __future__ import annotations

from django.db import models


class Author(models.Model):
    """Reached from an item by its foreign key."""

    name = models.CharField(max_length=60)
    email = models.EmailField()
    country = models.CharField(max_length=2)
    joined = models.DateTimeField()


class Group(models.Model):
    """Holds as many items as ``size`` says."""

    name = models.CharField(max_length=60)
    size = models.IntegerField()


class Tag(models.Model):
    """Three of them on each item."""

    name = models.CharField(max_length=30)


class Item(models.Model):
    """What is read and written."""

    title = models.CharField(max_length=100)
    slug = models.CharField(max_length=100, unique=True)
    group = models.ForeignKey(Group, models.CASCADE, related_name="items")
    author = models.ForeignKey(Author, models.CASCADE, related_name="items")
    tags = models.ManyToManyField(Tag, related_name="items")
    active = models.BooleanField(default=True)
    kind = models.CharField(max_length=10)
    price = models.DecimalField(max_digits=9, decimal_places=2)
    views = models.IntegerField(default=0)
    rating = models.FloatField(null=True)
    created = models.DateTimeField()
    changed = models.DateField()
