"""Payloads made smaller, and large again: zstd (RFC 8878) or lz4, from some size on.

A squeezed payload is its method (``Z`` or ``L``), the size that it had (4 bytes), and the
compressed bytes. Nothing that claims more than ``MOST`` bytes is made large again, and what does
not come out at exactly the size that it claims is damaged: a few bytes cannot fill the memory.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any, Final

#: Bytes of a payload from which on it is squeezed, and past which it never is.
LEAST: Final = 1024
MOST: Final = 64 * 1024 * 1024

ZSTD: Final = b"Z"
LZ4: Final = b"L"
METHODS: Final = {"zstd": ZSTD, "lz4": LZ4}

_HEAD: Final = 1 + 4


def squeeze(method: bytes, payload: bytes) -> bytes:
    """The payload, smaller if that is worth it. Raises ``ImportError`` without the library."""
    if not LEAST <= len(payload) <= MOST:
        return payload
    small = _zstd_small(payload) if method == ZSTD else _lz4().compress(payload, store_size=False)
    if len(small) + _HEAD >= len(payload):
        return payload
    return b"".join((method, len(payload).to_bytes(4, "big"), small))


def is_squeezed(payload: bytes) -> bool:
    """Whether ``expand`` has something to do."""
    return payload[:1] in (ZSTD, LZ4)


def expand(payload: bytes) -> bytes:
    """What was squeezed. Raises ``ValueError`` for anything else, ``ImportError``."""
    size = int.from_bytes(payload[1:_HEAD], "big")
    if len(payload) < _HEAD or size > MOST:
        raise ValueError("a squeezed payload that claims too much")
    small = payload[_HEAD:]
    try:
        if payload[:1] == ZSTD:
            large = _zstd_large(small, size)
        else:
            large = _lz4().decompress(small, uncompressed_size=size)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError("a damaged payload") from error
    if len(large) != size:
        raise ValueError("a squeezed payload of another size")
    return large


def check(method: str) -> bytes:
    """The letter of a method. Raises ``ValueError`` or ``ImportError`` with what to do."""
    if method not in METHODS:
        raise ValueError(f"it is one of {', '.join(METHODS)}, or None; got {method!r}")
    try:
        squeeze(METHODS[method], bytes(LEAST))
    except ImportError as error:
        name = {"zstd": "zstandard", "lz4": "lz4"}[method]
        raise ImportError(f"install {name!r} (pip install 'cacheops-lite[{method}]')") from error
    return METHODS[method]


def _zstd() -> Any:
    try:
        return import_module("compression.zstd")  # Python 3.14
    except ImportError:
        return import_module("zstandard")


def _lz4() -> Any:
    return import_module("lz4.block")


def _zstd_small(payload: bytes) -> bytes:
    zstd = _zstd()
    compressor = getattr(zstd, "compress", None) or zstd.ZstdCompressor().compress
    small: bytes = compressor(payload)
    return small


def _zstd_large(small: bytes, size: int) -> bytes:
    """At most one byte more than ``size``, whatever the frame says of itself."""
    zstd = _zstd()
    large: bytes
    if hasattr(zstd, "ZstdFile"):  # Python's own
        large = zstd.ZstdDecompressor().decompress(small, max_length=size + 1)
    else:
        with zstd.ZstdDecompressor().stream_reader(io.BytesIO(small)) as reader:
            large = reader.read(size + 1)
    return large
