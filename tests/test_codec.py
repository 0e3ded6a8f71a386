"""What is stored comes back equal and of exactly the same type, or not at all."""

from __future__ import annotations

import pickle
import struct
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cacheops_lite.core.codec import (
    OBJECT,
    ROWS,
    SIGNED_ROWS,
    Codec,
    PlainPickle,
    Signer,
    Undecodable,
    Untyped,
    decode_rows,
    encode_rows,
)

# The first draw of text builds tables of characters, which can take longer than a whole test.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CONTEXT = b"q:{blog_post}:0123"
codec = Codec(Signer([b"secret"]))


def exactly(value: Any) -> Any:
    """What tells two values apart: equality, types all the way down, sign of zero, NaN, zone."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [exactly(item) for item in value]
    if kind is dict:
        return kind, [(exactly(key), exactly(item)) for key, item in value.items()]
    if kind is float:
        return kind, struct.pack("d", value)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (datetime, time):
        return kind, value.replace(tzinfo=None), value.fold, type(value.tzinfo), repr(value.tzinfo)
    if kind is memoryview:
        return kind, bytes(value), value.format, value.shape
    return kind, value


def unfold(moment: Any) -> Any:
    return moment.replace(fold=0)


class Text(str):
    """A str that is not a str."""


class Whole(int):
    """An int that is not an int."""


ZONES = st.sampled_from([ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=3))])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TYPED = [
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False) | st.just(float("nan")),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.binary().map(lambda data: memoryview(data)),
    st.decimals() | st.sampled_from([Decimal("-0"), Decimal("0E-9"), Decimal("-0E+7")]),
    st.datetimes().map(unfold),
    st.datetimes(timezones=st.just(UTC)).map(unfold),
    st.dates(),
    st.times().map(unfold),
    st.timedeltas(),
    st.uuids(),
    JSON,
]
SIGNED = [
    st.integers(2**64, 2**70) | st.integers(-(2**70), -(2**63) - 1),
    st.text().map(Text),
    st.integers().map(Whole),
    st.binary().map(bytearray),
    st.datetimes(timezones=ZONES),
    st.datetimes().map(lambda moment: moment.replace(fold=1)),
    st.times(timezones=ZONES | st.just(UTC)),
    st.frozensets(st.integers()),
    st.tuples(st.integers()),
    st.complex_numbers(allow_nan=False),
]


def tables(cells: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    columns = st.lists(st.sampled_from(cells), min_size=1, max_size=5)
    return columns.flatmap(
        lambda kinds: st.lists(st.tuples(*(st.none() | kind for kind in kinds)), max_size=6)
    )


@patient
@given(tables(TYPED))
def test_typed_rows_come_back_exactly(rows: list[tuple[Any, ...]]) -> None:
    """Every value of a typed column comes back equal and of its type, without any pickle."""
    assert exactly(decode_rows(encode_rows(rows))) == exactly(rows)


@patient
@given(tables(TYPED[:5] + TYPED[6:] + SIGNED))
def test_any_rows_come_back_exactly(rows: list[tuple[Any, ...]]) -> None:
    """Rows with values that have no typed spelling come back exactly as well."""
    data = codec.rows_to_bytes(rows, CONTEXT)
    assert exactly(codec.bytes_to_rows(data, CONTEXT)) == exactly(rows)


@patient
@given(st.sampled_from(SIGNED).flatmap(lambda kind: kind), st.none() | JSON)
def test_what_would_change_its_type_is_signed(value: Any, other: Any) -> None:
    """A value that msgpack would give back as another type is never written as a typed row."""
    data = codec.rows_to_bytes([(other, value)], CONTEXT)
    assert data[:1] == SIGNED_ROWS
    with pytest.raises(Untyped):
        encode_rows([(other, value)])


def test_bool_is_not_int() -> None:
    """True and 1 are equal, so only the type tells whether a column mixed them up."""
    rows = [(True, 1), (1, 0), (False, None)]
    assert exactly(decode_rows(encode_rows(rows))) == exactly(rows)


def test_utc_is_the_very_object() -> None:
    """Django compares zones by identity in places; UTC comes back as datetime.timezone.utc."""
    [(moment,)] = decode_rows(encode_rows([(datetime(2024, 2, 29, tzinfo=UTC),)]))
    assert moment.tzinfo is UTC


def test_lists_and_tuples_as_rows() -> None:
    """Compilers give rows as lists or tuples; what is read is always tuples."""
    assert decode_rows(encode_rows([[1, "a"], (2, "b")])) == [(1, "a"), (2, "b")]
    assert codec.bytes_to_rows(codec.rows_to_bytes([[{1}]], CONTEXT), CONTEXT) == [({1},)]


@pytest.mark.parametrize("rows", [[], [()], [(), ()], [(None,)], [(None, None)] * 2])
def test_rows_without_values(rows: list[tuple[Any, ...]]) -> None:
    """No rows, rows without columns and columns of NULL only are values like any other."""
    assert decode_rows(encode_rows(rows)) == rows


def test_rows_of_unequal_length() -> None:
    """A custom iterable may yield ragged rows; they are kept, signed."""
    rows = [(1,), (1, 2)]
    data = codec.rows_to_bytes(rows, CONTEXT)
    assert data[:1] == SIGNED_ROWS
    assert codec.bytes_to_rows(data, CONTEXT) == rows


def test_deep_trees_do_not_break() -> None:
    """A JSON value nested deeper than msgpack's limit still comes back, or refuses by name."""
    deep: Any = []
    for _ in range(2_000):
        deep = [deep]
    try:
        data = codec.rows_to_bytes([(deep,)], CONTEXT)
    except RecursionError:
        return
    assert data[:1] == SIGNED_ROWS


