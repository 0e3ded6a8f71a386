"""Rows of a queryset by what was learnt of its query, of its shape or of this very call.

What was not seen before is compiled and planned, and taught to the memos.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .. import conf, counters
from ..core.memo import LIGHT, Sized, weight
from . import lazy, planning, refusals, rows, shortcut, templates
from .one_read import through
from .planning import Attempt, Plan
from .shapes import Shape, shape_of
from .statements import Bound


class Hot(NamedTuple):
    """What answers a call at a node of remembered steps: its plan, and how rows become results."""

    plan: Plan
    produce: Any
    #: What asks the database; ``None`` if the query must be compiled for it.
    bound: Bound | None = None
    #: Whether the same call may be answered so the next time.
    lasts: bool = True

    def weight(self) -> int:
        """The bytes that there are as often as parameters."""
        return self.plan.weight() + (weight(self.bound.params) if self.bound is not None else 0)

    def load(self, query: Callable[[], Any], using: str) -> Callable[[], rows.Rows]:
        """What asks the database for the rows of ``query()``."""
        if self.bound is None:
            return lambda: rows.load_rows(query().get_compiler(using))
        return self.bound.fetch


class Shown(NamedTuple):
    """What a fetch tells ``get()``, which asked for it: its shape and key, and what it was."""

    key: Any
    shape: Shape
    hot: Hot


#: What compiling one query of a shape taught (templates.py).
_templates: Sized[Any, templates.Template] = Sized(
    4096, lambda key, template: weight(key) + template.weight, light=3 * LIGHT
)
#: (node, method, its arguments …) -> all that is needed to answer.
_hot: Sized[Any, Hot] = Sized(
    8192, lambda place, hot: weight(place) + hot.weight(), light=2 * LIGHT
)
planning.remember(_templates, 1)
planning.remember(_hot, 2)
planning.remember(lazy._steps, 2)


def reset() -> None:
    """Forget what answers calls: at a node that a queryset still holds they may mean others."""
    _hot.clear()


#: Called with (query, alias, profile, packing or op, hot) of every query that was not compiled:
#: the switch by which tests compare each fast answer with the slow one.
audit: list[Callable[[Any, str, conf.Profile, str, Hot], None]] = []


def fetch(
    queryset: Any,
    profile: conf.Profile,
    op: str = "fetch",
    shown: list[Shown] | None = None,
) -> list[Any]:
    """The results of a queryset, through the cache; ``shown`` is told what it was."""
    using = queryset.db
    model = queryset.model
    node = lazy.node_of(queryset)
    place: Any = None
    if node is not None:
        ordering = tuple(map(str, model._meta.ordering)) if model._meta.ordering else ()
        place = (node.serial, using, profile.db_agnostic, queryset._iterable_class,
                 queryset._fields, ordering)  # fmt: skip
        hot = hot_at(place, using, profile, queryset, node.query)
        if hot is not None:
            return rows.produce(queryset, hot.produce, through(
                hot.plan, model, using, profile, op, hot.load(lambda: queryset.query, using)
            ).value)  # fmt: skip
    query = queryset.query
    shape = shape_of(query)
    key = (
        shape and (shape.structure, using, profile.db_agnostic, queryset._iterable_class,
                   queryset._fields)
    )  # fmt: skip
    packs = packing(queryset)
    quick = quick_plan(shape, key, query, using, profile, packs)
    if quick is not None:
        _keep(place, shape, key, quick, shown)
        outcome = through(
            quick.plan, model, using, profile, op, quick.load(lambda: query, using)
        )  # fmt: skip
        return rows.produce(queryset, quick.produce, outcome.value)
    tried = planning.attempt(query, using, profile, "rows", packs)
    if shape is not None and tried.plan is not None and not tried.plan.reason:
        made = learn(shape, key, tried)
        if made is not None:
            bound = made.bind(using, tried.params)
            hot = Hot(tried.plan, made.produce, bound, made.lasts(shape.slots))
            _keep(place, shape, key, hot, shown)
    if tried.plan is None or tried.reason:
        counters.add(counters.line(model, op).uncached, tried.reason, counters.MOST_REASONS)
        return rows.evaluate(queryset, tried.compiler)
    outcome = through(tried.plan, model, using, profile, op, lambda: rows.load_rows(tried.compiler))
    return rows.replay(queryset, tried.compiler, outcome.value)


def hot_at(
    place: Any, using: str, profile: conf.Profile, queryset: Any, query: Any, op: str = ""
) -> Hot | None:
    """What was kept for a call at a node, if it may be read now."""
    hot = _hot.get(place)
    if hot is None or refusals.read_refusal(using, hot.plan.tables):
        return None
    for check in audit:
        check(query, using, profile, op or packing(queryset), hot)
    return hot


def keep(place: Any, hot: Hot) -> None:
    """Remember what answers a call at a node, if it does so the next time."""
    if hot.lasts:
        _hot.set(place, hot)


def _keep(place: Any, shape: Any, key: Any, hot: Hot, shown: list[Shown] | None) -> None:
    if place is not None:
        keep(place, hot)
    if shown is not None:
        shown.append(Shown(key, shape, hot))


def get_at(
    queryset: Any, place: Any, asked: Callable[[], Any], profile: conf.Profile
) -> list[Any] | None:
    """The results of a ``get()`` (``first()``, ``last()``) seen before at this node, or ``None``.

    ``asked()`` makes its query.
    """
    found = rows_at(
        place, queryset.model, queryset.db, profile, asked, lambda: packing(queryset)
    )  # fmt: skip
    return None if found is None else rows.produce(queryset, *found)


def rows_at(
    place: Any,
    model: Any,
    using: str,
    profile: conf.Profile,
    asked: Callable[[], Any],
    packs: Callable[[], str],
) -> tuple[Any, rows.Rows] | None:
    """What was kept for a ``get()``: how its rows become results, and the rows; or ``None``."""
    hot = _hot.get(place)
    if hot is None or refusals.read_refusal(using, hot.plan.tables):
        return None
    for check in audit:
        check(asked(), using, profile, packs(), hot)
    outcome = through(hot.plan, model, using, profile, "get", hot.load(asked, using))
    return hot.produce, outcome.value


def get(
    queryset: Any, place: Any, name: str, value: Any, profile: conf.Profile
) -> list[Any] | None:
    """The results of ``get(name=value)`` on an untouched manager, or ``None`` to go the long way.

    At most one row is answered: what ``get()`` says of none or many is said the long way.
    """
    using = queryset.db
    form = shortcut.known(queryset, using, profile.db_agnostic, name, value)
    template = _templates.get(form.key) if form is not None else None
    slot = shortcut.slot_for(form, value) if form is not None and template is not None else None
    if template is None or slot is None:
        return None
    filled = template.fill([slot], using)
    if filled is None or refusals.read_refusal(using, filled[0].tables):
        return None
    hot = Hot(filled[0], template.produce, filled[1], template.lasts([slot]))

    def query() -> Any:
        return shortcut.long_query(queryset, (), {name: value})

    for check in audit:
        check(query(), using, profile, packing(queryset), hot)
    if place is not None:
        keep(place, hot)
    outcome = through(hot.plan, queryset.model, using, profile, "get", hot.load(query, using))
    return rows.produce(queryset, template.produce, outcome.value)


def quick_plan(
    shape: Shape | None, key: Any, query: Any, using: str, profile: conf.Profile, packs: str
) -> Hot | None:
    """The plan of a query of a known shape that may be read now, without compiling it."""
    template = _templates.get(key) if shape is not None else None
    if shape is None or template is None:
        return None
    filled = template.fill(shape.slots, using)
    if filled is None or refusals.read_refusal(using, filled[0].tables):
        return None
    hot = Hot(filled[0], template.produce, filled[1], template.lasts(shape.slots))
    for check in audit:
        check(query, using, profile, packs, hot)
    return hot


def learn(shape: Shape, key: Any, tried: Attempt, op: str = "") -> templates.Template | None:
    """Keep what compiling a query taught for others of its shape; ``op``: of one row."""
    known = _templates.get(key)
    made = templates.make(
        shape, tried.compiler, tried.plan, tried.sql_hash, tried.sql, tried.params, op, known
    )
    if made is not None and known is None:
        _templates.set(key, made)
    return made


def packing(queryset: Any) -> str:
    """How rows of this queryset become results."""
    kind = queryset._iterable_class
    names = ",".join(map(str, queryset._fields)) if queryset._fields else ""
    return f"{queryset.model._meta.label}|{kind.__module__}.{kind.__qualname__}|{names}"
