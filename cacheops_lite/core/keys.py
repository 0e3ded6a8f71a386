"""The only spelling of keys.

All keys of one table carry the hash tag ``{table}``, so a Redis Cluster keeps them in one slot.
No key carries a version or a server id: those are part of the values, so that code of two
versions meets on the same keys.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from .entry import Conj

_PLAIN = re.compile(r"[A-Za-z0-9_.:+-]+").fullmatch
_LONG = 100
#: Tables whose spelling is remembered: a function of ``CACHEOPS_PREFIX`` may make up many.
REMEMBERED = 10_000


def _quoted(text: str) -> str:
    """Spell any text without the characters that mean something: ``{ } & = # , %`` and blanks."""
    return text if _PLAIN(text) else quote(text, safe="", errors="surrogatepass")


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def scheme_text(conj: Conj) -> str:
    """Spell the scheme of a conjunction as it is kept in Redis; ``""`` for any row."""
    return ",".join(_quoted(column) for column, _ in conj)


@lru_cache(maxsize=4096)
def scheme_columns(text: str) -> tuple[str, ...]:
    """Read the columns back from a scheme as it is kept in Redis."""
    return tuple(unquote(part, errors="surrogatepass") for part in text.split(",")) if text else ()


class Keys:
    """Spells the keys under one prefix.

    Raises ValueError for a prefix with a lone brace, which would scatter the keys of a table over
    a Redis Cluster.
    """

    def __init__(self, prefix: str) -> None:
        if ("{" in prefix or "}" in prefix) and not re.search(r"^[^{}]*\{[^{}]+\}", prefix):
            raise ValueError(f"the prefix {prefix!r} has braces that are not a hash tag")
        self.prefix = prefix
        self._tags: dict[str, str] = {}

    def _tag(self, table: str) -> str:
        tag = self._tags.get(table)
        if tag is None:
            if len(self._tags) >= REMEMBERED:
                self._tags.clear()
            name = _quoted(table) or "%"
            tag = self._tags[table] = (
                "{" + (name if len(name) <= _LONG else "#" + _digest(name)) + "}"
            )
        return tag

    def gen(self, table: str) -> bytes:
        """The stamp of a whole table."""
        return f"{self.prefix}gen:{self._tag(table)}".encode()

    def schemes(self, table: str) -> bytes:
        """The schemes in use under the table's gen."""
        return f"{self.prefix}schemes:{self._tag(table)}".encode()

    def conj(self, table: str, conj: Conj) -> bytes:
        """The stamp of one conjunction; of the any-row conjunction for ``()``."""
        text = "&".join(f"{_quoted(column)}={_quoted(value)}" for column, value in conj)
        if len(text) > _LONG:
            text = f"{scheme_text(conj)}#{_digest(text)}"
        return f"{self.prefix}conj:{self._tag(table)}:{text}".encode()

    def scheme_of(self, table: str, key: bytes) -> str | None:
        """The scheme that a conj key belongs to; None if it is no conj key of this table."""
        head = f"{self.prefix}conj:{self._tag(table)}:".encode()
        if not key.startswith(head):
            return None
        text = key[len(head) :].decode("ascii", "replace")
        scheme, hashed, _ = text.partition("#")
        return scheme if hashed else ",".join(term.partition("=")[0] for term in text.split("&"))

    def entry(self, table: str, digest: str) -> bytes:
        """A cached result, kept in the slot of its main table; the digest has 128 bit or more."""
        return f"{self.prefix}q:{self._tag(table)}:{digest}".encode()

    def stats(self, hour: int) -> bytes:
        """What all processes counted in one hour since 1970."""
        return f"{self.prefix}stats:{hour}".encode()

    def lock(self, entry: bytes) -> bytes:
        """The lock of an entry, in the entry's slot."""
        return b"%s:lock" % entry

    def since(self, entry: bytes) -> bytes:
        """When an entry was first found to be out of date, in the entry's slot."""
        return b"%s:since" % entry
