"""A store on dicts with the commands and scripts of a server: tests, simulation, development."""

from __future__ import annotations

import asyncio
import re
import time
from hashlib import sha1
from math import log
from typing import TYPE_CHECKING, Any

from ..core.forks import new_lock
from ..core.protocol import SERVER_ID, Answer, Reply, Script, ServerId
from ..core.stamps import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Behind the tokens of a conj: the digits of the stamp that it had before, and when that runs out.
_BEFORE = re.compile(rb"(?s:p.*)( =([0-9a-f]+)/([0-9]+))").fullmatch
_STAMP = re.compile(rb"s[0-9a-f]{32}").fullmatch
_TOKENS = re.compile(rb"([0-9a-f]+):([0-9]+)")
_SCHEMES = re.compile(rb" ([^ =]+)=([0-9]+)")


def _tokens(value: bytes | None) -> dict[bytes, int]:
    """The pending tokens of a value with their deadlines."""
    if value is None or value[:1] != b"p":
        return {}
    return {token: int(deadline) for token, deadline in _TOKENS.findall(value)}


def _clock() -> int:
    return time.time_ns() // 1_000_000


class MemoryStore:
    """The server. ``clock`` gives its time in ms; set ``server_id`` to play a fail-over."""

    def __init__(self, *, clock: Callable[[], int] = _clock, server_id: bytes = b"memory") -> None:
        self.clock = clock
        self.server_id = server_id
        #: key -> value, and when it runs out (ms; None: never). No bytes: a wrong type.
        self.data: dict[bytes, tuple[Any, int | None]] = {}
        self._lock = new_lock(self)

    # -- commands

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if it is missing, has run out or has a wrong type."""
        value, until = self.data.get(key, (None, None))
        if until is not None and until <= self.clock():
            self.data.pop(key, None)
            return None
        return value if isinstance(value, bytes) else None

    def mget(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self.get(key) for key in keys]

    def set(self, key: bytes, value: Any, px: int | None = None, nx: bool = False) -> bool:
        """Set a key, for ``px`` ms; with ``nx`` only if it is missing."""
        with self._lock:
            if nx and self.exists(key):
                return False
            self.data[key] = (value, None if px is None else self.clock() + px)
            return True

    def exists(self, key: bytes) -> bool:
        self.get(key)
        return key in self.data

    def delete(self, keys: Sequence[bytes]) -> int:
        with self._lock:
            return sum(self.exists(key) and self.data.pop(key, None) is not None for key in keys)

    def pttl(self, key: bytes) -> int:
        """The time that a key has left in ms; -1 if it never runs out, -2 if it is missing."""
        if not self.exists(key):
            return -2
        until = self.data[key][1]
        return -1 if until is None else until - self.clock()

    def pexpire(self, key: bytes, px: int) -> None:
        if self.exists(key):
            self.data[key] = (self.data[key][0], self.clock() + px)

    def tally(self, key: bytes, amounts: Mapping[bytes, int], px: int) -> None:
        """Add to the numbers in a hash, which lives for ``px`` ms from now on."""
        with self._lock:
            numbers = self.numbers(key)
            for name, many in amounts.items():
                numbers[name] = b"%d" % (int(numbers.get(name, b"0")) + many)
            self.data[key] = (numbers, self.clock() + px)

    def numbers(self, key: bytes) -> dict[bytes, bytes]:
        """A copy of the hash under a key."""
        found = self.data[key][0] if self.exists(key) else {}
        return dict(found) if isinstance(found, dict) else {}

    # -- what befalls a server

    def evict(self, key: bytes) -> None:
        """Lose a key, as if memory had run short."""
        with self._lock:
            self.data.pop(key, None)

    def expire(self) -> None:
        """Forget the keys that have run out, as the server does in the background."""
        with self._lock:
            for key in list(self.data):
                self.exists(key)

    def flush(self) -> None:
        """Lose everything."""
        with self._lock:
            self.data.clear()

    # -- scripts

    def script(self, name: str, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """Run a script by its name, atomically."""
        with self._lock:
            return getattr(self, f"script_{name}")(list(keys), list(args))

    def script_ensure(self, keys: list[bytes], args: list[bytes]) -> Any:
        gen_key, schemes_key, any_key, *conjs = keys
        server_id, version, fresh, *numbers = args[:6]
        gen_ttl, ttl, most = (int(number) for number in numbers)
        now = self.clock()
        gen = self.get(gen_key)
        if self._deadline(gen, now):
            return [gen, [b"p"] * len(conjs)]
        own = b"s" + version + server_id
        wait = self._deadline(self.get(any_key), now)
        known = unseal(self.get(schemes_key))
        changed = False
        if (
            gen is None
            or not gen.startswith(own)
            or len(gen) != len(own) + 16
            or not (known or b"").startswith(gen)
        ):
            gen = known = own + fresh
            self.set(gen_key, gen, gen_ttl)
            changed = True
        assert known is not None
        ready = {name: int(ready_ms) for name, ready_ms in _SCHEMES.findall(known[len(gen) :])}
        for scheme in args[6::2]:
            # Comparisons vary more than columns do: they leave room for the others.
            limit = most / 2 if b"%3E" in scheme or b"%3C" in scheme else most
            if scheme and scheme not in ready and len(ready) < limit:
                ready[scheme] = wait
                known += b" %s=%d" % (scheme, wait)
                changed = True
        if changed:
            self.set(schemes_key, seal(known), gen_ttl)
        else:
            self._prolong(gen_key, gen_ttl)
            self._prolong(schemes_key, gen_ttl)
        out = []
        for key, scheme, random in zip(conjs, args[6::2], args[7::2], strict=True):
            value = self.get(key)
            if scheme and scheme not in ready:
                out.append(b"f")
            elif scheme and ready[scheme] > now:
                out.append(b"y")
            elif self._deadline(value, now):
                out.append(b"p")
            elif value is not None and self.living(value, gen):
                self._prolong(key, ttl)
                out.append(value)
            else:
                out.append(b"s" + random + gen[-16:])
                self.set(key, out[-1], ttl)
        return [gen, out]

    def living(self, stamp: bytes, gen: bytes) -> bool:
        """Tell whether a conj's value is a stamp that was made under this gen."""
        return len(stamp) == 33 and stamp[:1] == b"s" and stamp[17:] == gen[-16:]

    def script_mark(self, keys: list[bytes], args: list[bytes]) -> Any:
        token, ttl = args[0], int(args[1])
        for key in keys[2:]:
            now = self.clock()
            tokens = self._others(key, token, now) | {token: now + ttl}
            self._pend(key, tokens, self._before(key, now), now)
        return self.mget(keys[:2])

    def script_bump(self, keys: list[bytes], args: list[bytes]) -> Any:
        token, lag = args[0], int(args[1])
        for key in keys[2:]:
            now = self.clock()
            tokens = self._others(key, token, now)
            if lag > 0:
                tokens[token] = now + lag
            found = _BEFORE(self.get(key) or b"")
            if tokens:
                self._pend(key, tokens, found[1] if found else b"", now)
            elif found and int(found[3]) - now >= 1000:
                self.renew(key, found[2], token, int(found[3]) - now)
            else:
                self.delete([key])
        return self.mget(keys[:2])

    def renew(self, key: bytes, before: bytes, token: bytes, left: int) -> None:
        """Give a conj the stamp that follows the one before the marks, for the time it had left."""
        life = min(int(log(left / 1000) / log(1.08)), 255)
        random = sha1(before + token, usedforsecurity=False).hexdigest()[:14].encode()
        self.set(key, b"s%02x%s%s" % (life, random, before[16:]), left)

    def script_unlock(self, keys: list[bytes], args: list[bytes]) -> Any:
        return self.delete(keys) if self.get(keys[0]) == args[0] else 0

    def _others(self, key: bytes, token: bytes, now: int) -> dict[bytes, int]:
        tokens = _tokens(self.get(key))
        return {
            name: deadline for name, deadline in tokens.items() if deadline > now and name != token
        }

    def _before(self, key: bytes, now: int) -> bytes:
        """What a mark keeps of the stamp that it takes the place of, or of one before it."""
        value = self.get(key) or b""
        if _STAMP(value):
            return b" =%s/%d" % (value[1:], now + self.pttl(key))
        found = _BEFORE(value)
        return found[1] if found else b""

    def _pend(self, key: bytes, tokens: dict[bytes, int], before: bytes, now: int) -> None:
        value = b"p" + b" ".join(b"%s:%d" % pair for pair in tokens.items()) + before
        self.set(key, value, max(tokens.values()) - now)

    def _prolong(self, key: bytes, ttl: int) -> None:
        if self.pttl(key) < ttl:
            self.pexpire(key, ttl)

    def _deadline(self, value: bytes | None, now: int) -> int:
        """When the last pending token of a value runs out; 0 if none is left."""
        last = max(_tokens(value).values(), default=0)
        return last if last > now else 0


