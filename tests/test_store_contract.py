"""One contract for every store: memory, Redis synchronous, Redis asynchronous."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from django.conf import settings

from cacheops_lite.core.protocol import SERVER_ID, Script, Transport, run
from cacheops_lite.core.stamps import life, seal
from cacheops_lite.stores.memory import MemoryStore, MemoryTransport
from cacheops_lite.stores.transport import AsyncTransport, SyncTransport

GEN, SCHEMES, ANY, A1, A2 = (
    b"gen:{t}",
    b"schemes:{t}",
    b"conj:{t}:",
    b"conj:{t}:a=1",
    b"conj:{t}:a=2",
)
B1 = b"conj:{t}:b=1"
HOUR = 3_600_000
TOKENS = [b"%016x" % number for number in range(1, 4)]


class Store:
    """A store under test: its transport in plain calls, and a look behind its back."""

    def __init__(
        self, transport: Transport, finish: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self.transport = transport
        self.finish = finish
        self.fresh = 0

    def mget(self, *keys: bytes) -> list[bytes | None]:
        return self.finish(self.transport.mget(keys)).values

    def get(self, key: bytes) -> bytes | None:
        return self.mget(key)[0]

    def set(self, key: bytes, value: bytes, px: int = HOUR, nx: bool = False) -> bool:
        return self.finish(self.transport.set(key, value, px, nx))

    def delete(self, *keys: bytes) -> None:
        self.finish(self.transport.delete(keys))

    @property
    def server(self) -> bytes:
        return self.finish(self.transport.mget([b"x"])).server

    def script(self, name: str, keys: list[bytes], *args: Any) -> Any:
        (answer,) = self.finish(self.transport.scripts([Script(name, keys, list(args))]))
        assert answer.server == self.server
        return answer.value

    def random(self) -> bytes:
        """A random value of a stamp: never the same twice."""
        self.fresh += 1
        return b"%016x" % self.fresh

    def ensure(
        self, *wants: tuple[bytes, bytes], ttl: int = HOUR, gen_ttl: int = HOUR, most: int = 64
    ) -> tuple[bytes, list[bytes]]:
        args: list[Any] = [
            SERVER_ID,
            b"1",
            self.random(),
            b"%d" % gen_ttl,
            b"%d" % ttl,
            b"%d" % most,
        ]
        for scheme, _ in wants:
            args += [scheme, self.random()]
        gen, out = self.script("ensure", [GEN, SCHEMES, ANY, *(key for _, key in wants)], *args)
        return gen, out

    def mark(self, *keys: bytes, token: bytes = TOKENS[0], ttl: int = HOUR) -> list[bytes | None]:
        return self.script("mark", [GEN, SCHEMES, *keys], token, b"%d" % ttl)

    def bump(self, *keys: bytes, token: bytes = TOKENS[0], lag: int = 0) -> list[bytes | None]:
        return self.script("bump", [GEN, SCHEMES, *keys], token, b"%d" % lag)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + 5
        while not ready():
            assert time.monotonic() < until, "it never came true"
            time.sleep(0.002)

    def pttl(self, key: bytes) -> int:
        raise NotImplementedError

    def put_list(self, key: bytes) -> None:
        raise NotImplementedError


class OnMemory(Store):
    def __init__(self) -> None:
        self.memory = MemoryStore(server_id=b"memory1")
        super().__init__(MemoryTransport(self.memory), run)

    def pttl(self, key: bytes) -> int:
        return self.memory.pttl(key)

    def put_list(self, key: bytes) -> None:
        self.memory.data[key] = (["a list"], None)


class OnRedis(Store):
    def __init__(
        self,
        transport: Transport,
        finish: Callable[[Coroutine[Any, Any, Any]], Any],
        client: redis.Redis,
    ) -> None:
        super().__init__(transport, finish)
        self.client = client

    def pttl(self, key: bytes) -> int:
        return self.client.pttl(key)

    def put_list(self, key: bytes) -> None:
        self.client.delete(key)
        self.client.rpush(key, "a list")


class StoreContract:
    """What every store does."""

    def test_mget(self, store: Store) -> None:
        """MGET gives values in the order of the keys, None for what is missing or no string."""
        store.set(b"a", b"1")
        store.put_list(b"c")
        assert store.mget(b"a", b"b", b"c", b"a") == [b"1", None, None, b"1"]

    def test_server(self, store: Store) -> None:
        """A reply names the server, always the same while it lives."""
        assert re.fullmatch(rb"\w+", store.server)
        assert store.server == store.server

    def test_set(self, store: Store) -> None:
        """SET overwrites whatever was there, with nx only what is missing; it tells which."""
        assert store.set(b"a", b"1", nx=True)
        assert not store.set(b"a", b"2", nx=True)
        assert store.get(b"a") == b"1"
        assert store.set(b"a", b"3")
        store.put_list(b"b")
        assert not store.set(b"b", b"4", nx=True)
        assert store.set(b"b", b"5")
        assert store.mget(b"a", b"b") == [b"3", b"5"]

    def test_expiry(self, store: Store) -> None:
        """A key is gone when its time is over, and nx then finds it missing."""
        store.set(b"a", b"1", px=30)
        assert 0 < store.pttl(b"a") <= 30
        store.wait_until(lambda: store.get(b"a") is None)
        assert store.set(b"a", b"2", nx=True)

    def test_binary(self, store: Store) -> None:
        """Keys and values are any bytes."""
        every = bytes(range(256))
        store.set(every, every * 1000)
        assert store.get(every) == every * 1000

    def test_delete(self, store: Store) -> None:
        """DEL removes what is there and does not mind what is not."""
        store.set(b"a", b"1")
        store.put_list(b"b")
        store.delete(b"a", b"b", b"c")
        store.delete()
        assert store.mget(b"a", b"b") == [None, None]
        assert store.set(b"b", b"1", nx=True)

    def test_tally(self, store: Store) -> None:
        """Numbers are added up under their names, and the hash runs out."""
        for _ in range(2):
            store.finish(store.transport.tally(b"h", {b"one": 1, b"\xfftwo": 2}, HOUR))
        found = store.finish(store.transport.tallies([b"h", b"none"]))
        assert found == [{b"one": b"2", b"\xfftwo": b"4"}, {}]
        assert 0 < store.pttl(b"h") <= HOUR
        store.finish(store.transport.tally(b"h", {b"one": 1}, 1))
        store.wait_until(lambda: store.pttl(b"h") < 0)

    def test_batch(self, store: Store) -> None:
        """Scripts that are sent together run in their order and answer one by one."""
        keys = [GEN, SCHEMES, A1]
        calls = [Script("mark", keys, [token, b"%d" % HOUR]) for token in TOKENS]
        calls.append(Script("unlock", [b"{t}lock"], [b"x"]))
        answers = store.finish(store.transport.scripts(calls))
        assert [answer.value for answer in answers] == [[None, None]] * 3 + [0]
        assert re.findall(rb"\d{16}", store.get(A1) or b"") == TOKENS

    # -- ensure

    def test_ensure_new(self, store: Store) -> None:
        """On an empty server ENSURE makes a gen of this server, registers schemes, makes stamps."""
        gen, out = store.ensure((b"a", A1), (b"", ANY))
        assert gen == b"s1" + store.server + b"%016x" % 1
        assert out == [b"s%016x%016x" % (2, 1), b"s%016x%016x" % (3, 1)]
        assert store.mget(GEN, SCHEMES, A1, ANY) == [gen, seal(gen + b" a=0"), *out]

    def test_ensure_again(self, store: Store) -> None:
        """Living stamps are handed out as they are."""
        first = store.ensure((b"a", A1), (b"a", A2))
        assert store.ensure((b"a", A1), (b"a", A2)) == first

    def test_ensure_ttl(self, store: Store) -> None:
        """ENSURE gives every key a time to live, prolongs what would end too soon, cuts nothing."""
        store.ensure((b"a", A1), ttl=2 * HOUR, gen_ttl=3 * HOUR)
        assert 2 * HOUR - 5000 < store.pttl(A1) <= 2 * HOUR
        assert 3 * HOUR - 5000 < store.pttl(GEN) <= 3 * HOUR
        assert 3 * HOUR - 5000 < store.pttl(SCHEMES) <= 3 * HOUR
        store.ensure((b"a", A1), ttl=HOUR, gen_ttl=HOUR)
        assert store.pttl(A1) > HOUR
        assert store.pttl(GEN) > 2 * HOUR
        assert store.pttl(SCHEMES) > 2 * HOUR
        store.ensure((b"a", A1), ttl=4 * HOUR, gen_ttl=5 * HOUR)
        assert store.pttl(A1) > 3 * HOUR
        assert store.pttl(GEN) > 4 * HOUR
        assert store.pttl(SCHEMES) > 4 * HOUR

    def test_ensure_adds_schemes(self, store: Store) -> None:
        """A scheme that was not in use is added once; the gen stays."""
        gen, _ = store.ensure((b"a", A1))
        assert store.ensure((b"b", B1), (b"a", A1), (b"b", B1))[0] == gen
        assert store.get(SCHEMES) == seal(gen + b" a=0 b=0")

    @pytest.mark.parametrize("lost", [GEN, SCHEMES])
    def test_ensure_half(self, store: Store, lost: bytes) -> None:
        """A gen without its schemes, or schemes without their gen: all is made anew (A2, A3)."""
        gen, out = store.ensure((b"a", A1), (b"b", B1))
        store.delete(lost)
        new_gen, new_out = store.ensure((b"a", A1))
        assert new_gen != gen
        assert new_out[0] != out[0]
        assert store.get(SCHEMES) == seal(new_gen + b" a=0")

    def test_ensure_damaged_schemes(self, store: Store) -> None:
        """Schemes that were cut, or changed into others, do not count."""
        for value in (b" a=0", b" a=0#" + b"0" * 16, b""):
            gen, _ = store.ensure((b"a", A1), (b"b", B1))
            store.set(SCHEMES, gen + value)
            new_gen, _ = store.ensure((b"a", A1))
            assert new_gen != gen
            assert store.get(SCHEMES) == seal(new_gen + b" a=0")

    def test_ensure_foreign_schemes(self, store: Store) -> None:
        """Schemes of another gen do not count."""
        gen, _ = store.ensure((b"a", A1))
        store.set(SCHEMES, seal(b"s1" + store.server + b"f" * 16 + b" a=0 b=0"))
        assert store.ensure((b"a", A1))[0] != gen

    @pytest.mark.parametrize(
        "gen",
        [
            b"s1otherserver" + b"0" * 16,
            b"s2%(own)s" + b"0" * 16,
            b"s1%(own)s0" + b"0" * 16,
            b"s1%(own)s",
            b"",
            b"s",
            b"garbage",
            b"pgarbage",
        ],
    )
    def test_ensure_foreign_gen(self, store: Store, gen: bytes) -> None:
        """A gen of another server (A8), of another version (A9) or malformed is replaced."""
        gen = gen.replace(b"%(own)s", store.server)
        store.set(GEN, gen)
        store.set(SCHEMES, seal(gen + b" a=0"))
        store.set(A1, b"s" + b"1" * 16 + gen[-16:])
        new_gen, out = store.ensure((b"a", A1))
        assert new_gen == b"s1" + store.server + b"%016x" % 1
        assert out == [b"s%016x%016x" % (2, 1)]

    @pytest.mark.parametrize("value", [b"", b"s", b"x" * 33, b"s" + b"1" * 32, b"p", b"pfoo:bar"])
    def test_ensure_malformed_conj(self, store: Store, value: bytes) -> None:
        """What is no stamp of this gen is overwritten (A3)."""
        gen, _ = store.ensure((b"a", A1))
        store.set(A1, value)
        _, out = store.ensure((b"a", A1))
        assert out[0] not in (value, b"p")
        assert out[0].endswith(gen[-16:])
        assert store.get(A1) == out[0]

    @pytest.mark.parametrize("key", [GEN, SCHEMES, A1, ANY])
    def test_ensure_wrong_type(self, store: Store, key: bytes) -> None:
        """A key of a wrong type counts as missing."""
        store.ensure((b"a", A1))
        store.put_list(key)
        _, out = store.ensure((b"a", A1))
        assert out[0].startswith(b"s")
        assert store.get(A1) == out[0]

    def test_ensure_pending_gen(self, store: Store) -> None:
        """While the gen is pending ENSURE touches nothing (B3)."""
        store.ensure((b"a", A1))
        store.mark(GEN)
        before = store.mget(GEN, SCHEMES, A1, B1)
        gen, out = store.ensure((b"a", A1), (b"b", B1))
        assert gen == before[0]
        assert gen.startswith(b"p")
        assert out == [b"p", b"p"]
        assert store.mget(GEN, SCHEMES, A1, B1) == before

    def test_ensure_pending_conj(self, store: Store) -> None:
        """A pending conj has no stamp; others have."""
        store.ensure((b"a", A1), (b"a", A2))
        store.mark(A1)
        _, out = store.ensure((b"a", A1), (b"a", A2))
        assert out[0] == b"p"
        assert out[1].startswith(b"s")
        assert (store.get(A1) or b"").startswith(b"p")

    def test_ensure_young(self, store: Store) -> None:
        """A scheme that comes into use during a write waits as long as its mark lives (B1)."""
        store.ensure((b"a", A1))
        marking = time.monotonic()
        store.mark(ANY, ttl=60)
        _, out = store.ensure((b"a", A1), (b"b", B1))
        assert out[0].startswith(b"s")
        assert out[1] == b"y"
        assert store.get(B1) is None
        store.bump(ANY)
        while store.ensure((b"b", B1))[1] == [b"y"]:
            assert time.monotonic() < marking + 5
        assert time.monotonic() - marking > 0.05

    def test_ensure_full(self, store: Store) -> None:
        """Past the limit no scheme is added; what is in use goes on, and so does any row."""
        gen, _ = store.ensure((b"a", A1), most=1)
        _, out = store.ensure((b"a", A1), (b"b", B1), (b"", ANY), most=1)
        assert [value[:1] for value in out] == [b"s", b"f", b"s"]
        assert store.mget(SCHEMES, B1) == [seal(gen + b" a=0"), None]

    def test_ensure_full_of_comparisons(self, store: Store) -> None:
        """Schemes with comparisons take half of the room at most, and leave it to the others."""
        wants = [(b"%s%%3E" % letter, b"conj:{t}:" + letter) for letter in (b"a", b"b", b"c")]
        _, out = store.ensure(*wants, (b"d", A1), (b"e", A2), (b"f", B1), most=4)
        assert [value[:1] for value in out] == [b"s", b"s", b"f", b"s", b"s", b"f"]

    # -- mark and bump

    def test_mark(self, store: Store) -> None:
        """MARK makes keys pending for its time and answers with the gen and the schemes."""
        gen, _ = store.ensure((b"a", A1))
        assert store.mark(ANY, A1) == [gen, seal(gen + b" a=0")]
        for key in (ANY, A1):
            assert re.match(rb"p%s:\d{13}( |$)" % TOKENS[0], store.get(key) or b"")
            assert HOUR - 5000 < store.pttl(key) <= HOUR

    def test_mark_reads_after(self, store: Store) -> None:
        """MARK on the gen itself answers with the mark, not with what was there before (B4)."""
        store.ensure((b"a", A1))
        gen, _ = store.mark(GEN)
        assert gen is not None
        assert gen.startswith(b"p")

    def test_tokens(self, store: Store) -> None:
        """Two writers share a key; the last one to leave deletes it (B2)."""
        store.mark(A1, token=TOKENS[0])
        store.mark(A1, token=TOKENS[1])
        store.bump(A1, token=TOKENS[0])
        assert re.findall(rb"(\w+):", store.get(A1) or b"") == [b"p" + TOKENS[1]]
        store.bump(A1, token=TOKENS[1])
        assert store.get(A1) is None

    def test_token_deadlines(self, store: Store) -> None:
        """A mark does not renew those of others: a dead writer's token ends in its time."""
        store.mark(A1, token=TOKENS[0], ttl=50)
        store.mark(A1, token=TOKENS[1], ttl=HOUR)
        assert store.pttl(A1) > HOUR - 5000
        time.sleep(0.06)
        store.mark(A1, token=TOKENS[2], ttl=HOUR)
        assert re.findall(rb"\d{16}", store.get(A1) or b"") == [TOKENS[1], TOKENS[2]]

    def test_mark_shorter(self, store: Store) -> None:
        """The key lives as long as the token that lives longest."""
        store.mark(A1, token=TOKENS[0], ttl=HOUR)
        store.mark(A1, token=TOKENS[1], ttl=1000)
        assert store.pttl(A1) > HOUR - 5000
        store.bump(A1, token=TOKENS[0])
        assert store.pttl(A1) <= 1000

    def test_mark_twice(self, store: Store) -> None:
        """Marking again renews the own token."""
        store.mark(A1, ttl=1000)
        store.mark(A1, ttl=HOUR)
        assert store.pttl(A1) > HOUR - 5000
        assert len(re.findall(rb"\d{16}", store.get(A1) or b"")) == 1

    def test_mark_overwrites(self, store: Store) -> None:
        """MARK replaces stamps, garbage and wrong types."""
        store.set(A1, b"garbage")
        store.put_list(A2)
        store.mark(A1, A2)
        assert [(value or b"")[:1] for value in store.mget(A1, A2)] == [b"p", b"p"]

    def test_bump_stamp(self, store: Store) -> None:
        """BUMP deletes a stamp that stands where its mark was lost, and whatever else is there."""
        store.ensure((b"a", A1))
        store.set(A2, b"garbage")
        store.put_list(B1)
        store.bump(A1, A2, B1, b"{t}missing")
        assert store.mget(A1, A2) == [None, None]
        assert store.pttl(B1) == -2

    def test_bump_renews(self, store: Store) -> None:
        """Of a conj that had a stamp the last BUMP makes another one, of the same gen and time."""
        gen, (stamp,) = store.ensure((b"a", A1))
        store.mark(A1, A2, token=TOKENS[0])
        store.mark(A1, token=TOKENS[1])
        store.bump(A1, A2, token=TOKENS[0])
        assert re.findall(rb"(\w+):", store.get(A1) or b"") == [b"p" + TOKENS[1]]
        store.bump(A1, token=TOKENS[1])
        fresh = store.get(A1) or b""
        assert re.fullmatch(rb"s[0-9a-f]{32}", fresh)
        assert fresh != stamp
        assert fresh[17:] == stamp[17:]
        assert HOUR - 5000 < store.pttl(A1) <= HOUR
        assert store.get(A2) is None
        assert store.ensure((b"a", A1)) == (gen, [fresh])

    @pytest.mark.parametrize("left", [1500, 60_000, HOUR, 10**10, 10**13])
    def test_bump_renews_for_what_is_left(self, store: Store, left: int) -> None:
        """The new stamp has the time that the one before had left, and says so."""
        store.set(A1, b"s" + b"1" * 32, px=left)
        store.mark(A1)
        store.bump(A1)
        assert left - 500 < store.pttl(A1) <= left
        digits = (store.get(A1) or b"")[1:3]
        assert life(int((left - 500) / 1.08)) <= digits <= life(left)

    def test_bump_without_time(self, store: Store) -> None:
        """A stamp that would run out at once is not worth a key."""
        store.set(A1, b"s" + b"1" * 32, px=900)
        store.mark(A1)
        store.bump(A1)
        assert store.get(A1) is None

    def test_no_stamp_comes_back(self, store: Store) -> None:
        """However often a MARK and a BUMP are delivered, and in whatever order (A4)."""
        _, (stamp,) = store.ensure((b"a", A1))
        seen = {stamp}
        chance = random.Random(7)
        for _ in range(60):
            step = chance.choice([store.mark, store.bump])
            before = store.get(A1)
            step(A1, token=chance.choice(TOKENS))
            after = store.get(A1)
            if after is not None and after[:1] == b"s" and after != before:
                assert after not in seen
                seen.add(after)
            if after is None:
                seen.add(store.ensure((b"a", A1))[1][0])
        assert len(seen) > 10

    def test_bump_lag(self, store: Store) -> None:
        """With a lag BUMP leaves a token for that long, also where its mark was lost (A17)."""
        store.mark(A1, token=TOKENS[0])
        store.set(A2, b"s" + b"0" * 32)
        store.bump(A1, A2, token=TOKENS[0], lag=1000)
        for key in (A1, A2):
            assert 0 < store.pttl(key) <= 1000
            assert (store.get(key) or b"").startswith(b"p" + TOKENS[0])

    def test_bump_foreign_and_lag(self, store: Store) -> None:
        """A lag token does not outlive or shorten the marks of others."""
        store.mark(A1, token=TOKENS[1], ttl=HOUR)
        store.bump(A1, token=TOKENS[0], lag=1000)
        assert store.pttl(A1) > HOUR - 5000
        store.bump(A1, token=TOKENS[1])
        assert 0 < store.pttl(A1) <= 1000

    def test_bump_answers(self, store: Store) -> None:
        """BUMP answers with the gen and the schemes as they are afterwards."""
        gen, _ = store.ensure((b"a", A1))
        assert store.bump(A1) == [gen, seal(gen + b" a=0")]
        assert store.bump(GEN) == [None, seal(gen + b" a=0")]

    # -- unlock

    def test_unlock(self, store: Store) -> None:
        """A lock is released by its owner only."""
        store.set(b"{t}lock", b"mine")
        assert store.script("unlock", [b"{t}lock"], b"yours") == 0
        assert store.get(b"{t}lock") == b"mine"
        assert store.script("unlock", [b"{t}lock"], b"mine") == 1
        assert store.get(b"{t}lock") is None
        store.put_list(b"{t}lock")
        assert store.script("unlock", [b"{t}lock"], b"mine") == 0


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return OnMemory()

    def test_restart(self, store: OnMemory) -> None:
        """What befalls a server: it loses keys, restarts with another id, cleans up."""
        store.ensure((b"a", A1), (b"a", A2))
        store.memory.evict(A1)
        assert store.mget(A1) == [None]
        store.set(b"x", b"1", px=1)
        time.sleep(0.002)
        store.memory.expire()
        assert b"x" not in store.memory.data
        store.memory.server_id = b"memory2"
        assert store.server == b"memory2"
        store.memory.flush()
        assert not store.memory.data


