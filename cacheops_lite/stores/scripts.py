"""The Lua scripts, by name."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import Final, NamedTuple


class Source(NamedTuple):
    """A script as it is sent, and the digest under which a server knows it."""

    text: bytes
    sha: bytes


def _source(name: str) -> Source:
    text = (Path(__file__).parent / "lua" / f"{name}.lua").read_bytes()
    return Source(text, sha1(text, usedforsecurity=False).hexdigest().encode())


SCRIPTS: Final = {name: _source(name) for name in ("ensure", "mark", "bump", "unlock")}