def test_lone_surrogates() -> None:
    """SQLite can hold text that has no UTF-8 spelling; it comes back all the same."""
    rows = [("\udce9",)]
    assert codec.bytes_to_rows(codec.rows_to_bytes(rows, CONTEXT), CONTEXT) == rows


# -- what must not be read ------------------------------------------------------------------------

SAMPLE_ROWS = [
    (
        1,
        "é",
        True,
        1.5,
        Decimal("1.50"),
        datetime(2024, 2, 29, 12, 30, 1, 5),
        datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
        date(2024, 2, 29),
        time(12, 30),
        timedelta(days=-1, microseconds=3),
        UUID("12345678123456781234567812345678"),
        b"\x00\xff",
        memoryview(b"view"),
        {"a": [1, None]},
    ),
    (None,) * 14,
]
SAMPLE = bytes.fromhex(
    "5269736266646e7544746c55796d2a00929e01a2c3a9c3cb3ff8000000000000a4312e3530ba3230"
    "32342d30322d32395431323a33303a30312e303030303035d7ff00004e2065e078c9aa323032342d"
    "30322d3239a831323a33303a3030b02d505438363339392e39393939393753c41012345678123456"
    "781234567812345678c40200ffc4047669657781a1619201c09ec0c0c0c0c0c0c0c0c0c0c0c0c0c0"
)
SIGNED_SAMPLE = bytes.fromhex(
    "53d93fd17558f04a66a8565a1d306814b336bf68cc61be21c5dde76546423c99198005950e000000"
    "000000005d944b0185948c0178948694612e"
)
OBJECT_SAMPLE = bytes.fromhex(
    "4fe7f5014985ca1d5998e9e8b84942ebb9a1ec55176d554131f8cc46c6eaa058af80059521000000"
    "000000007d948c06616e7377657294284b2a8c02c3a9944e473ff80000000000007494732e"
)
OBJECT_VALUE = {"answer": (42, "é", None, 1.5)}


def test_stored_format_of_rows() -> None:
    """Today's bytes are yesterday's: a change of format must bring a new format byte."""
    assert encode_rows(SAMPLE_ROWS) == SAMPLE
    assert exactly(decode_rows(SAMPLE)) == exactly(SAMPLE_ROWS)


