"""Which node of a Redis Cluster has which slot, as the nodes said when they were last asked.

The map is the reply to ``CLUSTER SLOTS`` of the Redis Cluster specification
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
"""

from __future__ import annotations

import time
from bisect import bisect_right
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.crc import key_slot

from ..core.servers import tag_of
from ..exceptions import StoreUnavailable
from .nodes import AsyncNode, SyncNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Address = tuple[str, int]

#: Seconds between two questions for the map while nodes do not answer.
MAP_AGE = 1.0


class SlotMap(NamedTuple):
    """Ranges of slots, each from its start on, and the primary that serves it."""

    starts: list[int]
    ranges: list[tuple[int, Address]]

    @classmethod
    def parse(cls, reply: Iterable[Any], asked: Address) -> SlotMap:
        """Read the reply to CLUSTER SLOTS; a node without a name is the one that was asked."""
        found = sorted(
            (int(start), int(end), (_text(primary[0]) or asked[0], int(primary[1])))
            for start, end, primary, *_ in reply
        )
        return cls([start for start, _, _ in found], [(end, at) for _, end, at in found])

    def find(self, slot: int) -> Address | None:
        """The primary of a slot; None if nobody serves it."""
        index = bisect_right(self.starts, slot) - 1
        if index < 0 or self.ranges[index][0] < slot:
            return None
        return self.ranges[index][1]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else (name or "")


class Slots:
    """The nodes, and the slots of each. ``make_node`` makes the transport to one of them.

    ``seeds`` are the nodes that are asked first for the map.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        make_node: Callable[[Address], SyncNode | AsyncNode],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seeds = list(seeds)
        self._make_node = make_node
        self._monotonic = monotonic
        self._nodes: dict[Address, SyncNode | AsyncNode] = {}
        self._map = SlotMap([], [])
        #: Slots that a node has just told to be elsewhere, until the map is asked for again.
        self._moved: dict[int, Address] = {}
        self._tags: dict[bytes, int] = {}
        self._asked = float("-inf")
        self._outdated = True

    async def primaries(self) -> dict[str, SyncNode | AsyncNode]:
        """The nodes that serve slots now, by ``host:port``."""
        await self._look_up()
        serving = dict.fromkeys(at for _, at in self._map.ranges)
        return {f"{host}:{port}": self._known((host, port)) for host, port in serving}

    def serves(self, key: bytes) -> SyncNode | AsyncNode | None:
        """The node of a key, as far as the map is known."""
        address = self._map.find(key_slot(tag_of(key)))
        return None if address is None else self._known(address)

    @property
    def calm(self) -> bool:
        """Whether the last exchange with each node that serves slots was a success."""
        serving = dict.fromkeys(at for _, at in self._map.ranges) or list(self._nodes)
        return all(self._nodes[at].calm for at in serving if at in self._nodes)

    def _slot(self, tag: bytes) -> int:
        slot = self._tags.get(tag)
        if slot is None:
            if len(self._tags) > 10_000:  # tags are tables, but for keys without one
                self._tags.clear()
            slot = self._tags[tag] = key_slot(tag)
        return slot

    async def _node(self, slot: int) -> SyncNode | AsyncNode:
        # Without any map everybody asks; with an old one, one caller every now and then.
        if self._outdated and not (self._map.starts and self._monotonic() < self._asked + MAP_AGE):
            await self._look_up()
        address = self._moved.get(slot) or self._map.find(slot)
        if address is None:
            self._outdated = True
            raise StoreUnavailable(f"Redis Cluster: no node serves slot {slot}")
        return self._known(address)

    def _known(self, address: Address) -> SyncNode | AsyncNode:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._make_node(address)
        return node

    def _anyone(self) -> SyncNode | AsyncNode:
        return next(iter(self._nodes.values()), None) or self._known(self._seeds[0])

    async def _look_up(self) -> None:
        """Ask for the map: those who served slots first, then the seeds."""
        self._asked = self._monotonic()
        serving = dict.fromkeys(at for _, at in self._map.ranges)
        reason = "no seeds"
        for address in dict.fromkeys(chain(serving, self._seeds)):
            try:
                found = SlotMap.parse(await self._known(address).slots(), address)
            except StoreUnavailable as error:
                reason = str(error)
                continue
            except (ValueError, TypeError, IndexError) as error:
                reason = f"CLUSTER SLOTS of {address[0]}:{address[1]}: {error}"
                continue
            if found.starts:
                self._map, self._moved, self._outdated = found, {}, False
                return
            reason = f"{address[0]}:{address[1]} knows of no slots"
        if not self._map.starts:
            raise StoreUnavailable(f"Redis Cluster: {reason}")
