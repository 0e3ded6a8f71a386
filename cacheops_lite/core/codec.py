"""Rows and objects to bytes and back: typed rows are data only, everything else is signed.

A payload starts with one format byte:

``R`` rows: one type character per column, NUL, then msgpack of the list of rows. The characters
    pick a decoder that knows each column's type, so values come back with exactly the type that
    they had, in one pass of C, and nothing that is read here can run code.
``S`` rows that have no such spelling, ``O`` any object: a keyed BLAKE2b tag (RFC 7693) over the
    format, the context and the pickle, then the pickle. The tag is checked before unpickling.

The letters, the order and the msgpack spelling are a stored format: a changed meaning needs a new
format byte. ``tests/test_codec.py`` holds samples of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final, Protocol
from uuid import UUID

from msgspec.msgpack import Decoder, Encoder

from . import squeeze

ROWS: Final = b"R"
SIGNED_ROWS: Final = b"S"
OBJECT: Final = b"O"

_TAG_SIZE: Final = 32
_MAX_COLUMNS: Final = 4096


class Undecodable(Exception):
    """These bytes are not a payload that this process can and may read."""


class Untyped(Exception):
    """These rows have no typed spelling; they have to travel as a signed object."""


def _always(value: Any) -> bool:
    return True


def _wall_clock(value: Any) -> bool:
    return value.tzinfo is None and not value.fold


def _utc(value: Any) -> bool:
    # `fold` is lost in a timestamp; the identity keeps other zones of offset zero out.
    return value.tzinfo is UTC and not value.fold


def _flat(value: Any) -> bool:
    return bool(value.format == "B" and value.ndim == 1 and value.c_contiguous)


def _plain(value: Any) -> bool:
    """Whether a tree holds only what msgpack gives back untyped with equal types."""
    kind = type(value)
    if kind is list:
        return all(map(_plain, value))
    if kind is dict:
        return all(type(key) is str and _plain(item) for key, item in value.items())
    return kind in _PLAIN


_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})

#: Character -> (type of the column, which of its values can be spelt). First match wins.
_COLUMNS: Final[dict[str, tuple[Any, Callable[[Any], bool]]]] = {
    "i": (int, _always),
    "s": (str, _always),
    "b": (bool, _always),
    "f": (float, _always),
    "d": (Decimal, _always),
    "n": (datetime, _wall_clock),
    "u": (datetime, _utc),
    "D": (date, _always),
    "t": (time, _wall_clock),
    "l": (timedelta, _always),
    "U": (UUID, _always),
    "y": (bytes, _always),
    "m": (memoryview, _flat),
    "*": (Any, _plain),
}

_BY_TYPE: Final[dict[type, tuple[tuple[str, Callable[[Any], bool]], ...]]] = {}
for _char, (_type, _check) in _COLUMNS.items():
    if _char != "*":
        _BY_TYPE[_type] = (*_BY_TYPE.get(_type, ()), (_char, _check))

_encode: Final = Encoder(uuid_format="bytes", decimal_format="string").encode


def _column_char(values: Sequence[Any]) -> str:
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return "*"
    if len(kinds) == 1:
        for char, check in _BY_TYPE.get(kinds.pop(), ()):
            if check is _always or all(check(v) for v in values if v is not None):
                return char
    if all(map(_plain, values)):
        return "*"
    raise Untyped


def encode_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    """Spell rows with typed columns.

    Raises ``Untyped`` where some value would not come back equal and with exactly its type.
    """
    try:
        header = "".join(map(_column_char, zip(*rows, strict=True)))
        if len(header) > _MAX_COLUMNS:
            raise Untyped
        return ROWS + header.encode() + b"\0" + _encode(rows)
    except Untyped:
        raise
    except Exception as error:
        # A row of another length, an int past 64 bits, a lone surrogate, too deep a tree.
        raise Untyped from error


def _no_extension(code: int, data: memoryview) -> Any:
    raise ValueError(code)


@lru_cache(maxsize=1024)
def _decoder(header: bytes) -> Callable[[Any], list[tuple[Any, ...]]]:
    columns = tuple(_COLUMNS[char][0] | None for char in header.decode("ascii"))
    rows = list[tuple[columns or ()]]  # type: ignore[valid-type, misc]
    decode: Callable[[Any], list[tuple[Any, ...]]]
    decode = Decoder(rows, ext_hook=_no_extension).decode
    return decode


def decode_rows(data: bytes) -> list[tuple[Any, ...]]:
    """Read what ``encode_rows`` wrote; any other bytes raise ``Undecodable``.

    A ``memoryview`` in the result is a view of `data`.
    """
    try:
        end = data.index(b"\0", 1, _MAX_COLUMNS + 2)
        if data[:1] != ROWS:
            raise Undecodable
        return _decoder(data[1:end])(memoryview(data)[end + 1 :])
    except Undecodable:
        raise
    except Exception as error:
        raise Undecodable from error


class Signer:
    """Tags bytes so that only holders of a key can have made them, and only for this place.

    `keys` are secrets of any length, the newest first: it signs, all of them verify. `context`
    binds the bytes to the key under which they are stored, so that a stored value cannot be copied
    to where another one is expected.
    """

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = tuple(blake2b(key, person=b"cacheops_lite").digest() for key in keys)
        if not self._keys:
            raise ValueError("a signer needs at least one key")

    @staticmethod
    def _tag(key: bytes, kind: bytes, context: bytes, data: bytes | memoryview) -> bytes:
        tag = blake2b(kind + len(context).to_bytes(8, "big"), digest_size=_TAG_SIZE, key=key)
        tag.update(context)
        tag.update(data)
        return tag.digest()

    def sign(self, kind: bytes, context: bytes, data: bytes) -> bytes:
        """Give `kind` (one byte), the tag and `data`."""
        return b"".join((kind, self._tag(self._keys[0], kind, context, data), data))

    def unsign(self, kind: bytes, context: bytes, signed: bytes) -> memoryview:
        """Give the data of what ``sign`` made with one of the keys, else raise ``Undecodable``."""
        view = memoryview(signed)
        tag, data = view[1 : 1 + _TAG_SIZE], view[1 + _TAG_SIZE :]
        if view[:1] == kind:
            for key in self._keys:
                if compare_digest(self._tag(key, kind, context, data), tag):
                    return data
        raise Undecodable


class Pickler(Protocol):
    """Any module or class with these two functions: ``pickle``, ``dill``, ``cloudpickle``."""

    def dumps(self, value: Any, /) -> bytes: ...
    def loads(self, data: bytes, /) -> Any: ...


class PlainPickle:
    """``pickle`` at a fixed protocol, so that Python versions can share a store."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    @staticmethod
    def loads(data: bytes) -> Any:
        return pickle.loads(data)  # noqa: S301 (Codec calls this on signed bytes only)


