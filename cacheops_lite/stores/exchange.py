"""The exchange of commands and replies with Redis over a redis-py client, whatever its colour.

We borrow single sockets from the client's pool instead of calling its methods, for three reasons:
the client would repeat ENSURE after an error (trap A4), each socket has to know which server it
talks to (A8), and a hit should cost little more than its round trip.
"""

from __future__ import annotations

import inspect
import logging
import re
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import (
    InvalidResponse,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ..core.protocol import Answer, Reply, Script, ServerId
from ..exceptions import StoreUnavailable
from .breaker import Breaker
from .replies import fits
from .scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence

log = logging.getLogger("cacheops_lite")

#: Seconds until the same refusal is logged again, and how many refusals are remembered.
SILENCE = 60.0
COMPLAINTS = 100

Command = tuple[bytes | int, ...]
#: Stands for the id of every server whose restarts keep the data.
KEPT = b"kept"
_RUN_ID = re.compile(rb"run_id:(\w+)")
_WHO = [(b"INFO", b"server"), (b"INFO", b"replication")]


class _Sent:
    """Suspends whoever awaits it, once."""

    def __await__(self) -> Generator[None]:
        yield


SENT = _Sent()


class Identity:
    """Which server a socket talks to; forgotten whenever the connection gets a new socket."""

    def __init__(self) -> None:
        self.server = b""

    def forget(self, connection: Any) -> None:
        self.server = b""


class RedisTransport:
    """All that has no colour. A connection with unread replies never returns to the pool."""

    # What has one: a connection is borrowed, tried, written to, read from, and cut or released.
    sleep: Callable[[float], Awaitable[None]]
    _borrow: Callable[[], Awaitable[Any]]
    _check: Callable[[Any], Awaitable[None]]
    _send: Callable[[Any, Any], Awaitable[None]]
    _read: Callable[[Any], Awaitable[Any]]
    _cut: Callable[[Any], Awaitable[None]]
    _release: Callable[[Any], Awaitable[None]]

    def __init__(
        self, client: Any, *, breaker: Breaker | None = None, keeps_data: bool = False
    ) -> None:
        """Take a client that has a ``connection_pool``; raise TypeError for others.

        ``keeps_data``: whoever answers at this address has all that was ever acknowledged there,
        so that one restart, or one primary, is as good as another.
        """
        if getattr(client, "connection_pool", None) is None:
            raise TypeError(f"{type(client).__name__} has no connection pool of its own")
        self.client = client
        self.breaker = breaker or Breaker()
        self.keeps_data = keeps_data
        #: What was refused -> when it may be said again.
        self._silent: dict[str, float] = {}
        # redis-py before 5.3 demands a command's name, later ones warn of it.
        name = inspect.signature(client.connection_pool.get_connection).parameters.get(
            "command_name"
        )
        self._name = ("EVALSHA",) if name is not None and name.default is name.empty else ()

    @property
    def calm(self) -> bool:
        """Whether the last exchange was a success."""
        return self.breaker.calm

    # -- the transport

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        (values,), server = await self._call([(b"MGET", *keys)])
        return Reply(values, server)

    async def set(self, key: bytes, value: bytes, px: int, nx: bool = False) -> bool:
        command: Command = (b"SET", key, value, b"PX", px)
        (reply,), _ = await self._call([(*command, b"NX") if nx else command])
        return reply is not None

    async def delete(self, keys: Sequence[bytes]) -> None:
        if keys:
            # One by one: the keys may lie in different slots.
            await self._call([(b"DEL", key) for key in keys])

    async def pttl(self, key: bytes) -> int:
        """The time that a key has left, in ms; negative if it is missing or never runs out."""
        (reply,), _ = await self._call([(b"PTTL", key)])
        return int(reply)

    async def tally(self, key: bytes, amounts: Mapping[bytes, int], px: int) -> None:
        """Add to the numbers in a hash, which lives for ``px`` ms from now on."""
        added: list[Command] = [(b"HINCRBY", key, name, many) for name, many in amounts.items()]
        # Once only: what was added twice would be counted twice.
        found, _ = await self._talk(lambda server: [*added, (b"PEXPIRE", key, px)], False)
        self._raise(found)

    async def tallies(self, keys: Sequence[bytes]) -> list[dict[bytes, bytes]]:
        """The numbers in some hashes, as they are spelt there."""
        found, _ = await self._call([(b"HGETALL", key) for key in keys])
        # A flat list in the protocol of Redis 2, a map in that of Redis 3.
        return [
            reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
            for reply in found
        ]

    async def scripts(self, calls: Sequence[Script], *, overlap: bool = False) -> list[Answer]:
        # ENSURE may be delivered once only: a late one would bring a dropped stamp back (A4).
        again = all(call.name != "ensure" for call in calls)

        def spell(verb: bytes, some: Sequence[int]) -> Callable[[bytes], list[Command]]:
            def build(server: bytes) -> list[Command]:
                commands: list[Command] = []
                for index in some:
                    name, keys, args = calls[index]
                    script = SCRIPTS[name].sha if verb == b"EVALSHA" else SCRIPTS[name].text
                    filled = (server if isinstance(arg, ServerId) else arg for arg in args)
                    commands.append((verb, script, len(keys), *keys, *filled))
                return commands

            return build

        found, server = await self._talk(spell(b"EVALSHA", range(len(calls))), again, overlap)
        answers = [Answer(value, server) for value in found]
        # NOSCRIPT says that the script did not run, so these, and only these, may be sent anew.
        unknown = [index for index, value in enumerate(found) if isinstance(value, NoScriptError)]
        if unknown:
            found, server = await self._talk(spell(b"EVAL", unknown), again, overlap)
            for index, value in zip(unknown, found, strict=True):
                answers[index] = Answer(value, server)
        self._raise([answer.value for answer in answers])
        return answers

    # -- the exchange

    async def _call(
        self, commands: list[Command], overlap: bool = False
    ) -> tuple[list[Any], bytes]:
        found, server = await self._talk(lambda server: commands, True, overlap)
        self._raise(found)
        return found, server

    def _raise(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, ResponseError):
                self._complain(str(reply))
                raise StoreUnavailable(f"Redis refused a command: {reply}") from reply

    def _complain(self, refusal: str) -> None:
        # What is refused once, for a right or for memory that is missing, is refused all the time.
        now = time.monotonic()
        if now >= self._silent.get(refusal, now):
            if len(self._silent) >= COMPLAINTS:
                self._silent.clear()
            self._silent[refusal] = now + SILENCE
            log.warning("Redis refuses a command, going on without it: %s", refusal)

    async def _talk(
        self, build: Callable[[bytes], list[Command]], again: bool, overlap: bool = False
    ) -> tuple[list[Any], bytes]:
        """Send commands in one go, read their replies; ``again``: once more if it was stale.

        ``overlap``: suspend once between the two, so that others can be asked meanwhile.
        """
        if not self.breaker.allow():
            raise StoreUnavailable(f"Redis did not answer a moment ago: {self.breaker.reason}")
        try:
            try:
                found = await self._attempt(build, overlap)
            except Disconnected:
                if not again:
                    raise
                found = await self._attempt(build, overlap)
        except (RedisError, OSError) as error:
            raise self._failed(error) from error
        except StoreUnavailable as error:
            self.breaker.failure(str(error))
            raise
        except BaseException:
            self.breaker.abandoned()
            raise
        self.breaker.success()
        return found

    def _failed(self, error: Exception) -> StoreUnavailable:
        self.breaker.failure(f"{type(error).__name__}: {error}")
        return StoreUnavailable(f"Redis does not answer: {error}")

    async def _attempt(
        self, build: Callable[[bytes], list[Command]], overlap: bool
    ) -> tuple[list[Any], bytes]:
        connection = await self._borrow()
        try:
            await self._check(connection)
            server = await self._server(connection)
            replies = await self._exchange(connection, build(server), overlap)
            self._same(connection, server)
        except BaseException:
            await self._cut(connection)
            raise
        await self._release(connection)
        return replies, server

    async def _exchange(
        self, connection: Any, commands: Sequence[Command], overlap: bool = False
    ) -> list[Any]:
        await self._send(connection, connection.pack_commands(commands))
        if overlap:
            await SENT
        replies: list[Any] = []
        for command in commands:
            try:
                reply = await self._read(connection)
            except ReadOnlyError:
                raise  # the primary has become a replica: connect anew
            except ResponseError as error:
                replies.append(error)
                continue
            if not fits(command, reply):
                raise InvalidResponse(unlike(command, reply))
            replies.append(reply)
        return replies

    async def _server(self, connection: Any) -> bytes:
        """The run id of the server behind this socket, asked for once after it connected."""
        identity = self._identity(connection)
        if not identity.server:
            server, replication = await self._exchange(connection, _WHO)
            found = _RUN_ID.search(server) if isinstance(server, bytes) else None
            if found is None:
                raise StoreUnavailable(f"INFO server does not tell the run id: {server!s:.200}")
            if isinstance(replication, bytes) and b"role:slave" in replication:
                raise StoreUnavailable("The server is a replica; the cache needs the primary")
            identity.server = KEPT if self.keeps_data else found[1]
        return identity.server

    def _identity(self, connection: Any) -> Identity:
        identity: Identity | None = getattr(connection, "cacheops_identity", None)
        if identity is None:
            identity = connection.cacheops_identity = Identity()
            connection.register_connect_callback(identity.forget)
        return identity

    def _same(self, connection: Any, server: bytes) -> None:
        """Raise if redis-py has connected anew while it sent: perhaps to another server (A8)."""
        if connection.cacheops_identity.server != server:
            raise Disconnected("the socket was closed behind our back")


def unlike(command: Command, reply: Any) -> str:
    return f"{command[0]!r} was answered with something else: {reply!r:.100}"
