"""Whatever a django-cacheops 7.2 project may name is here under the same name, and takes the same.

The lists below are its documented interface: names to import, settings, options of profiles,
methods, tags and commands. Behaviour is told by the other files of this folder; at the end of this
one stand its known mistakes, each with what happens here instead.
"""

from __future__ import annotations

import inspect
import re
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.sentinel
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management import get_commands, load_command_class
from django.db import connection, models
from django.db.models import Count, F
from django.template import Engine
from django.test import override_settings
from jinja2 import Environment

import cacheops_lite
from cacheops_lite import CacheMiss, FileCache, conf, engine
from cacheops_lite.redis import redis_client

from .. import models as m
from ..acceptance.tools import ALL, is_cached, post
from ..watching import hits

pytestmark = pytest.mark.django_db(transaction=True)

X = object()

#: Name -> calls (positional, keyword) that its signature must take.
CALLS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "cached_as": [
        ((X,), {}),
        ((X, X), {"timeout": 1, "extra": 2, "lock": True, "keep_fresh": True}),
    ],
    "cached_view_as": [((X, X), {"timeout": 1, "extra": 2, "lock": True, "keep_fresh": False})],
    "cached": [((), {}), ((X,), {}), ((60, "extra"), {}), ((), {"timeout": 60, "extra": 1})],
    "cached_view": [((), {}), ((X,), {}), ((60, "extra"), {}), ((), {"timeout": 60, "extra": 1})],
    "invalidate_obj": [((X,), {}), ((X, "other"), {}), ((X,), {"using": "other"})],
    "invalidate_model": [((X,), {}), ((X, "other"), {}), ((X,), {"using": "other"})],
    "invalidate_all": [((), {})],
    "invalidate_fragment": [(("name",), {}), (("name", 1, 2), {})],
    "reap_conjs": [
        ((), {}),
        ((2000, 100, "default", True), {}),
        ((), {"chunk_size": 1, "min_conj_set_size": 1, "using": "default", "dry_run": True}),
    ],
    "FileCache": [(("/tmp/x",), {}), (("/tmp/x", 60), {}), (("/tmp/x",), {"timeout": 60})],
    "RedisCache": [((X,), {}), ((), {"conn": X})],
    "CacheopsLibrary": [((), {})],
    "CacheMiss": [],
    "cache": [],
    "file_cache": [],
    "no_invalidation": [],
}

#: Module -> names that its users import from there.
PLACES = {
    "signals": ["cache_read", "cache_invalidated"],
    "redis": ["redis_client"],
    "conf": ["settings", "ALL_OPS"],
    "simple": [
        "cache", "cached", "cached_view", "file_cache", "CacheMiss", "FileCache", "RedisCache",
    ],
    "invalidation": ["invalidate_obj", "invalidate_model", "invalidate_all", "no_invalidation"],
    "reaper": ["reap_conjs"],
    "jinja2": ["cache"],
    "templatetags.cacheops": ["CacheopsLibrary", "invalidate_fragment", "register"],
}  # fmt: skip

SETTINGS = {
    "CACHEOPS", "CACHEOPS_CLIENT_CLASS", "CACHEOPS_DEFAULTS", "CACHEOPS_DEGRADE_ON_FAILURE",
    "CACHEOPS_ENABLED", "CACHEOPS_INSIDEOUT", "CACHEOPS_LONG_DISJUNCTION", "CACHEOPS_PREFIX",
    "CACHEOPS_REDIS", "CACHEOPS_SENTINEL", "CACHEOPS_SERIALIZER", "CACHEOPS_SKIP_FIELDS",
    "FILE_CACHE_DIR", "FILE_CACHE_TIMEOUT",
}  # fmt: skip

#: Method of a queryset -> calls that its signature must take. Managers have the first four.
METHODS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "cache": [((), {}), ((["get"], 60, True), {}), ((), {"ops": "all", "timeout": 1, "lock": 0})],
    "nocache": [((), {})],
    "inplace": [((), {})],
    "invalidated_update": [((), {"title": "x"})],
    "cloning": [((), {}), ((0,), {}), ((), {"cloning": 1000})],
}


