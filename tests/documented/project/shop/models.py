"""A shop beside the blog, for examples with two apps."""

from __future__ import annotations

from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    visible = models.BooleanField(default=True)
    stock = models.IntegerField(default=0)
