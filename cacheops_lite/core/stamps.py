"""The spelling of the values that Redis holds: stamps, pending tokens, schemes, entries.

==========  ================================================================================== gen
``s`` protocol version (1 char) · server id · random (16 hex) conj        ``s`` random (16 hex) ·
random of the gen that it was made under (16 hex) pending     ``p`` then ``token:deadline`` of
each writer, separated by a blank; token 16 hex, deadline in server ms schemes     the gen that
they belong to, then `` scheme=ready`` for each, ready in server ms entry       format byte ·
number of dependencies · their lengths · key and stamp of each · payload ==========
==================================================================================
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Part of every gen. Raise it whenever a value or a key is spelt differently than before: gens of
#: the other version are then foreign, so that code of both versions can run side by side.
VERSION: Final = b"1"
ENTRY_FORMAT: Final = 1
_RANDOM = 16
_HEAD = struct.Struct(">BH")


def is_stamp(value: bytes | None) -> bool:
    """Tell a stamp from a missing, pending or foreign value."""
    return value is not None and value[:1] == b"s"


def is_pending(value: bytes | None) -> bool:
    """Tell whether a writer has marked this key."""
    return value is not None and value[:1] == b"p"


def is_own(gen: bytes | None, server: bytes, version: bytes = VERSION) -> bool:
    """Tell whether a gen was made by this version of the protocol on this very server."""
    return (
        gen is not None
        and len(gen) == 1 + len(version) + len(server) + _RANDOM
        and gen.startswith(b"s" + version + server)
    )


def carries(stamp: bytes | None, gen: bytes) -> bool:
    """Tell whether a conj stamp was made under this gen."""
    return (
        stamp is not None
        and len(stamp) == 1 + 2 * _RANDOM
        and stamp[:1] == b"s"
        and stamp[-_RANDOM:] == gen[-_RANDOM:]
    )


class Schemes(NamedTuple):
    """What a schemes key holds: the gen that it belongs to and the schemes in use under it."""

    gen: bytes
    names: tuple[str, ...]


def parse_schemes(value: bytes | None) -> Schemes | None:
    """Read a schemes value; None if it is missing or malformed."""
    if value is None:
        return None
    gen, *pairs = value.split(b" ")
    names = []
    for pair in pairs:
        name, _, ready = pair.partition(b"=")
        if not name or not ready.isdigit():
            return None
        names.append(name.decode("ascii", "replace"))
    return Schemes(gen, tuple(names)) if gen[:1] == b"s" else None


class Entry(NamedTuple):
    """A cached result and the stamps that it was read under."""

    stamps: dict[bytes, bytes]
    payload: bytes


def pack_entry(stamps: Mapping[bytes, bytes], payload: bytes) -> bytes:
    """Spell an entry."""
    sizes = [len(text) for pair in stamps.items() for text in pair]
    lengths = struct.pack(f">{len(sizes)}H", *sizes)
    texts = [text for pair in stamps.items() for text in pair]
    return b"".join([_HEAD.pack(ENTRY_FORMAT, len(stamps)), lengths, *texts, payload])


def parse_entry(value: bytes) -> Entry | None:
    """Read an entry; None if it is truncated, malformed or of another format."""
    try:
        version, count = _HEAD.unpack_from(value)
        sizes = struct.unpack_from(f">{2 * count}H", value, _HEAD.size)
    except struct.error:
        return None
    if version != ENTRY_FORMAT:
        return None
    start = _HEAD.size + 4 * count
    if start + sum(sizes) > len(value):
        return None
    stamps = {}
    for index in range(0, 2 * count, 2):
        middle = start + sizes[index]
        end = middle + sizes[index + 1]
        stamps[value[start:middle]] = value[middle:end]
        start = end
    return Entry(stamps, value[start:])
