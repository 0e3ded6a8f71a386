"""Which tables there are, which model owns a column, and which tables are tracked.

Built from the app registry once per set of settings; every answer is by table name, because
proxies, historical models and raw SQL all write tables, not models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import deletion

from .. import conf, engine

if TYPE_CHECKING:
    Model = type[models.Model]

_DB_RULES: dict[Any, bool] = {deletion.DO_NOTHING: True}
for _name, _deep in (("DB_CASCADE", True), ("DB_SET_NULL", False), ("DB_SET_DEFAULT", False)):
    if hasattr(deletion, _name):  # Django 6.1
        _DB_RULES[getattr(deletion, _name)] = _deep


class Registry:
    """The tables of the installed apps, under the profiles in force."""

    def __init__(self, settings: conf.Settings) -> None:
        self.models: dict[str, list[Model]] = {}
        for model in apps.get_models(include_auto_created=True, include_swapped=False):
            self.models.setdefault(model._meta.db_table, []).append(model)
        self.tracked: frozenset[str] = frozenset(
            table
            for table, owners in self.models.items()
            if any(settings.profile(owner._meta.label_lower) is not None for owner in owners)
        )
        self.triggered: frozenset[str] = frozenset(
            table
            for table, owners in self.models.items()
            for profile in (settings.profile(owner._meta.label_lower) for owner in owners)
            if profile is not None and profile.triggers
        )
        self._dependents = self._read_depends_on(settings)
        #: Tables whose changes anybody may depend on.
        self.watched: frozenset[str] = self.tracked.union(
            table for table, along in self._dependents.items() if along
        )
        self._words = {table.lower(): table for table in self.models}

    def _read_depends_on(self, settings: conf.Settings) -> dict[str, frozenset[str]]:
        direct: dict[str, set[str]] = {}
        for table, owners in self.models.items():
            for owner in owners:
                profile = settings.profile(owner._meta.label_lower)
                for label in profile.depends_on if profile is not None else ():
                    try:
                        source = apps.get_model(label)._meta.db_table
                    except (LookupError, ValueError):
                        raise ImproperlyConfigured(
                            f"The CACHEOPS profile of {owner._meta.label_lower} depends_on "
                            f"{label!r}, which is no installed 'app.model'."
                        ) from None
                    direct.setdefault(source, set()).add(table)
        for twins in self._twins():
            for table in twins:
                direct.setdefault(table, set()).update(twins - {table})
        # A table that depends on others which depend on it changes row by row all the same, unless
        # it says that its rows change with one another.
        return {
            table: frozenset(_closure(table, direct)) - ({table} - named)
            for table, named in direct.items()
        }

    def _twins(self) -> Iterable[set[str]]:
        """Names that some database may take for one table: other case, quotes, with its schema."""
        found: dict[str, set[str]] = {}
        for table in self.models:
            found.setdefault(table.lower().replace('"', "").rpartition(".")[2], set()).add(table)
        return [names for names in found.values() if len(names) > 1]

    def dependents(self, table: str) -> frozenset[str]:
        """Tables that change with this one, by ``depends_on`` (views, triggers), transitively."""
        return self._dependents.get(table, frozenset())

    def deletion_reaches(self, table: str) -> frozenset[str]:
        """Tables that the *database* may change when rows of ``table`` are deleted."""
        return _deletion_reaches(self, table)

    def named_in(self, sql: str) -> frozenset[str]:
        """The known tables whose names occur as words in ``sql``."""
        words = set(re.findall(r"[\w$]+", sql.lower()))
        named = {table for word, table in self._words.items() if word in words}
        # Names that are no single word ("my-table", '"schema"."table"') are looked for as text.
        named |= {
            table
            for word, table in self._words.items()
            if not word.isidentifier()
            and any(part in sql.lower() for part in (word, word.strip('"').split('"."')[-1]))
        }
        return frozenset(named)


def _closure(start: str, edges: dict[str, set[str]]) -> Iterable[str]:
    found: set[str] = set()
    queue = [start]
    while queue:
        for table in edges.get(queue.pop(), ()):
            if table not in found:
                found.add(table)
                queue.append(table)
    return found


@lru_cache(maxsize=1024)
def _deletion_reaches(registry: Registry, table: str) -> frozenset[str]:
    reached: set[str] = set()
    queue = [table]
    while queue:
        for model in registry.models.get(queue.pop(), ()):
            for relation in deletion.get_candidate_relations_to_delete(model._meta):
                deep = _DB_RULES.get(getattr(relation, "on_delete", None))
                related: Any = relation.related_model
                target = related._meta.db_table
                if deep is None or target in reached:
                    continue
                reached.add(target)
                if deep:
                    queue.append(target)
    return frozenset(reached)


_registry: Registry | None = None


def current() -> Registry:
    """The registry of the installed apps and the settings in force."""
    global _registry
    if _registry is None:
        found = Registry(conf.current())
        _distrust_unwatched(found)
        _registry = found
    return _registry


def _distrust_unwatched(now: Registry) -> None:
    """Tables that other profiles did not track a while ago may have been written unseen."""
    while conf.former:
        former = conf.former.pop()
        engine.distrust_every_name(
            table
            for table in now.tracked
            if all(former.profile(owner._meta.label_lower) is None for owner in now.models[table])
        )


def reset() -> None:
    """Forget the registry; the next ``current()`` reads the apps again."""
    global _registry
    _registry = None
    _deletion_reaches.cache_clear()


conf.on_reset(reset)
