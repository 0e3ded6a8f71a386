"""What the cache costs: commands and round trips to Redis, statements to the database."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from django.db import transaction
from django.db.models import Sum

from tests import models as m

from .tools import ALL, MANUAL, costs, post

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

#: Commands that are ours to look, not the cache's.
#: Before Redis 7 parts of a command are counted as the whole.
LOOKING = {
    "info", "config", "config|resetstat", "monitor", "hello", "client", "client|setinfo", "select",
    "auth",
}  # fmt: skip


@contextmanager
def told_by_server(client: redis.Redis) -> Iterator[Counter[str]]:
    """What the server says that it was asked for, its own scripts' commands included."""
    client.config_resetstat()
    seen: Counter[str] = Counter()
    yield seen
    for name, values in client.info("commandstats").items():
        command = name.removeprefix("cmdstat_")
        if command not in LOOKING:
            seen[command] = values["calls"]


READS: dict[str, Callable[[], Any]] = {
    "get": lambda: m.Post.objects.get(title="a post"),
    "get by pk": lambda: m.Post.objects.get(pk=PK[0]),
    "get in a filter": lambda: m.Post.objects.filter(views=0).get(title="a post"),
    "get of nothing": lambda: _nothing(lambda: m.Post.objects.get(title="no post")),
    "get of nothing in a filter": lambda: _nothing(
        lambda: m.Post.objects.filter(views=0).get(title="no post")
    ),
    "fetch": lambda: list(m.Post.objects.filter(category__slug="one")),
    "fetch of nothing": lambda: list(m.Post.objects.filter(title="no post")),
    "two tables": lambda: list(m.Post.objects.filter(author__name="Ann")),
    "select_related": lambda: list(m.Post.objects.select_related("author", "category")),
    "many to many": lambda: list(m.Tag.objects.filter(posts=PK[0])),
    "disjunction": lambda: list(m.Post.objects.filter(title__in=["a post", "b", "c"])),
    "first": lambda: m.Post.objects.first(),
    "count": lambda: m.Post.objects.filter(views=0).count(),
    "exists": lambda: m.Post.objects.filter(views=0).exists(),
    "aggregate": lambda: m.Post.objects.aggregate(Sum("views")),
    "values_list": lambda: list(m.Post.objects.values_list("title", flat=True)),
    "foreign key": lambda: m.Post(author_id=PK[1]).author,
    "lock": lambda: list(m.Post.objects.filter(views=0).cache(lock=True)),
}

PK = [0, 0]


def _nothing(read: Callable[[], Any]) -> None:
    with pytest.raises(m.Post.DoesNotExist):
        read()


@pytest.fixture(autouse=True)
def world(settings: Any) -> None:
    settings.CACHEOPS = ALL
    one = post()
    one.tags.add(m.Tag.objects.create(name="red"))
    PK[:] = [one.pk, one.author_id]


@pytest.mark.parametrize("name", READS)
def test_a_hit_is_one_command_and_no_sql(redis_client: Any, name: str) -> None:
    """A hit costs exactly one command, MGET, in one round trip, and no SQL."""
    read = READS[name]
    read(), read()
    with told_by_server(redis_client) as server, costs() as spent:
        read()
    assert spent.sql == []
    assert spent.hits == [True]
    assert (spent.trips, spent.sent) == (1, ["MGET"])
    assert server == {"mget": 1}


def test_monitor_sees_the_same(redis_client: Any) -> None:
    """The server's own monitor shows one MGET for each hit, and nothing else."""
    for read in READS.values():
        read(), read()
    seen: list[str] = []
    with redis_client.monitor() as monitor:
        for read in READS.values():
            read()
        redis_client.echo("done")
        for line in monitor.listen():
            if line["command"].startswith("ECHO"):
                break
            if not line["command"].startswith(("HELLO", "CLIENT", "SELECT")):  # of the echo
                seen.append(line["command"].split()[0])
    assert seen == ["MGET"] * len(READS)


def test_many_hits_keep_their_cost(redis_client: Any) -> None:
    """A hundred hits are a hundred commands: nothing is renewed, counted or cleaned beside."""
    read = READS["two tables"]
    read(), read()
    with told_by_server(redis_client) as server:
        for _ in range(100):
            read()
    assert server == {"mget": 100}


@pytest.mark.parametrize("name", sorted(set(READS) - {"lock"}))
def test_a_miss_is_at_most_one_round_trip_more_than_read_and_store(
    redis_client: Any, name: str
) -> None:
    """In steady state a miss is at most three trips (look, stamps, store) and the query's own SQL."""
    read = READS[name]
    read(), read()
    for key in redis_client.scan_iter(match="q:*"):
        redis_client.delete(key)
    with costs() as spent:
        read()
    assert spent.hits == [False]
    assert spent.trips <= 3
    assert len(spent.sql) == 1
    with costs() as spent:
        read()
    assert (spent.hits, spent.trips) == ([True], 1)


