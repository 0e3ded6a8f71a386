"""Where Redis is and whose keys are whose: CACHEOPS_REDIS in all its forms, CACHEOPS_PREFIX."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import redis
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from cacheops_lite import engine, invalidate_all, invalidate_model, invalidate_obj
from cacheops_lite.stores.client import make_client
from tests import models as m
from tests import servers
from tests.watching import hits

from .tools import MANUAL, costs, is_cached, messages, post, stored

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def manual(settings: Any) -> None:
    settings.CACHEOPS = MANUAL


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def tcp() -> Iterator[Any]:
    """A server of our own with a port and a password: (server, port)."""
    port = free_port()
    with servers.start_valkey("--port", str(port), "--bind", "127.0.0.1") as server:
        with redis.Redis(port=port) as client:
            client.config_set("requirepass", "secret")
        yield server, port


# -- CACHEOPS_REDIS ----------------------------------------------------------------------------


def forms(socket_path: str, port: int) -> dict[str, Any]:
    return {
        "tcp URL": f"redis://:secret@127.0.0.1:{port}/3",
        "tcp URL with options": f"redis://127.0.0.1:{port}?db=3&password=secret&socket_timeout=2",
        "unix URL": f"unix://:secret@{socket_path}?db=3",
        "tcp dict": {"host": "127.0.0.1", "port": port, "db": 3, "password": "secret"},
        "unix dict": {"unix_socket_path": socket_path, "db": 3, "password": "secret"},
        "dict with options": {
            "host": "127.0.0.1", "port": port, "db": 3, "password": "secret",
            "socket_timeout": 3, "decode_responses": True, "health_check_interval": 30,
            "protocol": 3,
        },
    }  # fmt: skip


@pytest.mark.parametrize("form", forms("", 0))
def test_redis_is_configured_by_url_or_dict(settings: Any, tcp: Any, form: str) -> None:
    """Each form of CACHEOPS_REDIS leads to the server and the database that it names."""
    server, port = tcp
    config = settings.CACHEOPS_REDIS = forms(str(server.socket), port)[form]
    if form == "dict with options" and int(redis.__version__.split(".")[0]) < 6:
        # With protocol 3 redis-py 5 looks after the health of a connection before it names itself.
        del config["health_check_interval"]
    one = post()
    assert is_cached(lambda: list(m.Post.objects.cache()))
    one.title = "changed"
    one.save()
    assert [each.title for each in m.Post.objects.cache()] == ["changed"]
    assert is_cached(lambda: list(m.Post.objects.cache()))
    with redis.Redis(port=port, password="secret", db=3) as client:
        assert len(stored(client)) == 1
        client.flushall()
    assert messages() == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rediss://cache.example.com:6380/2", {"host": "cache.example.com", "port": 6380, "db": 2}),
        ("rediss://user:pw@h/0", {"host": "h", "username": "user", "password": "pw"}),
        ("rediss://h:1/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem", {"ssl_ca_certs": "/ca.pem"}),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_rediss_is_tls(url: str, expected: dict[str, Any], asynchronous: bool) -> None:
    """``rediss://`` makes TLS connections with what the URL says."""
    pool = make_client(url, asynchronous=asynchronous).connection_pool
    assert pool.connection_class.__name__ == "SSLConnection"
    assert {name: pool.connection_kwargs.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    "config", ["redis://h/0", {"host": "h"}, "rediss://h/0", {"unix_socket_path": "/s"}]
)
def test_reads_never_wait_without_bound(config: Any) -> None:
    """A client has timeouts although nobody set them, and those that somebody set are kept."""
    given = make_client(config).connection_pool.connection_kwargs
    assert 0 < given["socket_timeout"] <= 5
    assert "path" in given or 0 < given["socket_connect_timeout"] <= 5
    if isinstance(config, dict):
        chosen = make_client({**config, "socket_timeout": 7}).connection_pool.connection_kwargs
        assert chosen["socket_timeout"] == 7


