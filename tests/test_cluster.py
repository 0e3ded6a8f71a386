"""Redis Cluster: the same contract, the same freshness, also while slots move and nodes die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.exceptions
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from redis.crc import key_slot

from cacheops_lite import RedisCache, cached_as, engine, stats
from cacheops_lite.core.protocol import Script, run
from cacheops_lite.core.servers import Servers, in_both, server_at, tag_of
from cacheops_lite.exceptions import StoreUnavailable
from cacheops_lite.stores.client import cluster_seeds, node_client
from cacheops_lite.stores.cluster import ClusterTransport
from cacheops_lite.stores.nodes import AsyncNode, SyncNode
from cacheops_lite.stores.slots import SlotMap

from . import models as m
from .clusters import Cluster, Node, running
from .faults.processes import Processes
from .test_store_contract import GEN, OnRedis, Store, StoreContract
from .test_write_paths import CASES, World
from .watching import Read, assert_dropped, assert_fresh, assert_hit, hits, prime


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """Three primaries for the tests that leave them as they are."""
    with running() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    shared.flush()
    return shared


def over(cluster: Cluster, *, asynchronous: bool = False, seeds: Any = None) -> ClusterTransport:
    kind = AsyncNode if asynchronous else SyncNode
    return ClusterTransport(
        seeds or cluster_seeds(cluster.url),
        lambda address: kind(node_client(cluster.url, address, asynchronous=asynchronous)),
    )


# -- the transport ---------------------------------------------------------------------------------


class OnCluster(OnRedis):
    @property
    def server(self) -> bytes:
        return server_at(self.finish(self.transport.mget([GEN])).server, GEN)


class TestSyncCluster(StoreContract):
    @pytest.fixture
    def store(self, cluster: Cluster) -> Iterator[Store]:
        transport, client = over(cluster), redis.RedisCluster.from_url(cluster.url)
        yield OnCluster(transport, run, client)
        transport.close()
        client.close()


class TestAsyncCluster(StoreContract):
    @pytest.fixture
    def store(self, cluster: Cluster) -> Iterator[Store]:
        client = redis.RedisCluster.from_url(cluster.url)
        with asyncio.Runner() as runner:
            transport = over(cluster, asynchronous=True)
            yield OnCluster(transport, runner.run, client)
            runner.run(transport.aclose())
        client.close()


def test_keys_of_many_slots(cluster: Cluster) -> None:
    """Values come in the order of the keys, each with the id of the server that has it."""
    transport = over(cluster)
    keys = [b"k{%d}" % number for number in range(60)]
    for key in keys[::2]:
        run(transport.set(key, b"v" + key, 60_000))
    reply = run(transport.mget([*keys, keys[0]]))
    assert reply.values == [
        b"v" + key if index % 2 == 0 else None for index, key in enumerate(keys)
    ] + [b"v" + keys[0]]
    for key in keys:
        owner = cluster.owner(key_slot(tag_of(key)))
        assert server_at(reply.server, key) == owner.client.info("server")["run_id"].encode()
    run(transport.delete(keys))
    assert not any(run(transport.mget(keys)).values)
    transport.close()


@pytest.mark.parametrize(
    "key", [b"a", b"{a}b", b"a{b}c", b"a{}b", b"{a", b"a}", b"x{y}{z}", b"{{a}}", b"\xff{\x00}"]
)
def test_hash_tags(key: bytes) -> None:
    """What we take for the tag decides the slot exactly as it does for Redis."""
    assert key_slot(tag_of(key)) == key_slot(key)


def test_ids_of_two_looks() -> None:
    """Servers that changed between two looks vouch for nothing (A8)."""
    assert in_both(b"one", b"one") == b"one"
    assert in_both(b"one", b"two") == b""
    merged = in_both(Servers(a=b"1", b=b"2"), Servers(b=b"3", c=b"4"))  # type: ignore[arg-type]
    assert merged == {"a": b"1", "b": b"", "c": b"4"}
    assert server_at(Servers({b"a": b"1"}), b"k{a}") == b"1"
    assert server_at(Servers({b"a": b"1"}), b"k{other}") == b""


def test_seeds(cluster: Cluster) -> None:
    """One living node is enough to begin with."""
    transport = over(cluster, seeds=[("127.0.0.1", 1), ("127.0.0.1", cluster.nodes[2].port)])
    assert run(transport.set(b"k", b"v", 60_000))
    transport.close()
    with pytest.raises(StoreUnavailable):
        run(over(cluster, seeds=[("127.0.0.1", 1)]).mget([b"k"]))


def test_no_cluster(redis_client: redis.Redis) -> None:
    """A server that is no cluster is told apart, and is no answer."""
    socket = redis_client.connection_pool.connection_kwargs.get("path")
    if socket is None:
        pytest.skip("the server of this run is a cluster itself")
    node = SyncNode(redis.Redis(unix_socket_path=socket))
    transport = ClusterTransport([("here", 1)], lambda address: node)
    with pytest.raises(StoreUnavailable, match="no Redis Cluster"):
        run(transport.mget([b"k"]))


def test_gaps_in_the_map() -> None:
    """Slots that nobody serves are known as such; nodes without a name are the one asked."""
    slots = SlotMap.parse([[10, 20, [b"", 7, b"id"]], [0, 5, [b"b", 8, b"id"]]], ("a", 1))
    assert [slots.find(slot) for slot in (0, 5, 6, 10, 20, 21)] == [
        ("b", 8), ("b", 8), None, ("a", 7), ("a", 7), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "seeds"),
    [
        ("redis://user:pass@somewhere:7000/0", [("somewhere", 7000)]),
        ({"host": "h", "port": 7}, [("h", 7)]),
        ({"startup_nodes": [{"host": "h", "port": "8"}]}, [("h", 8)]),
        ({"startup_nodes": [redis.cluster.ClusterNode("h", 9)]}, [("h", 9)]),
    ],
)
def test_ways_to_name_a_node(config: Any, seeds: list[tuple[str, int]]) -> None:
    """A URL, or the options of redis-py; each node is asked with the same options."""
    assert cluster_seeds(config)[0][1] == seeds[0][1]
    client = node_client(config, ("other", 1), asynchronous=False)
    options = client.connection_pool.connection_kwargs
    assert (options["host"], options["port"]) == ("other", 1)
    if isinstance(config, str):
        assert (options["username"], options["password"]) == ("user", "pass")


# -- the ORM ---------------------------------------------------------------------------------------


@pytest.fixture
def clustered(cluster: Cluster, settings: Any) -> Cluster:
    """The settings lead to the cluster."""
    use(cluster, settings)
    return cluster


def use(cluster: Cluster, settings: Any) -> None:
    settings.CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster"
    settings.CACHEOPS_REDIS = cluster.url


NAMES = [
    "save_changed", "save_moved", "m2m_add", "select_related_row_changed", "mti_child_saved",
    "on_delete_cascade", "bulk_update", "raw_update", "rolled_back", "generic_relation",
    "update_with_subquery_condition", "async_save",
]  # fmt: skip


@pytest.mark.django_db(transaction=True, databases=["default"])
@pytest.mark.parametrize("name", NAMES)
def test_writes(clustered: Cluster, name: str) -> None:
    """After a write, what it touched is read anew, and the rest is still a hit."""
    dropped, write, kept = CASES[name]
    world = World()
    gone, stays = dropped(world), kept(world)
    prime(*gone, *stays)
    write(world)
    for read in stays:
        assert_hit(read)
    for read in gone:
        assert_dropped(read)


def commands(cluster: Cluster, act: Callable[[], Any]) -> dict[str, int]:
    """How often each command was sent to any node, but for those that ask for this."""
    for node in cluster.nodes:
        node.client.config_resetstat()
    act()
    counts: dict[str, int] = {}
    for node in cluster.nodes:
        for name, numbers in node.client.info("commandstats").items():
            name = name.removeprefix("cmdstat_")
            if not name.startswith(("config", "info", "cluster", "replconf", "ping")):
                counts[name] = counts.get(name, 0) + numbers["calls"]
    return counts


@pytest.mark.django_db(transaction=True)
def test_cost_of_a_hit(clustered: Cluster) -> None:
    """One table: one MGET. Several tables: one for each slot."""
    world = World()
    one, joined = world.in_category(world.c1), world.with_author(world.c1)
    prime(one, joined)
    assert commands(clustered, one.cached) == {"mget": 1}
    slots = {key_slot(table) for table in (b"tests_post", b"tests_author")}
    assert commands(clustered, joined.cached) == {"mget": len(slots)}


@pytest.mark.django_db(transaction=True)
def test_functions_and_values(clustered: Cluster) -> None:
    """Cached functions, the simple cache, and one over a client of one's own."""
    calls = []

    @cached_as(m.Tag)
    def names() -> list[str]:
        calls.append(1)
        return [tag.name for tag in m.Tag.objects.nocache()]

    assert [names(), names(), len(calls)] == [[], [], 1]
    m.Tag.objects.create(name="red")
    assert names() == ["red"]
    own = RedisCache(redis.RedisCluster.from_url(clustered.url))
    own.set("key", {"a": 1}, timeout=60)
    assert own.get("key") == {"a": 1}


