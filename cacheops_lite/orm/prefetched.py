"""Prefetching many-to-many relations: the query is remembered, one queryset is made for all.

Django builds the query for each list of instances, and for each of them a manager and a filtered
queryset, although these differ in a key only. That is most of the time of a prefetch whose rows
come from the cache. Where relation, manager and keys are of the plain kind, the query of a list of
keys is remembered like any other step, and the querysets are copies of the first one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db.models import BigAutoField, Manager, SmallAutoField
from django.db.models.fields import AutoField, related_descriptors

from . import lazy
from .nodes import Node
from .roots import queryset_of

_MANAGER = "create_forward_many_to_many_manager.<locals>.ManyRelatedManager"
_KEYS = {AutoField, BigAutoField, SmallAutoField}


class Link(NamedTuple):
    """A relation: the key of its instances, the key that rows are asked with, the filter of one."""

    key: str
    value: str
    condition: str


def one_level(
    original: Callable[..., Any], instances: Any, prefetcher: Any, lookup: Any, level: int
) -> Any:
    """``prefetch_one_level()``: the related rows, and what else must be prefetched for them."""
    name, as_list = lookup.get_current_to_attr(level)
    link = None
    if not as_list and lookup.get_current_querysets(level) is None:
        link = _link(prefetcher, instances)
    keys = [one.__dict__.get(link.key) for one in instances] if link is not None else []
    if link is None or any(type(key) is not int for key in keys):
        return original(instances, prefetcher, lookup, level)
    queryset = _queryset(prefetcher, instances, keys)
    if queryset is None:
        return original(instances, prefetcher, lookup, level)
    rows = list(queryset)
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.__dict__[link.value]].append(row)
    pattern: Any = None
    for one, key in zip(instances, keys, strict=True):
        if pattern is None:
            each = getattr(one, name).get_queryset()
            pattern = _pattern(each, one, link, key)
        else:
            each = queryset_of(type(pattern), pattern.__dict__.copy())
            state = each.__dict__
            state["_hints"] = {"instance": one}
            state["_known_related_objects"] = {}
            state["_deferred_filter"] = (False, (), {link.condition: key})
            if "_fetch_mode" in state:
                state["_fetch_mode"] = one._state.fetch_mode
        each._result_cache = found.get(key, [])
        each._prefetch_done = True
        one._prefetched_objects_cache[prefetcher.prefetch_cache_name] = each
    return rows, []


def _link(prefetcher: Any, instances: Any) -> Link | None:
    """The relation that a manager is for, if it is of the plain kind."""
    kind = type(prefetcher)
    if (
        kind.__qualname__ != _MANAGER
        or kind.__module__ != related_descriptors.__name__
        or getattr(kind.__mro__[1], "get_queryset", None) is not Manager.get_queryset
        or prefetcher._db is not None
        or len(prefetcher.core_filters) != 1
        or len({type(one) for one in instances}) != 1
    ):
        return None
    ((value, key),) = prefetcher.source_field.related_fields
    if (
        not key.primary_key
        or type(key) not in _KEYS
        or key.model is not instances[0]._meta.concrete_model
    ):
        return None
    (condition,) = prefetcher.core_filters
    return Link(key.attname, f"_prefetch_related_val_{value.attname}", condition)


def _queryset(prefetcher: Any, instances: Any, keys: list[Any]) -> Any | None:
    """The related rows of all instances; ``None`` if steps of its class are not remembered."""
    base = super(type(prefetcher), prefetcher).get_queryset()
    node = lazy.node_of(base)
    if node is None or not node.root:
        return None
    base._add_hints(instance=instances[0])
    place = (node.serial, "prefetch", type(prefetcher), base.db, *keys)
    return lazy.remembered(
        base, place, lambda: prefetcher.get_prefetch_querysets(instances, None)[0]
    )


def _pattern(each: Any, one: Any, link: Link, key: Any) -> Any | None:
    """The queryset of one instance, if those of others differ from it by instance and key only."""
    state = each.__dict__
    node: Node | None = state.get("_cacheops_node")
    plain = (
        node is not None
        and "_cacheops_filtered" not in state
        and state["_hints"] == {"instance": one}
        and state["_known_related_objects"] == {}
        and state["_deferred_filter"] == (False, (), {link.condition: key})
        and state["_result_cache"] is None
    )
    return queryset_of(type(each), state.copy()) if plain else None
