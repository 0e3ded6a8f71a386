"""Somebody else writes under our keys: other programs, other types, pickles. Misses, never code."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.template import engines
from django.test import RequestFactory

from cacheops_lite import CacheMiss, cache, cached, cached_as, cached_view_as, conf
from cacheops_lite.core import stamps
from tests import models as m

from . import world
from .machines import Machine
from .processes import Processes
from .test_exchanges import all_titles, in_a_loop, sum_of_views
from .world import Checker

pytestmark = pytest.mark.django_db(transaction=True)

exploded: list[str] = []


def explode(where: str) -> Any:
    """What an attacker's pickle calls."""
    exploded.append(where)


class Bomb:
    """Unpickling it calls ``explode``."""

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ("unpickled",)


class Anything:
    """What only a pickle can hold."""

    def __init__(self, value: Any) -> None:
        self.value = value


@cached(timeout=60)
def an_object() -> Anything:
    return Anything({1, 2})


@cached_as(m.Post, timeout=60, lock=True)
def a_sum() -> int:
    return sum_of_views()


@cached(timeout=60)
async def later() -> list[int]:
    return [1, 2, 3]


@cached_view_as(m.Post, timeout=60)
def a_view(request: Any) -> Any:
    return all_titles(request)


def fragment() -> str:
    source = "{% load cacheops %}{% cached_as rows 60 'spoilt' %}{{ n }}{% endcached_as %}"
    return engines["django"].from_string(source).render({"rows": m.Post.objects.all(), "n": "text"})


def kept() -> Any:
    """A value in the simple cache, put there again when it is lost."""
    try:
        return cache.get("kept").value
    except CacheMiss:
        cache.set("kept", Anything("kept"), timeout=60)
        return "kept"


def use_everything() -> None:
    """Each kind of thing that is kept in Redis: what is answered is right."""
    world.look()
    assert an_object().value == {1, 2}
    assert a_sum() == sum_of_views()
    assert in_a_loop(later) == [1, 2, 3]
    request = RequestFactory().get("/titles")
    assert a_view(request).content == all_titles(request).content
    assert fragment() == "text"
    assert kept() == "kept"
    assert cache.get_or_set("computed", lambda: "value", 60) == "value"


def bombs(value: bytes) -> Iterator[bytes]:
    """An attacker's pickle in every wrapping that a value of ours can have."""
    pickled = pickle.dumps(Bomb())
    bare = [pickled, *(kind + tag + pickled for kind in (b"O", b"S", b"R") for tag in TAGS)]
    yield from bare
    for payload in bare:
        yield b"=" + payload  # simple cache, set
        yield value[:9] + payload  # simple cache, computed
        if (entry := stamps.parse_entry(value)) is not None:
            yield stamps.pack_entry(entry.stamps, payload)


TAGS = [b"", b"\0" * 32]


@pytest.fixture
def own(
    checker: Checker, settings: Any, machine: Machine, processes: Processes
) -> Iterator[redis.Redis]:
    """A process that has used everything, and the attacker's client."""
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    exploded.clear()
    processes.start("own", machine.url)
    with processes.on("own"), machine.client() as client:
        for _ in range(2):
            use_everything()
        yield client
    assert exploded == [], "an attacker's pickle was unpickled"


def test_pickles_are_never_loaded(own: redis.Redis) -> None:
    """Pickles under each of our keys, in each wrapping, with tags that are no signature of ours."""
    values = {key: own.get(key) for key in own.keys()}
    rounds = [list(bombs(value or b"")) for value in values.values()]
    for turn in range(max(map(len, rounds))):
        for key, some in zip(values, rounds, strict=True):
            own.set(key, some[turn % len(some)], px=60_000)
        use_everything()
    pickle.loads(pickle.dumps(Bomb()))
    assert exploded.pop() == "unpickled", "the bomb is none"