@pytest.mark.django_db(transaction=True)
def test_async_reads(clustered: Cluster) -> None:
    """Coroutines have sockets of their own to each node."""

    @cached_as(m.Tag, m.Author)
    async def number() -> int:
        return await m.Tag.objects.nocache().acount()

    async def act() -> list[int]:
        found = [await number(), await number()]
        await m.Tag.objects.acreate(name="red")
        found.append(await number())
        await engine.current().aclose()
        return found

    assert async_to_sync(act)() == [0, 0, 1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CACHEOPS_REDIS", "redis://127.0.0.1:7000/3"),
        ("CACHEOPS_REDIS", {"host": "h", "db": 1}),
        ("CACHEOPS_REDIS", {"host": "h", "nonsense": 1}),
        ("CACHEOPS_REDIS", "unix:///somewhere"),
        ("CACHEOPS_SENTINEL", {"locations": [("h", 1)], "service_name": "s"}),
    ],
)
def test_bad_configuration(settings: Any, name: str, value: Any) -> None:
    """What cannot be is said, before the first command."""
    settings.CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster"
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:7000/0"
    setattr(settings, name, value)
    with pytest.raises(ImproperlyConfigured, match="Cannot connect to Redis as configured"):
        _ = engine.current().transport


# -- several nodes ---------------------------------------------------------------------------------


