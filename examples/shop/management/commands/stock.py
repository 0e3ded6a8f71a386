"""``python -m examples.shop stock``: a title, two categories and three products for each shop."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from ...models import Category, Label, Product, Setting
from ...tenants import host


class Command(BaseCommand):
    """The names are the same in each shop, the prices are not."""

    help = "Puts something into the shops that are empty."

    def handle(self, *args: Any, **options: Any) -> None:
        """Fill each shop."""
        for name, price in (("red.example", 10), ("blue.example", 20)):
            token = host.set(name)
            try:
                if not Setting.objects.exists():
                    self.fill(price)
                    self.stdout.write(f"{name}: stocked")
            finally:
                host.reset(token)

    def fill(self, price: int) -> None:
        """Fill the shop whose turn it is; ``price`` is that of the first product."""
        Setting.objects.create(name="title", value="The shop")
        books = Category.objects.create(name="Books", slug="books")
        toys = Category.objects.create(name="Toys", slug="toys")
        for number, category in enumerate((books, books, toys)):
            product = Product.objects.create(
                category=category, name=f"thing {number}", price=price + number
            )
        product.labels.add(Label.objects.create(name="new"))