@pytest.mark.parametrize("name", sorted(set(READS) - {"lock"}))
def test_a_miss_after_a_write_is_no_dearer(name: str) -> None:
    """Also when a write has dropped the stamps a miss is at most three trips in steady state."""
    read = READS[name]
    for _ in range(3):
        read(), read()
        m.Post.objects.filter(pk=PK[0]).update(text="changed")
    with costs() as spent:
        read()
    assert spent.trips <= 3


def test_a_miss_of_a_cold_cache_is_bounded(redis_client: Any) -> None:
    """The very first read of all is a few trips, too, the connection's greeting included."""
    with costs() as spent:
        READS["select_related"]()
    assert spent.trips <= 6


# -- writes ------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[], Any]] = {
    "save": lambda: m.Post.objects.nocache().get(pk=PK[0]).save(),
    "save of one field": lambda: m.Post(pk=PK[0], text="x").save(update_fields=["text"]),
    "save of a field of a scheme": lambda: m.Post(pk=PK[0], title=str(time.monotonic())).save(
        update_fields=["title"]
    ),
    "create": lambda: m.Post.objects.create(title="new", author_id=PK[1], category_id=_category()),
    "update": lambda: m.Post.objects.filter(pk=PK[0]).update(views=5),
    "update of a field of a scheme": lambda: m.Post.objects.filter(pk=PK[0]).update(title="new"),
    "delete": lambda: m.Post.objects.filter(title="new").nocache().delete(),
    "a table with nothing cached": lambda: m.Memo.objects.create(text="memo"),
    "inheritance": lambda: m.Pizzeria.objects.create(name="Gino"),
    "several in a transaction": lambda: _several(),
    "many to many": lambda: m.Post(pk=PK[0]).tags.set([m.Tag.objects.create(name="n")]),
}


def _category() -> int:
    return m.Category.objects.nocache().get().pk


@transaction.atomic
def _several() -> None:
    for name in ("save", "create", "update", "inheritance"):
        WRITES[name]()


@pytest.mark.parametrize("name", sorted(set(WRITES) - {"many to many"}))
def test_a_write_is_at_most_two_round_trips(name: str) -> None:
    """In steady state a save outside a transaction, or a whole transaction, is two trips: mark, bump."""

    def read_all() -> None:
        for read in READS.values():
            with suppress(m.Post.DoesNotExist):
                read()

    for _ in range(2):
        read_all()
        WRITES[name]()
    read_all()
    with costs() as spent:
        WRITES[name]()
    assert spent.trips <= 2, spent
    assert set(spent.sent) <= {"EVALSHA"}


def test_a_write_of_a_forbidden_model_is_free(settings: Any) -> None:
    """A model whose profile is ``None`` costs nothing at all."""
    settings.CACHEOPS = {**ALL, "tests.memo": None}
    memo = m.Memo.objects.create(text="a")
    with costs() as spent:
        memo.save()
        m.Memo.objects.filter(text="a").update(text="b")
        m.Memo.objects.all().delete()
    assert spent.trips == 0
    assert [sql.split()[0] for sql in spent.sql] == [
        "UPDATE",
        "UPDATE",
        "BEGIN",
        "DELETE",
        "COMMIT",
    ]


def test_a_write_where_nothing_is_cached_looks_nothing_up() -> None:
    """With no scheme in use an update runs no SELECT of ours."""
    m.Memo.objects.create(text="a")
    with costs() as spent:
        m.Memo.objects.filter(text="a").update(text="b")
    assert [sql for sql in spent.sql if sql.startswith("SELECT")] == []


def test_a_write_of_one_model_says_nothing_of_others(redis_client: Any) -> None:
    """The keys that a write touches are those of its own table."""
    for read in READS.values():
        read(), read()
    seen: list[str] = []
    with redis_client.monitor() as monitor:
        WRITES["update"]()
        redis_client.echo("done")
        for line in monitor.listen():
            if line["command"].startswith("ECHO"):
                break
            seen.append(line["command"])
    assert seen
    text = " ".join(seen)
    assert "{tests_post}" in text
    assert "{tests_author}" not in text and "{tests_category}" not in text


def test_a_read_of_another_process_costs_no_more(settings: Any) -> None:
    """A process that remembers nothing has a hit in one or two trips beyond its greeting."""
    from cacheops_lite import conf

    for name in ("get", "two tables", "count"):
        READS[name](), READS[name]()
    conf.reset()
    READS["exists"](), READS["exists"]()  # greets the server
    for name in ("get", "two tables", "count"):
        with costs() as spent:
            READS[name]()
        assert (spent.hits, spent.trips, spent.sql) == ([True], 1, [])
    with costs() as spent:
        READS["select_related"]()
    conf.reset()
    READS["exists"]()
    with costs() as spent:
        READS["select_related"]()
    assert spent.hits == [True]
    assert spent.trips <= 2, "its entry names keys that the query does not tell"


def test_caching_by_hand_costs_the_same(settings: Any, redis_client: Any) -> None:
    """``.cache()`` costs one command for a hit, as a profile does."""
    settings.CACHEOPS = MANUAL
    read = lambda: list(m.Post.objects.filter(title="a post").cache(timeout=30))  # noqa: E731
    read(), read()
    with told_by_server(redis_client) as server:
        read()
    assert server == {"mget": 1}
