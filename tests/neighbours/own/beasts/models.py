"""Owners of beasts of several kinds."""

from __future__ import annotations

from django.db import models
from polymorphic.models import PolymorphicModel


class Owner(models.Model):
    name = models.CharField(max_length=20)


class Beast(PolymorphicModel):
    name = models.CharField(max_length=20)
    owner = models.ForeignKey(Owner, null=True, on_delete=models.CASCADE, related_name="beasts")
    friends = models.ManyToManyField("self", blank=True)


class Dog(Beast):
    tricks = models.IntegerField(default=0)


class Puppy(Dog):
    weeks = models.IntegerField(default=1)


class Cat(Beast):
    lives = models.IntegerField(default=9)