def takes(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    inspect.signature(function).bind(*args, **kwargs)  # raises TypeError


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_package_has_it(name: str) -> None:
    """Each name can be imported from the package, and takes the arguments that it took."""
    found = getattr(cacheops_lite, name)
    assert name in cacheops_lite.__all__
    for args, kwargs in CALLS[name]:
        takes(found, args, kwargs)


@pytest.mark.parametrize("place", sorted(PLACES))
def test_modules_have_it(place: str) -> None:
    """Who imported a documented name from its module does so here."""
    module = import_module(f"cacheops_lite.{place}")
    assert [name for name in PLACES[place] if not hasattr(module, name)] == []


def test_one_thing_under_two_names() -> None:
    """A name of the package and of its module are the same object."""
    for place in ("simple", "invalidation", "reaper"):
        module = import_module(f"cacheops_lite.{place}")
        for name in PLACES[place]:
            assert getattr(module, name) is getattr(cacheops_lite, name)


def test_the_version_can_be_compared() -> None:
    """``VERSION`` is ``__version__`` as numbers."""
    assert cacheops_lite.VERSION >= (0, 1)
    assert cacheops_lite.__version__.startswith(".".join(map(str, cacheops_lite.VERSION)))


def test_no_invalidation_says_whether_it_is_on() -> None:
    """``no_invalidation`` is a context manager, a decorator, and knows whether it is active."""
    assert not cacheops_lite.no_invalidation.active

    @cacheops_lite.no_invalidation
    def inside() -> bool:
        return cacheops_lite.no_invalidation.active

    assert inside()
    with cacheops_lite.no_invalidation:
        assert cacheops_lite.no_invalidation.active
    assert not cacheops_lite.no_invalidation.active


@pytest.mark.parametrize("decorate", [cacheops_lite.cached, cacheops_lite.file_cache.cached])
def test_decorated_functions_have_their_handles(decorate: Any) -> None:
    """A cached function has ``invalidate`` and ``key``; a key has ``get``, ``set``, ``delete``."""

    @decorate(timeout=60)
    def function(x: int) -> int:
        return x

    key = function.key(1)
    assert isinstance(key, str)
    assert all(callable(getattr(key, name)) for name in ("get", "set", "delete"))
    assert callable(function.invalidate)


# -- methods -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(METHODS))
def test_querysets_have_it(name: str) -> None:
    """Each method is on every queryset, with its arguments."""
    for args, kwargs in METHODS[name]:
        takes(getattr(m.Post.objects.all(), name), args, kwargs)


@pytest.mark.parametrize("name", ["cache", "nocache", "inplace", "invalidated_update"])
def test_managers_have_it(name: str) -> None:
    """Managers, related managers and ``_default_manager`` pass them on."""
    one = post()
    for manager in (m.Post.objects, one.tags, one.author.posts, m.Odd._default_manager):
        for args, kwargs in METHODS[name]:
            takes(getattr(manager, name), args, kwargs)


@pytest.mark.parametrize("manager", ["objects", "_default_manager"])
def test_managers_give_querysets(manager: str) -> None:
    """What a manager's method gives is a queryset."""
    source = getattr(m.Post, manager)
    for name in ("cache", "nocache", "inplace"):
        assert isinstance(getattr(source, name)(), models.QuerySet)


# -- settings and options ------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_settings_can_be_read(name: str, settings: Any) -> None:
    """``conf.settings`` has every setting, set or not, and shows what is in force."""
    if hasattr(settings, name) and name not in ("CACHEOPS", "CACHEOPS_REDIS"):
        delattr(settings, name)
    getattr(conf.settings, name)
    with override_settings(**{name: "something"}):
        assert getattr(conf.settings, name) == "something"


@pytest.mark.parametrize(
    "options",
    [
        {"ops": "all"},
        {"ops": ("fetch", "get"), "timeout": 5},
        {"ops": ()},
        {"local_get": True},
        {"cache_on_save": True},
        {"cache_on_save": "title"},
        {"db_agnostic": False},
        {"db_agnostic": True},
        {"lock": True},
    ],
)
def test_options_of_profiles(settings: Any, options: dict[str, Any]) -> None:
    """Every option is accepted in a profile and in the defaults, and reaches the profile."""
    for patterns, defaults in [
        ({"tests.Post": options}, {"timeout": 60}),
        ({"tests.*": {}}, {"timeout": 60, **options}),
    ]:
        settings.CACHEOPS, settings.CACHEOPS_DEFAULTS = patterns, defaults
        profile = conf.current().profile("tests.post")
        for name, value in options.items():
            expected = conf.read_ops(value) if name == "ops" else value
            assert getattr(profile, name) == expected


class OwnClient(redis.Redis):
    """A project's own client."""


@pytest.mark.parametrize("named", [True, False])
def test_a_client_class_of_ones_own(settings: Any, named: bool) -> None:
    """CACHEOPS_CLIENT_CLASS, a path or a class, is what talks to Redis and what redis_client is."""
    settings.CACHEOPS_CLIENT_CLASS = f"{__name__}.OwnClient" if named else OwnClient
    assert isinstance(engine.current().client, OwnClient)
    assert is_cached(lambda: list(m.Tag.objects.cache()))
    assert redis_client.ping()


def test_a_sentinel_with_a_client_class(settings: Any) -> None:
    """CACHEOPS_SENTINEL takes its own words and Sentinel's, and makes the chosen class."""
    del settings.CACHEOPS_REDIS
    settings.CACHEOPS_CLIENT_CLASS = OwnClient
    settings.CACHEOPS_SENTINEL = {
        "locations": [("localhost", 26379)],
        "service_name": "main",
        "socket_timeout": 0.1,
        "db": 3,
    }
    client = engine.current().client
    assert isinstance(client, OwnClient)
    pool = client.connection_pool
    assert isinstance(pool, redis.sentinel.SentinelConnectionPool)
    assert pool.service_name == "main"
    assert pool.connection_kwargs["db"] == 3
    (sentinel,) = pool.sentinel_manager.sentinels
    assert sentinel.connection_pool.connection_kwargs["port"] == 26379


def test_insideout_is_explained(settings: Any) -> None:
    """CACHEOPS_INSIDEOUT is accepted; a check says that it is not needed."""
    from cacheops_lite.checks import check_configuration

    settings.CACHEOPS_INSIDEOUT = False
    assert [found.id for found in check_configuration()] == ["cacheops_lite.I001"]
    assert is_cached(lambda: list(m.Tag.objects.cache()))


def test_a_long_disjunction_is_widened(settings: Any) -> None:
    """CACHEOPS_LONG_DISJUNCTION: more alternatives than that are not told apart."""
    m.Tag.objects.create(name="a"), m.Tag.objects.create(name="z")

    def dropped() -> bool:
        read = m.Tag.objects.filter(name__in=["a", "b", "c"]).cache()
        assert is_cached(lambda: list(read.all()))
        m.Tag.objects.filter(name="z").update(group="g")
        with hits() as seen:
            list(read.all())
        return not all(seen)

    assert not dropped()
    settings.CACHEOPS_LONG_DISJUNCTION = 2
    assert dropped()


@pytest.mark.parametrize("skipped", [(), ("BinaryField",), ("TextField", "IntegerField")])
def test_skipped_fields(settings: Any, skipped: tuple[str, ...]) -> None:
    """Text narrows by its hash, but for the fields that CACHEOPS_SKIP_FIELDS names."""
    if skipped:
        settings.CACHEOPS_SKIP_FIELDS = list(skipped)
    one, other = post(text="long " * 1000), post(text="other")
    reads = {
        "TextField": lambda: list(m.Post.objects.filter(text=one.text).cache()),
        "IntegerField": lambda: list(m.Post.objects.filter(views__gt=1000).cache()),
        "CharField": lambda: list(m.Post.objects.filter(title="nobody").cache()),
    }
    assert all(is_cached(read) for read in reads.values())
    other.text = "another"
    other.save()
    for kind, read in reads.items():
        with hits() as seen:
            read()
        assert seen == [kind not in skipped], kind


def test_skipped_fields_are_a_list(settings: Any) -> None:
    """Classes of fields will do, as of old; a plain text is an error that says what to write."""
    settings.CACHEOPS_SKIP_FIELDS = [models.TextField, "JSONField"]
    assert conf.current().skip_fields == ("TextField", "JSONField")
    with pytest.raises(ImproperlyConfigured, match=r"\['TextField'\]"):
        settings.CACHEOPS_SKIP_FIELDS = "TextField"
        conf.current()


# -- templates and commands ------------------------------------------------------------------------


def test_template_tags() -> None:
    """``{% load cacheops %}`` gives both tags; a library of ours has ``decorator_tag``."""
    templates = Engine(libraries={"cacheops": "cacheops_lite.templatetags.cacheops"})
    templates.from_string(
        "{% load cacheops %}{% cached 60 'a' 1 2 %}{% endcached %}"
        "{% cached_as rows None 'b' extra %}{% endcached_as %}"
    )
    takes(cacheops_lite.CacheopsLibrary().decorator_tag, (X,), {})
    takes(cacheops_lite.CacheopsLibrary().decorator_tag, (), {"takes_context": True})


def test_jinja2_extension() -> None:
    """The Jinja2 extension is known by its short name."""
    environment = Environment(extensions=["cacheops_lite.jinja2.cache"], autoescape=True)
    environment.from_string(
        "{% cached timeout=60, extra=1 %}{% endcached %}"
        "{% cached_as rows, timeout=60, extra=1 %}{% endcached_as %}"
    )


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("invalidate", ["all"]),
        ("invalidate", ["tests", "tests.Post", "tests.post.7"]),
        ("cleanfilecache", []),
        ("cleanfilecache", ["/tmp/one", "/tmp/two"]),
        ("reapconjs", []),
        ("reapconjs", ["--chunk-size=100", "--min-conj-set-size=10000", "--dry-run"]),
    ],
)
def test_commands(command: str, arguments: list[str]) -> None:
    """Every command is there and understands its old command line."""
    app = get_commands()[command]
    assert app == "cacheops_lite"
    parser = load_command_class(app, command).create_parser("manage.py", command)
    parser.parse_args(arguments)


