"""A tag of the shop's own: the menu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils import translation

from cacheops_lite import CacheopsLibrary, cached_as

from ..models import Category, Product, Setting

register = CacheopsLibrary()


@register.decorator_tag(takes_context=True)
def cache_menu(context: Any, name: str) -> Callable[[Any], Any]:
    """The menu, for each language; staff sees it fresh."""
    request = context.get("request")
    if request and request.user.is_staff:
        return lambda func: func
    return cached_as(
        Category,
        Product,
        Setting.objects.filter(name="menu"),
        extra=("menu", name, translation.get_language()),
        timeout=24 * 60 * 60,
    )
