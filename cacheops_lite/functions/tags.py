"""Tags: many results of functions, views and fragments under one name, dropped together.

A tag is a stamp like any conjunction: it is read before the function runs, so a result that was
begun before its tag was invalidated is never stored after it. In a transaction the invalidation
takes effect at the commit, and with no commit not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import sync_to_async

from .. import conf, counters, engine
from ..core.entry import Change, Conj
from ..core.protocol import TablePlan
from ..orm import joining, scope
from ..orm.collecting import suspended

__all__ = ["ainvalidate_tag", "invalidate_tag"]

#: A tag, several, or a function of a call's arguments that gives them.
Tags = str | Iterable[str] | Callable[..., str | Iterable[str]]

_COLUMN = "tag"


def names(tags: Any) -> tuple[str, ...]:
    """What users write for one tag, or several. Raises ``TypeError``."""
    found = (tags,) if isinstance(tags, str) else tags
    try:
        found = tuple(found)
    except TypeError:
        found = (tags,)
    for name in found:
        if not isinstance(name, str) or not name:
            raise TypeError(
                f"A tag is a text that is not empty, not {name!r}. Make one of what it stands "
                "for, for example f'author:{author.pk}'."
            )
    return tuple(map(str, dict.fromkeys(found)))


def check(tags: Tags) -> Tags:
    """What a decorator is given. Raises ``TypeError``."""
    return tags if callable(tags) else names(tags)


def of_call(tags: Tags, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
    """The tags of one call."""
    if callable(tags):
        return names(tags(*args, **kwargs))
    return tags  # type: ignore[return-value] # ``check`` made a tuple of it


def plans(cache: engine.Engine, tags: tuple[str, ...]) -> tuple[TablePlan, ...]:
    """What results under these tags depend on."""
    if not tags:
        return ()
    conjs: tuple[Conj, ...] = tuple(((_COLUMN, tag),) for tag in tags)
    return (TablePlan(cache.table(engine.TAGS), conjs),)


def waiting(tags: Iterable[str]) -> list[str]:
    """What ``joining.refusal`` is asked about."""
    return [f"tag:{tag}" for tag in tags]


def invalidate_tag(*tags: str | Iterable[str]) -> None:
    """Drop all results of functions, views and fragments under any of these tags.

    In a transaction it happens at the commit; with several open, at the commit of each. Raises
    ``TypeError`` for what is no tag.
    """
    wanted = [name for tag in tags for name in names(tag)]
    if not wanted or suspended():
        return
    if not conf.current().enabled:
        # The store is left alone; what hangs on tags too, until this was done.
        engine.distrust([engine.current().table(engine.TAGS)])
        return
    cache = engine.current()
    table = cache.table(engine.TAGS)
    changes = [Change(table, {_COLUMN: tag}, {_COLUMN: tag}) for tag in wanted]
    counters.dropped({(engine.TAGS, "invalidate_tag()"): len(changes)})
    if not joining.join(changes, waiting(wanted)):
        cache.invalidate(changes)
        scope.wrote(waiting(wanted))


#: ``invalidate_tag`` for async callers; it joins the transaction of the thread that runs their SQL.
ainvalidate_tag = sync_to_async(invalidate_tag)
