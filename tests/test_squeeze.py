"""Payloads are stored smaller and come back as they were; results run out one by one."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from cacheops_lite import cached, engine
from cacheops_lite.core import squeeze
from cacheops_lite.core.codec import Codec, Signer, Undecodable

from . import models as m
from .watching import hits

METHODS = list(squeeze.METHODS.values())
TEXT = b"the same words again and again, " * 100


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, squeeze.LEAST - 1, squeeze.LEAST, 3000, 200_000])
@pytest.mark.parametrize("kind", ["words", "chance", "zeros"])
def test_round_trip(method: bytes, size: int, kind: str) -> None:
    """Every payload comes back, and none is made larger."""
    payload = {
        "words": (TEXT * (size // len(TEXT) + 1))[:size],
        "chance": random.Random(size).randbytes(size),
        "zeros": bytes(size),
    }[kind]
    if squeeze.is_squeezed(payload):
        payload = b"R" + payload[1:]
    small = squeeze.squeeze(method, payload)
    assert len(small) <= len(payload)
    if size >= squeeze.LEAST and kind != "chance":
        assert len(small) < len(payload) / 2
    else:
        assert small == payload
    assert (squeeze.expand(small) if squeeze.is_squeezed(small) else small) == payload


@pytest.mark.parametrize("method", METHODS)
def test_bombs(method: bytes) -> None:
    """What claims too much, or is not what it claims, is refused without being made large."""
    small = squeeze.squeeze(method, bytes(1_000_000))
    body = small[5:]
    for size in (0, 1, 999, 999_999, 1_000_001, squeeze.MOST + 1, 2**32 - 1):
        with pytest.raises(ValueError, match="payload"):
            squeeze.expand(method + size.to_bytes(4, "big") + body)


@pytest.mark.parametrize("method", METHODS)
def test_damage(method: bytes) -> None:
    """Any bytes are refused or come out at the size that was claimed; nothing else is raised."""
    small = squeeze.squeeze(method, TEXT)
    chance = random.Random(1)
    for _ in range(300):
        data = bytearray(small)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(1, len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randint(1, len(data))])
        with suppress(ValueError):
            assert len(squeeze.expand(cut)) == int.from_bytes(cut[1:5], "big")
    codec = Codec(Signer([b"key"]))
    for read in (codec.bytes_to_rows, codec.bytes_to_object):
        with pytest.raises(Undecodable):
            read(small[:-1], b"context")
        with pytest.raises(Undecodable):
            read(small, b"context")


@pytest.mark.parametrize("method", METHODS)
def test_codec(method: bytes) -> None:
    """Rows and objects are squeezed; one that does not squeeze reads them, and the tag holds."""
    codec, plain = Codec(Signer([b"key"]), method=method), Codec(Signer([b"key"]))
    rows = [(n, "a title that repeats", None) for n in range(200)]
    data = codec.rows_to_bytes(rows, b"context")
    assert data[:1] == method
    assert len(data) < len(plain.rows_to_bytes(rows, b"context")) / 2
    assert codec.bytes_to_rows(data, b"context") == plain.bytes_to_rows(data, b"context") == rows
    value = {"words": TEXT}
    data = codec.object_to_bytes(value, b"context")
    assert data[:1] == method
    assert plain.bytes_to_object(data, b"context") == value
    with pytest.raises(Undecodable):
        plain.bytes_to_object(data, b"another context")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", squeeze.METHODS)
def test_setting(name: str, redis_client: redis.Redis) -> None:
    """Querysets and functions are stored smaller, and on and off can change at any time."""
    profiles = {"*.*": {"ops": "all", "timeout": 60}}
    m.Category.objects.bulk_create(
        m.Category(title="a long title that repeats" * 3, slug=f"c{n}") for n in range(100)
    )

    @cached(timeout=60)
    def words() -> Any:
        return TEXT.decode()

    def size() -> int:
        return sum(redis_client.strlen(key) for key in redis_client.keys("q:*"))

    with override_settings(CACHEOPS=profiles):
        expected = [category.slug for category in m.Category.objects.all()]
        words()
        large = size()
    redis_client.flushdb()
    with override_settings(CACHEOPS=profiles, CACHEOPS_COMPRESSION=name):
        assert [category.slug for category in m.Category.objects.all()] == expected
        assert words() == TEXT.decode()
        assert size() < large / 2
    for compression in (name, None):
        with override_settings(CACHEOPS=profiles, CACHEOPS_COMPRESSION=compression):
            with hits() as seen:
                assert [category.slug for category in m.Category.objects.all()] == expected
                assert words() == TEXT.decode()
            assert seen == [True, True]


@override_settings(CACHEOPS_COMPRESSION="gzip")
def test_unknown_method() -> None:
    """A method that nobody knows is an error that names the known ones."""
    with pytest.raises(ImproperlyConfigured, match="zstd, lz4, or None"):
        engine.current().codec  # noqa: B018


@pytest.mark.parametrize("name", squeeze.METHODS)
def test_no_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the error says what to install, and what others squeezed is a miss."""
    data = squeeze.squeeze(squeeze.METHODS[name], TEXT)

    def missing(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(squeeze, "import_module", missing)
    with override_settings(CACHEOPS_COMPRESSION=name):
        with pytest.raises(ImproperlyConfigured, match=rf"cacheops-lite\[{name}\]"):
            engine.current().codec  # noqa: B018
    with pytest.raises(Undecodable):
        Codec(Signer([b"key"])).bytes_to_rows(data, b"context")


# -- jitter ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 1000}}, CACHEOPS_JITTER=0.2)
def test_jitter(redis_client: redis.Redis) -> None:
    """Timeouts are spread over the share that the setting names, and never longer."""
    for n in range(60):
        m.Tag.objects.filter(name=str(n)).count()
    lives = [redis_client.pttl(key) for key in redis_client.keys("q:*")]
    assert len(lives) == 60
    assert all(790_000 < life <= 1_000_000 for life in lives)
    assert max(lives) - min(lives) > 50_000


@pytest.mark.parametrize("jitter", [-0.1, 1, 1.5, "0.1", True, None, float("nan")])
def test_wrong_jitter(jitter: Any) -> None:
    """A share of nothing or of everything is an error."""
    with override_settings(CACHEOPS_JITTER=jitter):
        with pytest.raises(ImproperlyConfigured, match="CACHEOPS_JITTER"):
            engine.current()
