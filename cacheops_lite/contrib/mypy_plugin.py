"""A plugin that tells mypy of the methods that this package gives Django's querysets and managers.

Put it before the plugin of django-stubs: ``plugins = ["cacheops_lite.contrib.mypy_plugin",
"mypy_django_plugin.main"]``. ``.cache()`` and its kin keep the type of the queryset that they are
called on; on a manager they give a queryset of its model.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.mro import calculate_mro
from mypy.nodes import MypyFile, TypeInfo
from mypy.plugin import ClassDefContext, Plugin
from mypy.types import Instance
from mypy.typevars import fill_typevars

TYPED = "cacheops_lite.contrib.typed"

#: Django's classes, and those of ours whose methods they have.
GIVEN = {
    "django.db.models.query.QuerySet": f"{TYPED}.CachedQuerySet",
    "django.db.models.manager.BaseManager": f"{TYPED}.CachedManager",
}

#: What inherits from them in the same files: mypy may have ordered its bases too early.
HEIRS = {"django.db.models.manager.Manager", "django.db.models.manager.EmptyManager"}


class CacheopsPlugin(Plugin):
    """Gives Django's two classes one more base."""

    def get_customize_class_mro_hook(
        self, fullname: str
    ) -> Callable[[ClassDefContext], None] | None:
        """Called when mypy has found the bases of a class."""
        if fullname in HEIRS:
            return _order_anew
        return _give if fullname in GIVEN else None

    def get_additional_deps(self, file: MypyFile) -> list[tuple[int, str, int]]:
        """Our classes are read together with Django's."""
        homes = {name.rpartition(".")[0] for name in GIVEN}
        return [(10, TYPED, -1)] if file.fullname in homes else []


def _give(context: ClassDefContext) -> None:
    info = context.cls.info
    found = context.api.lookup_fully_qualified_or_none(GIVEN[info.fullname])
    ours = found.node if found is not None else None
    if not isinstance(ours, TypeInfo) or not ours.mro:
        if not context.api.final_iteration:
            context.api.defer()
        return
    own = fill_typevars(info)
    assert isinstance(own, Instance)
    info.bases.insert(0, Instance(ours, own.args[: len(ours.type_vars)]))
    _order_anew(context)


def _order_anew(context: ClassDefContext) -> None:
    context.cls.info.mro = []  # else it is taken as done
    calculate_mro(context.cls.info)


def plugin(version: str) -> type[CacheopsPlugin]:
    """What mypy asks for."""
    return CacheopsPlugin
