"""Which server a value came from: one id, or in a cluster one for each hash tag (A8)."""

from __future__ import annotations


def tag_of(key: bytes) -> bytes:
    """What of a key decides in which slot of a cluster it is: its hash tag, or all of it."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            return key[start + 1 : end]
    return key


class Servers(dict[bytes, bytes]):
    """The ids of the servers that keys of several slots came from, by hash tag."""


def server_at(server: bytes | Servers, key: bytes) -> bytes:
    """The id of the server that a key came from; ``b""`` if that is not one and the same."""
    return server if isinstance(server, bytes) else server.get(tag_of(key), b"")


def in_both(one: bytes | Servers, other: bytes | Servers) -> bytes | Servers:
    """What two looks were answered by; ``b""`` where it was not the same server each time."""
    if isinstance(one, bytes) or isinstance(other, bytes):
        return one if one == other else b""
    merged = Servers({**one, **other})
    for tag in one.keys() & other.keys():
        if one[tag] != other[tag]:
            merged[tag] = b""
    return merged