# -- the guide ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    sorted(
        {*CALLS, *SETTINGS, *METHODS, *PLACES["signals"], *PLACES["redis"]}
        | {"ops", "timeout", "lock", "db_agnostic", "cache_on_save", "local_get"}
    ),
)
def test_the_guide_names_it(name: str) -> None:
    """Who comes from django-cacheops finds every name in the migration guide."""
    guide = Path(__file__).resolve().parents[2] / "docs" / "migrating_from_cacheops.rst"
    assert re.search(rf"\b{name}\b", guide.read_text())


# -- mistakes that are not repeated ------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        lambda query: "p:" if query.tables == ["tests_tag"] else "",
        lambda query: f"{query.table}:",
        lambda query: f"{query.db}:",
    ],
    ids=["tables", "table", "db"],
)
def test_a_prefix_that_looks_at_tables_invalidates(settings: Any, prefix: Any) -> None:
    """A prefix function may use ``query.tables``: writes drop what was read under it."""
    settings.CACHEOPS_PREFIX = prefix
    tag = m.Tag.objects.create(name="a")
    names = lambda: [one.name for one in m.Tag.objects.cache()]  # noqa: E731
    assert is_cached(names)
    tag.name = "b"
    tag.save()
    assert names() == ["b"]
    m.Tag.objects.update(name="c")
    assert names() == ["c"]
    assert is_cached(names)
    cacheops_lite.invalidate_model(m.Tag)
    with hits() as seen:
        names()
    assert seen == [False]


