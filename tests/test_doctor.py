"""``cacheops check``: each thing that can be wrong with a server is found, and said in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import redis
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connections

from cacheops_lite import cached, doctor, engine, invalidate_all, rights, stats
from cacheops_lite.doctor import Finding
from cacheops_lite.simple import cache
from tests import models as m
from tests import servers

from .acceptance.tools import ALL, MANUAL, is_cached
from .clusters import Cluster, running

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def manual(settings: Any) -> None:
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_STATS_INTERVAL = 60


@pytest.fixture
def server(settings: Any) -> Iterator[servers.KeyValueServer]:
    """A server of our own, set up as the guide says."""
    with servers.start_valkey("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as made:
        settings.CACHEOPS_REDIS = made.url
        yield made


def found(level: str) -> list[Finding]:
    return [finding for finding in doctor.examine() if finding.level == level]


def command(*args: str) -> str:
    out = StringIO()
    call_command("cacheops", "check", *args, stdout=out)
    return out.getvalue()


def test_a_good_server(server: servers.KeyValueServer) -> None:
    """A server as the guide wants it has nothing but ok, and leaves nothing behind."""
    assert {finding.level for finding in doctor.examine()} == {"ok"}
    text = command()
    assert "ok       valkey" in text and "error" not in text and "warning" not in text
    assert all(item["level"] == "ok" for item in json.loads(command("--json")))
    with redis.Redis.from_url(server.url) as client:
        assert all(0 < client.pttl(key) <= 2000 for key in client.keys())
    assert checks.run_checks(tags=["cacheops"], include_deployment_checks=True) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:1/0", "Start the server"),
        ("redis://no-such-host.invalid/0", "host"),
    ],
)
def test_nobody_there(settings: Any, url: str, words: str) -> None:
    """A server that is not there is one error that says what to look at, and a failure."""
    settings.CACHEOPS_REDIS = url
    (finding,) = doctor.examine()
    assert finding.level == "error" and words in finding.hint
    with pytest.raises(CommandError, match="1 of 1"):
        command()


def test_wrong_password(settings: Any, server: servers.KeyValueServer) -> None:
    """A server that refuses us says so, and what to correct."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "secret")
    for url in (server.url, server.url.replace("unix://", "unix://:wrong@")):
        settings.CACHEOPS_REDIS = url
        (finding,) = doctor.examine()
        assert finding.level == "error" and "password" in finding.hint


def test_a_replica(server: servers.KeyValueServer) -> None:
    """A replica is refused by name."""
    with redis.Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", "1")
        (finding,) = doctor.examine()
        assert "replica" in finding.text and "primary" in finding.hint
        client.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("config", "level", "words"),
    [
        ({"maxmemory": "0"}, "warning", "maxmemory is not set"),
        ({"maxmemory-policy": "noeviction"}, "warning", "noeviction"),
        ({"maxmemory-policy": "noeviction", "maxmemory": "1"}, "error", "noeviction"),
        ({"maxmemory-policy": "volatile-ttl"}, "warning", "volatile-ttl"),
        ({"maxmemory-policy": "allkeys-random"}, "warning", "allkeys-random"),
        ({"appendonly": "yes"}, "warning", "appendonly"),
    ],
)
def test_settings_that_waste(
    server: servers.KeyValueServer, config: dict[str, str], level: str, words: str
) -> None:
    """Settings of the server that waste the cache are found by the command and ``check --deploy``."""
    with redis.Redis.from_url(server.url) as client:
        for name, value in config.items():
            client.config_set(name, value)
        about = [finding for finding in found(level) if words in finding.text]
        assert len(about) == 1 and about[0].hint
        messages = checks.run_checks(tags=["cacheops"], include_deployment_checks=True)
        assert [message.id for message in messages if words in message.msg] == [
            "cacheops_lite.W003"
        ]
        assert not [
            message for message in checks.run_checks(tags=["cacheops"]) if words in message.msg
        ], "only --deploy asks the server for that"
        client.config_set("maxmemory", "0")