def filled(args: Sequence[bytes | ServerId], server: bytes) -> list[bytes]:
    """The arguments of a script, with the server's id in its place."""
    return [server if arg is SERVER_ID or isinstance(arg, ServerId) else arg for arg in args]


class MemoryTransport:
    """A way to a `MemoryStore`; never suspends, unless ``sleep`` is an asynchronous function."""

    #: It always answers.
    calm = True

    def __init__(self, store: MemoryStore, *, sleep: Callable[[float], Any] = time.sleep) -> None:
        self.store = store
        self._sleep = sleep

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        return Reply(self.store.mget(keys), self.store.server_id)

    async def scripts(self, calls: Sequence[Script]) -> list[Answer]:
        server = self.store.server_id
        return [
            Answer(self.store.script(name, keys, filled(args, server)), server)
            for name, keys, args in calls
        ]

    async def set(self, key: bytes, value: bytes, px: int, nx: bool = False) -> bool:
        return self.store.set(key, value, px, nx)

    async def delete(self, keys: Sequence[bytes]) -> None:
        self.store.delete(keys)

    async def pttl(self, key: bytes) -> int:
        return self.store.pttl(key)

    async def tally(self, key: bytes, amounts: Mapping[bytes, int], px: int) -> None:
        self.store.tally(key, amounts, px)

    async def tallies(self, keys: Sequence[bytes]) -> list[dict[bytes, bytes]]:
        return [self.store.numbers(key) for key in keys]

    async def sleep(self, seconds: float) -> None:
        slept = self._sleep(seconds)
        if asyncio.iscoroutine(slept):
            await slept