def test_stored_format_of_objects() -> None:
    """Signed payloads of an earlier release are still read, and still written the same."""
    assert codec.object_to_bytes(OBJECT_VALUE, CONTEXT) == OBJECT_SAMPLE
    assert codec.bytes_to_object(OBJECT_SAMPLE, CONTEXT) == OBJECT_VALUE
    assert codec.rows_to_bytes([(Text("x"), (1,))], CONTEXT)[:1] == SIGNED_ROWS
    assert codec.bytes_to_rows(SIGNED_SAMPLE, CONTEXT) == [((1,), "x")]
    assert codec.rows_to_bytes([((1,), "x")], CONTEXT) == SIGNED_SAMPLE


def flips(data: bytes) -> list[bytes]:
    """Every neighbour of `data` at a distance of one bit."""
    found = []
    for index in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[index] ^= 1 << bit
            found.append(bytes(changed))
    return found


DATA_TYPES = {
    bool, int, float, str, bytes, memoryview, Decimal, datetime, date, time, timedelta, UUID,
    type(None), list, dict, tuple,
}  # fmt: skip


def leaf_types(value: Any) -> set[type]:
    if type(value) in (list, tuple):
        return {type(value)}.union(*map(leaf_types, value))
    if type(value) is dict:
        return {dict}.union(*map(leaf_types, (*value, *value.values())))
    return {type(value)}


def test_flipped_bits_in_rows_are_data_or_refused() -> None:
    """No bit flip of stored rows raises anything but Undecodable or yields anything but data."""
    refused = 0
    for data in flips(SAMPLE):
        try:
            rows = codec.bytes_to_rows(data, CONTEXT)
        except Undecodable:
            refused += 1
        else:
            assert leaf_types(rows) <= DATA_TYPES
    assert refused > 100


class Bomb:
    """Unpickling this is an event that the test can see."""

    exploded = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


def explode() -> None:
    Bomb.exploded += 1


@pytest.fixture(autouse=True)
def _defused() -> None:
    Bomb.exploded = 0


@pytest.mark.parametrize("kind", [SIGNED_ROWS, OBJECT])
def test_flipped_bits_in_signed_payloads_are_refused(kind: bytes) -> None:
    """Every bit of a signed payload is covered: the format, the tag, the content."""
    if kind == OBJECT:
        data, read = codec.object_to_bytes(Bomb(), CONTEXT), codec.bytes_to_object
    else:
        data, read = codec.rows_to_bytes([(Bomb(),)], CONTEXT), codec.bytes_to_rows
    for changed in flips(data):
        with pytest.raises(Undecodable):
            read(changed, CONTEXT)
    assert Bomb.exploded == 0
    read(data, CONTEXT)
    assert Bomb.exploded == 1


@pytest.mark.parametrize("data", [SAMPLE, SIGNED_SAMPLE, OBJECT_SAMPLE])
def test_truncated_or_extended_payloads_are_refused(data: bytes) -> None:
    """A payload that was cut, or continued, at any place is refused."""
    for size in range(len(data)):
        for read in (codec.bytes_to_rows, codec.bytes_to_object):
            with pytest.raises(Undecodable):
                read(data[:size], CONTEXT)
    for read in (codec.bytes_to_rows, codec.bytes_to_object):
        with pytest.raises(Undecodable):
            read(data + b"\0", CONTEXT)


@patient
@given(st.binary(max_size=200), st.sampled_from([b"", ROWS, SIGNED_ROWS, OBJECT]))
def test_garbage_is_data_or_refused(data: bytes, lead: bytes) -> None:
    """Whatever another program wrote under our key, the answer is data or Undecodable."""
    with suppress(Undecodable):
        assert leaf_types(codec.bytes_to_rows(lead + data, CONTEXT)) <= DATA_TYPES
    with pytest.raises(Undecodable):
        codec.bytes_to_object(lead + data, CONTEXT)


@patient
@given(st.text("isbfdnuDtlUym*", max_size=4), st.binary(max_size=60))
def test_garbage_with_a_true_header_is_data_or_refused(header: str, body: bytes) -> None:
    """A plausible header does not make the rest of the bytes more than data."""
    try:
        rows = decode_rows(ROWS + header.encode() + b"\0" + body)
    except Undecodable:
        return
    assert leaf_types(rows) <= DATA_TYPES