class TestSync(StoreContract):
    @pytest.fixture
    def store(self, redis_client: redis.Redis) -> Iterator[Store]:
        client = redis.Redis.from_url(settings.CACHEOPS_REDIS)
        yield OnRedis(SyncTransport(client), run, redis_client)
        client.close()


class TestSyncResp3(TestSync):
    """The newer reply format, and a client that decodes replies by itself."""

    @pytest.fixture
    def store(self, redis_client: redis.Redis) -> Iterator[Store]:
        if redis.__version__.startswith("7."):
            pytest.skip("redis-py 7 cannot speak RESP3 over a unix socket")
        client = redis.Redis.from_url(settings.CACHEOPS_REDIS, protocol=3, decode_responses=True)
        yield OnRedis(SyncTransport(client), run, redis_client)
        client.close()


class TestAsync(StoreContract):
    @pytest.fixture
    def store(self, redis_client: redis.Redis) -> Iterator[Store]:
        with asyncio.Runner() as runner:
            client = redis.asyncio.Redis.from_url(settings.CACHEOPS_REDIS)
            yield OnRedis(AsyncTransport(client), runner.run, redis_client)
            runner.run(client.aclose())


@pytest.mark.parametrize("seed", range(6))
def test_memory_is_like_a_server(redis_client: redis.Redis, seed: int) -> None:
    """Any sequence of commands and scripts gives on the memory store what it gives on a server."""
    client = redis.Redis.from_url(settings.CACHEOPS_REDIS)
    server = OnRedis(SyncTransport(client), run, redis_client)
    memory = OnMemory()
    memory.memory.server_id = server.server
    chance = random.Random(seed)
    keys = [GEN, SCHEMES, ANY, A1, A2, B1]
    wants = [(b"", ANY), (b"a", A1), (b"a", A2), (b"b", B1)]

    def hours(value: Any) -> Any:
        """Deadlines as whole hours, for the two clocks differ a little."""
        if isinstance(value, list | tuple):
            return [hours(item) for item in value]
        if isinstance(value, bytes):
            value = re.sub(
                rb"(?<=[:=/])\d{13}", lambda found: b"%d" % round(int(found[0]) / HOUR), value
            )
            return re.sub(rb"#[0-9a-f]{16}$", b"#", value)  # the check of moments
        return value

    def step() -> Callable[[Store], Any]:
        kind = chance.choice(
            ["ensure"] * 4 + ["mark", "bump"] * 2 + ["set", "nx", "list", "evict", "unlock"]
        )
        some = chance.sample(keys, chance.randint(1, 3))
        token = chance.choice(TOKENS)
        ttl = HOUR * chance.choice([24, 48])
        lag = HOUR * chance.choice([0, 0, 24])
        wanted = chance.sample(wants, chance.randint(1, 3))
        most = chance.choice([1, 64])
        own = server.server
        value = chance.choice(
            [b"s1%s%016x" % (own, 9), seal(b"s1%s%016x a=0" % (own, 9)), b"s", b"p", b"x"]
        )
        steps: dict[str, Callable[[Store], Any]] = {
            "ensure": lambda store: store.ensure(*wanted, ttl=ttl, most=most),
            "mark": lambda store: store.mark(*some, token=token, ttl=ttl),
            "bump": lambda store: store.bump(*some, token=token, lag=lag),
            "set": lambda store: store.set(some[0], value),
            "nx": lambda store: store.set(some[0], value, nx=True),
            "list": lambda store: store.put_list(some[0]),
            "evict": lambda store: store.delete(*some),
            "unlock": lambda store: store.script("unlock", [some[0]], value),
        }
        return steps[kind]

    for _ in range(400):
        act = step()
        assert hours(act(memory)) == hours(act(server))
        assert hours(memory.mget(*keys)) == hours(server.mget(*keys))
        for key in keys:
            assert round(memory.pttl(key) / HOUR, 1) == round(server.pttl(key) / HOUR, 1)
    client.close()