def apart(transport: Any, *names: str) -> list[str]:
    """Tables of different nodes."""
    run(transport.primaries())
    found: dict[Any, str] = {}
    for name in names:
        found.setdefault(transport.serves(b"gen:{%s}" % name.encode()), name)
    return list(found.values())


TABLES = {f"tests_{model.__name__.lower()}": model for model in (m.Tag, m.Author, m.Memo)}


@pytest.mark.parametrize("method", ["mget", "scripts"])
def test_all_nodes_are_asked_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """One thread sends to every node before it waits for the first answer."""
    transport = over(cluster)
    keys = [b"gen:{k%d}" % number for number in range(30)]
    calls = [
        Script("mark", [key, key + b"s", key + b"c"], [b"%016x" % index, b"60000"])
        for index, key in enumerate(keys)
    ]

    def ask() -> Any:
        return run(transport.mget(keys) if method == "mget" else transport.scripts(calls))

    ask()
    ask()
    order: list[str] = []
    for name in ("_send", "_read"):
        original = getattr(SyncNode, name)

        async def noting(self: Any, *args: Any, name: str = name, original: Any = original) -> Any:
            order.append(name)
            return await original(self, *args)

        monkeypatch.setattr(SyncNode, name, noting)
    ask()
    assert order[:3] == ["_send"] * 3 and set(order[3:]) == {"_read"}
    transport.close()


@pytest.mark.django_db(transaction=True)
def test_a_dead_node_is_its_own_tables_trouble(settings: Any) -> None:
    """One transaction writes tables of two nodes, one of which hangs: the others hear of the rest."""
    with running(3) as cluster:
        for node in cluster.nodes:
            node.client.config_set("cluster-require-full-coverage", "no")
        settings.CACHEOPS = {"*.*": {"timeout": 60}}
        settings.CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster"
        settings.CACHEOPS_REDIS = {"port": cluster.nodes[0].port, "socket_timeout": 0.2}
        first, second = apart(engine.current().transport, *TABLES)[:2]
        for dead, living in ((first, second), (second, first)):
            make = {name: lambda name=name: TABLES[name].objects.all().cache() for name in TABLES}
            processes = Processes()
            for name in ("writer", "reader"):
                processes.start(name, settings.CACHEOPS_REDIS)
                with processes.on(name):
                    prime(Read(make[living]), Read(make[dead]))
            node = cluster.owner(key_slot(dead.encode()))
            os.kill(node.server.pid, signal.SIGSTOP)
            try:
                with processes.on("writer"), transaction.atomic():
                    for name in (dead, living):
                        create(TABLES[name])
                with processes.on("reader"):
                    assert_fresh(Read(make[living]))
                with processes.on("writer"):
                    assert_fresh(Read(make[living]))
                    prime(Read(make[living]))
            finally:
                os.kill(node.server.pid, signal.SIGCONT)
            cluster.wait(lambda node=node: node.client.cluster("INFO")["cluster_state"] == "ok")
            processes.close()


