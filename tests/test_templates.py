"""Fragments of Django templates are cached like functions, under the names that they are given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from django.template import Context, Engine, TemplateSyntaxError
from django.test import override_settings
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cacheops_lite import CacheopsLibrary, cached, cached_as, invalidate_fragment
from cacheops_lite.whitespace import strip_between_tags

from .models import Author, Category

pytestmark = pytest.mark.django_db(transaction=True)

library = CacheopsLibrary()


@library.decorator_tag
def if_asked(flag: bool, *, name: str = "") -> Any:
    """Cache a fragment only where the template wants it."""
    return cached(timeout=60, extra=("if_asked", name)) if flag else lambda render: render


@library.decorator_tag(takes_context=True)
def for_user(context: Any, *samples: Any) -> Any:
    """Cache a fragment for each user."""
    return cached_as(*samples, extra=("for_user", context["user"]))


@pytest.fixture
def engine() -> Engine:
    return Engine(
        libraries={
            "cacheops": "cacheops_lite.templatetags.cacheops",
            "mine": "tests.test_templates",
        }
    )


#: Django looks for this name in a library's module.
register = library


@pytest.fixture
def render(engine: Engine) -> Any:
    """Render a source with a context in which `n` counts how often it is shown."""
    numbers = count(1)

    def rendered(source: str, **context: Any) -> str:
        values = {"n": lambda: next(numbers), "rows": Category.objects.all(), **context}
        text = engine.from_string("{% load cacheops mine %}" + source).render(Context(values))
        return "".join(text.split())

    return rendered


# -- the tags --------------------------------------------------------------------------------------


def test_cached(render: Any) -> None:
    """A fragment is shown anew for each name and each of the extra values."""
    source = (
        "{% cached 60 'a' %}.{{ n }}{% endcached %}{% cached 60 'a' %}.{{ n }}{% endcached %}"
        "{% cached 60 'a' 'x' %}.{{ n }}{% endcached %}{% cached 60 'a' x %}.{{ n }}{% endcached %}"
        "{% cached timeout=60 fragment_name='b' %}.{{ n }}{% endcached %}"
    )
    assert render(source, x="x") == ".1.1.2.2.3"
    assert render(source, x="y") == ".1.1.2.4.3"


def test_cached_as(render: Any) -> None:
    """A fragment hangs on its samples; None stands for the timeout of their profile."""
    source = (
        "{% cached_as rows None 'a' %}.{{ n }}{% endcached_as %}"
        "{% cached_as rows timeout=60 fragment_name='a' %}.{{ n }}{% endcached_as %}"
        "{% cached_as rows 60 'a' x %}.{{ n }}{% endcached_as %}"
    )
    assert render(source, x=1) == ".1.1.2"
    assert render(source, x=1) == ".1.1.2"
    Author.objects.create(name="a")
    assert render(source, x=1) == ".1.1.2"
    Category.objects.create(title="a", slug="a")
    assert render(source, x=1) == ".3.3.4"


def test_cached_as_other_rows(render: Any) -> None:
    """Fragments of one name with other samples are other fragments."""
    source = "{% cached_as rows None 'a' %}.{{ n }}{% endcached_as %}"
    assert render(source) == ".1"
    assert render(source, rows=Category.objects.filter(title="a")) == ".2"
    assert render(source, rows=Author) == ".3"
    assert render(source, rows=Category) == ".4"
    assert render(source) == ".1"


def test_cached_as_a_list(render: Any) -> None:
    """The list of an empty page is not cached, and not an error."""
    source = "{% cached_as rows None 'a' %}.{{ n }}{% endcached_as %}"
    assert render(source, rows=[]) + render(source, rows=[]) == ".1.2"


def test_invalidate_fragment(render: Any) -> None:
    """A fragment is dropped by its name and extra values, from both tags; others stay."""
    source = (
        "{% cached 60 'a' %}.{{ n }}{% endcached %}{% cached 60 'a' x %}.{{ n }}{% endcached %}"
        "{% cached_as rows 60 'a' %}.{{ n }}{% endcached_as %}"
    )
    assert render(source, x=1) == ".1.2.3"
    invalidate_fragment("a")
    assert render(source, x=1) == ".4.2.5"
    invalidate_fragment("a", 1)
    assert render(source, x=1) == ".4.6.5"


def test_fragments_begun_before_an_invalidation(render: Any) -> None:
    """A fragment that is dropped while it is rendered is not kept."""
    source = "{% cached 60 'a' %}.{{ n }}{{ drop }}{% endcached %}"
    assert render(source, drop=lambda: invalidate_fragment("a") or "") == ".1"
    assert render(source) == ".2"
    assert render(source) == ".2"


def test_nested(render: Any) -> None:
    """A fragment within a fragment is a fragment of its own."""
    source = (
        "{% cached_as rows 60 'outer' %}.{{ n }}"
        "{% cached 60 'inner' %}:{{ n }}{% endcached %}{% endcached_as %}"
    )
    assert render(source) == ".1:2"
    Category.objects.create(title="a", slug="a")
    assert render(source) == ".3:2"


def test_disabled(render: Any) -> None:
    """Without caching a fragment is just rendered."""
    source = "{% cached 60 'a' %}.{{ n }}{% endcached %}"
    with override_settings(CACHEOPS_ENABLED=False):
        assert render(source) + render(source) == ".1.2"


@pytest.mark.parametrize(
    "tag",
    [
        "cached",
        "cached 60",
        "cached timeout=60 'a'",
        "cached timeout=60 timeout=60 fragment_name='a'",
        "cached 60 'a' other=1",
        "cached_as rows 60",
        "if_asked",
        "for_user wrong=1",
    ],
)
def test_wrong_arguments(render: Any, tag: str) -> None:
    """A tag that its function could not be called with fails when the template is compiled."""
    name = tag.split()[0]
    with pytest.raises(TemplateSyntaxError, match=name):
        render(f"{{% {tag} %}}{{% end{name} %}}")


# -- tags of one's own -----------------------------------------------------------------------------


def test_decorator_tag(render: Any) -> None:
    """A tag of one's own does what the decorator does that its function returns."""
    source = (
        "{% if_asked 1 %}.{{ n }}{% endif_asked %}{% if_asked 0 %}.{{ n }}{% endif_asked %}"
        "{% if_asked flag=yes name='a' %}.{{ n }}{% endif_asked %}"
    )
    assert render(source, yes=True) == ".1.2.3"
    assert render(source, yes=True) == ".1.4.3"