class Unfaithful(Exception):
    """A value would come back from the pickler without some of its attributes."""


class Codec:
    """Payloads of entries. `context` is the key of the entry; every reader raises ``Undecodable``.

    Writing raises what the pickler raises for a value that it cannot take, and ``Unfaithful``.
    """

    def __init__(
        self, signer: Signer, pickler: Pickler = PlainPickle, method: bytes | None = None
    ) -> None:
        """``method`` says how payloads are squeezed (``squeeze.METHODS``), None that they are not.

        Whatever this one does not write it can read all the same.
        """
        self.signer = signer
        self.pickler = pickler
        self.method = method
        #: Type -> whether its instances keep their attributes.
        self._faithful: dict[type, bool] = {}

    def rows_to_bytes(self, rows: Sequence[Sequence[Any]], context: bytes) -> bytes:
        return self._squeezed(self._rows_to_bytes(rows, context))

    def _rows_to_bytes(self, rows: Sequence[Sequence[Any]], context: bytes) -> bytes:
        try:
            return encode_rows(rows)
        except Untyped:
            content = list(map(tuple, rows))
            for row in content:
                for value in row:
                    self._check(value)
            return self._dump(SIGNED_ROWS, content, context)

    def bytes_to_rows(self, data: bytes, context: bytes) -> list[tuple[Any, ...]]:
        if squeeze.is_squeezed(data):
            data = self._expanded(data)
        if data[:1] == ROWS:
            return decode_rows(data)
        rows: list[tuple[Any, ...]] = self._load(SIGNED_ROWS, data, context)
        return rows

    def object_to_bytes(self, value: Any, context: bytes) -> bytes:
        return self._squeezed(self._dump(OBJECT, value, context))

    def bytes_to_object(self, data: bytes, context: bytes) -> Any:
        if squeeze.is_squeezed(data):
            data = self._expanded(data)
        return self._load(OBJECT, data, context)

    def _squeezed(self, data: bytes) -> bytes:
        return data if self.method is None else squeeze.squeeze(self.method, data)

    def _expanded(self, data: bytes) -> bytes:
        try:
            return squeeze.expand(data)
        except (ValueError, ImportError) as error:
            raise Undecodable from error

    def _check(self, value: Any) -> None:
        # A ``Decimal`` with attributes, say, is pickled as its digits alone.
        attributes = getattr(value, "__dict__", None)
        if not attributes:
            return
        kind = type(value)
        if kind not in self._faithful:
            copy = self.pickler.loads(self.pickler.dumps(value))
            self._faithful[kind] = getattr(copy, "__dict__", {}).keys() == attributes.keys()
        if not self._faithful[kind]:
            raise Unfaithful(f"{kind.__module__}.{kind.__qualname__} loses attributes")

    def _dump(self, kind: bytes, value: Any, context: bytes) -> bytes:
        return self.signer.sign(kind, context, self.pickler.dumps(value))

    def _load(self, kind: bytes, data: bytes, context: bytes) -> Any:
        content = self.signer.unsign(kind, context, data)
        try:
            return self.pickler.loads(bytes(content))
        except Exception as error:
            # A class that moved, another pickler's bytes: signed, but not readable here.
            raise Undecodable from error
