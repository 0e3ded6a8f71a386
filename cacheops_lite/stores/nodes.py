"""One node of a Redis Cluster: a server that says where the keys are that it does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from ..exceptions import StoreUnavailable
from .exchange import RedisTransport
from .transport import AsyncTransport, SyncTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .exchange import Command

#: How such an answer begins. Before redis-py 5.1 a client of one node does not tell them apart.
_ELSEWHERE: dict[str, type[ResponseError]] = {
    "MOVED ": MovedError,
    "ASK ": AskError,
    "TRYAGAIN": TryAgainError,
    "CLUSTERDOWN": ClusterDownError,
}


def _elsewhere(reply: Any) -> ResponseError | None:
    """An answer as the error that says where a key is, if it is one."""
    if not isinstance(reply, ResponseError):
        return None
    if isinstance(reply, tuple(_ELSEWHERE.values())):
        return reply
    text = str(reply)
    for word, kind in _ELSEWHERE.items():
        if text.startswith(word):
            return kind(text[len(word) :])
    return None


class Redirected(StoreUnavailable):
    """The node says that the slot of a key is with another one, or moving; nothing was done."""

    def __init__(self, where: ResponseError) -> None:
        super().__init__(f"Redis Cluster: {type(where).__name__}: {where}")
        self.where = where


class Node(RedisTransport):
    """What a node does besides: it tells where keys are that it does not have."""

    def _raise(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if (where := _elsewhere(reply)) is not None:
                raise Redirected(where) from reply
        super()._raise(replies)

    async def each(self, commands: list[Command], overlap: bool) -> tuple[list[Any], bytes]:
        """Send commands in one go; the replies, and the id of the server."""
        return await self._call(commands, overlap)

    async def asking(self, command: Command) -> Any:
        """Send a command for a key that is about to arrive here."""
        (_, reply), _ = await self._call([(b"ASKING",), command])
        return reply

    async def slots(self) -> list[Any]:
        """The map of slots as this node sees it, be it a replica or not."""
        if not self.breaker.allow():
            raise StoreUnavailable(f"Redis did not answer a moment ago: {self.breaker.reason}")
        try:
            connection = await self._borrow()
            try:
                self._identity(connection)  # which the next who borrows it looks at
                (reply,) = await self._exchange(connection, [(b"CLUSTER", b"SLOTS")])
            except BaseException:
                await self._cut(connection)
                raise
            await self._release(connection)
        except (RedisError, OSError) as error:
            raise self._failed(error) from error
        except BaseException:
            self.breaker.abandoned()
            raise
        self.breaker.success()
        if isinstance(reply, ResponseError):
            raise StoreUnavailable(f"this is no Redis Cluster: {reply}") from reply
        if not isinstance(reply, list):
            raise StoreUnavailable(f"CLUSTER SLOTS was answered with {reply!r:.100}")
        return reply


class SyncNode(Node, SyncTransport):
    """A node for synchronous callers."""


class AsyncNode(Node, AsyncTransport):
    """A node for the callers of one event loop."""
