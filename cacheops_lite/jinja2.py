"""The Jinja2 extension: ``{% cached timeout=…, extra=… %}`` and ``{% cached_as samples, … %}``.

The tags take the arguments of the decorators of the same name. A fragment is told apart by the
template, the line of its tag, and ``extra``; in a template without a name, by its own nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from .functions import decorators
from .functions.calls import digest
from .whitespace import strip_between_tags

__all__ = ["CacheopsExtension", "cache"]


class CacheopsExtension(Extension):
    """Add it by its short name: ``cacheops_lite.jinja2.cache``."""

    tags = {"cached", "cached_as"}

    def parse(self, parser: Parser) -> nodes.Node:
        """``{% tag arguments %}…{% endtag %}`` -> a call block of ``_render``."""
        token = next(parser.stream)
        args, kwargs = _arguments(parser)
        body = parser.parse_statements((f"name:end{token.value}",), drop_needle=True)
        place = f"{parser.name}:{token.lineno}" if parser.name else digest(map(repr, body))
        call = self.call_method(
            "_render", [nodes.Const(token.value), nodes.Const(place), *args], kwargs
        )
        return nodes.CallBlock(call, [], [], body).set_lineno(token.lineno)

    def _render(
        self, tag: str, place: str, *args: Any, caller: Callable[[], Any], **kwargs: Any
    ) -> Any:
        kwargs["extra"] = (place, kwargs.get("extra"))
        decorate = getattr(decorators, tag)(*args, **kwargs)

        async def afragment() -> Any:
            return _stripped(await caller())

        def fragment() -> Any:
            return _stripped(caller())

        return decorate(afragment if self.environment.is_async else fragment)()


def _stripped(text: Any) -> Any:
    return type(text)(strip_between_tags(text))


def _arguments(parser: Parser) -> tuple[list[nodes.Expr], list[nodes.Keyword]]:
    args: list[nodes.Expr] = []
    kwargs: list[nodes.Keyword] = []
    stream = parser.stream
    while stream.current.type != "block_end":
        if args or kwargs:
            stream.expect("comma")
        if stream.current.type == "name" and stream.look().type == "assign":
            name = stream.current.value
            stream.skip(2)
            value = parser.parse_expression()
            kwargs.append(nodes.Keyword(name, value, lineno=value.lineno))
        elif kwargs:
            parser.fail("a positional argument after a keyword argument", stream.current.lineno)
        else:
            args.append(parser.parse_expression())
    return args, kwargs


#: The extension under the name that templates settings use.
cache = CacheopsExtension