def test_the_promise_is_checked(settings: Any, server: servers.KeyValueServer) -> None:
    """CACHEOPS_RESTARTS_KEEP_DATA over a server that keeps nothing is an error."""
    settings.CACHEOPS_RESTARTS_KEEP_DATA = True
    (finding,) = found("error")
    assert "appendonly yes" in finding.hint
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendonly", "yes")
        assert found("error") == []


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        ({"redis_version": "6.0.16"}, "error", "6.2"),
        ({"redis_version": "6.2.0"}, "ok", "redis 6.2.0"),
        ({"redis_version": "8.0.1"}, "ok", "redis 8.0.1"),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.2.4"}, "ok",
         "valkey 7.2.4"),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.0.0"}, "ok",
         "valkey 9.0.0"),
        ({"redis_version": "7.0.0", "server_name": "other"}, "warning", "nothing was tested"),
        ({"redis_version": "unstable"}, "error", "6.2"),
        ({"redis_version": "8.0.0", "cluster_enabled": 1}, "error", "Cluster"),
    ],
)  # fmt: skip
def test_versions(info: dict[str, Any], level: str, words: str) -> None:
    """Servers older than what is tested, and other programs, are told apart."""
    assert [
        finding
        for finding in doctor._version(info)
        if finding.level == level and words in finding.text + finding.hint
    ]


@pytest.mark.parametrize("name", rights.COMMANDS)
def test_each_right_is_missed(settings: Any, server: servers.KeyValueServer, name: str) -> None:
    """A user who may not use one of the commands is told which one it is."""
    if name in ("select", "ping"):
        pytest.skip("not needed for database 0, nor without health checks")
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser(
            "small", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{name}"]
        )
    settings.CACHEOPS_REDIS = server.url.replace("unix://", "unix://small:x@")
    errors = found("error")
    assert errors
    assert [e for e in errors if name in (e.text + e.hint).lower()], errors


@pytest.mark.parametrize("kind", rights.KINDS)
def test_each_kind_of_key_is_missed(
    settings: Any, server: servers.KeyValueServer, kind: str
) -> None:
    """A user who may not touch one kind of our keys is told which one it is."""
    with redis.Redis.from_url(server.url) as client:
        keys = [f"{other}*" for other in rights.KINDS if other != kind]
        client.acl_setuser("small", enabled=True, nopass=True, keys=keys, commands=["+@all"])
    settings.CACHEOPS_REDIS = server.url.replace("unix://", "unix://small:x@")
    assert [finding for finding in found("error") if kind in finding.text or kind == "gen:"]


