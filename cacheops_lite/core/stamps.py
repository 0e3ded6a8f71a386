"""The spelling of the values that Redis holds: stamps, pending tokens, schemes, entries.

========  ====================================================================================
gen       ``s`` · protocol version (1 char) · server id · random (16 hex)
conj      ``s`` · how long it will last at least (2 hex: n for 1.08 ** n s; ff: for ever) · random
          (14 hex) · random of the gen that it was made under (16 hex)
pending   ``p`` · ``token:deadline`` of each writer, separated by a blank; token 16 hex, deadline
          in ms of the server's clock; of a conj that had a stamp also `` =``, its 32 digits, ``/``
          and when it runs out in server ms
schemes   the gen that they belong to · `` scheme=ready`` for each, ready in server ms · ``#`` and
          the first 16 hex digits of the SHA-1 of all before
entry     format byte · CRC-32 of all that follows (4 bytes) · number of dependencies (2 bytes) ·
          the lengths of key and stamp of each (2 bytes) · these texts · payload; a stamp of hex
          digits is kept as bytes: ``E`` or (an odd number of digits) ``O``, then the bytes; as
          ``C``, then the first half of the bytes, if it carries the random of the first stamp,
          which is the gen of its table; any other as ``V``, then what it is
========  ====================================================================================

A schemes value or an entry that was damaged must not be taken for another, so both carry a check.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from hashlib import sha1
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
from functools import lru_cache

#: Part of every gen. Raise it whenever a value or a key is spelt differently than before: gens of
#: the other version are then foreign, so that code of both versions can run side by side.
VERSION: Final = b"1"
ENTRY_FORMAT: Final = 4
_RANDOM = 16
_HEX = re.compile("[0-9a-f]*").fullmatch
_CHECK = struct.Struct(">BI")
_COUNT = struct.Struct(">H")
_SEAL = 1 + 16


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


#: How long stamps last, in ms, by their first digits.
_LIVES = [1000 * 1.08**n for n in range(255)]


def life(ttl_ms: int) -> bytes:
    """The first digits of a stamp that lasts so long; greater ones last longer."""
    return b"%02x" % bisect_left(_LIVES, ttl_ms)


class Schemes(NamedTuple):
    """What a schemes key holds: the gen that it belongs to and the schemes in use under it."""

    gen: bytes
    names: tuple[str, ...]


def seal(body: bytes) -> bytes:
    """Add the check to a schemes value."""
    return b"%s#%s" % (body, sha1(body, usedforsecurity=False).hexdigest()[:16].encode())


def unseal(value: bytes | None) -> bytes | None:
    """Take the check off again; None if it is not right."""
    if value is None:
        return None
    body = value[:-_SEAL]
    return body if seal(body) == value else None


@lru_cache(maxsize=256)
def parse_schemes(value: bytes | None) -> Schemes | None:
    """Read a schemes value; None if it is missing, malformed or damaged.

    It is remembered: the schemes in use on a table are nearly always those of a moment ago.
    """
    body = unseal(value)
    if body is None:
        return None
    gen, *pairs = body.split(b" ")
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


def _short(stamp: bytes, first: bytes) -> bytes:
    """A stamp in half the bytes or less; ``first`` is the first one, if this is another."""
    digits = stamp[1:].decode("latin-1")
    if carries(stamp, first) and _HEX(digits):
        return b"C" + bytes.fromhex(digits[:_RANDOM])
    odd = len(digits) % 2
    if stamp[:1] == b"s" and _HEX(digits):
        return (b"O" if odd else b"E") + bytes.fromhex("0" * odd + digits)
    return b"V" + stamp


def _long(short: bytes, first: bytes) -> bytes:
    kind = short[:1]
    if kind == b"C" and first:
        return b"s" + short[1:].hex().encode() + first[-_RANDOM:]
    if kind == b"V":
        return short[1:]
    if kind not in (b"E", b"O"):
        raise ValueError(kind)
    return b"s" + short[1:].hex()[kind == b"O" :].encode()


def pack_entry(stamps: Mapping[bytes, bytes], payload: bytes) -> bytes:
    """Spell an entry."""
    texts: list[bytes] = []
    first = b""
    for key, stamp in stamps.items():
        texts += (key, _short(stamp, first))
        first = first or stamp
    sizes = list(map(len, texts))
    lengths = struct.pack(f">{len(sizes)}H", *sizes)
    body = b"".join([_COUNT.pack(len(stamps)), lengths, *texts, payload])
    return _CHECK.pack(ENTRY_FORMAT, crc32(body)) + body


def is_whole(value: bytes) -> bool:
    """Tell whether an entry of our format came back as it was stored. Raises ``struct.error``."""
    version, check = _CHECK.unpack_from(value)
    found: bool = version == ENTRY_FORMAT and crc32(memoryview(value)[_CHECK.size :]) == check
    return found


def parse_entry(value: bytes) -> Entry | None:
    """Read an entry; None if it is damaged, malformed or of another format."""
    try:
        if not is_whole(value):
            return None
        (count,) = _COUNT.unpack_from(value, _CHECK.size)
        sizes = struct.unpack_from(f">{2 * count}H", value, _CHECK.size + _COUNT.size)
        return _parse(value, count, sizes)
    except (struct.error, ValueError):
        return None


def _parse(value: bytes, count: int, sizes: Sequence[int]) -> Entry | None:
    start = _CHECK.size + _COUNT.size + 4 * count
    if start + sum(sizes) > len(value):
        return None
    stamps: dict[bytes, bytes] = {}
    first = b""
    for index in range(0, 2 * count, 2):
        middle = start + sizes[index]
        end = middle + sizes[index + 1]
        stamp = stamps[value[start:middle]] = _long(value[middle:end], first)
        first = first or stamp
        start = end
    return Entry(stamps, value[start:])
