"""Installing and leaving: importing is free, and Django is as it was when we are gone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
from django.db import connection
from django.db.models import Manager, QuerySet

from cacheops_lite.orm import patch
from tests import models as m
from tests.watching import hits

from .tools import ALL, is_cached, post

#: Classes and objects that we have any business with, and their relatives.
TOUCHED = """
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from django.db.models import Manager, Model, QuerySet, signals
from django.db.models.base import ModelBase
from django.db.models.deletion import Collector
from django.db.models.manager import BaseManager
from django.db.models.query import (
    ModelIterable, NamedValuesListIterable, Prefetch, RawQuerySet, ValuesIterable,
    ValuesListIterable,
)
from django.db.models.sql import compiler, query, subqueries, where
from django.db import transaction, connections
from django.contrib.auth.models import User
from django.dispatch import Signal
from django.db.models.fields import related_descriptors, related

OBJECTS = [
    BaseDatabaseWrapper, DatabaseWrapper, CursorDebugWrapper, CursorWrapper, Manager, Model,
    QuerySet, ModelBase, Collector, BaseManager, ModelIterable, NamedValuesListIterable, Prefetch,
    RawQuerySet, ValuesIterable, ValuesListIterable, Signal, User, User.objects, type(User.objects),
    transaction.Atomic, transaction, type(connections), compiler, query, subqueries, where,
    related, related_descriptors, signals,
    *(vars(compiler)[name] for name in vars(compiler) if isinstance(vars(compiler)[name], type)),
    *(vars(subqueries)[name] for name in subqueries.__all__), query.Query, query.RawQuery,
    *(one for one in vars(signals).values() if isinstance(one, Signal)),
]

def snapshot():
    return [
        {name: id(value) for name, value in vars(one).items() if name != "__abstractmethods__"}
        for one in OBJECTS
    ]

def receivers():
    return [list(one.receivers) for one in OBJECTS if isinstance(one, Signal)]
"""


def run(code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python of its own, without any settings."""
    import os

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "CACHEOPS"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def test_importing_needs_no_settings() -> None:
    """``import cacheops_lite`` works without settings, and loads neither Django nor redis."""
    run(
        """
        import sys
        import cacheops_lite
        assert cacheops_lite.__version__
        assert "cached_as" in dir(cacheops_lite)
        loaded = {name.partition(".")[0] for name in sys.modules}
        assert loaded.isdisjoint({"django", "redis"}), loaded
        """
    )


def test_public_names_are_there() -> None:
    """Every public name can be imported once Django is set up, and an unknown one is an error."""
    run(
        """
        import django
        from django.conf import settings
        settings.configure(INSTALLED_APPS=["cacheops_lite"], SECRET_KEY="x")
        django.setup()
        import cacheops_lite
        for name in cacheops_lite.__all__:
            assert getattr(cacheops_lite, name) is not None, name
        try:
            cacheops_lite.nope
        except AttributeError as error:
            assert "nope" in str(error)
        else:
            raise SystemExit("nope is there")
        """
    )


def test_leaving_restores_every_attribute() -> None:
    """After ``uninstall()`` every class that we touch has exactly the attributes that it had."""
    run(
        f"""
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], SECRET_KEY="x",
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
)
django.setup()
{TOUCHED}
before, heard = snapshot(), receivers()
import cacheops_lite.apps, cacheops_lite.checks
from cacheops_lite.orm import patch
assert snapshot() == before, "importing changes nothing"
for _ in range(2):
    patch.install()
    installed = snapshot()
    assert installed != before
    patch.install()
    assert snapshot() == installed, "installing twice is installing once"
    assert receivers() == heard, "Django's fast paths ask for receivers, and must find none"
    patch.uninstall()
    after = snapshot()
    assert after == before, [
        (one, set(old.items()) ^ set(new.items()))
        for one, old, new in zip(OBJECTS, before, after) if old != new
    ]
    patch.uninstall()
    assert snapshot() == before, "leaving twice is leaving once"
assert not hasattr(QuerySet, "cache") and not hasattr(Manager, "cache")
"""
    )


def test_only_listed_places_are_patched() -> None:
    """What ``install()`` changes is found on the classes above: no other class of Django changes."""
    run(
        """
import django, gc
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], SECRET_KEY="x",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
import cacheops_lite.apps, cacheops_lite.checks
from cacheops_lite.orm import patch
from django.db import connections
connections["default"]

def everything():
    classes = [one for one in gc.get_objects() if isinstance(one, type)
               and one.__module__.startswith("django.")]
    return {one: dict(vars(one)) for one in classes}

before = everything()
patch.install()
changed = {one for one, names in everything().items() if one in before and any(
    names.get(name) is not value for name, value in before[one].items())}
patch.uninstall()
after = everything()
left = {one for one in before if one in after and {
    name for name, value in before[one].items() if after[one].get(name) is not value}}
assert not left, left
assert changed, "nothing was patched"
names = {f"{one.__module__}.{one.__qualname__}" for one in changed}
expected = {
    "django.db.models.query.QuerySet", "django.db.models.base.Model",
    "django.db.models.deletion.Collector", "django.db.backends.utils.CursorWrapper",
    "django.db.backends.base.base.BaseDatabaseWrapper",
    "django.db.models.sql.compiler.SQLCompiler", "django.db.models.sql.compiler.SQLInsertCompiler",
    "django.db.models.sql.compiler.SQLUpdateCompiler",
    "django.db.models.sql.compiler.SQLDeleteCompiler", "django.db.models.manager.BaseManager",
    "django.db.models.query_utils.RegisterLookupMixin",
    "django.db.models.fields.related_descriptors.ForwardManyToOneDescriptor",
}
assert names <= expected, names - expected
"""
    )


@pytest.mark.django_db(transaction=True)
def test_leaving_and_coming_back_in_a_running_process(settings: Any) -> None:
    """Without the patches nothing is cached; with them again it is, and nothing is left over."""
    settings.CACHEOPS = ALL
    one = post()
    read = lambda: list(m.Post.objects.all())  # noqa: E731
    assert is_cached(read)
    patch.uninstall()
    try:
        assert not hasattr(QuerySet, "cache") and not hasattr(Manager, "nocache")
        with hits() as seen:
            read()
        assert seen == []
    finally:
        patch.install()
    assert is_cached(read)
    one.title = "new"
    one.save()
    assert [each.title for each in read()] == ["new"]


@pytest.mark.django_db(transaction=True)
def test_a_connection_outlives_the_patches(settings: Any) -> None:
    """A connection that was used with the patches works without them, and the other way round."""
    settings.CACHEOPS = ALL
    post()
    patch.uninstall()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        assert m.Post.objects.count() == 1
        m.Post.objects.update(views=3)
    finally:
        patch.install()
    assert m.Post.objects.nocache().get().views == 3


def test_wrapped_methods_look_like_django() -> None:
    """The methods that we wrap keep their names, documentation and signatures."""
    import inspect

    for method in (QuerySet.get, QuerySet.count, QuerySet.exists, QuerySet.aggregate):
        assert method.__module__ == "django.db.models.query"
        assert method.__doc__
        assert inspect.signature(method) == inspect.signature(inspect.unwrap(method))


def test_fast_paths_stay(settings: Any) -> None:
    """Signal receivers of ours are not to be seen by ``has_listeners``: fast deletes stay fast."""
    from django.db.models import signals

    for signal in (signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete,
                   signals.m2m_changed, signals.pre_init, signals.post_init):  # fmt: skip
        assert not signal.has_listeners(m.Tag), signal