@pytest.mark.django_db(transaction=True)
def test_a_process_that_ends_waits_for_no_dead_cluster(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters are shared at the end of a process while the nodes answer, and not after that."""
    shared: list[int] = []
    monkeypatch.setattr(stats, "share", lambda: shared.append(1))
    with running(3) as cluster:
        use(cluster, settings)
        settings.CACHEOPS_STATS_INTERVAL = 60
        prime(*(Read(model.objects.all().cache) for model in TABLES.values()))
        stats._last_words()
        assert shared == [1]
        dead = cluster.owner(key_slot(b"tests_tag"))
        dead.server.stop()
        assert_fresh(Read(m.Tag.objects.all().cache))
        stats._last_words()
        assert shared == [1]


def create(model: Any) -> Any:
    """A row of a table that needs no others."""
    if model is m.Memo:
        return model.objects.create(text="x")
    return model.objects.create(name=f"n{model.objects.count()}")


# -- slots that move -------------------------------------------------------------------------------


def move(cluster: Cluster, slot: int, between: Callable[[], None]) -> None:
    """Move a slot to the next node as an operator does, with something done after each step."""
    source = cluster.owner(slot)
    target = cluster.nodes[(cluster.nodes.index(source) + 1) % len(cluster.nodes)]
    target.ask("SETSLOT", slot, "IMPORTING", source.id)
    between()
    source.ask("SETSLOT", slot, "MIGRATING", target.id)
    between()
    while keys := source.ask("GETKEYSINSLOT", slot, 3):
        assert isinstance(keys, list)
        for key in keys:
            source.client.migrate("127.0.0.1", target.port, key, 0, 1000)
            between()
    for node in (target, source, *cluster.nodes):
        node.ask("SETSLOT", slot, "NODE", target.id)
        between()
    cluster.wait(lambda: cluster.owner(slot) is target)


@pytest.mark.django_db(transaction=True)
def test_resharding_under_load(clustered: Cluster) -> None:
    """While a table's slot moves key by key, every answer is what the database says."""
    world = World()
    reads = [world.in_category(world.c1), world.one(world.p1), world.with_author(world.c1)]
    prime(*reads)
    steps = iter(range(1000))

    def work() -> None:
        step = next(steps)
        for read in reads:
            assert_fresh(read)
        m.Post.objects.filter(pk=world.p1.pk).update(title=f"step {step}")
        for read in reads:
            assert_fresh(read)

    move(clustered, key_slot(b"tests_post"), work)
    assert next(steps) > 8
    engine.reset()  # a process that starts now, and one that has followed the slot, agree
    prime(*reads)
    work()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_failover(settings: Any) -> None:
    """A primary dies and its replica takes over: nothing stale then, and cached again."""
    with running(3, replicas=3) as cluster:
        use(cluster, settings)
        world = World()
        reads = [world.in_category(world.c1), world.one(world.p1), world.with_author(world.c1)]
        prime(*reads)
        dead = cluster.owner(key_slot(b"tests_post"))
        rest = [node for node in cluster.nodes if node is not dead]
        dead.server.stop()

        def alive(node: Node) -> bool:
            try:
                return bool(node.client.cluster("INFO")["cluster_state"] == "ok")
            except redis.exceptions.RedisError:
                return False

        step = 0
        while step < 3 or not all(alive(node) for node in rest):
            step += 1
            m.Post.objects.filter(pk=world.p1.pk).update(title=f"step {step}")
            for read in reads:
                assert_fresh(read)
        cluster.wait(lambda: all(_cached(read) for read in reads))
        m.Post.objects.filter(pk=world.p1.pk).update(title="last")
        for read in reads:
            assert_fresh(read)


def _cached(read: Read) -> bool:
    with hits() as seen:
        assert_fresh(read)
    return bool(seen) and all(seen)
