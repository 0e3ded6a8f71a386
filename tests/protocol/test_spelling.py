"""The spelling of keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from cacheops_lite.core import stamps
from cacheops_lite.core.entry import conjunction
from cacheops_lite.core.keys import Keys, scheme_columns, scheme_text

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestKeys:
    """The spelling of keys."""

    KEYS = Keys("c:")

    def every(self, name: str) -> Iterator[bytes]:
        yield self.KEYS.gen(name)
        yield self.KEYS.schemes(name)
        yield self.KEYS.conj(name, ())
        yield self.KEYS.conj(name, conjunction({"a{": "}", "b": "{}"}))
        yield self.KEYS.conj(name, conjunction({"a": "x" * 1000}))
        yield self.KEYS.entry(name, "0" * 32)
        yield self.KEYS.lock(self.KEYS.entry(name, "0" * 32))

    @pytest.mark.parametrize("name", ["book", "a{b}c", "}{", "", '"odd".name', "x" * 500, "日本"])
    def test_one_slot(self, name: str) -> None:
        """All keys of a table have one hash tag, whatever the names and values."""
        keys = list(self.every(name))
        tags = {key[key.index(b"{") + 1 : key.index(b"}")] for key in keys}
        assert len(tags) == 1
        assert tags != {b""}
        assert len(set(keys)) == len(keys)
        assert all(len(key) < 250 for key in keys)

    def test_tables_differ(self) -> None:
        """Two tables never share a key."""
        names = ["book", "Book", "a{b", "a}b", "a%7Bb", "a%b", "", "%", "x" * 500, "x" * 501]
        assert len({self.KEYS.gen(name) for name in names}) == len(names)

    def test_conjunctions_differ(self) -> None:
        """Values with separators are not taken for other conjunctions."""
        rows = [{"a": "1"}, {"a": "1&b=2"}, {"a": "1", "b": "2"}, {"a=1&b": "2"}, {"a": "#"}, {}]
        rows += [{"a": ""}, {"a": "x" * 300}, {"a": "x" * 301}, {"a": "é"}, {"a": "%C3%A9"}]
        assert len({self.KEYS.conj("t", conjunction(row)) for row in rows}) == len(rows)

    @pytest.mark.parametrize(
        "row", [{}, {"a": "1"}, {"a": "x" * 300, "b": "y"}, {"a,b": "#", "=": "&"}, {"#": "1"}]
    )
    def test_scheme_of(self, row: dict[str, str]) -> None:
        """The scheme of a conjunction can be read from its key, hashed or not."""
        conj = conjunction(row)
        scheme = self.KEYS.scheme_of("t", self.KEYS.conj("t", conj))
        assert scheme == scheme_text(conj)
        assert scheme_columns(scheme) == tuple(sorted(row))

    def test_scheme_of_others(self) -> None:
        """Keys of other tables and kinds have no scheme here."""
        assert self.KEYS.scheme_of("t", self.KEYS.conj("u", ())) is None
        assert self.KEYS.scheme_of("t", self.KEYS.gen("t")) is None
        assert self.KEYS.scheme_of("t", b"\xff") is None

    def test_surrogates(self) -> None:
        """Even text that is not valid unicode has a key."""
        assert self.KEYS.conj("t", conjunction({"a": "\udc80"}))
        assert self.KEYS.conj("t", conjunction({"a": "\udc80" * 300}))

    @pytest.mark.parametrize("prefix", ["{", "a}", "}{", "{}", "x{y"])
    def test_bad_prefix(self, prefix: str) -> None:
        """A prefix that would scatter a table over slots is refused."""
        with pytest.raises(ValueError, match="hash tag"):
            Keys(prefix)

    def test_tagged_prefix(self) -> None:
        """A prefix with a whole hash tag is fine: all keys share its slot."""
        assert Keys("{app}:").gen("book") == b"{app}:gen:{book}"


def test_stored_format() -> None:
    """The bytes of an entry are pinned: what one release stored, the next one reads or refuses."""
    depends = {b"gen:{t}": b"s1xy", b"conj:{t}:": b"s0af", b"conj:{t}:a=1": b"s09af"}
    packed = stamps.pack_entry(depends, b"payload")
    body = (
        b"\x00\x03\x00\x07\x00\x05\x00\x09\x00\x03\x00\x0c\x00\x03"
        b"gen:{t}Vs1xyconj:{t}:O\x00\xafconj:{t}:a=1E\x09\xafpayload"
    )
    assert packed == b"\x04" + crc32(body).to_bytes(4, "big") + body
    assert stamps.parse_entry(packed) == (depends, b"payload")


@pytest.mark.parametrize(
    "stamp", ["", "s", "s1", "s0", "s00", "sAB", "sab", "s\xe9", "p1", "s1 2", "sx", "s" + "0" * 57]
)
def test_stamps_in_entries(stamp: str) -> None:
    """However a stamp is kept in an entry, it comes back as it was."""
    depends = {b"key": stamp.encode("latin-1")}
    assert stamps.parse_entry(stamps.pack_entry(depends, b"")) == (depends, b"")


def test_stamps_that_carry_the_first_ones_random() -> None:
    """The half of a stamp that is its gen's is kept once; what only looks like it is kept whole."""
    gen, other = b"s1" + b"ab" * 20, b"s1" + b"cd" * 20
    own, foreign, odd = (b"s" + b"0" * 16 + half for half in (gen[-16:], other[-16:], b"x" * 16))
    depends = {
        b"gen:{t}": gen,
        b"conj:{t}:": own,
        b"gen:{u}": other,
        b"conj:{u}:": foreign,
        b"k": odd,
    }
    for most in range(len(depends)):
        rest = dict(list(depends.items())[most:])
        assert stamps.parse_entry(stamps.pack_entry(rest, b"payload")) == (rest, b"payload")
    packed = stamps.pack_entry(depends, b"payload")
    assert packed.count(bytes.fromhex("ab" * 8)) == 2  # two halves of the gen itself
    cut = b"\x00\x01\x00\x01\x00\x02kC\x00"
    assert stamps.parse_entry(b"\x04" + crc32(cut).to_bytes(4, "big") + cut) is None


def test_kinds_of_stamps_in_entries() -> None:
    """A stamp of a kind that we do not know is no stamp."""
    body = b"\x00\x01\x00\x01\x00\x01kX"
    assert stamps.parse_entry(b"\x04" + crc32(body).to_bytes(4, "big") + body) is None


def test_scheme_values() -> None:
    """Schemes are read as written; what is malformed or damaged counts as missing."""
    gen = b"s1server" + b"0" * 16
    assert stamps.seal(gen + b" a=0") == gen + b" a=0#833a6ed09346838e"
    assert stamps.parse_schemes(stamps.seal(gen + b" a=0 b,c=17")) == (gen, ("a", "b,c"))
    assert stamps.parse_schemes(stamps.seal(gen)) == (gen, ())
    for value in (b"", b"x", gen + b" a", gen + b" a=x", gen + b" =1", gen + b"  "):
        assert stamps.parse_schemes(stamps.seal(value)) is None
    for value in (None, b"", gen, gen + b" a=0", stamps.seal(gen + b" a=0")[:-1]):
        assert stamps.parse_schemes(value) is None
