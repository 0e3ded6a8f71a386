"""A chain of calls that was seen before has its query ready: ``filter()`` need not build it.

``Item.objects.filter(group=3).order_by("title")`` twice is the same query twice, since what the
calls were given is the same (``spelling``). So the steps from a manager on are remembered as
*nodes*, each with the query that they lead to, and a queryset that took them holds its node and no
query of its own. What is known of a node (its key, its dependencies) is found without a query; a
query is copied from the node as soon as anybody asks for one: ``queryset.query`` is then what it
always was, and the node is forgotten, for nobody can tell what becomes of a query that is out.

A step is kept when it is seen the second time, so what is asked once costs nothing to remember.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models.sql.query import Query

from .. import conf
from ..core.memo import Sized, weight
from . import roots
from .nodes import Node, lasting
from .roots import NEW, queryset_of
from .spelling import MOST, spell

#: The steps: methods of querysets that change nothing but the query, and what rows become.
STEPS = ("filter", "exclude", "order_by", "reverse", "distinct", "values", "values_list",
         "select_related", "only", "defer", "annotate", "alias", "__getitem__")  # fmt: skip

#: (node, method, its arguments …) -> the node after it; ``None`` once it was seen.
_steps: Sized[tuple[Any, ...], Node | str] = Sized(8192, lambda key, _: weight(key))
_ONCE = "once"

#: Called with (a queryset that took a step as Django does, the node that was remembered): the
#: switch by which tests compare each fast step with the slow one.
audit: list[Callable[[Any, Node], None]] = []
#: Keep a step when it is seen the first time: more of them, for tests.
keep_at_once = False


def reset() -> None:
    """Forget all steps."""
    _steps.clear()
    roots.reset()


conf.on_reset(reset)


class OwnQuery:
    """``QuerySet._query`` where an instance has none: made from its node, and the node forgotten.

    Not a data descriptor, so that a queryset that has its query does not come here.
    """

    def __get__(self, queryset: Any, owner: Any = None) -> Any:
        if queryset is None:
            return self
        if not materialize(queryset):
            raise AttributeError(f"{type(queryset).__name__!r} object has no attribute '_query'")
        return queryset.__dict__["_query"]


def node_of(queryset: Any) -> Node | None:
    """The node of a queryset that still has no query of its own."""
    state = queryset.__dict__
    # Before the rest: another thread that has it no more has left a query first.
    deferred = state["_deferred_filter"]
    node: Node | None = state.get("_cacheops_node")
    if node is None or "_query" in state:
        return None
    if deferred:
        return state.get("_cacheops_filtered") or _filtered(queryset, state, node, deferred)
    return node


def query_of(queryset: Any) -> Any:
    """A query to look into: as its node has it, or its own, in both with what was deferred."""
    node = node_of(queryset)
    return queryset.query if node is None else node.build()


def materialize(queryset: Any) -> bool:
    """Have a query and no node, as Django's own code that looks into ``__dict__`` expects.

    False if there is neither. A filter that waits is left to Django, which applies it at once when
    it is asked for the query.
    """
    state = queryset.__dict__
    node: Node | None = state.get("_cacheops_node")
    if node is not None and "_query" not in state:
        # In this order, and never twice: threads may share a queryset.
        state.setdefault("_query", node.build())
    state.pop("_cacheops_node", None)
    state.pop("_cacheops_filtered", None)
    return "_query" in state


def materialized(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """A method that looks into ``__dict__``."""
    materialize(self)
    return original(self, *args, **kwargs)


# -- steps -------------------------------------------------------------------------------------


def _moved(queryset: Any, state: dict[str, Any], node: Node) -> Any:
    """A clone of a queryset at another node."""
    made = {
        "model": state["model"],
        "_db": state["_db"],
        "_hints": state["_hints"] or {},
        "_sticky_filter": state["_sticky_filter"],
        "_for_write": state["_for_write"],
        "_prefetch_related_lookups": state["_prefetch_related_lookups"],
        "_known_related_objects": state["_known_related_objects"],
        "_iterable_class": node.iterable,
        "_fields": node.fields,
        "_cacheops_node": node,
        **NEW,
    }
    if "_fetch_mode" in state:
        made["_fetch_mode"] = state["_fetch_mode"]
    if "_cacheops" in state:
        made["_cacheops"] = state["_cacheops"]
    return queryset_of(type(queryset), made)


def copy(queryset: Any) -> Any | None:
    """A clone, as ``_clone`` makes it; ``None`` if the queryset has a query."""
    node = node_of(queryset)
    if node is None:
        return None
    state = queryset.__dict__
    made = _moved(queryset, state, node.copied())
    made.__dict__.update(_iterable_class=state["_iterable_class"], _fields=state["_fields"])
    return made


def call_key(queryset: Any, node: Node, name: str, args: Any, kwargs: Any) -> Any:
    """A call of a method at a node as a hashable; ``None`` if it has no spelling."""
    spelt = spell(queryset.model, args, kwargs)
    if spelt is None:
        return None
    return (node.serial, name, queryset._iterable_class, queryset._fields, *spelt)


def step(name: str) -> Callable[..., Any]:
    """A method that gives a changed clone: Django's, unless this very call was seen before."""

    def method(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        node = node_of(self)
        if node is None:
            return original(self, *args, **kwargs)
        state = self.__dict__
        if state["_defer_next_filter"] and name == "filter" and node.root:
            return _deferred(self, state, node, args, kwargs)
        if (
            state["_defer_next_filter"]
            or state["_sticky_filter"]
            or not state.get("_cloning_enabled", True)
            or (state["_result_cache"] is not None and name == "__getitem__")
        ):
            return original(self, *args, **kwargs)
        key = call_key(self, node, name, args, kwargs)
        if key is None:
            return original(_aside(self), *args, **kwargs)
        found = _steps.get(key)
        if type(found) is Node:
            for check in audit:
                check(original(_aside(self), *args, **kwargs), found)
            return _moved(self, state, found)
        return _kept(key, found, self, original(_aside(self), *args, **kwargs))

    return method


def remembered(queryset: Any, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """Several steps at once: what ``make`` gives, unless it was made under this key before."""
    if len(key) > MOST:
        return make()
    found = _steps.get(key)
    if type(found) is Node:
        for check in audit:
            check(make(), found)
        return _moved(queryset, queryset.__dict__, found)
    return _kept(key, found, queryset, make())


def _kept(key: Any, found: Any, queryset: Any, result: Any) -> Any:
    """The result of a step that was not remembered; from its second time on it is."""
    if found is None and not keep_at_once:
        _steps.set(key, _ONCE)
    elif (
        type(result) is type(queryset)
        and type(result.__dict__.get("_query")) is Query
        and lasting(result.__dict__["_query"])
    ):
        after = result.__dict__
        made = Node(after.pop("_query"), after["_iterable_class"], after["_fields"])
        _steps.set(key, made)
        after["_cacheops_node"] = made
    return result


def _aside(queryset: Any) -> Any:
    """A stand-in for Django to work on: the queryset keeps its node."""
    return queryset_of(type(queryset), queryset.__dict__.copy())


# -- related managers --------------------------------------------------------------------------


def _deferred(queryset: Any, state: dict[str, Any], node: Node, args: Any, kwargs: Any) -> Any:
    """``filter()`` of a related manager, which shall wait until somebody needs the query."""
    there = node.sticky() if state["_sticky_filter"] else node.copied()
    changes = {"_sticky_filter": False, "_deferred_filter": (False, args, kwargs)}
    if not state.get("_cloning_enabled", True):
        state.update(changes, _defer_next_filter=False, _cacheops_node=there)
        return queryset
    state["_defer_next_filter"] = False
    made = _moved(queryset, state, there)
    made.__dict__.update(changes, _iterable_class=state["_iterable_class"])
    return made


def _filtered(queryset: Any, state: dict[str, Any], node: Node, deferred: Any) -> Node | None:
    """The node after the filter of a related manager, which waits all the same.

    Kept beside node and filter, which stay as they are: of two changes that belong together,
    another thread would see the first without the second.
    """
    negate, args, kwargs = deferred
    spelt = spell(state["model"], args, kwargs)
    if negate or spelt is None:
        return None
    key = (node.serial, node.chains, "deferred", *spelt)
    found = _steps.get(key)
    if type(found) is not Node:
        if found is None and not keep_at_once:
            _steps.set(key, _ONCE)
            return None
        query = _aside(queryset).query
        if not lasting(query):
            return None
        found = Node(query, state["_iterable_class"], state["_fields"])
        _steps.set(key, found)
    for check in audit:
        check(_aside(queryset), found)
    state["_cacheops_filtered"] = found
    return found
