"""ENSURE: stamps fixed before a load, and the guard for dependencies that only its result tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import stamps
from .entry import ANY_ROW, Conj
from .keys import scheme_text
from .plans import SERVER_ID, Asked, ReadPlan, Script, Transport
from .servers import Servers, server_at
from .state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Conj stamps that one table of one query may hang on before it is widened to any row.
MOST_STAMPS = 500
#: What ENSURE answers in place of a stamp.
PENDING, YOUNG, FULL = b"p", b"y", b"f"


class Want(NamedTuple):
    """A conj stamp that a result needs, and the scheme under which writers find it."""

    scheme: str
    key: bytes


class Shape:
    """A plan with its keys spelt; ``more`` are those that its entry was seen to hang on besides."""

    def __init__(self, plan: ReadPlan, state: State) -> None:
        self.plan = plan
        self.gens = {table.table: state.keys.gen(table.table) for table in plan.tables}
        self.any = {
            table.table: Want("", state.keys.conj(table.table, ANY_ROW)) for table in plan.tables
        }
        self.static: dict[str, list[Want]] = {}
        for name, conjs, _ in plan.tables:
            wanted = conjs if len(conjs) <= MOST_STAMPS else (ANY_ROW,)
            self.static[name] = list(
                dict.fromkeys(
                    Want(scheme_text(conj), state.keys.conj(name, conj)) for conj in wanted
                )
            )
        #: Each static conj key with the any-row key that may stand in for it.
        self.required = [
            (want.key, self.any[name].key) for name, wants in self.static.items() for want in wants
        ]
        keys = [plan.entry, *self.gens.values(), *(key for key, _ in self.required)]
        self.fetched = Asked(dict.fromkeys(keys))
        self.known = frozenset(keys)
        self.more: list[bytes] = []
        #: All that one MGET asks for, the entry first.
        self.asked = self.fetched
        self.verdict: Verdict | None = None

    def weight(self) -> int:
        """About how many bytes it has: its plan's, and those of each key with its stamp."""
        return self.plan.weight() + 300 * (len(self.fetched) + len(self.more))


class Verdict(NamedTuple):
    """A hit to compare the next look with: where all of this is the same, that is a hit too."""

    #: The list that was asked for, and the values of all but the first, the entry.
    asked: list[bytes]
    values: list[bytes | None]
    server: bytes | Servers
    #: The entry up to its payload.
    head: bytes


class View(NamedTuple):
    """What one look at the store showed: the entry, and the values of the keys that it names."""

    raw: bytes | None
    entry: stamps.Entry | None
    values: dict[bytes, bytes | None]
    server: bytes | Servers
    #: Of an entry that stands to its stamps as it did when it was found valid before.
    payload: bytes | None = None


class Fixed(NamedTuple):
    """The stamps that stood before the load; ``static``: those that any result hangs on.

    ``refused`` says why nothing may be stored under them; ``""`` if it may.
    """

    stamps: dict[bytes, bytes]
    static: dict[bytes, bytes]
    refused: str


class Ensured(NamedTuple):
    """What ENSURE answered for one table: the gen, and a stamp or a reason for each key."""

    gen: bytes
    stamps: dict[bytes, bytes]


