"""The code blocks of a page, found by docutils.

Docutils knows none of Sphinx's directives and roles; those that our pages use are declared here,
so a page with an unknown one fails instead of losing its blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docutils.core
import docutils.utils
from docutils import nodes
from docutils.parsers.rst import Directive, directives, roles

ROOT = Path(__file__).resolve().parents[2]

#: What ``::`` without a language is here.
DEFAULT_LANGUAGE = "console"

#: Declared as fragments: shown to be read, run by nobody.
FRAGMENTS = {"text", "diff", "none"}

#: Sphinx's roles that only refer or mark.
ROLES = (
    "doc ref term option envvar file command samp kbd guilabel menuselection "
    "setting profile check signal verb py:func py:class py:meth py:mod py:exc py:attr py:data func class meth mod exc attr data"
).split()

#: Sphinx's directives whose content is ordinary text, and those without any.
ADMONITIONS = (
    "seealso versionadded versionchanged deprecated glossary only setting profile check signal verb"
).split()
SILENT = (
    "toctree autofunction automodule autoclass automethod autodata autoexception autodecorator "
    "py:currentmodule currentmodule highlight py:method py:data py:function"
).split()


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    page: str
    line: int
    language: str
    text: str
    caption: str = ""
    hidden: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class _Code(Directive):
    """``code-block``, with the options that Sphinx gives it."""

    has_content = True
    optional_arguments = 1
    option_spec = {
        "caption": directives.unchanged,
        "emphasize-lines": directives.unchanged,
        "linenos": directives.flag,
        "name": directives.unchanged,
    }
    hidden = False

    def run(self) -> list[nodes.Node]:
        node = nodes.literal_block("\n".join(self.content), "\n".join(self.content))
        default = "python" if self.hidden else DEFAULT_LANGUAGE
        node["language"] = self.arguments[0] if self.arguments else default
        node["caption"] = self.options.get("caption", "")
        node["hidden"] = self.hidden
        node.line = self.content_offset + 1
        return [node]


class _Setup(_Code):
    """``testsetup``: run, not shown."""

    hidden = True


class _Transparent(Directive):
    """An admonition: what is inside is read on."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = None

    def run(self) -> list[nodes.Node]:
        node = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


class _Silent(Directive):
    """Names of pages or objects; no blocks inside."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = dict.fromkeys(
        "caption maxdepth glob hidden members exclude-members inherited-members noindex".split(),
        directives.unchanged,
    )

    def run(self) -> list[nodes.Node]:
        return []


def _role(name: str, rawtext: str, text: str, *args: Any, **kwargs: Any) -> Any:
    return [nodes.literal(rawtext, text)], []


def _declare() -> None:
    directives.register_directive("code-block", _Code)
    directives.register_directive("testsetup", _Setup)
    for name in ADMONITIONS:
        directives.register_directive(name, _Transparent)
    for name in SILENT:
        directives.register_directive(name, _Silent)
    for name in ROLES:
        roles.register_local_role(name, _role)


def pages() -> list[Path]:
    """The pages of the documentation, README first."""
    names = ["README.rst", "CONTRIBUTING.rst", "SECURITY.rst"]
    first = [ROOT / name for name in names if (ROOT / name).exists()]
    return [*first, *sorted((ROOT / "docs").rglob("*.rst"))]


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a page in their order. Raises ``SystemMessage`` for bad markup."""
    _declare()
    document = docutils.core.publish_doctree(
        path.read_text(),
        source_path=str(path),
        settings_overrides={"report_level": 2, "halt_level": 2, "file_insertion_enabled": True},
    )
    page = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    for node in document.findall():
        if isinstance(node, nodes.literal_block):
            yield Block(
                page,
                node.line or 0,
                node.get("language", DEFAULT_LANGUAGE),
                node.astext(),
                node.get("caption", ""),
                node.get("hidden", False),
            )
        elif isinstance(node, nodes.doctest_block):
            yield Block(page, node.line or 0, "pycon", node.astext())
