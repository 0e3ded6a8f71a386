"""The shape that the reply to each of our commands has; what has another is no reply to it.

A reply of a wrong shape means that something else answers, or that replies have got out of step
with commands: then the socket must not be used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAYBE_TEXT = frozenset({bytes, type(None)})
_NAMES = {spelt: name for name, source in SCRIPTS.items() for spelt in source}


def are_values(reply: Any, count: int) -> bool:
    """Tell whether this is the reply to an MGET of so many keys."""
    return type(reply) is list and len(reply) == count and _MAYBE_TEXT.issuperset(map(type, reply))


def fits(command: Sequence[bytes | int], reply: Any) -> bool:
    """Tell whether a reply that is no error can be the reply to this command."""
    verb = command[0]
    if verb == b"MGET":
        return are_values(reply, len(command) - 1)
    if verb in (b"EVALSHA", b"EVAL"):
        return _script_fits(_NAMES[command[1]], int(command[2]), reply)  # type: ignore[index]
    check = _SIMPLE.get(verb)  # type: ignore[arg-type]
    return check is None or check(reply)


def _script_fits(name: str, keys: int, reply: Any) -> bool:
    if name == "unlock":
        return type(reply) is int
    if type(reply) is not list or len(reply) != 2:
        return False
    if name != "ensure":
        return are_values(reply, 2)
    gen, out = reply
    return (
        type(gen) is bytes
        and type(out) is list
        and len(out) == keys - 3
        and all(type(value) is bytes for value in out)
    )


def _number(reply: Any) -> bool:
    return type(reply) is int


def _pairs(reply: Any) -> bool:
    if type(reply) is dict:  # the protocol of Redis 3 has maps
        return all(type(part) is bytes for pair in reply.items() for part in pair)
    return type(reply) is list and not len(reply) % 2 and all(type(part) is bytes for part in reply)


_SIMPLE: dict[bytes, Callable[[Any], bool]] = {
    b"SET": lambda reply: reply is None or reply == b"OK",
    b"DEL": _number,
    b"PTTL": _number,
    b"PEXPIRE": _number,
    b"HINCRBY": _number,
    b"HGETALL": _pairs,
    b"INFO": lambda reply: type(reply) is bytes,
}
