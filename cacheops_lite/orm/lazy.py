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

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from django.db.models.sql.query import Query

from .. import conf
from ..core.memo import Recent
from .nodes import Node
from .spelling import spell

#: The attributes of a queryset: what a clone starts anew, what it takes over, Django 6.1's.
_FRESH = {"_result_cache": None, "_prefetch_done": False, "_defer_next_filter": False,
          "_deferred_filter": None}  # fmt: skip
_TAKEN = {"model", "_db", "_hints", "_query", "_sticky_filter", "_for_write", "_fields",
          "_prefetch_related_lookups", "_known_related_objects", "_iterable_class"}  # fmt: skip
_LATER = {"_fetch_mode", "_cloning_enabled"}

#: The steps: methods of querysets that change nothing but the query, and what rows become.
STEPS = ("filter", "exclude", "order_by", "reverse", "distinct", "values", "values_list",
         "select_related", "only", "defer", "annotate", "alias", "__getitem__")  # fmt: skip

#: Methods that write, or that only end in others: a queryset class may have its own.
_FREE = frozenset(
    """__doc__ __module__ __dict__ __weakref__ __firstlineno__ __static_attributes__
    as_manager create acreate bulk_create abulk_create bulk_update abulk_update get_or_create
    aget_or_create update_or_create aupdate_or_create delete adelete update aupdate
    __class_getitem__ _query cache nocache inplace cloning invalidated_update cache_explain
    """.split()
)


#: (node, method, its arguments …) -> the node after it; ``None`` once it was seen.
_steps: Recent[tuple[Any, ...], Node | str] = Recent(8192)
_ONCE = "once"
#: (queryset class, model) -> where its chains begin; a text if they are not followed.
_roots: Recent[tuple[Any, Any], Node | str] = Recent(1024)
_NEVER = "never"

#: Called with (a queryset that took a step as Django does, the node that was remembered): the
#: switch by which tests compare each fast step with the slow one.
audit: list[Callable[[Any, Node], None]] = []
#: Keep a step when it is seen the first time: more of them, for tests.
keep_at_once = False


def reset() -> None:
    """Forget all steps."""
    _steps.clear()
    _roots.clear()


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
    node: Node | None = state.get("_cacheops_node")
    if node is None or "_query" in state:
        return None
    if state["_deferred_filter"]:
        return _filtered(queryset, state, node)
    return node


def materialize(queryset: Any) -> bool:
    """Have a query and no node, as Django's own code that looks into ``__dict__`` expects.

    False if there is neither.
    """
    state = queryset.__dict__
    node: Node | None = state.get("_cacheops_node")
    if node is not None and "_query" not in state:
        # In this order, and never twice: threads may share a queryset.
        state.setdefault("_query", node.build())
    state.pop("_cacheops_node", None)
    return "_query" in state


def materialized(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """A method that looks into ``__dict__``."""
    materialize(self)
    return original(self, *args, **kwargs)


# -- steps -------------------------------------------------------------------------------------


def begin(original: Callable[..., Any], manager: Any) -> Any:
    """``get_queryset()`` of a manager: a queryset at the root of its model."""
    kind, model = manager._queryset_class, manager.model
    root = _roots.get((kind, model))
    if root is None:
        try:
            root = _root(kind, model)
        except ImproperlyConfigured:
            # A queryset is no reading: check, and whoever reads or writes, say what is wrong. The
            # admin makes some while the apps are loaded, when nobody could hear it.
            return original(manager)
        _roots.set((kind, model), root)
    if type(root) is str:
        return original(manager)
    state: dict[str, Any] = {
        "model": model,
        "_db": manager._db,
        "_hints": manager._hints or {},
        "_sticky_filter": False,
        "_for_write": False,
        "_prefetch_related_lookups": (),
        "_known_related_objects": {},
        "_iterable_class": ModelIterable,
        "_fields": None,
        "_cacheops_node": root,
        **_start,
    }
    return _made(kind, state)


#: What a new queryset has besides, filled by ``_root``.
_start: dict[str, Any] = {}


def _root(kind: Any, model: Any) -> Node | str:
    settings = conf.current()
    if not settings.active or model is None or model.__module__ == "__fake__":
        return _NEVER
    profile = settings.profile(model._meta.label_lower)
    if profile is None or not profile.configured or not _ordinary(kind):
        return _NEVER
    plain: Any = QuerySet
    found = plain(model)
    names = set(vars(found))
    if names - _LATER != {*_FRESH, *_TAKEN} or type(found._query) is not Query:
        return _NEVER  # another Django than we know
    _start.update({name: vars(found)[name] for name in names & _LATER}, **_FRESH)
    node = Node(found._query, ModelIterable, None)
    node.root = True
    return node


def _ordinary(kind: Any) -> bool:
    """Whether a queryset class has Django's own methods (ours, once installed)."""
    return all(
        getattr(kind, name) is getattr(QuerySet, name)
        for name in vars(QuerySet)
        if name not in _FREE and callable(getattr(QuerySet, name))
    ) and all(
        next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
        is vars(QuerySet)[name]
        for name in ("query", "db", "ordered", "_query")
    )


def _made(kind: Any, state: dict[str, Any]) -> Any:
    queryset = object.__new__(kind)
    queryset.__dict__ = state
    return queryset


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
        **_start,
    }
    if "_fetch_mode" in state:
        made["_fetch_mode"] = state["_fetch_mode"]
    if "_cacheops" in state:
        made["_cacheops"] = state["_cacheops"]
    return _made(type(queryset), made)


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
        result = original(_aside(self), *args, **kwargs)
        if found is None and not keep_at_once:
            _steps.set(key, _ONCE)
        elif type(result) is type(self) and type(result.__dict__.get("_query")) is Query:
            after = result.__dict__
            made = Node(after.pop("_query"), after["_iterable_class"], after["_fields"])
            _steps.set(key, made)
            after["_cacheops_node"] = made
        return result

    return method


def _aside(queryset: Any) -> Any:
    """A stand-in for Django to work on: the queryset keeps its node."""
    return _made(type(queryset), queryset.__dict__.copy())


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


def _filtered(queryset: Any, state: dict[str, Any], node: Node) -> Node | None:
    """The node after the filter of a related manager, which waits no longer."""
    negate, args, kwargs = state["_deferred_filter"]
    spelt = spell(state["model"], args, kwargs)
    if negate or spelt is None:
        return None
    key = (node.serial, node.chains, "deferred", *spelt)
    found = _steps.get(key)
    if type(found) is not Node:
        if found is None and not keep_at_once:
            _steps.set(key, _ONCE)
            return None
        found = Node(_aside(queryset).query, state["_iterable_class"], state["_fields"])
        _steps.set(key, found)
    for check in audit:
        check(_aside(queryset), found)
    state["_cacheops_node"], state["_deferred_filter"] = found, None
    return found
