"""What django-cacheops' manual says of template tags holds here, for Django and for Jinja2."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.template import Context, Engine
from django.utils import translation
from jinja2 import Environment

from cacheops_lite import CacheopsLibrary, cached_as, invalidate_fragment, invalidate_model

from ..models import Category, Tag

pytestmark = pytest.mark.django_db(transaction=True)

register = CacheopsLibrary()


@register.decorator_tag(takes_context=True)
def cache_menu(context: Any, menu: str) -> Any:
    """A menu: by name and language, not cached for staff, invalidated with its models."""
    request = context.get("request")
    if request is not None and request.user.is_staff:
        return lambda func: func
    return cached_as(
        Category,
        Tag.objects.filter(name="menu"),
        extra=("menu", menu, translation.get_language()),
        timeout=24 * 60 * 60,
    )


@pytest.fixture
def show() -> Any:
    numbers = count(1)
    engine = Engine(
        libraries={
            "cacheops": "cacheops_lite.templatetags.cacheops",
            "menu": "tests.dropin.test_readme_templates",
        }
    )

    def shown(source: str, **context: Any) -> str:
        template = engine.from_string("{% load cacheops menu %}" + source)
        context = {"n": lambda: next(numbers), "rows": Category.objects.all(), **context}
        return template.render(Context(context))

    return shown


def test_fragments_by_time(show: Any) -> None:
    """{% cached timeout name extra… %}: one text for each name and extra values."""
    source = "{% cached 60 'block' user %}{{ n }}{% endcached %}"
    assert [show(source, user=user) for user in (1, 2, 1)] == ["1", "2", "1"]
    invalidate_fragment("block", 1)
    assert [show(source, user=user) for user in (1, 2)] == ["3", "2"]


def test_fragments_by_rows(show: Any) -> None:
    """{% cached_as queryset timeout name extra… %}: None takes the model's timeout."""
    source = "{% cached_as rows None 'block' 1 %}{{ n }}{% endcached_as %}"
    assert [show(source), show(source)] == ["1", "1"]
    Category.objects.create(title="a", slug="a")
    assert show(source) == "2"
    invalidate_model(Category)
    assert show(source) == "3"
    invalidate_fragment("block", 1)
    assert show(source) == "4"


def test_tags_of_ones_own(show: Any, rf: Any) -> None:
    """decorator_tag: the tag's function chooses samples, key and timeout, or not to cache."""
    source = "{% cache_menu 'top' %}{{ n }}{% endcache_menu %}"
    below = "{% cache_menu 'bottom' %}{{ n }}{% endcache_menu %}"
    visitor, staff = rf.get("/"), rf.get("/")
    visitor.user, staff.user = AnonymousUser(), User(is_staff=True)
    assert [show(source, request=visitor), show(below), show(source)] == ["1", "2", "1"]
    assert [show(source, request=staff), show(source, request=staff)] == ["3", "4"]
    with translation.override("de"):
        assert show(source) == "5"
    Tag.objects.create(name="other")
    assert show(source) == "1"
    Tag.objects.create(name="menu")
    assert show(source) == "6"


def test_jinja2_tags() -> None:
    """The extension by its name; the tags work like the decorators."""
    numbers = count(1)
    environment = Environment(extensions=["cacheops_lite.jinja2.cache"], autoescape=True)
    environment.globals.update(n=lambda: next(numbers), rows=Category.objects.all())
    by_rows = environment.from_string(
        "{% cached_as rows, timeout=60, extra='a' %}{{ n() }}{% endcached_as %}"
    )
    by_time = environment.from_string("{% cached timeout=60, extra=x %}{{ n() }}{% endcached %}")
    bare = environment.from_string("{% cached %}{{ n() }}-{% endcached %}")
    assert [by_rows.render(), by_rows.render()] == ["1", "1"]
    assert [by_time.render(x=1), by_time.render(x=2), by_time.render(x=1)] == ["2", "3", "2"]
    assert [bare.render(), bare.render()] == ["4-", "4-"]
    Category.objects.create(title="a", slug="a")
    assert [by_rows.render(), by_time.render(x=1)] == ["5", "2"]
