"""What the shop sells."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models

from cacheops_lite import cached, cached_as


class Setting(models.Model):
    """Read all the time, changed hardly ever."""

    name = models.CharField(max_length=50, unique=True)
    value = models.CharField(max_length=200)


class Category(models.Model):
    name = models.CharField(max_length=50)
    slug = models.SlugField(unique=True)

    def best(self, count: int = 3) -> list[str]:
        """The names of its dearest products, cached as the products of this category."""
        products = Product.objects.filter(category=self, visible=True)

        @cached_as(products, extra=count)
        def _best() -> list[str]:
            return [product.name for product in products.order_by("-price")[:count]]

        return _best()


class Label(models.Model):
    name = models.CharField(max_length=50)


class ProductQuerySet(models.QuerySet["Product"]):
    def visible(self) -> ProductQuerySet:
        return self.filter(visible=True)


class Product(models.Model):
    category = models.ForeignKey(Category, on_delete=models.CASCADE, related_name="products")
    labels = models.ManyToManyField(Label, related_name="products", blank=True)
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    visible = models.BooleanField(default=True)

    objects = ProductQuerySet.as_manager()

    @property
    def teaser(self) -> str:
        """What is costly to make, kept for ten minutes."""

        @cached(timeout=10 * 60, extra=(self.pk, self.name))
        def _teaser() -> str:
            return self.name.upper()

        return _teaser()


class Order(models.Model):
    customer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="orders")
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="orders")
    amount = models.IntegerField(default=1)


class Visit(models.Model):
    """Written at each request: never cached."""

    path = models.CharField(max_length=200)