def test_decorator_tag_with_context(render: Any) -> None:
    """With takes_context the function gets the context first."""
    source = "{% for_user rows %}.{{ n }}{% endfor_user %}"
    assert [render(source, user=user) for user in "aba"] == [".1", ".2", ".1"]
    Category.objects.create(title="a", slug="a")
    assert render(source, user="a") == ".3"


# -- the text --------------------------------------------------------------------------------------


def test_stored_fragments_are_safe(engine: Engine) -> None:
    """What was rendered once is not escaped again, and what needs escaping was."""
    source = "{% load cacheops %}{% cached 60 'a' %}<b>{{ text }}</b>{% endcached %}"
    template = engine.from_string(source)
    for _ in range(2):
        text = template.render(Context({"text": "<&>"}))
        assert text == "<b>&lt;&amp;&gt;</b>"
        assert format_html("{}", text) == text


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("<a>  <b>", "<a> <b>"),
        ("<a> \n\n <b>", "<a>\n<b>"),
        ("<a> <b>", "<a> <b>"),
        ("<a>\n<b>", "<a>\n<b>"),
        ("<a>  x  <b>", "<a>  x  <b>"),
        ("a  b", "a  b"),
        ("<a>\t\t<b>  <c>", "<a> <b> <c>"),
        ("", ""),
    ],
)
def test_white_space_between_tags(text: str, short: str) -> None:
    """Runs between tags become one line break or one space; other text is left alone."""
    assert strip_between_tags(text) == short
    assert not isinstance(strip_between_tags(text), SafeString)
    assert isinstance(strip_between_tags(SafeString(text)), SafeString)


# -- many at once ----------------------------------------------------------------------------------


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_no_stale_fragment_under_load(engine: Engine, stop: threading.Event) -> None:
    """Threads that render while another drops the fragment never show what was dropped."""
    template = engine.from_string("{% load cacheops %}{% cached 60 'a' %}{{ n }}{% endcached %}")
    fresh, announced, wrong = [0], [0], []

    def read() -> None:
        while not stop.is_set():
            least = announced[0]
            shown = int(template.render(Context({"n": lambda: fresh[0]})))
            if shown < least:
                wrong.append((least, shown))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 100):
        fresh[0] = number
        invalidate_fragment("a")
        announced[0] = number
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
