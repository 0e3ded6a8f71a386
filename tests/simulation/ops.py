"""The steps that an actor can take, each atomic, and the transport that makes commands of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from cacheops_lite.core.protocol import Answer, Reply, Script

STORE = ("mget", "ensure", "mark", "bump", "unlock", "set", "delete")


class Op(NamedTuple):
    """A step, told by its name and its arguments; the world takes it."""

    name: str
    args: tuple[Any, ...] = ()

    def __await__(self) -> Generator[Op, Any, Any]:
        return (yield self)

    @property
    def on_store(self) -> bool:
        return self.name in STORE


class SimTransport:
    """Suspends at every command. Scripts sent together run one by one: nothing spans slots."""

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        return await Op("mget", tuple(keys))  # type: ignore[no-any-return]

    async def scripts(self, calls: Sequence[Script]) -> list[Answer]:
        return [await self.script(*call) for call in calls]

    async def script(self, name: str, keys: Sequence[bytes], args: Sequence[Any]) -> Answer:
        return await Op(name, (tuple(keys), tuple(args)))  # type: ignore[no-any-return]

    async def set(self, key: bytes, value: bytes, px: int, nx: bool = False) -> bool:
        return await Op("set", (key, value, px, nx))  # type: ignore[no-any-return]

    async def delete(self, keys: Sequence[bytes]) -> None:
        await Op("delete", tuple(keys))

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("no cast waits for a lock")