def test_a_prefix_for_some_tables_of_a_query(settings: Any) -> None:
    """A query of a shared table that joins a tenant's has a result for each tenant."""
    tenant = "t1"
    settings.CACHEOPS_PREFIX = lambda query: (
        "shared:" if set(query.tables) <= {"tests_post"} else f"{tenant}:"
    )
    one = post()
    read = lambda: [  # noqa: E731
        each.author.name for each in m.Post.objects.select_related("author").cache()
    ]
    assert is_cached(read)
    tenant = "t2"
    with hits() as seen:
        read()
    assert seen == [False]
    assert is_cached(read)
    tenant = "t1"
    with hits() as seen:
        assert read() == ["Ann"]
    assert seen == [True]
    one.author.name = "Bea"
    one.author.save()
    assert read() == ["Bea"]


def test_a_prefix_that_needs_a_table_where_there_is_none(settings: Any) -> None:
    """``query.table`` and ``query.db`` of a key of the simple cache say what is wrong."""
    for prefix in (lambda query: query.table, lambda query: query.db):
        settings.CACHEOPS_PREFIX = prefix
        with pytest.raises(ImproperlyConfigured, match=r"CACHEOPS_PREFIX asks for one of query\."):
            cacheops_lite.cache.get("key")


def test_the_file_cache_forgets(tmp_path: Path) -> None:
    """``invalidate()`` of a function in the file cache drops a result; ``key.get()`` has it."""
    calls: list[int] = []

    @FileCache(tmp_path).cached(timeout=60)
    def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    assert double(2) == 4 == double(2)
    assert double.key(2).get() == 4
    double.invalidate(2)
    with pytest.raises(CacheMiss):
        double.key(2).get()
    assert double(2) == 4
    assert calls == [2, 2]
    double.key(2).set(5)
    assert double(2) == 5


