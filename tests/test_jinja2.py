"""Fragments of Jinja2 templates are cached like functions, under the place of their tag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from jinja2 import DictLoader, Environment, TemplateSyntaxError
from markupsafe import Markup

from cacheops_lite import engine

from .models import Author, Category

pytestmark = pytest.mark.django_db(transaction=True)

EXTENSION = "cacheops_lite.jinja2.cache"


@pytest.fixture
def numbers() -> Any:
    return count(1)


def environment(numbers: Any, templates: dict[str, str] | None = None, **options: Any) -> Any:
    made = Environment(
        loader=DictLoader(templates or {}), extensions=[EXTENSION], autoescape=True, **options
    )
    made.globals.update(n=lambda: next(numbers), rows=Category.objects.all(), Author=Author)
    return made


def test_cached(numbers: Any) -> None:
    """A fragment is rendered once, with or without arguments."""
    source = (
        "{% cached %}.{{ n() }}{% endcached %}\n{% cached timeout=60 %}.{{ n() }}{% endcached %}"
    )
    template = environment(numbers, {"a": source}).get_template("a")
    assert template.render() == ".1\n.2"
    assert template.render() == ".1\n.2"


def test_cached_as(numbers: Any) -> None:
    """A fragment hangs on its samples, of which there may be several."""
    source = "{% cached_as rows, Author, timeout=60 %}.{{ n() }}{% endcached_as %}"
    template = environment(numbers, {"a": source}).get_template("a")
    assert [template.render(), template.render()] == [".1", ".1"]
    Category.objects.create(title="a", slug="a")
    assert template.render() == ".2"
    Author.objects.create(name="a")
    assert template.render() == ".3"


def test_extra(numbers: Any) -> None:
    """`extra` of any kind makes other fragments, and no two kinds meet."""
    source = "{% cached extra=x %}.{{ n() }}{% endcached %}"
    template = environment(numbers, {"a": source}).get_template("a")
    found = [template.render(x=x) for x in (1, "1", (1,), None, 1, "1", [1])]
    assert found == [".1", ".2", ".3", ".4", ".1", ".2", ".3"]


def test_the_place_of_the_tag_counts(numbers: Any) -> None:
    """Fragments of two templates, or of two lines of one, are kept apart."""
    source = "{% cached %}.{{ n() }}{% endcached %}"
    both = environment(numbers, {"a": source, "b": source, "c": f"{source}\n{source}"})
    assert both.get_template("a").render() == ".1"
    assert both.get_template("b").render() == ".2"
    assert both.get_template("c").render() == ".3\n.4"
    assert both.get_template("a").render() == ".1"


def test_templates_without_a_name(numbers: Any) -> None:
    """Two templates from strings do not show each other's fragments; equal ones share."""
    made = environment(numbers)

    def render(text: str) -> str:
        return made.from_string(f"{{% cached %}}{text}.{{{{ n() }}}}{{% endcached %}}").render()

    assert [render("a"), render("b"), render("a")] == ["a.1", "b.2", "a.1"]


def test_escaping(numbers: Any) -> None:
    """What was rendered once is not escaped again; white space between tags is shortened."""
    source = "{% cached %}<b>   </b>{{ text }}{% endcached %}"
    template = environment(numbers, {"a": source}).get_template("a")
    for _ in range(2):
        assert template.render(text="<&>") == "<b> </b>&lt;&amp;&gt;"
    assert Markup(template.render(text="")) == Markup("<b> </b>&lt;&amp;&gt;")


def test_loops_and_nesting(numbers: Any) -> None:
    """A fragment sees the variables around it, and fragments may hold others."""
    source = (
        "{% for x in 'aab' %}{% cached extra=x %}{{ x }}{{ n() }}"
        "{% cached_as rows %}:{{ n() }}{% endcached_as %} {% endcached %}{% endfor %}"
    )
    template = environment(numbers, {"a": source}).get_template("a")
    assert template.render() == "a1:2 a1:2 b3:2 "


@pytest.mark.parametrize(
    "source",
    [
        "{% cached timeout=60, 1 %}{% endcached %}",
        "{% cached 1 2 %}{% endcached %}",
        "{% cached %}{% endcached_as %}",
        "{% cached_as rows %}",
    ],
)
def test_wrong_syntax(numbers: Any, source: str) -> None:
    """Mistakes in a tag are syntax errors of the template."""
    with pytest.raises(TemplateSyntaxError):
        environment(numbers).from_string(source)


@pytest.fixture
async def closed_after() -> AsyncIterator[None]:
    """The sockets of the engine belong to the event loop of the test, and end before it."""
    yield
    await engine.current().aclose()


@pytest.mark.usefixtures("closed_after")
async def test_async_templates(numbers: Any) -> None:
    """In an async environment fragments are awaited."""

    async def number() -> int:
        return next(numbers)

    source = "{% cached_as rows %}.{{ number() }}{% endcached_as %}"
    template = environment(numbers, {"a": source}, enable_async=True).get_template("a")
    for _ in range(2):
        assert await template.render_async(number=number) == ".1"
    await Category.objects.acreate(title="a", slug="a")
    assert await template.render_async(number=number) == ".2"
