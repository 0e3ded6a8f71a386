"""Sums over what was sold."""

from __future__ import annotations

from typing import Any

from django.db.models import Avg, Count, Sum

from cacheops_lite import cached_as

from .models import Order, Product


@cached_as(Product, Order.objects.filter(amount__gt=0), timeout=120, lock=True)
def statistics() -> dict[str, Any]:
    """Heavy sums over products and orders; one process computes them at a time."""
    return {
        "products": Product.objects.count(),
        "average": Product.objects.aggregate(average=Avg("price"))["average"],
        "sold": Order.objects.aggregate(sold=Sum("amount"))["sold"] or 0,
        "categories": list(
            Product.objects.values_list("category__name").annotate(Count("id")).order_by()
        ),
    }
