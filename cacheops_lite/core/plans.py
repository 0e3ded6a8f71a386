"""What callers hand to the protocol and get back, and what it needs of a transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .entry import Change, Conj
    from .servers import Servers


class Asked(list[bytes]):
    """Keys that are asked for together, again and again."""

    __slots__ = ("command",)

    def __init__(self, keys: Iterable[bytes]) -> None:
        super().__init__(keys)
        #: Where a transport keeps how it spells what asks for them.
        self.command: Any = None


def weight_of(conjs: Iterable[Conj]) -> int:
    """About how many bytes some conjunctions have."""
    return sum([64 + sum([200 + len(text) for _, text in conj]) for conj in conjs])


class TablePlan(NamedTuple):
    """What a query depends on in one table; ``dynamic``: on more, which only its result tells."""

    table: str
    conjs: tuple[Conj, ...]
    dynamic: bool = False


class ReadPlan(NamedTuple):
    """The key under which a result is kept, and what it depends on."""

    entry: bytes
    tables: tuple[TablePlan, ...]

    def weight(self) -> int:
        """About how many bytes its conjunctions have."""
        return sum([weight_of(table.conjs) for table in self.tables])


class Outcome(NamedTuple):
    """A value, whether it came from the cache, and why not (or why it was not stored).

    Reasons: ``absent`` no entry, ``stamp`` it is out of date, ``pending`` a write is in flight,
    ``foreign`` its gen is of another server or version, ``undecodable``, ``plan`` it was stored
    for other dependencies, ``locked`` waited for another caller in vain, ``young`` a scheme came
    into use during a write, ``moved`` a write came during the load, ``undeclared`` a dependency
    on a table that the plan does not name as dynamic, ``failed`` an invalidation of this process
    is overdue, ``unavailable`` the store does not answer, ``unencodable`` no pickler takes the
    value, ``unstorable`` it is for its caller only.

    ``missed`` is ``""`` unless the value was loaded and not stored: then it says why there was a
    miss, and ``reason`` why nothing was stored.
    """

    value: Any
    hit: bool
    reason: str
    missed: str = ""


@dataclass
class Ticket:
    """The marks of one transaction, from `CacheProtocol.mark` to `CacheProtocol.bump`.

    ``failed`` holds the tables that could not be marked; the caller decides whether to commit all
    the same.
    """

    token: bytes
    changes: dict[str, list[Change]]
    started: float
    marked: dict[str, dict[bytes, None]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    #: After how many seconds a bump that failed may be made good.
    again: float = 0
    #: What the changes of a table touch, by the schemes that it was asked for.
    touched: dict[tuple[str, tuple[str, ...]], Any] = field(default_factory=dict)


class ServerId:
    """Stands in the arguments of a script for the id of the server that will run it."""

    def __repr__(self) -> str:
        return "SERVER_ID"


SERVER_ID: Final = ServerId()


class Reply(NamedTuple):
    """The values of some keys, and the id of the server behind the socket they came through.

    In a cluster they may come from several servers: then the ids by hash tag.
    """

    values: list[bytes | None]
    server: bytes | Servers


class Script(NamedTuple):
    """One call of a script: ``ensure``, ``mark``, ``bump`` or ``unlock``; all keys in one slot."""

    name: str
    keys: list[bytes]
    args: list[bytes | ServerId]


class Answer(NamedTuple):
    """What a script returned, and the id of the server that ran it."""

    value: Any
    server: bytes


class Transport(Protocol):
    """A way to a store. Raises `StoreUnavailable` if the store does not answer, nothing else."""

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        """Get the values of some keys; None where a key is missing or holds no string."""

    async def scripts(self, calls: Sequence[Script]) -> list[Answer]:
        """Run scripts, sent together in one round trip; ``ensure`` is delivered at most once."""

    async def set(self, key: bytes, value: bytes, px: int, nx: bool = False) -> bool:
        """Set a key for ``px`` ms; with ``nx`` only if it is missing. Tell whether it was set."""

    async def delete(self, keys: Sequence[bytes]) -> None:
        """Delete some keys."""

    async def sleep(self, seconds: float) -> None:
        """Let some time pass."""
