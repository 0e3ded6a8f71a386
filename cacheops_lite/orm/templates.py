"""What compiling one query of a shape taught, to be filled with the parameters of the next.

A template gives the very key and dependencies that compiling would give: the digest goes on from
the hashed SQL text with the new parameters, and the terms that came from parameters are spelt
anew. It is made only where that is certain: each column is constrained once, and each term can be
traced to one parameter. Otherwise the plan is kept for these very parameters.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import count
from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import connections
from django.db.models import lookups

from .. import conf
from ..core.entry import Conj
from ..core.memo import Sized, weight
from . import fingerprint, ranges, steady, values, walk
from .build import Produce
from .shapes import Shape, Slot, parameters
from .statements import Bound, Statement

_BOUNDS = (
    lookups.GreaterThan, lookups.GreaterThanOrEqual,
    lookups.LessThan, lookups.LessThanOrEqual, lookups.Range,
)  # fmt: skip

#: What says that a value is no parameter: no stable text, or out of the column's range, so that the
#: SQL lacks it.
_NO_PARAMETERS = (fingerprint.Unspellable, EmptyResultSet, FullResultSet)

#: A term of a template: its column, its constant text or None, and (slot, element) if not constant.
Term = tuple[str, str | None, tuple[int, int]]


#: (serial of a template, spelt parameters) -> plan; for all templates together, or there is no end
#: to them.
filled: Sized[tuple[int, str | bytes], Any] = Sized(8192, lambda _, plan: plan.weight())
_serials = count()
#: Characters of parameters that are remembered as they are.
_LONG = 200


def _name(spelt: str) -> str | bytes:
    """Spelt parameters, or what stands for them where they are long."""
    if len(spelt) <= _LONG:
        return spelt
    return blake2b(spelt.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Template:
    """One shape under one alias and packing."""

    def __init__(
        self,
        produce: Produce,
        plan: Any,
        sql_hash: Any,
        constants: list[str],
        terms: dict[str, tuple[Any, ...]] | None,
        before: tuple[Any, ...],
        prepared: bool,
    ) -> None:
        #: Stands for this template where holding it would keep it alive.
        self.serial = next(_serials)
        self.produce = produce
        self.plan = plan
        self.sql_hash = sql_hash
        #: Stands for the SQL.
        self.text: bytes = sql_hash.digest()
        #: ``None`` as long as it is not certain that it can be run with other parameters.
        self.statement: Statement | None = None
        #: The compiler's own parameters, which ``constants`` spell.
        self.before = before
        #: Spelt parameters of the compiler's own, before those of the slots.
        self.constants = constants
        #: table -> conjunctions of terms; ``None`` if only known parameters can be answered.
        self.terms = terms
        #: Whether Django alone makes the parameters of what a call is given.
        self.prepared = prepared
        #: The bytes of its SQL, and of what the first parameters became.
        self.weight = 0

    def fill(self, slots: list[Slot], using: str) -> tuple[Any, Bound | None] | None:
        """The plan for these parameters and what asks for them; ``None``: compile it, then."""
        connection = connections[using]
        if not steady.by_django_compiled(connection.ops.compiler("SQLCompiler")):
            return None  # somebody has changed what compiling is since
        try:
            ours = parameters(slots, None, connection)
            spelt = "\x00".join([*self.constants, *map(fingerprint.spell_param, ours)])
        except _NO_PARAMETERS:
            return None
        name = _name(spelt)
        plan = filled.get((self.serial, name))
        if plan is None and self.terms is not None:
            tables = self._tables(slots)
            if tables is not None:
                hasher = self.sql_hash.copy()
                hasher.update(spelt.encode("utf-8", "surrogatepass"))
                plan = self.plan._replace(digest=hasher.digest(), tables=tables)
                filled.set((self.serial, name), plan)
        return plan and (plan, self.bind(using, (*self.before, *ours)))

    def bind(self, using: str, params: tuple[Any, ...]) -> Bound | None:
        """What asks the database with these parameters, if it need not be compiled for it."""
        return Bound(self.statement, using, params) if self.statement is not None else None

    def lasts(self, slots: list[Slot]) -> bool:
        """Whether the call that these parameters come from has the same the next time."""
        return self.prepared and not any(steady.warned(slot.values) for slot in slots)

    def _tables(self, slots: list[Slot]) -> dict[str, tuple[Conj, ...]] | None:
        texts = _texts(slots)
        if texts is None or self.terms is None:
            return None
        return {
            table: tuple(
                tuple(
                    (column, texts[place[0]][place[1]] if constant is None else constant)
                    for column, constant, place in conj
                )
                for conj in conjs
            )
            for table, conjs in self.terms.items()
        }


def _texts(slots: list[Slot]) -> list[list[str]] | None:
    """The canonical texts of the equality slots; ``None`` if one cannot be spelt."""
    found: list[list[str]] = []
    for slot in slots:
        texts: list[str] = []
        if slot.equality:
            field = slot.leaf.lhs.target
            for value in slot.values:
                text = values.text(field, value, prepared=True)
                if text is None:
                    return None
                texts.append(text)
        found.append(texts)
    return found


def make(
    shape: Shape,
    compiler: Any,
    plan: Any,
    sql_hash: Any,
    sql: str,
    params: tuple[Any, ...],
    op: str,
    known: Template | None,
) -> Template | None:
    """A template from a query that was compiled and planned; ``None`` if nothing can be kept.

    ``op``: what asks for a single row, or ``""``; ``known``: the template of its shape that could
    not be filled with its parameters, and learns them.
    """
    if not steady.by_django_compiled(type(compiler)) if known else not steady.compiled(compiler):
        return None
    try:
        ours = parameters(shape.slots, compiler, compiler.connection)
        spelt = [fingerprint.spell_param(value) for value in params]
        constants = spelt[: len(spelt) - len(ours)]
        if spelt[len(constants) :] != [fingerprint.spell_param(value) for value in ours]:
            return None  # another order
        # Parameters of the compiler's own, as those of an ordering, may stand behind ours.
        if constants and (op != "exists" or len(constants) > 1):
            return None
    except _NO_PARAMETERS:
        return None
    if known is not None and (known.constants, known.text) == (constants, sql_hash.digest()):
        template = known
    else:
        template = _make(shape, compiler, plan, sql_hash, constants, params)
        template.weight = len(sql) + plan.weight() + weight(template.terms)
    if template.statement is None and _repeatable(spelt[len(constants) :]):
        template.statement = Statement(compiler, sql)
    filled.set((template.serial, _name("\x00".join(spelt))), plan)
    return template


def _make(
    shape: Shape,
    compiler: Any,
    plan: Any,
    sql_hash: Any,
    constants: list[str],
    params: tuple[Any, ...],
) -> Template:
    terms = None
    # A constant of an ON clause might be taken for a parameter that looks like it.
    if not any(map(walk.restrictions, compiler.query.alias_map.values())):
        terms = _terms(shape, plan.tables, _joined(compiler, plan))
    before = params[: len(constants)]
    prepared = steady.expressions([compiler.query.where], values=True)
    return Template(Produce(compiler), plan, sql_hash, constants, terms, before, prepared)


_TRUTH = frozenset(map(fingerprint.spell_param, (False, True)))


def _repeatable(spelt: list[str]) -> bool:
    """Whether a statement with these parameters can be run with others.

    Those that look alike do not show in which order they stand; but truth values are the same in
    all queries of a shape. Where a function says whose tables are meant (tenants), it may say so in
    the SQL, too.
    """
    spelt = [one for one in spelt if one not in _TRUTH]
    return len(set(spelt)) == len(spelt) and isinstance(conf.current().prefix, str)


def _joined(compiler: Any, plan: Any) -> bool:
    """Whether there is more than one table, some perhaps found only when compiling."""
    return len(compiler.query.alias_map) > 1 or len(plan.tables) > 1


def _terms(
    shape: Shape, tables: dict[str, tuple[Conj, ...]], joined: bool
) -> dict[str, tuple[Any, ...]] | None:
    columns = _constrained(shape.structure[1])
    if len(columns) != len(set(columns)):
        return None
    texts = _texts(shape.slots)
    # Whether and how a bound narrows depends on its value.
    if (
        texts is None
        or any(isinstance(slot.leaf, _BOUNDS) for slot in shape.slots)
        or any(
            ranges.is_condition(column)
            for conjs in tables.values()
            for c in conjs
            for column, _ in c
        )
    ):
        return None
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for index, (slot, spelt) in enumerate(zip(shape.slots, texts, strict=True)):
        for element, text in enumerate(spelt):
            name = "" if joined else slot.leaf.lhs.target.column
            if (name, text) in places:
                return None  # two parameters that look alike here may differ the next time
            places[name, text] = (index, element)
    if joined and len(columns) > 1:
        # A value is carried to the columns it is joined with: only a single one can be traced.
        return None
    found: dict[str, tuple[Any, ...]] = {}
    for table, conjs in tables.items():
        made = []
        for conj in conjs:
            terms: list[Term] = []
            for column, text in conj:
                place = places.get(("" if joined else column, text))
                terms.append((column, None, place) if place else (column, text, (0, 0)))
            made.append(tuple(terms))
        found[table] = tuple(made)
    return found


def _constrained(where: tuple[Any, ...]) -> list[Any]:
    """The (alias, column) of every leaf, each as often as it occurs."""
    found: list[Any] = []
    for part in where[2:]:
        if isinstance(part[0], str):
            found += _constrained(part)
        else:
            found.append((part[1], part[2].column))
    return found
