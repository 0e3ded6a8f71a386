"""Which tables a raw statement writes: the names after its verbs."""

from __future__ import annotations

from typing import Final

from ..core.memo import by_text
from .tables import Token, tokens

#: verb -> the word that must stand between it and the table, and words that may stand before.
_VERBS: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "insert": ("into", frozenset("low_priority delayed high_priority ignore".split())),
    "replace": ("into", frozenset({"low_priority", "delayed"})),
    "merge": ("into", frozenset()),
    "delete": ("from", frozenset({"low_priority", "quick", "ignore"})),
    "update": ("", frozenset({"low_priority", "ignore", "only"})),
    "truncate": ("", frozenset({"table", "only"})),
    "copy": ("", frozenset()),
    "table": ("", frozenset()),  # LOAD DATA … INTO TABLE
}
#: A verb after one of these begins no statement: ON CONFLICT DO UPDATE, FOR UPDATE, ON DELETE, …
_CLAUSES: Final = frozenset({"do", "key", "for", "on", "then", "or"})
#: Statements that write nothing by themselves.
_HARMLESS: Final = frozenset(
    "begin start commit end rollback savepoint release set select pragma show".split()
)
_SETTINGS: Final = ["set", "statement"]
_STOP: Final = Token("sign", ";")


@by_text(512)
def targets(sql: str) -> frozenset[str] | None:
    """The tables that ``sql`` writes, in lower case and without their schemas.

    ``None`` if not all of it is understood: a call, a block of code, a form that is not known.
    """
    found: set[str] = set()
    statement: list[Token] = []
    for token in [*tokens(sql), _STOP]:
        if token != _STOP:
            statement.append(token)
            continue
        statement = _without_settings(statement)
        if statement:
            names = _targets([*statement, _STOP])
            if not names and _word(next(t for t in statement if t.text != "(")) not in _HARMLESS:
                return None
            found |= names
        statement = []
    return frozenset(found)


def _without_settings(statement: list[Token]) -> list[Token]:
    """``UPDATE a`` of MariaDB's ``SET STATEMENT x = 1 FOR UPDATE a``."""
    said = [_word(token) for token in statement]
    if said[:2] != _SETTINGS or "for" not in said:
        return statement
    return statement[said.index("for") + 1 :]


def _targets(pieces: list[Token]) -> set[str]:
    found: set[str] = set()
    for position, token in enumerate(pieces):
        verb = _VERBS.get(_word(token))
        if verb is None or (position and _word(pieces[position - 1]) in _CLAUSES):
            continue
        if _word(token) in ("truncate", "copy") and position:
            continue
        if _word(token) == "table" and _word(pieces[0]) != "load":
            continue
        link, modifiers = verb
        at = position + 1
        while (word := _word(pieces[at])) in modifiers or word == "or":
            at += 2 if word == "or" else 1  # UPDATE OR REPLACE
        if link:
            if word != link:
                continue
            at += 2 if _word(pieces[at + 1]) == "only" else 1
        while (name := _name(pieces, at)) is not None:
            found.add(name[0])
            at = name[1]
            if _word(token) != "truncate" or pieces[at].text != ",":
                break
            at += 1
    return found


def _name(pieces: list[Token], at: int) -> tuple[str, int] | None:
    """The name that begins at a place, and the place after it."""
    if pieces[at].kind not in ("word", "name"):
        return None
    while pieces[at + 1].text == "." and pieces[at + 2].kind in ("word", "name"):
        at += 2
    return pieces[at].identifier.lower(), at + 1


def _word(token: Token) -> str:
    return token.text.lower() if token.kind == "word" else ""
