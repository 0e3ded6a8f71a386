"""The way to a Redis Cluster: each command goes to the node that has the slot of its keys.

All keys of one table carry one hash tag, so they are in one slot: a query of one table is one
``MGET`` there as on a single server. A query of several tables is one command for each slot, those
of a node sent together. Nothing needs to be atomic across slots.

We ask the nodes ourselves instead of ``redis.cluster.RedisCluster`` for the reasons that
`stores.exchange` names.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.cluster import RedisCluster
from redis.exceptions import AskError, MovedError

from ..core.protocol import Answer, Reply, Script
from ..core.servers import Servers, tag_of
from ..exceptions import StoreUnavailable
from .nodes import AsyncNode, Redirected, SyncNode
from .slots import Address, Slots
from .transport import AsyncTransport, SyncTransport

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Mapping, Sequence

    from .exchange import Command

#: How often a command follows a key that has moved, or waits for one that is moving.
HOPS = 5
#: Seconds to wait for a key that is moving between two nodes at this moment.
MOVING = 0.02


class ClusterTransport(Slots):
    """The transport over all nodes; an event loop has one of its own, as over a single server."""

    # -- the transport

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        """One command for each slot; the ids of the servers by hash tag."""
        parts: dict[int, dict[bytes, None]] = {}
        tags = {}
        for key in keys:
            tag = tag_of(key)
            slot = tags[tag] = self._slot(tag)
            parts.setdefault(slot, {})[key] = None
        if len(parts) == 1:
            (slot,) = parts
            reply = await self._at(slot, "mget", keys)
            return Reply(reply.values, Servers(dict.fromkeys(tags, reply.server)))
        found: dict[bytes, bytes | None] = {}
        servers: dict[int, bytes] = {}
        nodes: dict[SyncNode | AsyncNode, list[int]] = {}
        for slot in parts:
            nodes.setdefault(await self._node(slot), []).append(slot)

        overlap = self._overlaps(nodes)

        async def ask(node: SyncNode | AsyncNode, slots: list[int]) -> None:
            commands: list[Command] = [(b"MGET", *parts[slot]) for slot in slots]
            try:
                replies, server = await node.each(commands, overlap)
            except Redirected:
                for slot in slots:
                    some = list(parts[slot])
                    reply = await self._at(slot, "mget", some)
                    found.update(zip(some, reply.values, strict=True))
                    servers[slot] = reply.server
                return
            except StoreUnavailable:
                self._outdated = True
                raise
            for slot, values in zip(slots, replies, strict=True):
                found.update(zip(parts[slot], values, strict=True))
                servers[slot] = server

        await self._all([ask(node, slots) for node, slots in nodes.items()])
        return Reply(
            [found[key] for key in keys],
            Servers({tag: servers[slot] for tag, slot in tags.items()}),
        )

    async def scripts(self, calls: Sequence[Script]) -> list[Answer]:
        """Each on the node of its keys, those of a node in one round trip."""
        nodes: dict[SyncNode | AsyncNode, list[int]] = {}
        for index, call in enumerate(calls):
            node = await self._node(self._slot(tag_of(call.keys[0])))
            nodes.setdefault(node, []).append(index)
        answers: dict[int, Answer] = {}
        overlap = self._overlaps(nodes)

        async def run(node: SyncNode | AsyncNode, some: list[int]) -> None:
            batch = [calls[index] for index in some]
            try:
                found = await node.scripts(batch, overlap=overlap)
            except Redirected:
                if len(batch) > 1 and any(call.name == "ensure" for call in batch):
                    self._outdated = True
                    raise  # some of them may have run, and ENSURE must not run twice (A4)
                found = [await self._script(call) for call in batch]
            except StoreUnavailable:
                self._outdated = True
                raise
            answers.update(zip(some, found, strict=True))

        await self._all([run(node, some) for node, some in nodes.items()])
        return [answers[index] for index in range(len(calls))]

    async def set(self, key: bytes, value: bytes, px: int, nx: bool = False) -> bool:
        """Set a key."""
        done: bool = await self._at(self._slot(tag_of(key)), "set", key, value, px, nx)
        return done

    async def delete(self, keys: Sequence[bytes]) -> None:
        """Delete keys; those of other nodes also if one node does not answer."""
        failed: StoreUnavailable | None = None
        for key in keys:
            try:
                await self._delete(key)
            except StoreUnavailable as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _delete(self, key: bytes) -> None:
        """Delete a key wherever it is now, also while its slot is moving."""
        try:
            await self._at(self._slot(tag_of(key)), "delete", [key])
        except Redirected as elsewhere:
            if not isinstance(elsewhere.where, AskError):
                raise
            node = self._known(_address(elsewhere.where))
            await node.asking((b"DEL", key))

    async def pttl(self, key: bytes) -> int:
        """The time that a key has left, in ms; negative if it is missing or never runs out."""
        left: int = await self._at(self._slot(tag_of(key)), "pttl", key)
        return left

    async def tally(self, key: bytes, amounts: Mapping[bytes, int], px: int) -> None:
        """Add to the numbers in a hash, which lives for ``px`` ms from now on."""
        await self._at(self._slot(tag_of(key)), "tally", key, amounts, px)

    async def tallies(self, keys: Sequence[bytes]) -> list[dict[bytes, bytes]]:
        """The numbers in some hashes, as they are spelt there."""
        found = []
        for key in keys:
            found += await self._at(self._slot(tag_of(key)), "tallies", [key])
        return found

    async def sleep(self, seconds: float) -> None:
        """Let some time pass."""
        await self._anyone().sleep(seconds)

    def close(self) -> None:
        """Close the pooled sockets, of synchronous callers."""
        for node in self._nodes.values():
            node.client.close()

    async def aclose(self) -> None:
        """Close the pooled sockets of this event loop."""
        for node in self._nodes.values():
            await node.client.aclose()

    def abandon(self) -> None:
        """Close the sockets when their event loop is closed already."""
        for node in self._nodes.values():
            if isinstance(node, AsyncTransport):
                node.abandon()

    # -- one command

    async def _at(self, slot: int, method: str, *args: Any) -> Any:
        """Call a method of the node of a slot, and go after the slot if it has moved."""
        for _ in range(HOPS):
            node = await self._node(slot)
            try:
                return await getattr(node, method)(*args)
            except Redirected as elsewhere:
                last = elsewhere
                if isinstance(elsewhere.where, MovedError):
                    self._moved[slot] = _address(elsewhere.where)
                    self._outdated = True
                elif isinstance(elsewhere.where, AskError):
                    raise
                else:
                    await node.sleep(MOVING)
            except StoreUnavailable:
                self._outdated = True  # a replica may have been promoted
                raise
        raise last

    async def _script(self, call: Script) -> Answer:
        for _ in range(HOPS):
            try:
                found: list[Answer] = await self._at(
                    self._slot(tag_of(call.keys[0])), "scripts", [call]
                )
                return found[0]
            except Redirected as elsewhere:
                # Some keys of the slot are here, some there: a moment later all are in one place.
                last = elsewhere
                await self.sleep(MOVING)
        raise last

    def _overlaps(self, nodes: Collection[SyncNode | AsyncNode]) -> bool:
        """Whether one thread asks several nodes: all of them, before it listens to the first."""
        return len(nodes) > 1 and isinstance(next(iter(nodes)), SyncTransport)

    async def _all(self, several: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Finish all of them, then raise the first error: a dead node keeps nothing from others."""
        if len(several) == 1:
            return await several[0]
        if isinstance(next(iter(self._nodes.values())), AsyncTransport):
            ended = await asyncio.gather(*several, return_exceptions=True)
            errors = [error for error in ended if error is not None]
        else:
            errors = [*_in_turns(several)]
        if errors:
            raise errors[0]
        return None


def _in_turns(several: Sequence[Coroutine[Any, Any, None]]) -> list[Exception]:
    """Run coroutines of one thread, each up to where it waits, until all are over; their errors."""
    errors: list[Exception] = []
    left = list(several)
    try:
        while left:
            for one in list(left):
                try:
                    one.send(None)
                except StopIteration:
                    left.remove(one)
                except Exception as error:
                    left.remove(one)
                    errors.append(error)
    finally:
        for one in left:
            one.close()
    return errors


def transport_over(client: Any) -> SyncTransport | ClusterTransport:
    """The transport over a client of redis-py, of one server or of a cluster.

    Raises ``TypeError`` for what is neither.
    """
    if not isinstance(client, RedisCluster):
        return SyncTransport(client)
    nodes: Any = client  # redis-py's cluster client has no types

    def make_node(address: Address) -> SyncNode:
        return SyncNode(nodes.get_redis_connection(nodes.get_node(*address)))

    return ClusterTransport([(node.host, node.port) for node in nodes.get_primaries()], make_node)


def _address(where: Any) -> Address:
    return where.host, int(where.port)