def test_memory_needs_no_server(settings: Any, redis_client: Any) -> None:
    """``memory://`` caches and invalidates within the process, without any Redis."""
    settings.CACHEOPS_REDIS = "memory://acceptance"
    one = post()
    assert is_cached(lambda: list(m.Post.objects.cache()))
    with costs() as spent:
        list(m.Post.objects.cache())
    assert (spent.hits, spent.sql, spent.trips) == ([True], [], 0)
    one.title = "other"
    one.save()
    assert m.Post.objects.cache().get().title == "other"
    invalidate_all()
    with hits() as seen:
        list(m.Post.objects.cache())
    assert seen == [False]
    assert redis_client.dbsize() == 0


def test_memory_stores_have_names(settings: Any) -> None:
    """Two ``memory://`` names are two stores."""
    settings.CACHEOPS_REDIS = "memory://acceptance-a"
    assert is_cached(lambda: list(m.Post.objects.cache()))
    settings.CACHEOPS_REDIS = "memory://acceptance-b"
    with hits() as seen:
        list(m.Post.objects.cache())
    assert seen == [False]
    invalidate_all()


# -- CACHEOPS_PREFIX: a text -------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["shop:", "v2.shop:", "a b/ü:", "{shop}:", "x"])
def test_a_text_leads_every_key(settings: Any, redis_client: Any, prefix: str) -> None:
    """A prefix that is a text stands at the front of every key."""
    settings.CACHEOPS_PREFIX = prefix
    one = post()
    one.tags.add(m.Tag.objects.create(name="red"))
    assert is_cached(lambda: list(m.Post.objects.filter(title="a post").cache(lock=True)))
    assert is_cached(lambda: list(m.Post.objects.select_related("author").cache()))
    one.save()
    keys = redis_client.keys()
    assert len(keys) > 3
    assert [key for key in keys if not key.startswith(prefix.encode())] == []


def test_projects_with_prefixes_share_a_server(settings: Any) -> None:
    """Under another prefix nothing is found, and invalidating there leaves this one alone."""
    post()
    read = lambda: list(m.Post.objects.cache())  # noqa: E731
    assert is_cached(read)
    with override_settings(CACHEOPS_PREFIX="other:"):
        with hits() as seen:
            read()
        assert seen == [False]
        assert is_cached(read)
        invalidate_all()
        with hits() as seen:
            read()
        assert seen == [False]
    with hits() as seen:
        read()
    assert seen == [True]


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("nowhere.to.be.found", ["CACHEOPS_PREFIX", "nowhere.to.be.found"]),
        ("tests.acceptance.test_connecting.nope", ["CACHEOPS_PREFIX", "nope"]),
        (5, ["CACHEOPS_PREFIX", "5"]),
        ("a{b", ["CACHEOPS_PREFIX", "a{b"]),
    ],
)
def test_a_wrong_prefix_is_an_error(settings: Any, prefix: Any, words: list[str]) -> None:
    """What is no prefix is refused by queries and by the system check, naming the setting."""
    settings.CACHEOPS_PREFIX = prefix
    with pytest.raises(ImproperlyConfigured) as caught:
        list(m.Post.objects.cache())
    found = messages()
    assert [type(one) for one in found] == [checks.Error]
    for text in (str(caught.value), found[0].msg):
        assert [word for word in words if word not in text] == []


# -- CACHEOPS_PREFIX: a function ---------------------------------------------------------------

tenant: ContextVar[str] = ContextVar("tenant", default="t1")
asked: list[Any] = []


def by_tenant(query: Any) -> str:
    asked.append(query)
    return f"{tenant.get()}:"


def by_tables(query: Any) -> str:
    """Shared tables have one prefix for all, the others one for each tenant."""
    assert query.dbs
    shared = all(table == "tests_tag" for table in query.tables)
    return "shared:" if shared else f"{tenant.get()}:"


@contextmanager
def acting_for(name: str) -> Iterator[None]:
    token = tenant.set(name)
    try:
        yield
    finally:
        tenant.reset(token)


FUNCTIONS = {
    "callable": by_tenant,
    "dotted path": "tests.acceptance.test_connecting.by_tenant",
    "by tables": by_tables,
    "dotted path by tables": "tests.acceptance.test_connecting.by_tables",
}


@pytest.fixture(params=sorted(FUNCTIONS))
def prefixed(request: Any, settings: Any) -> None:
    settings.CACHEOPS_PREFIX = FUNCTIONS[request.param]