class Ensuring(State):
    """Fixes stamps before and after a load."""

    async def _fix(self, transport: Transport, shape: Shape, view: View, ttl_ms: int) -> Fixed:
        """Fix the stamps that a result loaded from now on may be stored under."""
        found: dict[bytes, bytes] = {}
        wanted: dict[str, list[Want]] = {}
        life = stamps.life(ttl_ms)
        for name, _, dynamic in shape.plan.tables:
            gen = view.values.get(shape.gens[name])
            wanted[name] = [self._narrowest(shape, name, want, gen) for want in shape.static[name]]
            living = None if dynamic else self._living(shape, view, name, wanted[name], life)
            if living is not None:
                found.update(living)
        calls = {
            name: self._early(shape, view, name, wanted[name])
            for name in wanted
            if shape.gens[name] not in found
        }
        answers = await self._ensure(transport, shape, calls, ttl_ms)
        full = {name for name, got in answers.items() if FULL in got.stamps.values()}
        spares = {
            name: [shape.any[name]]
            for name in full
            if shape.any[name].key not in answers[name].stamps
        }
        for name, got in (await self._ensure(transport, shape, spares, ttl_ms)).items():
            if got.gen != answers[name].gen:
                return Fixed({}, {}, "moved")
            answers[name].stamps.update(got.stamps)
        for name, got in answers.items():
            if not stamps.is_stamp(got.gen):
                return Fixed({}, {}, "pending")
            found[shape.gens[name]] = got.gen
            found.update(
                {key: stamp for key, stamp in got.stamps.items() if stamps.is_stamp(stamp)}
            )
            for index, want in enumerate(wanted[name]):
                answer = got.stamps[want.key]
                if answer == FULL:
                    wanted[name][index] = shape.any[name]
                    answer = got.stamps[shape.any[name].key]
                if not stamps.is_stamp(answer):
                    return Fixed({}, {}, "young" if answer == YOUNG else "pending")
        static = [*shape.gens.values(), *(want.key for wants in wanted.values() for want in wants)]
        return Fixed(found, {key: found[key] for key in static}, "")

    def _living(
        self, shape: Shape, view: View, name: str, wants: list[Want], life: bytes
    ) -> dict[bytes, bytes] | None:
        """The stamps that the look already showed, if they need no ENSURE: all of this gen (A3).

        And they last as long as the entry shall, or else it would fall with them.
        """
        gen = view.values.get(shape.gens[name])
        if gen is None or not self.own(gen, server_at(view.server, shape.gens[name])):
            return None
        living = {shape.gens[name]: gen}
        for want in wants:
            stamp = view.values.get(want.key)
            if stamp is None or not stamps.carries(stamp, gen) or stamp[1:3] < life:
                return None
            living[want.key] = stamp
        return living

    def _early(self, shape: Shape, view: View, name: str, wants: list[Want]) -> list[Want]:
        """What to ensure before the load: also what the result may well hang on, and the guard."""
        table = next(table for table in shape.plan.tables if table.table == name)
        if not table.dynamic:
            return wants
        likely = [*shape.more, *(view.entry.stamps if view.entry is not None else ())]
        more = [Want(scheme, key) for key in likely if (scheme := self.keys.scheme_of(name, key))]
        return list(dict.fromkeys([*wants, *more[:MOST_STAMPS], shape.any[name]]))

    def _narrowest(self, shape: Shape, name: str, want: Want, gen: bytes | None) -> Want:
        """Widen a conj whose scheme found the table full under this gen."""
        return (
            shape.any[name]
            if want.scheme and self.full.get((name, want.scheme)) == (gen or b"")
            else want
        )

    async def _complete(
        self,
        transport: Transport,
        shape: Shape,
        fixed: Fixed,
        dynamic: Iterable[tuple[str, Conj]],
        ttl_ms: int,
    ) -> tuple[dict[bytes, bytes], str]:
        """All stamps of a result, given the dependencies that it told; or why it may not be stored.

        A key that was not ensured before the load is safe only behind a guard (A1): the gen and
        the any-row stamp, which every write of the table marks, must still be those from before
        the load, in the same atomic step.
        """
        wanted: dict[str, dict[Want, None]] = {}
        for name, conj in dynamic:
            if name not in shape.any:
                return {}, "undeclared"
            want = Want(scheme_text(conj), self.keys.conj(name, conj))
            wanted.setdefault(name, {})[
                self._narrowest(shape, name, want, fixed.stamps[shape.gens[name]])
            ] = None
        late: dict[str, list[Want]] = {}
        for name, wants in wanted.items():
            if len(wants) > MOST_STAMPS:
                wants = wanted[name] = {shape.any[name]: None}
            missing = [want for want in wants if want.key not in fixed.stamps]
            if missing and shape.any[name].key not in fixed.stamps:
                return {}, "pending" if any(
                    t.table == name and t.dynamic for t in shape.plan.tables
                ) else "undeclared"
            if missing:
                late[name] = missing
        guarded = await self._guard(transport, shape, fixed, late, ttl_ms)
        depends = dict(fixed.static)
        for name, wants in wanted.items():
            for want in wants:
                stamp = fixed.stamps.get(want.key) or guarded.get(want.key, b"")
                if not stamps.is_stamp(stamp):
                    return {}, {YOUNG: "young", PENDING: "pending"}.get(stamp, "moved")
                if stamp == fixed.stamps.get(shape.any[name].key):
                    want = shape.any[name]
                depends[want.key] = stamp
        return depends, ""

    async def _guard(
        self,
        transport: Transport,
        shape: Shape,
        fixed: Fixed,
        late: Mapping[str, list[Want]],
        ttl_ms: int,
    ) -> dict[bytes, bytes]:
        """Ensure keys after the load; of a table that was written meanwhile nothing is returned."""
        if not late:
            return {}
        calls = {name: [*wants, shape.any[name]] for name, wants in late.items()}
        found: dict[bytes, bytes] = {}
        for name, got in (await self._ensure(transport, shape, calls, ttl_ms)).items():
            spare = shape.any[name].key
            if (
                got.gen == fixed.stamps[shape.gens[name]]
                and got.stamps.get(spare) == fixed.stamps[spare]
            ):
                found.update(
                    {
                        key: fixed.stamps[spare] if out == FULL else out
                        for key, out in got.stamps.items()
                    }
                )
        return found

    async def _ensure(
        self, transport: Transport, shape: Shape, calls: Mapping[str, list[Want]], ttl_ms: int
    ) -> dict[str, Ensured]:
        """Run ENSURE for some tables at once, with stamps that no one has ever seen (A4)."""
        if not calls:
            return {}
        for name, wants in calls.items():
            self.note_used(name, [want.scheme for want in wants])
        # Twice the entry's time: a stamp that a miss finds living should outlive its entry.
        ttl = 2 * ttl_ms
        gen_ttl = max(self.gen_ttl_ms, ttl)
        life = stamps.life(ttl_ms)
        scripts = []
        for name, wants in calls.items():
            keys = [
                shape.gens[name],
                self.keys.schemes(name),
                shape.any[name].key,
                *(want.key for want in wants),
            ]
            fresh = self.random(8 * (len(wants) + 1)).hex().encode()
            args: list[Any] = [
                SERVER_ID,
                self.version,
                fresh[:16],
                b"%d" % gen_ttl,
                b"%d" % ttl,
                b"%d" % self.most_schemes,
            ]
            for index, want in enumerate(wants, 1):
                random = fresh[16 * index + 2 : 16 * index + 16]
                args += [want.scheme.encode(), life + random]
            scripts.append(Script("ensure", keys, args))
        answers = {}
        for (name, wants), answer in zip(
            calls.items(), await transport.scripts(scripts), strict=True
        ):
            gen, out = answer.value
            answers[name] = Ensured(gen, dict(zip((want.key for want in wants), out, strict=False)))
            for want in wants:
                if answers[name].stamps.get(want.key) == FULL:
                    self.full.set((name, want.scheme), gen)
        return answers
