"""Pages: cached by the rows that they show, by time, in files, and not at all."""

from __future__ import annotations

import json
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.generic import ListView

from cacheops_lite import (
    CacheMiss,
    cache,
    cached,
    cached_view,
    cached_view_as,
    file_cache,
    no_invalidation,
)

from .models import Category, Label, Product, Setting, Visit
from .stats import statistics


def index(request: HttpRequest) -> HttpResponse:
    """Automatic caching, a paginator that counts by the cache, and a menu of fragments."""
    Visit.objects.create(path=request.path)
    products = Product.objects.visible().order_by("name").cache(ops=["count", "fetch"])
    page = Paginator(products, 10).get_page(request.GET.get("page"))
    title = Setting.objects.get(name="title").value
    menu = Category.objects.order_by("name")
    return render(request, "shop/index.html", {"page": page, "title": title, "menu": menu})


@cached_view_as(Category, extra=lambda request, slug: request.user.is_staff)
def category(request: HttpRequest, slug: str) -> HttpResponse:
    """A view cached by rows; staff has a page of its own."""
    found = get_object_or_404(Category, slug=slug)
    return render(request, "shop/category.html", {"category": found})


class ProductList(ListView):
    """A class-based view, cached in the URLs."""

    model = Product
    template_name = "shop/products.html"

    def get_queryset(self) -> Any:
        return Product.objects.visible().select_related("category").order_by("pk")


product_list = cached_view_as(Product.objects.filter(visible=True), Category, timeout=600)(
    ProductList.as_view()
)


def cards(request: HttpRequest) -> HttpResponse:
    """A Jinja2 page with cached blocks."""
    context = {"products": Product.objects.visible().order_by("pk"), "labels": Label.objects.all()}
    return render(request, "shop/cards.jinja", context, using="jinja2")


@cached_view(timeout=60)
def clock(request: HttpRequest, zone: str) -> HttpResponse:
    """Cached for a minute, whatever happens; ``invalidate`` drops it."""
    return HttpResponse(f"{zone}: {tick()}")


@file_cache.cached_view(timeout=60)
def terms(request: HttpRequest) -> HttpResponse:
    """Kept in files."""
    return HttpResponse(f"terms, printed {tick()}")


def report(request: HttpRequest) -> HttpResponse:
    """Cached functions."""
    return JsonResponse({"statistics": statistics(), "rates": rates("EUR")})


@file_cache.cached(timeout=60)
def rates(currency: str) -> str:
    """Somebody else's service, asked once a minute."""
    return json.dumps({currency: tick()})


@cached(timeout=60)
def greeting(name: str) -> str:
    return f"Hello {name}, visitor {tick()}"


def hello(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(greeting(name))


def tick() -> int:
    """A number that grows, in the simple cache."""
    try:
        number = cache.get("ticks") + 1
    except CacheMiss:
        number = 1
    cache.set("ticks", number, timeout=None)
    return int(number)


@no_invalidation
def import_prices(prices: dict[str, str]) -> None:
    """A batch job; who calls it invalidates once, afterwards."""
    for name, price in prices.items():
        Product.objects.filter(name=name).update(price=price)
