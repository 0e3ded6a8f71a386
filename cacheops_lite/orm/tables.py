"""The tables that a piece of SQL reads: what stands after FROM and JOIN, with its alias."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..core.memo import by_text

_TOKEN: Final = re.compile(
    r"""
      (?P<string>  '(?:[^'\\]|''|\\.)*' )
    | (?P<name>    "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[A-Za-z_]\w*\] )
    | (?P<word>    [^\W\d][\w$]* )
    | (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<space>   \s+ )
    | (?P<sign>    . )
    """,
    re.VERBOSE | re.DOTALL,
)

#: Words that end a list of tables.
_ENDS: Final = frozenset({
    "where", "group", "having", "order", "limit", "offset", "fetch", "for", "union", "intersect",
    "except", "minus", "window", "qualify", "returning", "set", "values",
})  # fmt: skip
#: Words that may follow a table and are not its alias.
_NO_ALIAS: Final = _ENDS | {
    "on", "using", "join", "inner", "left", "right", "full", "cross", "natural", "outer", "use",
    "force", "ignore", "straight_join", "tablesample", "as",
}  # fmt: skip
_SKIPPED: Final = frozenset({"only", "lateral"})


class Token(NamedTuple):
    """One piece of SQL: ``kind`` is ``string``, ``name`` (quoted), ``word`` or ``sign``."""

    kind: str
    text: str

    @property
    def identifier(self) -> str:
        """The name without its quotes."""
        return self.text if self.kind == "word" else self.text[1:-1]


class Source(NamedTuple):
    """One table in a FROM clause; ``name`` has its parts joined by dots."""

    name: str
    alias: str


def tokens(sql: str) -> Iterator[Token]:
    """The pieces of ``sql`` without space and comments."""
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if kind not in ("space", "comment"):
            yield Token(str(kind), match.group())


@by_text(1024)
def sources(sql: str) -> tuple[frozenset[Source], str]:
    """The tables that ``sql`` reads, and what of its FROM clauses was not understood (or '')."""
    found: set[Source] = set()
    unread = _read(sql, found)
    return frozenset(found), unread


def _read(sql: str, found: set[Source]) -> str:
    pieces = [*tokens(sql), Token("sign", ";")]
    # For each open parenthesis: was there a SELECT in it, and are we in its list of tables?
    levels: list[list[bool]] = [[False, False]]
    wanted = False
    position = 0
    while position < len(pieces):
        token = pieces[position]
        word = token.text.lower() if token.kind == "word" else ""
        if word == "select":
            levels[-1] = [True, False]
        elif wanted and word in _SKIPPED:
            pass
        elif wanted and token.kind in ("word", "name"):
            source, position = _source(pieces, position)
            if pieces[position].text == "(":
                return f"the table function {source.name}"
            found.add(source)
            wanted = False
            continue
        elif token.text == "(" and token.kind == "sign":
            # "FROM (a JOIN b)" opens a list of tables, "FROM (SELECT" does not.
            levels.append([wanted, wanted])
            position += 1
            continue
        elif wanted:
            return f"FROM {token.text}"
        elif token.text == ")" and token.kind == "sign":
            if len(levels) > 1:
                levels.pop()
        elif word == "from" and levels[-1][0] and not _distinct(pieces, position):
            levels[-1][1] = wanted = True
            position += 1
            continue
        elif word in ("join", "straight_join") or (token.text == "," and levels[-1][1]):
            if levels[-1][1]:
                wanted = True
                position += 1
                continue
        elif word in _ENDS:
            levels[-1][1] = False
        wanted = wanted and word in _SKIPPED
        position += 1
    return ""


def _distinct(pieces: list[Token], position: int) -> bool:
    """Whether the FROM at ``position`` is that of ``IS DISTINCT FROM``."""
    return position > 1 and pieces[position - 1].text.lower() == "distinct"


def _source(pieces: list[Token], position: int) -> tuple[Source, int]:
    """The table that begins at ``position``, and the position after it."""
    parts = [pieces[position].identifier]
    position += 1
    while pieces[position].text == "." and pieces[position + 1].kind in ("word", "name"):
        parts.append(pieces[position + 1].identifier)
        position += 2
    if pieces[position].text.lower() == "as" and pieces[position].kind == "word":
        position += 1
    alias = parts[-1]
    following = pieces[position]
    if following.kind == "name" or (
        following.kind == "word" and following.text.lower() not in _NO_ALIAS
    ):
        alias = following.identifier
        position += 1
    return Source(".".join(parts), alias), position