def test_the_line_to_copy_is_enough(settings: Any, server: servers.KeyValueServer) -> None:
    """The ACL line gives all that is needed for everything that we do, on our keys only."""
    settings.CACHEOPS = ALL
    settings.CACHEOPS_PREFIX = "mine:"
    line = command("--acl").strip()
    assert line.startswith("ACL SETUSER cacheops on >secret resetkeys ~mine:gen:*")
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*line.split())
        settings.CACHEOPS_REDIS = server.url.replace("unix://", "unix://cacheops:secret@") + "?db=1"
        settings.CACHEOPS_DEGRADE_ON_FAILURE = False  # what is refused is an error
        assert found("error") == []
        tag = m.Tag.objects.create(name="a")
        assert is_cached(lambda: list(m.Tag.objects.filter(name="a").cache(lock=True)))
        tag.delete()
        assert list(m.Tag.objects.all()) == []

        @cached(timeout=60, lock=True)
        def answer() -> int:
            return 42

        assert (answer(), answer()) == (42, 42)
        answer.invalidate()
        cache.set("key", 1, timeout=60)
        assert cache.get("key") == 1
        cache.delete("key")
        invalidate_all()
        stats.share()
        assert stats.read()["reads"]
        with redis.Redis.from_url(settings.CACHEOPS_REDIS) as user:
            for forbidden in (
                ("GET", "theirs"),
                ("FLUSHALL",),
                ("KEYS", "*"),
                ("CONFIG", "GET", "*"),
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    user.execute_command(*forbidden)
        client.execute_command("ACL", "DELUSER", "cacheops")


def test_memory_is_for_one_process(settings: Any) -> None:
    """``memory://`` is no server: the command says that, and so does a deployment; else it is fine."""
    settings.CACHEOPS_REDIS = "memory://doctor"
    (finding,) = doctor.examine()
    assert finding.level == "warning" and "each process" in finding.text
    (message,) = checks.run_checks(tags=["cacheops"], include_deployment_checks=True)
    assert message.id == "cacheops_lite.W003" and message.msg == finding.text
    assert checks.run_checks(tags=["cacheops"]) == []


def test_sockets_that_wait_long(settings: Any, server: servers.KeyValueServer) -> None:
    """A timeout that makes an outage expensive is warned of."""
    settings.CACHEOPS_REDIS = f"{server.url}?socket_timeout=30"
    assert [finding for finding in found("warning") if "socket_timeout" in finding.text]


@pytest.mark.parametrize(
    ("alias", "options", "warned"),
    [
        ("default", {"init_command": "PRAGMA journal_mode=WAL"}, True),
        ("default", {"init_command": "PRAGMA synchronous=OFF"}, False),
        ("default", {}, False),
    ],
)
def test_requests_in_snapshots(
    server: servers.KeyValueServer, monkeypatch: Any, alias: str, options: Any, warned: bool
) -> None:
    """ATOMIC_REQUESTS with transactions that bypass the cache is warned of."""
    if connections[alias].vendor != "sqlite":
        options = {"isolation_level": "repeatable read"} if warned else options
    monkeypatch.setitem(connections[alias].settings_dict, "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connections[alias].settings_dict, "OPTIONS", options)
    messages = checks.run_checks(tags=["cacheops"], include_deployment_checks=True)
    assert [message.id for message in messages] == ["cacheops_lite.W004"] * warned


def test_the_deploy_check_needs_no_server(settings: Any) -> None:
    """Where nobody answers the deploy check adds nothing to what the ordinary one says."""
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    messages = checks.run_checks(tags=["cacheops"], include_deployment_checks=True)
    assert [message.id for message in messages] == ["cacheops_lite.W002"]
    engine.reset()


# -- a cluster ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with running() as cluster:
        for node in cluster.nodes:
            node.client.config_set("maxmemory", "100mb")
            node.client.config_set("maxmemory-policy", "allkeys-lru")
        yield cluster


@pytest.fixture
def clustered(three: Cluster, settings: Any) -> Cluster:
    three.flush()
    settings.CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster"
    settings.CACHEOPS_REDIS = three.url
    return three


def test_each_node_is_looked_at(clustered: Cluster) -> None:
    """Every primary of a cluster is examined, and named where it differs from the others."""
    assert {finding.level for finding in doctor.examine()} == {"ok"}
    assert checks.run_checks(tags=["cacheops"], include_deployment_checks=True) == []
    bad = clustered.primaries[1]
    bad.client.config_set("maxmemory-policy", "noeviction")
    try:
        (finding,) = found("warning")
        assert finding.text.startswith(f"127.0.0.1:{bad.port}: ")
    finally:
        bad.client.config_set("maxmemory-policy", "allkeys-lru")


def test_one_node_of_a_cluster(clustered: Cluster, settings: Any) -> None:
    """A plain client of one node is told what to set."""
    settings.CACHEOPS_CLIENT_CLASS = None
    texts = [finding.hint for finding in doctor.examine() if finding.level == "error"]
    assert [text for text in texts if "redis.cluster.RedisCluster" in text]


def test_rights_on_each_node(clustered: Cluster, settings: Any) -> None:
    """The line to copy is enough on every node; a node that lacks the user is found."""
    settings.CACHEOPS = ALL
    line = command("--acl").split()
    try:
        for node in clustered.nodes:
            node.client.execute_command(*line)
        settings.CACHEOPS_REDIS = clustered.url.replace("redis://", "redis://cacheops:secret@")
        assert found("error") == []
        m.Tag.objects.create(name="a")
        assert is_cached(lambda: list(m.Tag.objects.filter(name="a")))
        stats.share()
        assert stats.read()["reads"]
        lacking = clustered.primaries[2]
        lacking.client.acl_setuser("cacheops", commands=["-eval", "-evalsha"])
        errors = found("error")
        assert errors
        assert all(error.text.startswith(f"127.0.0.1:{lacking.port}: ") for error in errors)
    finally:
        for node in clustered.nodes:
            node.client.acl_deluser("cacheops")
