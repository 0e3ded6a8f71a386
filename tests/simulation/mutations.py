"""The protocol broken on purpose, trap by trap; each break must be found in its cast."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cacheops_lite.core import stamps
from cacheops_lite.core.ensuring import Fixed, Shape, View, Want
from cacheops_lite.core.entry import ANY_ROW, Change, Conj
from cacheops_lite.core.plans import Ticket
from cacheops_lite.core.protocol import Answer, CacheProtocol
from cacheops_lite.core.touching import Seen, Touched
from cacheops_lite.stores.memory import MemoryStore

from .actors import Set, read, write
from .cast import Cast, Demons, Query
from .casts import (
    AGAIN,
    FIRST,
    NOBODY,
    ONE,
    POST,
    POST_PLAN,
    POSTS,
    RENAME,
    REPOST,
    SECOND,
    TO_B,
    TO_C,
    TWO,
    VAL,
    A,
    NextVersion,
    actors,
    books,
    by_join_column,
    known,
    post,
    unknown,
)
from .ops import SimTransport


class Mutation(NamedTuple):
    """A break, and where it shows."""

    trap: str
    cast: Cast
    #: The same cast without the break, where the break is in the protocol and not in its use.
    repaired: Cast | None


MUTATIONS: list[Mutation] = []
#: Casts that survive what a mutation leaves out besides.
CONTROLS: list[Cast] = []


def broken(
    trap: str,
    what: str,
    processes: Any,
    *queries: Query,
    rows: Any = ONE,
    demons: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    made = Cast(
        f"{trap}: {what}", rows, queries or (A,), processes, Demons(**(demons or {})), **options
    )
    repaired = made.but(
        protocol=CacheProtocol, protocols={}, store=MemoryStore, transport=SimTransport
    )
    repaired = repaired.but(demons=made.demons._replace(repeat_ensure=False))
    MUTATIONS.append(Mutation(trap, made, None if repaired == made else repaired))


READ, WRITE = read(A), write(FIRST)

# -- reading


class StampsAfterLoad(CacheProtocol):
    async def _fix(self, transport: Any, shape: Shape, view: View, ttl_ms: int) -> Fixed:
        stand_in = dict.fromkeys(shape.known, b"s")
        return Fixed({}, stand_in, "")

    async def _complete(
        self, transport: Any, shape: Shape, fixed: Fixed, dynamic: Any, ttl_ms: int
    ) -> Any:
        view = View(None, None, {}, b"")
        late = await super()._fix(transport, shape, view, ttl_ms)
        return late.static, late.refused


broken("A1", "stamps after the load", actors(READ, WRITE), protocol=StampsAfterLoad)
broken(
    "A1", "stamps after the load, warm", actors(READ, WRITE), warm=(A,), protocol=StampsAfterLoad
)


class NoGuard(CacheProtocol):
    async def _guard(
        self,
        transport: Any,
        shape: Shape,
        fixed: Fixed,
        late: Mapping[str, list[Want]],
        ttl_ms: int,
    ) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for got in (await self._ensure(transport, shape, late, ttl_ms)).values():
            found.update(got.stamps)
        return found


broken("A1", "no guard", actors(read(POST), write(RENAME)), POST, rows=POSTS, protocol=NoGuard)


class GuardWithoutAnyRow(CacheProtocol):
    """The guard compares the gen only."""

    async def _guard(
        self,
        transport: Any,
        shape: Shape,
        fixed: Fixed,
        late: Mapping[str, list[Want]],
        ttl_ms: int,
    ) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for name, got in (await self._ensure(transport, shape, late, ttl_ms)).items():
            if got.gen == fixed.stamps[shape.gens[name]]:
                found.update(got.stamps)
        return found


broken(
    "A1",
    "a guard that looks at the gen only",
    actors(read(POST), write(RENAME)),
    POST,
    rows=POSTS,
    protocol=GuardWithoutAnyRow,
)


class LostSchemesAreNoSchemes(CacheProtocol):
    def mismatch(self, seen: Seen) -> bool:
        return False


for lost in ("cold", "warm"):
    broken(
        "A2",
        f"a gen without schemes is taken for a table without schemes, {lost}",
        actors([READ, READ], write(FIRST, asks=False)),
        warm=(A,) if lost == "warm" else (),
        demons={"evict": 2},
        protocol=LostSchemesAreNoSchemes,
    )


class BelievesAtMark(CacheProtocol):
    """The rule for lost schemes is followed at the bump only."""

    at_bump = False

    async def _bump(self, *args: Any, committed: bool) -> bool:
        self.at_bump = True
        try:
            return await super()._bump(*args, committed=committed)
        finally:
            self.at_bump = False

    def mismatch(self, seen: Seen) -> bool:
        return self.at_bump and super().mismatch(seen)


class BelievesAtBump(BelievesAtMark):
    """The rule for lost schemes is followed at the mark only."""

    def mismatch(self, seen: Seen) -> bool:
        return not self.at_bump and CacheProtocol.mismatch(self, seen)


broken(
    "A2",
    "lost schemes are not minded at the mark",
    actors(READ, write(FIRST, asks=False)),
    warm=(A,),
    demons={"evict": 1},
    protocol=BelievesAtMark,
)
broken(
    "A2",
    "lost schemes are not minded at the bump",
    actors(READ, WRITE),
    demons={"evict": 1, "expire": "any"},
    protocol=BelievesAtBump,
)


class AnyStampLives(CacheProtocol):
    """ENSURE is skipped if all stamps were there; conj stamps do not carry their gen."""

    def _living(
        self, shape: Shape, view: View, name: str, wants: list[Want], life: bytes
    ) -> dict[bytes, bytes] | None:
        gen = view.values.get(shape.gens[name])
        if gen is None or not self.own(gen, view.server):
            return None
        living = {shape.gens[name]: gen}
        for want in wants:
            stamp = view.values.get(want.key)
            if not stamps.is_stamp(stamp):
                return None
            living[want.key] = stamp or b""
        return living


class AnyStampLivesStore(MemoryStore):
    def living(self, stamp: bytes, gen: bytes) -> bool:
        return stamp[:1] == b"s"


broken(
    "A3",
    "ENSURE is skipped for stamps of an older gen",
    actors([read(VAL), READ], write(FIRST)),
    A,
    VAL,
    warm=(A,),
    demons={"evict": 2},
    protocol=AnyStampLives,
    store=AnyStampLivesStore,
)
broken(
    "A4",
    "ENSURE is delivered twice",
    actors(READ, WRITE),
    demons={"repeat": 1, "repeat_ensure": True},
)


class SameChance(CacheProtocol):
    """Two processes draw the same random numbers, as after a fork of a PRNG."""

    def __init__(self, prefix: str, **options: Any) -> None:
        drawn = iter(range(1, 1000))
        options["random"] = lambda size: b"".join(next(drawn).to_bytes(8) for _ in range(size // 8))
        super().__init__(prefix, **options)


broken("A4", "stamps are not fresh", actors(READ, READ, WRITE), protocol=SameChance)


class StampOfToken(MemoryStore):
    """What a bump leaves is made of its token alone."""

    def renew(self, key: bytes, before: bytes, token: bytes, left: int) -> None:
        super().renew(key, before[:2] + b"0" * 14 + before[16:], token, left)


class StampComesBack(MemoryStore):
    """The last bump gives a conj the stamp that it had before the marks."""

    def renew(self, key: bytes, before: bytes, token: bytes, left: int) -> None:
        self.set(key, b"s" + before)


broken(
    "A4",
    "a bump that is delivered twice makes the same stamp",
    actors(READ, WRITE, write(SECOND)),
    warm=(A,),
    rows=TWO,
    demons={"repeat": 2},
    store=StampOfToken,
)
broken(
    "A4", "a bump restores what its mark took", actors(READ, WRITE), warm=(A,), store=StampComesBack
)


class PrefixOfServer(MemoryStore):
    """The server's id is part of the keys, and not of the gen."""

    def _there(self, keys: Iterable[bytes]) -> list[bytes]:
        return [self.server_id + b":" + key for key in keys]

    def mget(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in self._there(keys)]

    def set(self, key: bytes, value: Any, px: int | None = None, nx: bool = False) -> bool:
        return super().set(*self._there([key]), value, px, nx)

    def script(self, name: str, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        return Unprefixed.script(self, name, self._there(keys), args)


class Unprefixed(MemoryStore):
    """What scripts of `PrefixOfServer` do with keys that have their prefix already."""

    def script(self, name: str, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        plain = MemoryStore(clock=self.clock, server_id=self.server_id)
        plain.data = self.data
        return plain.script(name, keys, args)


broken(
    "A8",
    "the server's id is a namespace",
    actors([READ, READ], WRITE),
    warm=(A,),
    demons={"switch": 2},
    store=PrefixOfServer,
)


class AnyServer(CacheProtocol):
    """Gens of other servers are trusted."""

    def own(self, gen: bytes | None, server: bytes) -> bool:
        return stamps.is_stamp(gen)


broken(
    "A8",
    "gens from an old snapshot are trusted",
    actors(READ, WRITE),
    warm=(A,),
    demons={"restore": 1},
    protocol=AnyServer,
)


class VersionInKeys(NextVersion):
    """The next release keeps its keys apart instead of its gens."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__("2:" + prefix, **options)
        self.version = stamps.VERSION


broken(
    "A9",
    "the version is part of the keys",
    actors(READ, WRITE),
    warm=(A,),
    protocols={1: VersionInKeys},
)


class OtherSpelling(NextVersion):
    """Values are spelt anew, the version stays."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(prefix, **options)
        self.version = stamps.VERSION


broken(
    "A9",
    "a new spelling under the old version",
    actors(READ, WRITE),
    warm=(A,),
    protocols={1: OtherSpelling},
)
broken(
    "A10",
    "a writer stores what it has written",
    actors(write(FIRST, stores=A), write(AGAIN)),
    A,
)


def by_joined_row(answer: Any) -> list[tuple[str, Conj]]:
    """The author that a post shows, if it shows one."""
    return by_join_column(answer) if answer[1] else []


BY_JOINED_ROW = Query("post", POST_PLAN, post, by_joined_row)
broken(
    "A13",
    "a dependency on the joined row, not on the join column",
    actors(read(BY_JOINED_ROW), write(Set(("author", 1), {"id": "1", "name": "x"}))),
    BY_JOINED_ROW,
    rows=NOBODY,
)


class MemoDecides(CacheProtocol):
    """Stamps are compared by position with the keys of the memo."""

    async def _look(self, transport: Any, shape: Shape) -> View:
        keys = shape.fetched + shape.more
        reply = await transport.mget(keys)
        values = dict(zip(keys, reply.values, strict=True))
        raw = values[shape.plan.entry]
        entry = stamps.parse_entry(raw) if raw is not None else None
        if entry is not None:
            pairs = zip(entry.stamps.items(), keys[1:], strict=False)
            entry = stamps.Entry(
                {key: stamp for (_, stamp), key in pairs if key in entry.stamps}, entry.payload
            )
        return View(raw, entry, values, reply.server)


broken(
    "A14",
    "the memo says what an entry depends on",
    actors(
        [read(POST), read(POST)],
        [write(REPOST), read(POST), write(Set(("author", 2), {"name": "z"}))],
    ),
    POST,
    rows=POSTS,
    protocol=MemoDecides,
)


class NoLag(CacheProtocol):
    """The bump does not re-arm the marks."""

    async def _bump(self, *args: Any, committed: bool) -> bool:
        lag, self.lag_ms = self.lag_ms, 0
        try:
            return await super()._bump(*args, committed=committed)
        finally:
            self.lag_ms = lag


broken(
    "A17",
    "the mark ends with the bump though a replica lags",
    actors(READ, WRITE),
    replica=True,
    options={"replica_lag_ms": 1000},
    protocol=NoLag,
)


class LagOnlyForMarks(MemoryStore):
    """The bump re-arms only what is still marked."""

    def script_bump(self, keys: list[bytes], args: list[bytes]) -> Any:
        marked = [key for key in keys[2:] if (self.get(key) or b"")[:1] == b"p"]
        super().script_bump(keys, [args[0], b"0"])
        return super().script_bump([*keys[:2], *marked], args)


broken(
    "A17",
    "no lag token where the mark was lost",
    actors(READ, WRITE),
    replica=True,
    options={"replica_lag_ms": 1000},
    demons={"evict": 1},
    store=LagOnlyForMarks,
)


class ShortMarks(CacheProtocol):
    """Marks do not live longer for the lag, so those of a dead writer end too early."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(prefix, **options)
        self.mark_ttl_ms -= self.lag_ms


broken(
    "A17",
    "marks do not live longer for the lag",
    actors(READ, WRITE),
    replica=True,
    options={"replica_lag_ms": 5000},
    demons={"crash": 1, "wait": 1},
    protocol=ShortMarks,
)
C = books("cat", "C")
broken(
    "A18",
    "old values without a row lock",
    actors(read(C), *(write(change._replace(locks=False)) for change in (TO_C, TO_B))),
    C,
)

# -- between mark and bump


class AnyRowUnmarked(CacheProtocol):
    def _touched(self, table: str, changes: Iterable[Change], schemes: Collection[str]) -> Touched:
        keys, some = super()._touched(table, changes, schemes)
        any_row = self.keys.conj(table, ANY_ROW)
        return Touched({key if key != any_row else b"nothing": None for key in keys}, some)


broken("B1", "the any-row key is not marked", actors(READ, WRITE), protocol=AnyRowUnmarked)


class NeverYoung(MemoryStore):
    def script_ensure(self, keys: list[bytes], args: list[bytes]) -> Any:
        return super().script_ensure([*keys[:2], b"nothing", *keys[3:]], args)


for about, stage in (
    ("learns everything", write(FIRST)),
    ("learns everything, does not ask", write(FIRST, asks=False)),
    ("learns known columns", write(known(FIRST))),
):
    broken(
        "B1",
        f"a new scheme does not wait for marks; the writer {about}",
        actors(READ, stage),
        store=NeverYoung,
    )
broken(
    "B1",
    "a new scheme does not wait for marks, and the writer dies",
    actors(READ, write(known(FIRST))),
    demons={"crash": 1},
    store=NeverYoung,
)


class OneOwner(MemoryStore):
    """A pending key has one owner: the last one to mark it."""

    def _others(self, key: bytes, token: bytes, now: int) -> dict[bytes, int]:
        return {}


class FirstOwner(MemoryStore):
    """A pending key has one owner: the first one to mark it; only its bump deletes the key."""

    def script_mark(self, keys: list[bytes], args: list[bytes]) -> Any:
        mine = [key for key in keys[2:] if (self.get(key) or b"")[:1] != b"p"]
        return super().script_mark([*keys[:2], *mine], args)

    def script_bump(self, keys: list[bytes], args: list[bytes]) -> Any:
        mine = [
            key
            for key in keys[2:]
            if (self.get(key) or b"")[:1] != b"p" or args[0] in (self.get(key) or b"")
        ]
        return super().script_bump([*keys[:2], *mine], args)


TWO_WRITERS = actors(READ, WRITE, write(SECOND))
broken("B2", "the last mark owns the key", TWO_WRITERS, rows=TWO, store=OneOwner)
broken(
    "B2",
    "the first mark owns the key",
    TWO_WRITERS,
    rows=TWO,
    demons={"crash": 1},
    store=FirstOwner,
)


class RemakesPendingGen(MemoryStore):
    def script_ensure(self, keys: list[bytes], args: list[bytes]) -> Any:
        if (self.get(keys[0]) or b"")[:1] == b"p":
            self.evict(keys[0])
        return super().script_ensure(keys, args)


# The any-row mark alone would hide this, so it is left out; without the break the gen's mark is
# enough, which the control shows.
GEN_ONLY = {"warm": (A,), "protocol": AnyRowUnmarked}
UNKNOWN_WRITER = actors(READ, write(unknown(FIRST)))
CONTROLS.append(Cast("B3: a pending gen is enough", ONE, (A,), UNKNOWN_WRITER, **GEN_ONLY))
broken("B3", "ENSURE makes a pending gen anew", UNKNOWN_WRITER, store=RemakesPendingGen, **GEN_ONLY)


class ReadsThenMarks(SimTransport):
    """The schemes are read before the marks stand."""

    async def script(self, name: str, keys: Sequence[bytes], args: Sequence[Any]) -> Answer:
        if name != "mark":
            return await super().script(name, keys, args)
        reply = await self.mget(keys[:2])
        await super().script(name, keys, args)
        return Answer(reply.values, reply.server)


broken(
    "B4",
    "the schemes are read before the marks stand",
    actors(READ, WRITE),
    transport=ReadsThenMarks,
)
for taken in (True, False):
    broken(
        "B5",
        f"a commit of unknown outcome is taken for {'done' if taken else 'not done'}",
        actors(write(FIRST, unknown_outcome=True, takes_it_for=taken), READ),
    )

# -- writing

broken("", "no mark", actors(READ, write(FIRST, marks=False)))
broken("", "the bump comes before the commit only", actors(READ, write(FIRST, bumps="before")))
broken(
    "",
    "a bump, no mark, before the commit only",
    actors(READ, write(FIRST, marks=False, bumps="before")),
)


class BlindBump(CacheProtocol):
    """The bump does not look for schemes that have come since the mark."""

    async def _bump(
        self, transport: Any, ticket: Ticket, tables: Any, changes: Any, *, committed: bool
    ) -> bool:
        return await super()._bump(transport, ticket, tables, {}, committed=committed)


broken(
    "",
    "the bump does not look for new schemes",
    actors([READ, READ], WRITE),
    demons={"expire": "any"},
    protocol=BlindBump,
)


class BlindMark(CacheProtocol):
    """The mark has no second trip, and a new scheme is not looked for."""

    def _missing(
        self, ticket: Ticket, table: str, seen: Seen, done: Collection[bytes]
    ) -> dict[bytes, None]:
        return {}


broken(
    "",
    "what the process does not know is not marked",
    actors(READ, write(FIRST, asks=False)),
    warm=(A,),
    protocol=BlindMark,
)


class BlindRefresh(CacheProtocol):
    """The second mark renews what was marked, and looks for nothing else."""

    async def refresh(self, transport: Any, ticket: Ticket) -> None:
        if self.monotonic() - ticket.started > self.mark_ttl_ms / 2000:
            args = [ticket.token, b"%d" % self.mark_ttl_ms]
            await self._send(transport, "mark", ticket.marked, args)


broken(
    "",
    "marking again does not look for schemes that came since",
    actors([READ, READ], write(known(FIRST))),
    demons={"wait": 2},
    protocol=BlindRefresh,
)


class ForgetsFailures(CacheProtocol):
    """A failed bump is not made good."""

    def _owe(self, ticket: Ticket, tables: Iterable[str], seconds: float) -> None:
        return


broken(
    "",
    "a failed bump is forgotten",
    actors([write(FIRST), READ], READ),
    warm=(A,),
    demons={"fail": 3},
    protocol=ForgetsFailures,
)


class AnswersPending(CacheProtocol):
    """Only stamps of the conjunctions are compared, and a gen may be anything."""

    def _invalid(self, shape: Shape, view: View) -> str:
        if view.entry is None:
            return "absent"
        gens = set(shape.gens.values())
        same = all(
            view.values[key] == stamp for key, stamp in view.entry.stamps.items() if key not in gens
        )
        return "" if same else "stamp"


broken(
    "",
    "gens are not compared",
    actors(READ, write(unknown(FIRST))),
    warm=(A,),
    protocol=AnswersPending,
)


class ForgetsAnyRow(CacheProtocol):
    """A scheme that finds the table full is left out instead of widened."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(prefix, **options)
        self.most_schemes = 1

    async def _fix(self, transport: Any, shape: Shape, view: View, ttl_ms: int) -> Fixed:
        fixed = await super()._fix(transport, shape, view, ttl_ms)
        any_rows = {want.key for want in shape.any.values()}
        static = {key: stamp for key, stamp in fixed.static.items() if key not in any_rows}
        return fixed._replace(static=static)

    def _invalid(self, shape: Shape, view: View) -> str:
        reason = super()._invalid(shape, view)
        return "" if reason == "plan" else reason


broken(
    "",
    "a scheme past the limit is not depended on at all",
    actors(READ, WRITE),
    A,
    VAL,
    warm=(VAL, A),
    protocol=ForgetsAnyRow,
)