def test_signed_values_are_good_in_their_place_only(own: redis.Redis) -> None:
    """Values of ours, copied from one key to another, are misses there."""
    kinds = [b"q:{func:", b"q:{view:", b"simple:"]
    signed = [key for key in own.keys() if key.startswith(tuple(kinds))]
    assert len(signed) > 4
    chance = random.Random(1)
    for _ in range(10):
        values = own.mget(signed)
        payloads = [value and stamps.parse_entry(value) for value in values]
        chance.shuffle(values)
        for key, value, entry in zip(signed, values, payloads, strict=True):
            other = value and stamps.parse_entry(value)
            if entry and other:  # with the stamps that are expected there
                value = stamps.pack_entry(entry.stamps, other.payload)
            if value:
                own.set(key, value, px=60_000)
        use_everything()


def test_another_secret(
    own: redis.Redis, settings: Any, machine: Machine, processes: Processes
) -> None:
    """Installations with other secrets share a server and keys: each reads what it wrote itself."""
    for secret in ("another", "a third"):
        settings.SECRET_KEY = secret
        processes.start("foreign", machine.url)
        with processes.on("foreign"):
            for _ in range(2):
                use_everything()
    assert conf.current().secret_keys == (b"a third",)


TYPES: dict[str, Callable[[redis.Redis, bytes], Any]] = {
    "list": lambda client, key: client.rpush(key, "a", "b"),
    "hash": lambda client, key: client.hset(key, "a", "b"),
    "set": lambda client, key: client.sadd(key, "a"),
    "sorted set": lambda client, key: client.zadd(key, {"a": 1}),
    "stream": lambda client, key: client.xadd(key, {"a": "b"}),
    "bitmap": lambda client, key: client.setbit(key, 100, 1),
    "number": lambda client, key: client.incr(key),
    "float": lambda client, key: client.incrbyfloat(key, 1.5),
    "sketch": lambda client, key: client.pfadd(key, "a"),
    "large": lambda client, key: client.set(key, b"s" * 1_000_000),
    "text": lambda client, key: client.set(key, "None"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_other_types_under_our_keys(own: redis.Redis, kind: str) -> None:
    """All of our keys hold something of another program: right answers, and caching goes on."""
    for writes in (False, True):
        for key in own.keys():
            own.delete(key)
            TYPES[kind](own, key)
        if writes:
            for write in world.WRITES.values():
                write()
        use_everything()
        world.recovers()


# -- anything ----------------------------------------------------------------------------------

WORDS = [
    b"s", b"p", b"y", b"s1", b" ", b"#", b"=", b":", b"0" * 16, b"9" * 13, b"9" * 30, b"-1", b"O",
    b"R", b"S", b"\x02\x00", b"\xff" * 4, b"",
]  # fmt: skip


def anything(chance: random.Random, before: bytes) -> bytes:
    """Words of our spelling and any bytes, alone or in place of a part of what was there."""
    value = b"".join(
        chance.choice([*WORDS, chance.randbytes(3)]) for _ in range(chance.randrange(8))
    )
    if chance.random() < 0.5:
        at = chance.randrange(len(before) + 1)
        value = before[:at] + value + before[at + chance.randrange(9) :]
    return value


def test_any_bytes_under_any_key(own: redis.Redis) -> None:
    """Round by round some of our keys get any bytes, and rows are written: never an error or a lie."""
    for turn in range(int(os.environ.get("CACHEOPS_TEST_FUZZ", "25"))):
        seed = turn if os.environ.get("CI") else random.randrange(10**9)
        print("seed", seed)  # shown if it fails
        chance = random.Random(seed)
        for key in sorted(own.keys()):
            if chance.random() < 0.3:
                before = own.get(key) if own.type(key) == b"string" else b""
                own.set(key, anything(chance, before or b""), px=chance.choice([1000, 60_000]))
        world.WRITES[chance.choice(sorted(world.WRITES))]()
        use_everything()
