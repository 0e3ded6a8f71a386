"""Template tags for cached fragments, and a library that makes more of them from decorators.

``{% cached timeout name … %}`` and ``{% cached_as samples timeout name … %}`` hold a fragment's
text like ``cached`` and ``cached_as`` hold a function's result; whatever follows the name is part
of the key. ``invalidate_fragment(name, …)`` drops it from both; ``tags=…`` at the end says what
``invalidate_tag`` drops it by.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from django.template import Context, Library, Node, NodeList, TemplateSyntaxError
from django.template.base import FilterExpression, Parser, Token
from django.utils.safestring import SafeString

from ..functions import decorators
from ..functions.tags import Tags
from ..whitespace import strip_between_tags

__all__ = ["CacheopsLibrary", "invalidate_fragment", "register"]


class CacheopsLibrary(Library):
    """A template library with ``decorator_tag``."""

    def decorator_tag(
        self, func: Callable[..., Any] | None = None, takes_context: bool = False
    ) -> Any:
        """Make a block tag of a function that returns a decorator.

        ``{% name … %}…{% endname %}`` calls the function with the tag's arguments (after the
        context, with ``takes_context``) and shows what the decorated fragment gives. Also as
        ``@decorator_tag(takes_context=True)``.
        """
        if func is None:
            return partial(self.decorator_tag, takes_context=takes_context)
        name = func.__name__
        signature = inspect.signature(func)

        def compile_tag(parser: Parser, token: Token) -> DecoratorNode:
            nodelist = parser.parse((f"end{name}",))
            parser.delete_first_token()
            args, kwargs = _arguments(parser, token)
            try:
                signature.bind(*([None] if takes_context else []), *args, **kwargs)
            except TypeError as error:
                raise TemplateSyntaxError(f"{{% {name} %}}: {error}") from None
            return DecoratorNode(func, takes_context, args, kwargs, nodelist)

        self.tag(name, compile_tag)
        return func


def _arguments(
    parser: Parser, token: Token
) -> tuple[list[FilterExpression], dict[str, FilterExpression]]:
    args: list[FilterExpression] = []
    kwargs: dict[str, FilterExpression] = {}
    tag, *bits = token.split_contents()
    for bit in bits:
        name, sign, value = bit.partition("=")
        if sign and name.isidentifier():
            if name in kwargs:
                raise TemplateSyntaxError(f"{{% {tag} %}}: {name} is given twice")
            kwargs[name] = parser.compile_filter(value)
        elif kwargs:
            raise TemplateSyntaxError(f"{{% {tag} %}}: {bit} follows a named argument")
        else:
            args.append(parser.compile_filter(bit))
    return args, kwargs


class DecoratorNode(Node):
    """A fragment under a decorator."""

    def __init__(
        self,
        func: Callable[..., Any],
        takes_context: bool,
        args: list[FilterExpression],
        kwargs: dict[str, FilterExpression],
        nodelist: NodeList,
    ) -> None:
        self.func, self.takes_context = func, takes_context
        self.args, self.kwargs, self.nodelist = args, kwargs, nodelist

    def render(self, context: Context) -> SafeString:
        """The text of the fragment, cached or fresh."""
        args = [arg.resolve(context) for arg in self.args]
        if self.takes_context:
            args.insert(0, context)
        kwargs = {name: value.resolve(context) for name, value in self.kwargs.items()}
        text: SafeString = self.func(*args, **kwargs)(_fragment(self.nodelist, context))()
        return text


def _fragment(nodelist: NodeList | None, context: Context | None) -> Callable[[], str]:
    """The function that the decorators see: the same one, by name, for every fragment."""

    def fragment() -> str:
        assert nodelist is not None
        assert context is not None
        return strip_between_tags(nodelist.render(context))

    return fragment


register = CacheopsLibrary()


@register.decorator_tag
def cached(timeout: float | None, fragment_name: str, *extra: Any, tags: Tags = ()) -> Any:
    """Cache a fragment for some seconds."""
    return decorators.cached(timeout=timeout, extra=(fragment_name, *extra), tags=tags)


@register.decorator_tag
def cached_as(
    queryset: Any, timeout: float | None, fragment_name: str, *extra: Any, tags: Tags = ()
) -> Any:
    """Cache a fragment until rows change; ``None`` for the timeout of the model's profile."""
    name = (fragment_name, *extra)
    return decorators.cached_as(queryset, timeout=timeout, extra=name, tags=tags)


def invalidate_fragment(fragment_name: str, *extra: Any) -> None:
    """Drop what ``{% cached %}`` and ``{% cached_as %}`` hold under a name and the values after it.

    Fragments of Jinja2 have no name; give them ``tags`` and use ``invalidate_tag``.
    """
    cached(None, fragment_name, *extra)(_fragment(None, None)).invalidate()