def test_lengths_that_lie() -> None:
    """A length field that promises four billion elements is refused, not allocated."""
    for lie in (b"\xdd", b"\xdf", b"\xc6", b"\xdb"):
        with pytest.raises(Undecodable):
            decode_rows(b"R*\0\x91\x91" + lie + b"\xff" * 4)
    with pytest.raises(Undecodable):
        decode_rows(b"Ri\0\xdd\xff\xff\xff\xff")


@pytest.mark.parametrize("forged", [b"", b"\0" * 32, b"x" * 32])
def test_unsigned_pickles_are_never_loaded(forged: bytes) -> None:
    """A pickle that somebody wrote into Redis is not run, whatever tag it carries."""
    bomb = pickle.dumps(Bomb())
    for kind in (SIGNED_ROWS, OBJECT, ROWS, b""):
        for read in (codec.bytes_to_rows, codec.bytes_to_object):
            with pytest.raises(Undecodable):
                read(kind + forged + bomb, CONTEXT)
    assert Bomb.exploded == 0


def test_a_foreign_key_signs_nothing() -> None:
    """A payload that another installation signed is not loaded here."""
    data = Codec(Signer([b"other"])).object_to_bytes(Bomb(), CONTEXT)
    with pytest.raises(Undecodable):
        codec.bytes_to_object(data, CONTEXT)
    assert Bomb.exploded == 0


def test_payloads_are_bound_to_their_place() -> None:
    """A signed payload copied to another key, or read as the other kind, is refused."""
    data = codec.object_to_bytes([(1,)], CONTEXT)
    with pytest.raises(Undecodable):
        codec.bytes_to_object(data, CONTEXT + b"4")
    with pytest.raises(Undecodable):
        codec.bytes_to_rows(data, CONTEXT)
    with pytest.raises(Undecodable):
        codec.bytes_to_rows(SIGNED_ROWS + data[1:], CONTEXT)


def test_context_and_data_do_not_run_together() -> None:
    """Moving bytes from the context to the data makes another tag."""
    signer = Signer([b"k"])
    signed = signer.sign(OBJECT, b"ab", b"cd")
    with pytest.raises(Undecodable):
        signer.unsign(OBJECT, b"abc", OBJECT + signed[1:33] + b"d")


def test_key_rotation() -> None:
    """After a rotation the old key still verifies, the new one signs, a dropped one is foreign."""
    old, both, new = (Codec(Signer(keys)) for keys in ([b"a"], [b"b", b"a"], [b"b"]))
    before = old.object_to_bytes("value", CONTEXT)
    assert both.bytes_to_object(before, CONTEXT) == "value"
    after = both.object_to_bytes("value", CONTEXT)
    assert new.bytes_to_object(after, CONTEXT) == "value"
    for reader, data in ((old, after), (new, before)):
        with pytest.raises(Undecodable):
            reader.bytes_to_object(data, CONTEXT)


def test_a_signer_needs_a_key() -> None:
    """An empty list of keys is an error at once, not a signature that anyone can make."""
    with pytest.raises(ValueError, match="at least one key"):
        Signer([])


def test_readable_by_name_only() -> None:
    """A signed pickle of a class that is gone is Undecodable, like any other damage."""

    class Loader(PlainPickle):
        @staticmethod
        def loads(data: bytes) -> Any:
            raise AttributeError("no such class")

    data = codec.object_to_bytes("value", CONTEXT)
    with pytest.raises(Undecodable):
        Codec(Signer([b"secret"]), Loader).bytes_to_object(data, CONTEXT)


def test_the_pickler_is_replaceable() -> None:
    """CACHEOPS_SERIALIZER's class of two functions is enough."""

    class Reversed:
        def dumps(self, value: str, /) -> bytes:
            return value[::-1].encode()

        def loads(self, data: bytes, /) -> str:
            return data.decode()[::-1]

    own = Codec(Signer([b"k"]), Reversed())
    data = own.object_to_bytes("abc", CONTEXT)
    assert data.endswith(b"cba")
    assert own.bytes_to_object(data, CONTEXT) == "abc"


def test_unpicklable_values_say_so() -> None:
    """Writing a value that the pickler cannot take is the pickler's error, not silence."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        codec.object_to_bytes(lambda: None, CONTEXT)