def test_the_file_cache_replaces(tmp_path: Path) -> None:
    """Setting a key again replaces its value."""
    files = FileCache(tmp_path)
    files.set("key", 1)
    files.set("key", 2)
    assert files.get("key") == 2
    files.delete("key")
    with pytest.raises(CacheMiss):
        files.get("key")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("views",), {}),
        ((), {"n": "views"}),
        ((), {"n": 5}),
        ((), {"n": F("views")}),
        ((Count("nothing"),), {}),
    ],
)
def test_wrong_aggregates_raise_what_django_raises(
    settings: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """``aggregate()`` with a bad argument raises the error that it raises without a cache."""
    settings.CACHEOPS = ALL
    with pytest.raises((TypeError, FieldError)) as plain:
        m.Post.objects.nocache().aggregate(*args, **kwargs)
    with pytest.raises(type(plain.value)) as cached:
        m.Post.objects.aggregate(*args, **kwargs)
    assert str(cached.value) == str(plain.value)


def test_a_reader_without_a_lock_beside_one_with() -> None:
    """Who reads without ``lock`` while another holds it computes, and never sees its token."""
    computing, go_on = threading.Event(), threading.Event()
    answers: list[Any] = []

    def function() -> str:
        if threading.current_thread() is holder:
            computing.set()
            assert go_on.wait(10)
        return "rows"

    locked = cacheops_lite.cached_as(m.Tag, lock=True)(function)
    unlocked = cacheops_lite.cached_as(m.Tag, lock=False)(function)

    def hold() -> None:
        try:
            answers.append(locked())
        finally:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert computing.wait(10)
    assert unlocked.key() == locked.key()
    assert unlocked() == "rows"
    go_on.set()
    holder.join(10)
    assert answers == ["rows"]


def test_override_settings_holds_after_first_use(tmp_path: Path) -> None:
    """Profiles, the switch, the prefix, the timeout and the folder follow ``override_settings``."""
    tags = lambda: list(m.Tag.objects.all())  # noqa: E731
    assert not is_cached(tags)
    with override_settings(CACHEOPS=ALL):
        assert is_cached(tags)
        with override_settings(CACHEOPS_ENABLED=False):
            assert not is_cached(tags)
        with override_settings(CACHEOPS_PREFIX="elsewhere:"), hits() as seen:
            tags()
        assert seen == [False]
        with hits() as seen:
            tags()
        assert seen == [True]
    assert not is_cached(tags)
    with override_settings(FILE_CACHE_DIR=str(tmp_path)):
        cacheops_lite.file_cache.set("key", 1)
    assert list(tmp_path.iterdir())