@pytest.mark.usefixtures("prefixed")
def test_a_function_keeps_tenants_apart(redis_client: Any) -> None:
    """What one tenant cached is no hit for another, and a write of one drops nothing of the other."""
    one = post()
    read = lambda: [each.title for each in m.Post.objects.cache()]  # noqa: E731
    assert is_cached(read)
    with acting_for("t2"):
        with hits() as seen:
            read()
        assert seen == [False]
        assert is_cached(read)
        one.title = "by t2"
        one.save()
        assert read() == ["by t2"]
    with hits() as seen:
        assert read() == ["a post"], "as if the tenants had two databases"
    assert seen == [True]
    names = b" ".join(redis_client.keys())
    assert b"t1" in names and b"t2" in names


@pytest.mark.usefixtures("prefixed")
@pytest.mark.parametrize(
    "write",
    [
        lambda one: one.save(),
        lambda one: one.delete(),
        lambda one: m.Post.objects.filter(pk=one.pk).update(views=5),
        lambda one: m.Post.objects.bulk_create(
            [m.Post(title="b", author=one.author, category=one.category)]
        ),
        invalidate_obj,
        lambda one: invalidate_model(m.Post),
        lambda one: invalidate_all(),
    ],
)
def test_invalidation_works_under_a_function(write: Any) -> None:
    """With a prefix function, also one that looks at ``query.tables``, every write drops its results."""
    one = post()
    assert is_cached(lambda: list(m.Post.objects.filter(title="a post").cache()))
    assert is_cached(lambda: list(m.Post.objects.select_related("author").cache()))
    one.title = "changed"
    write(one)
    with hits() as seen:
        found = list(m.Post.objects.select_related("author").cache())
    assert seen == [False]
    assert sorted(found, key=lambda each: each.pk) == list(m.Post.objects.order_by("pk"))


@pytest.mark.usefixtures("prefixed")
def test_a_write_belongs_to_the_tenant_of_its_moment() -> None:
    """A change made for one tenant in a transaction that ends under another drops the right results."""
    one = post()
    read = lambda: m.Post.objects.cache().get(pk=one.pk).title  # noqa: E731
    assert is_cached(read)
    with acting_for("t2"):
        assert is_cached(read)
    with transaction.atomic():
        with acting_for("t2"):
            m.Post.objects.filter(pk=one.pk).update(title="new")
    with acting_for("t2"):
        assert read() == "new"


@pytest.mark.usefixtures("prefixed")
def test_writes_while_disabled_are_not_stale_under_a_function() -> None:
    """With a prefix function, too, what was written with the cache off is not stale afterwards."""
    one = post()
    read = lambda: m.Post.objects.cache().get(pk=one.pk).title  # noqa: E731
    assert is_cached(read)
    with override_settings(CACHEOPS_ENABLED=False):
        one.title = "new"
        one.save()
    assert read() == "new"


def test_shared_tables_are_shared(settings: Any) -> None:
    """A function of ``query.tables`` can let tenants share some tables and not others."""
    settings.CACHEOPS_PREFIX = by_tables
    m.Tag.objects.create(name="red")
    read = lambda: [tag.name for tag in m.Tag.objects.cache()]  # noqa: E731
    assert is_cached(read)
    with acting_for("t2"):
        with hits() as seen:
            read()
        assert seen == [True]
        m.Tag.objects.update(name="blue")
    assert read() == ["blue"]


def test_the_function_is_told_databases_and_tables(settings: Any) -> None:
    """A prefix function gets a ``query`` with ``dbs``, ``tables`` and ``func``."""
    settings.CACHEOPS_PREFIX = by_tenant
    asked.clear()
    list(m.Post.objects.select_related("author").cache())
    assert {db for query in asked for db in query.dbs} == {"default"}
    assert {table for query in asked for table in query.tables} == {"tests_post", "tests_author"}
    assert {query.func for query in asked} == {None}


def test_an_engine_is_not_built_by_importing(settings: Any) -> None:
    """Nothing connects before the first cached read or write."""
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    assert "client" not in engine.current().__dict__
    list(m.Post.objects.nocache())
    assert "client" not in engine.current().__dict__
