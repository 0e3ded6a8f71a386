"""``count``, ``exists`` and ``aggregate`` through the cache: Django asks for each as one row."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from django.db import connections
from django.db.models import Avg, Count, Max, Min, Sum
from django.db.models.expressions import Col, Star
from django.db.models.sql.constants import SINGLE
from django.db.models.sql.query import Query

from .. import conf, counters
from . import lazy, planning, reads, rows, steady, walk
from .one_read import through
from .shapes import shape_of

#: What an aggregate may be made of for its SQL to hang on nothing but itself (no time zone).
_STEADY = frozenset({Avg, Count, Max, Min, Sum, Col, Star})

#: Runs a one-row query: given its compiler, and what runs it as Django does.
Hook = Callable[[Any, Callable[[], Any]], Any]
#: Runs Django's method, and hands its one-row query to a hook.
Ask = Callable[[Hook], Any]

T = TypeVar("T")

_hook: ContextVar[Hook | None] = ContextVar("cacheops_lite_hook", default=None)


def asking(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Ask:
    """What calls a method of Django's for a hook."""

    def ask(hook: Hook) -> Any:
        token = _hook.set(hook)
        try:
            return original(*args, **kwargs)
        finally:
            _hook.reset(token)

    return ask


def execute_sql(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """``SQLCompiler.execute_sql``: the one-row query goes to the hook that waits for it."""
    hook = _hook.get()
    if hook is None or (args[0] if args else kwargs.get("result_type")) != SINGLE:
        return original(self, *args, **kwargs)
    _hook.set(None)  # what fields ask for on the way to their values is not what was waited for
    return hook(self, lambda: original(self, *args, **kwargs))


def apart(run: Callable[[], T]) -> T:
    """Run what may ask for one row itself while a hook waits for another."""
    if _hook.get() is None:
        return run()
    token = _hook.set(None)
    try:
        return run()
    finally:
        _hook.reset(token)


class Single:
    """Runs the one-row query that Django is about to make for count, exists or aggregate."""

    def __init__(self, model: Any, using: str, profile: conf.Profile, op: str) -> None:
        self.model, self.using, self.profile, self.op = model, using, profile, op
        #: What was compiled and run, for learning its template.
        self.tried: planning.Attempt | None = None

    def __call__(self, compiler: Any, execute: Callable[[], Any]) -> Any:
        tried = self.tried = planning.plan_compiler(compiler, self.using, self.profile, SINGLE, "")
        if tried.plan is None or tried.reason:
            line = counters.line(self.model, self.op)
            counters.add(line.uncached, tried.reason, counters.MOST_REASONS)
            return execute()

        def load() -> rows.Rows:
            row = execute()
            return [] if row is None else [tuple(row)]

        found = through(tried.plan, self.model, self.using, self.profile, self.op, load).value
        return found[0] if found else None


class Recorder:
    """Runs a one-row query and keeps the row, when the answer's key is known already."""

    def __init__(self) -> None:
        self.rows: rows.Rows = []

    def __call__(self, compiler: Any, execute: Callable[[], Any]) -> Any:
        row = execute()
        self.rows = [] if row is None else [tuple(row)]
        return row


def _recorded(ask: Ask) -> rows.Rows:
    recorder = Recorder()
    ask(recorder)
    return recorder.rows


def single(queryset: Any, op: str, profile: conf.Profile, ask: Ask) -> Any:
    """``count()`` or ``exists()`` through the cache."""
    using, model = queryset.db, queryset.model
    node = lazy.node_of(queryset)
    place: Any = None
    if node is not None:
        place = (node.serial, op, using, profile.db_agnostic)
        hot = reads.hot_at(place, using, profile, queryset, node.query, op)
        if hot is not None:
            return _value(op, through(hot.plan, model, using, profile, op, _load(hot, ask)).value)
    query = queryset.query
    shape = shape_of(query)
    key = shape and (shape.structure, using, profile.db_agnostic, op)
    quick = reads.quick_plan(shape, key, query, using, profile, op)
    if quick is not None:
        if place is not None:
            reads.keep(place, quick)
        return _value(op, through(quick.plan, model, using, profile, op, _load(quick, ask)).value)
    hook = Single(model, using, profile, op)
    answer = ask(hook)
    tried = hook.tried
    if (
        shape is not None
        and tried is not None
        and tried.plan is not None
        and not tried.plan.reason
        and tried.compiler.query.__class__ is Query
    ):
        made = reads.learn(shape, key, tried, op)
        if place is not None and made is not None:
            bound = made.bind(using, tried.params)
            reads.keep(place, reads.Hot(tried.plan, None, bound, made.lasts(shape.slots)))
    return answer


def _load(hot: reads.Hot, ask: Ask) -> Callable[[], rows.Rows]:
    bound = hot.bound
    return (lambda: _recorded(ask)) if bound is None else (lambda: apart(bound.single))


def _value(op: str, found: rows.Rows) -> Any:
    if op == "exists":
        return bool(found)
    return int(found[0][0]) if found else 0


# -- aggregate ---------------------------------------------------------------------------------


class Columns(NamedTuple):
    """How the row of an aggregate becomes its dict."""

    names: tuple[str, ...]
    converted: tuple[rows.Converted, ...]


def aggregate(
    queryset: Any, args: Any, kwargs: Any, profile: conf.Profile, ask: Ask
) -> dict[str, Any]:
    """``aggregate(*args, **kwargs)`` through the cache."""
    using, model = queryset.db, queryset.model
    node = lazy.node_of(queryset)
    called = node and lazy.call_key(queryset, node, "aggregate", args, kwargs)
    place = called and (called, using, profile.db_agnostic)
    hot = reads.hot_at(place, using, profile, queryset, None, "aggregate") if place else None
    answers: list[Any] = []
    if hot is not None:

        def load() -> rows.Rows:
            recorder = Recorder()
            answers.append(ask(recorder))
            return recorder.rows

        found = through(hot.plan, model, using, profile, "aggregate", load).value
        return answers[0] if answers else _converted(hot.produce, found[0], using)
    steady = place is not None and shape_of(queryset.query) is not None
    hook = Single(model, using, profile, "aggregate")
    answer: dict[str, Any] = ask(hook)
    tried = hook.tried
    if steady and tried is not None and tried.plan is not None and not tried.plan.reason:
        columns = _columns(tried.compiler)
        if columns is not None:
            reads.keep(place, reads.Hot(tried.plan, columns))
    return answer


def _columns(compiler: Any) -> Columns | None:
    query = compiler.query
    shown = query.annotation_select
    if query.__class__ is not Query or compiler.has_composite_fields(shown.values()):
        return None
    if not all(type(node) in _STEADY for node in walk.nodes(shown.values())):
        return None
    if not steady.compiled(compiler) or any(map(walk.restrictions, query.alias_map.values())):
        return None
    return Columns(tuple(shown), rows.to_convert(compiler, shown.values()))


def _converted(columns: Columns, row: tuple[Any, ...], using: str) -> dict[str, Any]:
    values = rows.converted(row, columns.converted, connections[using])
    return dict(zip(columns.names, values, strict=True))
