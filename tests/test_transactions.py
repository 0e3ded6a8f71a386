"""Transactions however they are begun and ended, raw SQL, several databases, many changes at once.

What every user meets is in tests/acceptance; here are the corners.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.models.functions import Random

import cacheops_lite
from cacheops_lite import engine
from cacheops_lite.core.entry import UNKNOWN, Change
from cacheops_lite.orm.pending import pending
from cacheops_lite.orm.rawsql import Kind, classify, commits_in_mysql
from cacheops_lite.signals import cache_invalidated

from . import models as m
from .watching import Read, assert_dropped, assert_fresh, assert_hit, hits, prime
from .wires import Actor, Gate, elsewhere, tapped

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.database,
]


def only_on(*vendors: str) -> Any:
    """This needs what other databases do not have; .ci/run runs each database."""
    from django.conf import settings

    here = {"sqlite": "sqlite", "postgres": "postgresql", "mysql": "mysql"}[settings.TEST_DB]
    return pytest.mark.skipif(here not in vendors, reason=f"needs {' or '.join(vendors)}")


class World:
    """Two tags, and the reads of each."""

    def __init__(self) -> None:
        self.red, self.blue = (m.Tag.objects.create(name=name) for name in ("red", "blue"))
        self.author = m.Author.objects.create(name="Ann")
        self.reds, self.blues = self.named("red"), self.named("blue")
        self.greens = self.named("green")
        self.authors = Read(lambda: m.Author.objects.filter(name="Ann"), label="authors")

    @staticmethod
    def named(name: str) -> Read:
        return Read(lambda: m.Tag.objects.filter(name=name), label=name)

    def repaint(self, name: str = "green") -> None:
        m.Tag.objects.filter(pk=self.red.pk).update(name=name)

    def prime(self) -> None:
        prime(self.reds, self.blues, self.greens, self.authors)

    def assert_repainted(self) -> None:
        """One tag is green now, and nothing else was dropped."""
        for read in (self.reds, self.greens):
            assert_dropped(read)
        assert self.reds.cached() == []
        assert len(self.greens.cached()) == 1
        assert_hit(self.blues)
        assert_hit(self.authors)

    def assert_untouched(self) -> None:
        for read in (self.reds, self.greens, self.blues, self.authors):
            assert_hit(read)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.prime()
    yield made
    for one in connections.all(initialized_only=True):
        one.close()


def execute(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)


# -- commit and its callbacks ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["atomic", "nested", "manual", "durable"])
def test_callbacks_after_the_commit_read_what_was_committed(world: World, how: str) -> None:
    """``on_commit`` callbacks never see a cached answer from before the commit."""
    seen: list[Any] = []

    def callback() -> None:
        seen.append((world.reds.cached(), len(world.greens.cached())))

    if how == "manual":
        transaction.set_autocommit(False)
        world.repaint()
        transaction.on_commit(callback) if connection.in_atomic_block else None
        with transaction.atomic():
            transaction.on_commit(callback)
        transaction.commit()
        transaction.set_autocommit(True)
    else:
        with transaction.atomic(durable=how == "durable"):
            world.repaint()
            with transaction.atomic(savepoint=how == "nested"):
                transaction.on_commit(callback)
    assert seen == [([], 1)]


def test_callback_that_writes_again(world: World) -> None:
    """A write in a callback is a transaction of its own, and drops by itself."""
    with transaction.atomic():
        world.repaint()
        transaction.on_commit(lambda: world.repaint("violet"))
    assert world.greens.cached() == []
    assert len(world.named("violet").cached()) == 1
    assert_hit(world.blues)


@only_on("sqlite", "postgresql")
def test_commit_that_fails_by_a_deferred_constraint(world: World) -> None:
    """Nothing is dropped by a commit that did not happen, and afterwards the connection caches."""
    with pytest.raises(IntegrityError), transaction.atomic():
        world.repaint()
        m.Post.tags.through.objects.create(post_id=10_000, tag_id=10_000)
    for read in (world.reds, world.greens):
        assert_fresh(read)
        prime(read)
    world.assert_untouched()
    world.repaint()
    world.assert_repainted()


def test_commit_that_seems_to_fail_while_caching_is_off(world: World, settings: Any) -> None:
    """What may have been committed is not trusted when caching is on again."""
    settings.CACHEOPS_ENABLED = False
    commit = connection._commit

    def lost() -> None:
        commit()
        raise DatabaseError("the answer was lost")

    connection._commit = lost
    try:
        with pytest.raises(DatabaseError, match="lost"), transaction.atomic():
            world.repaint()
    finally:
        del connection._commit
    settings.CACHEOPS_ENABLED = True
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == 1


@only_on("sqlite", "postgresql")
def test_manual_commit_that_fails(world: World) -> None:
    """The same without ``atomic``: after the rollback the connection caches again."""
    transaction.set_autocommit(False)
    world.repaint()
    m.Post.tags.through.objects.create(post_id=10_000, tag_id=10_000)
    with pytest.raises(IntegrityError):
        transaction.commit()
    transaction.rollback()
    transaction.set_autocommit(True)
    for read in (world.reds, world.greens):
        assert_fresh(read)
        prime(read)
    world.assert_untouched()


def test_transaction_that_an_error_has_broken(world: World) -> None:
    """After a database error in the middle all is rolled back, and the connection caches."""
    with pytest.raises(DatabaseError), transaction.atomic():
        world.repaint()
        execute("SELECT nothing FROM nowhere")
    world.assert_untouched()
    world.repaint()
    world.assert_repainted()


# -- connections that end ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "lost"])
@pytest.mark.parametrize("begun", ["atomic", "manual"])
def test_connection_that_ends_in_a_transaction(world: World, how: str, begun: str) -> None:
    """What was not committed is not dropped, and the next connection caches and is heard."""

    def end() -> None:
        world.repaint()
        assert len(world.greens.cached()) == 1
        if how == "lost":
            with suppress(Exception):
                connection.connection.close()
        with suppress(DatabaseError):
            connection.close()

    if begun == "atomic":
        with suppress(DatabaseError), transaction.atomic():
            end()
    else:
        transaction.set_autocommit(False)
        end()
    world.assert_untouched()
    world.repaint()
    world.assert_repainted()


@only_on("postgresql", "mysql")
def test_connection_lost_during_the_commit(world: World) -> None:
    """Nobody knows whether it was committed: the tables are not read from the cache for a while."""

    def repaint_and_lose() -> None:
        with transaction.atomic():
            world.repaint()
            number = _backend()
            elsewhere(lambda: _kill(number))
            time.sleep(0.2)

    with pytest.raises(DatabaseError):
        repaint_and_lose()
    with suppress(DatabaseError):
        connection.close()
    for _ in range(2):
        for read in (world.reds, world.greens, world.authors):
            assert_fresh(read)


def test_what_may_still_be_committed_outlives_a_reset(world: World, redis_client: Any) -> None:
    """New settings, and sockets, do not make a commit certain whose outcome nobody knows."""
    ticket = engine.current().mark([Change("tests_tag", UNKNOWN, UNKNOWN)])
    engine.current().bump(ticket, committed=None)
    engine.reset()
    redis_client.flushdb()
    with hits() as seen:
        for _ in range(3):
            world.reds.cached()
    assert seen == [False] * 3


def _backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid()" if connection.vendor == "postgresql"
            else "SELECT CONNECTION_ID()"
        )  # fmt: skip
        return int(cursor.fetchone()[0])


def _kill(number: int) -> None:
    if connection.vendor == "postgresql":
        execute("SELECT pg_terminate_backend(%s)", number)
    else:
        execute(f"KILL {number}")


# -- raw transaction control -------------------------------------------------------------------


def raw_insert(name: str) -> str:
    group = connection.ops.quote_name("group")
    return f"INSERT INTO tests_tag (name, {group}) VALUES ('{name}', '')"


def test_raw_transaction_with_savepoints(world: World) -> None:
    """BEGIN, SAVEPOINT, ROLLBACK TO, RELEASE and COMMIT through a cursor are a transaction too."""
    execute("BEGIN")
    execute(f"UPDATE tests_tag SET name = 'green' WHERE id = {world.red.pk}")
    execute("SAVEPOINT one")
    execute("UPDATE tests_tag SET name = 'never'")
    execute("ROLLBACK TO SAVEPOINT one")
    execute("RELEASE SAVEPOINT one")
    assert len(world.greens.cached()) == 1
    assert elsewhere(lambda: len(world.reds.cached())) == 1
    execute("COMMIT")
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == len(world.blues.cached()) == 1
    prime(world.reds, world.blues)
    assert_hit(world.authors)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_querysets_write_in_a_raw_transaction(world: World, end: str) -> None:
    """``update()`` and a fast ``delete()`` do there what they do without a cache."""
    execute("BEGIN")
    assert m.Tag.objects.filter(pk=world.red.pk).update(name="green") == 1
    blues = m.Tag.objects.filter(pk=world.blue.pk)
    assert blues._raw_delete("default") == 1
    assert len(elsewhere(world.reds.cached)) == len(elsewhere(world.blues.cached)) == 1
    execute(end)
    if end == "ROLLBACK":
        world.assert_untouched()
    for read, count in ((world.reds, 0), (world.blues, 0), (world.greens, 1)):
        assert_fresh(read)
        assert len(read.cached()) == (count if end == "COMMIT" else not count)


@pytest.mark.parametrize("end", ["ROLLBACK", "ROLLBACK AND CHAIN"])
def test_raw_rollback(world: World, end: str) -> None:
    """A raw ROLLBACK drops nothing; what is chained to it is a transaction again."""
    if "CHAIN" in end and connection.vendor == "sqlite":
        pytest.skip("no chains in SQLite")
    execute("BEGIN")
    execute("UPDATE tests_tag SET name = 'never'")
    execute(end)
    if "CHAIN" not in end:
        world.assert_untouched()
        return
    execute("UPDATE tests_tag SET name = 'green' WHERE name = 'red'")
    assert elsewhere(lambda: len(world.reds.cached())) == 1
    elsewhere(world.prime)
    execute("COMMIT")
    assert_fresh(world.reds)
    assert world.reds.cached() == []


@only_on("sqlite")
def test_statement_that_is_over_when_its_rows_are_fetched(world: World) -> None:
    """SQLite commits RETURNING with its last row: nobody stores in between what was before it."""
    sql = "UPDATE tests_tag SET name = 'green' RETURNING id"
    pks = [world.red.pk, world.blue.pk]
    with connection.cursor() as cursor:
        cursor.execute(sql)
        elsewhere(world.prime)
        assert [pk for (pk,) in cursor] == pks
        assert elsewhere(world.reds.cached) == []
        cursor.execute(sql)
        assert cursor.fetchone() == (pks[0],)
        assert cursor.fetchmany() == [(pks[1],)]
        assert cursor.fetchone() is None
        assert cursor.fetchmany(5) == cursor.fetchall() == []
        cursor.execute(sql)
        assert cursor.fetchall() == [(pk,) for pk in pks]
        cursor.execute("SELECT name FROM tests_tag")
        assert cursor.fetchall() == [("green",), ("green",)]
    assert [tag.pk for tag in m.Tag.objects.raw(sql)] == pks
    assert_fresh(world.greens)


@only_on("sqlite")
def test_savepoint_that_begins_a_transaction_of_sqlite(world: World) -> None:
    """Outside a transaction a savepoint of SQLite begins one, and its release is the commit."""
    execute('SAVEPOINT "Outer"')
    execute(f"UPDATE tests_tag SET name = 'green' WHERE id = {world.red.pk}")
    execute("SAVEPOINT inner_one")
    execute("UPDATE tests_tag SET name = 'never'")
    execute("ROLLBACK TO inner_one")
    execute("RELEASE inner_one")
    assert len(world.greens.cached()) == 1
    with hits() as seen:
        assert elsewhere(lambda: len(world.reds.cached())) == 1
    assert seen == [True]
    execute("RELEASE SAVEPOINT outer")
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == 1
    prime(world.reds, world.greens)
    assert_hit(world.authors)


@only_on("sqlite")
def test_atomic_without_autocommit_on_sqlite(world: World) -> None:
    """There the savepoint of an ``atomic`` block is the outermost: its end is a commit."""
    transaction.set_autocommit(False)
    with transaction.atomic():
        world.repaint()
    with hits() as seen:
        assert elsewhere(world.reds.cached) == []
    assert seen == [False]
    connection.close()
    assert_fresh(world.reds)
    assert len(world.greens.cached()) == 1


@only_on("sqlite")
def test_statement_that_commits_itself_without_autocommit_on_sqlite(world: World) -> None:
    """Python begins a transaction before INSERT and the like only; others take effect at once."""
    transaction.set_autocommit(False)
    execute("WITH x AS (SELECT 1) UPDATE tests_tag SET name = 'green' WHERE name = 'red'")
    assert elsewhere(world.reds.cached) == []
    transaction.rollback()
    transaction.set_autocommit(True)
    assert_fresh(world.reds)
    assert len(world.greens.cached()) == 1


@only_on("sqlite")
def test_script(world: World) -> None:
    """``executescript`` commits what was open and then does what it says."""
    with transaction.atomic():
        world.repaint()
        with connection.cursor() as cursor:
            cursor.executescript(f"{raw_insert('violet')}; {raw_insert('white')};")
        assert elsewhere(world.reds.cached) == []
    assert len(world.greens.cached()) == 1
    assert_fresh(world.named("white"))
    with connection.cursor() as cursor:
        cursor.executescript("UPDATE tests_tag SET name = 'all'")
    for read in (world.reds, world.greens, world.blues):
        assert_fresh(read)


#: What begins like statements of MySQL that commit, and does not.
NO_COMMITS = [
    "UNLOCK TABLES",
    "ANALYZE SELECT * FROM tests_tag",
    "CREATE OR REPLACE TEMPORARY TABLE later (id int)",
    "DROP PREPARE nothing",
]


@only_on("mysql")
@pytest.mark.parametrize("sql", NO_COMMITS)
def test_statement_that_only_looks_like_a_commit(world: World, sql: str) -> None:
    """What was written before it is told at the real commit, and read by nobody else till then."""
    if not getattr(connection, "mysql_is_mariadb", False) and sql.startswith(("ANALYZE", "CREATE")):
        pytest.skip("MariaDB only")
    execute("PREPARE nothing FROM 'SELECT 1'")
    with transaction.atomic():
        world.repaint()
        execute(sql)
        assert len(elsewhere(world.reds.cached)) == 1, "this statement does commit"
        elsewhere(world.greens.cached)
        assert len(world.greens.cached()) == 1
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == 1
    assert_fresh(world.reds)


@only_on("mysql")
@pytest.mark.parametrize("on", ["SET autocommit = 1", "SET SESSION autocommit := ON", "django"])
@pytest.mark.parametrize("off", ["SET autocommit = 0", "SET @old = @@autocommit, autocommit=OFF"])
def test_autocommit_switched_by_raw_sql(world: World, off: str, on: str) -> None:
    """While it is off each raw statement waits for a COMMIT, the first and those after it."""
    greens = "UPDATE tests_tag SET name = 'green' WHERE name = 'red'"
    execute(off)
    execute(greens)
    assert len(elsewhere(world.reds.cached)) == 1
    execute("COMMIT")
    assert elsewhere(world.reds.cached) == []
    execute("UPDATE tests_tag SET name = 'red' WHERE name = 'green'")
    assert len(elsewhere(world.greens.cached)) == 1
    connection.set_autocommit(True) if on == "django" else execute(on)
    assert elsewhere(world.greens.cached) == []
    world.prime()
    execute(greens)
    assert elsewhere(world.reds.cached) == []
    assert_fresh(world.greens)
    assert_hit(world.authors)
    execute("SELECT @@autocommit")
    execute("SET @old = @@autocommit")
    execute("SET @my_autocommit = 0")
    execute("SET GLOBAL autocommit = 1")
    world.prime()
    assert_hit(world.reds)


@contextmanager
def told(listener: Callable[[], Any]) -> Iterator[list[Any]]:
    """What ``listener()`` gave, each time that tags were said to be invalidated."""
    found: list[Any] = []

    def hear(sender: Any, **kwargs: Any) -> None:
        if sender is m.Tag:
            found.append(listener())

    cache_invalidated.connect(hear)
    try:
        yield found
    finally:
        cache_invalidated.disconnect(hear)


def perhaps_commit() -> None:
    """What may commit for all that can be told from it, and does not."""
    if connection.vendor == "mysql":
        execute("PREPARE nothing FROM 'SELECT 1'")
    execute("DROP PREPARE nothing" if connection.vendor == "mysql" else "SELECT 1; SAVEPOINT s")


@only_on("postgresql", "mysql")
@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
def test_who_listens_to_a_commit_that_was_none(world: World, fails: bool) -> None:
    """What a listener reads before the rollback is not stored, nor is it after a failure."""
    if fails and connection.vendor == "postgresql":
        pytest.skip("PostgreSQL reads nothing in a transaction that has failed")
    execute("BEGIN")
    world.repaint()
    with told(lambda: len(world.greens.cached())) as found:
        if fails:
            with pytest.raises(DatabaseError):
                execute("DROP PREPARE never")
        else:
            perhaps_commit()
    assert found == [1]
    execute("ROLLBACK")
    assert world.greens.cached() == []
    assert len(world.reds.cached()) == 1
    assert_fresh(world.reds)


@only_on("postgresql", "mysql")
@pytest.mark.parametrize("begun", ["BEGIN", "atomic"])
def test_who_listens_hears_of_the_commit_too(world: World, begun: str) -> None:
    """After a commit that was none the real one is told again, for the rows are new then only."""

    def read() -> Any:
        return elsewhere(lambda: len(world.greens.cached()))

    with told(read) as found:
        if begun == "BEGIN":
            execute("BEGIN")
            world.repaint()
            perhaps_commit()
            assert found == [0]
            execute("COMMIT")
        else:
            with transaction.atomic():
                world.repaint()
                perhaps_commit()
    assert found[-1] == 1
    assert_fresh(world.reds)


@only_on("postgresql", "mysql")
def test_savepoint_around_a_commit_that_was_none(world: World) -> None:
    """What was rolled back after it is not told at the end."""
    with transaction.atomic():
        with suppress(ZeroDivisionError), transaction.atomic():
            world.repaint()
            perhaps_commit()
            raise ZeroDivisionError
        elsewhere(world.prime)
    world.assert_untouched()


@only_on("postgresql", "mysql")
def test_who_listens_to_a_commit_and_chain(world: World) -> None:
    """A listener that writes does so in the transaction that was chained."""
    execute("BEGIN")
    world.repaint()
    with told(lambda: pending(connection).dirty or world.repaint("violet")) as found:
        execute("COMMIT AND CHAIN")
    assert len(found) == 1
    assert len(elsewhere(world.greens.cached)) == 1
    execute("COMMIT")
    assert elsewhere(world.greens.cached) == []
    assert len(world.named("violet").cached()) == 1


@only_on("postgresql")
@pytest.mark.parametrize("end", ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])
def test_chain_keeps_the_isolation(world: World, end: str) -> None:
    """The transaction that is chained has the isolation of the one before."""
    execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    execute(end)
    list(m.Category.objects.nocache())
    elsewhere(world.repaint)
    assert len(world.reds.cached()) == 1
    assert elsewhere(world.reds.cached) == []
    execute("COMMIT")


@only_on("mysql")
@pytest.mark.parametrize("on", ["SET autocommit = 1", "SET SESSION autocommit := ON"])
def test_autocommit_that_was_on_already(world: World, on: str) -> None:
    """Switched on once more it commits nothing: what was begun goes on."""
    execute("BEGIN")
    world.repaint()
    execute(on)
    assert len(elsewhere(world.reds.cached)) == 1
    world.repaint("violet")
    assert len(elsewhere(world.reds.cached)) == 1
    execute("COMMIT")
    assert elsewhere(world.reds.cached) == []
    assert len(world.named("violet").cached()) == 1
    world.prime()
    assert_hit(world.reds)


@only_on("mysql")
def test_statement_that_is_run_to_be_looked_at(world: World) -> None:
    """ANALYZE of MariaDB tells how an UPDATE ran, for it did run."""
    if not getattr(connection, "mysql_is_mariadb", False):
        pytest.skip("MariaDB only")
    execute("ANALYZE UPDATE tests_tag SET name = 'green' WHERE name = 'red'")
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == 1


@only_on("sqlite", "postgresql")
@pytest.mark.parametrize("prefixed", [False, True], ids=["plain", "prefix function"])
@pytest.mark.parametrize(
    ("begin", "commit"),
    [
        ("BEGIN", "COMMIT"),
        pytest.param("SAVEPOINT one", "RELEASE one", marks=only_on("sqlite")),
    ],
)
def test_script_that_leaves_a_transaction_open(
    world: World, settings: Any, prefixed: bool, begin: str, commit: str
) -> None:
    """What it did after its last commit is told at the next one, under the names of its keys."""
    if prefixed:
        settings.CACHEOPS_PREFIX = lambda query: "tenant:"
        world.prime()
    sql = f"{begin}; UPDATE tests_tag SET name = 'green' WHERE name = 'red'"
    with connection.cursor() as cursor:
        (cursor.executescript if connection.vendor == "sqlite" else cursor.execute)(sql)
    assert len(elsewhere(world.reds.cached)) == 1
    assert elsewhere(world.greens.cached) == []
    assert world.reds.cached() == []
    execute(commit)
    assert elsewhere(world.reds.cached) == []
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == 1
    assert_fresh(world.reds)


@only_on("postgresql")
@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE tests_author SET email = 'a@b.cd'",
        "SET default_transaction_isolation = 'repeatable read'; UPDATE tests_author SET email = ''",
    ],
    ids=["transaction", "session"],
)
def test_script_that_changes_the_isolation(world: World, sql: str) -> None:
    """What a transaction reads from an old snapshot is not stored, however it was begun."""
    execute(sql)
    execute("BEGIN") if sql.startswith("SET") else None
    list(m.Category.objects.nocache())
    elsewhere(world.repaint)
    assert len(world.reds.cached()) == 1
    assert elsewhere(world.reds.cached) == []
    execute("COMMIT")


@only_on("postgresql")
def test_stream(world: World) -> None:
    """``cursor.stream`` of a statement that returns rows may be a write."""
    with connection.cursor() as cursor:
        rows = list(cursor.stream("UPDATE tests_tag SET name = 'green' RETURNING id"))
    assert len(rows) == 2
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == 2
    assert_hit(world.authors)


@only_on("postgresql")
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_copy(world: World, inside: bool, fails: bool) -> None:
    """COPY FROM is a write that ends with its block; COPY TO is none."""

    def copy() -> None:
        with (
            connection.cursor() as cursor,
            cursor.copy('COPY tests_tag (name, "group") FROM STDIN') as into,
        ):
            into.write_row(("green", ""))
            if fails:
                raise ZeroDivisionError

    with suppress(ZeroDivisionError):
        if inside:
            with transaction.atomic():
                copy()
        else:
            copy()
    assert len(world.greens.cached()) == int(not fails)
    assert_fresh(world.greens)
    assert_hit(world.authors)
    prime(world.greens)
    with connection.cursor() as cursor, cursor.copy("COPY tests_tag TO STDOUT") as out:
        list(out)
    assert_hit(world.greens)


@only_on("postgresql", "mysql")
def test_procedure(world: World) -> None:
    """Nobody can tell what a procedure writes, so everything is dropped."""
    if connection.vendor == "postgresql":
        execute(
            "CREATE FUNCTION paint() RETURNS integer LANGUAGE plpgsql AS "
            "$$ BEGIN UPDATE tests_tag SET name = 'green'; RETURN 1; END $$"
        )
    else:
        execute("CREATE PROCEDURE paint() BEGIN UPDATE tests_tag SET name = 'green'; END")
    try:
        world.prime()
        with connection.cursor() as cursor:
            cursor.callproc("paint")
        for read in (world.reds, world.greens, world.blues):
            assert_dropped(read)
        assert len(world.greens.cached()) == 2
    finally:
        execute(f"DROP {'FUNCTION' if connection.vendor == 'postgresql' else 'PROCEDURE'} paint")


@only_on("postgresql")
def test_truncate_cascade(world: World) -> None:
    """TRUNCATE … CASCADE empties tables that it does not name."""
    category = m.Category.objects.create(title="c", slug="c")
    m.Post.objects.create(title="p", category=category, author=world.author)
    posts = Read(lambda: m.Post.objects.filter(title="p"))
    prime(posts)
    execute("TRUNCATE tests_category CASCADE")
    assert_dropped(posts)
    assert posts.cached() == []


@only_on("postgresql")
def test_composed_sql_and_bytes(world: World) -> None:
    """What a driver composes, and bytes, are read like text."""
    from psycopg import sql

    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("UPDATE {} SET name = {} WHERE name = 'red'").format(
                sql.Identifier("tests_tag"), sql.Literal("green")
            )
        )
    assert world.reds.cached() == []
    world.prime()
    with connection.cursor() as cursor:
        cursor.execute(b"UPDATE tests_tag SET name = 'red' WHERE name = 'green'")
    assert len(world.reds.cached()) == 1
    assert_hit(world.authors)


STATEMENTS: dict[str, Kind] = {
    "SELECT 1": Kind.READ,
    "select * from x where y = 'delete from z'": Kind.READ,
    "  (SELECT 1) UNION (SELECT 2)": Kind.READ,
    "SELECT 1; DELETE FROM x": Kind.WRITE,
    "SELECT a INTO b FROM c": Kind.WRITE,
    "SELECT * FROM x FOR UPDATE": Kind.READ,
    "WITH a AS (SELECT 1) SELECT * FROM a": Kind.READ,
    "WITH a AS (DELETE FROM x RETURNING 1) SELECT * FROM a": Kind.WRITE,
    "WITH a AS (SELECT 1 # 2), b AS (DELETE FROM x RETURNING 1)\nSELECT 1": Kind.WRITE,
    "WITH a AS (SELECT 1) UPDATE x SET y = 1": Kind.WRITE,
    "SELECT '\\'; DELETE FROM x; --'": Kind.WRITE,
    "/*! UPDATE x SET y = 1 */": Kind.WRITE,
    "-- SELECT\nUPDATE x SET y = 1": Kind.WRITE,
    "# a comment\nUPDATE x SET y = 1": Kind.WRITE,
    "EXPLAIN UPDATE x SET y = 1": Kind.READ,
    "EXPLAIN ANALYZE UPDATE x SET y = 1": Kind.WRITE,
    "EXPLAIN (ANALYZE, COSTS OFF) DELETE FROM x": Kind.WRITE,
    "EXPLAIN (ANALYZE) SELECT 1": Kind.READ,
    "DESC ANALYZE UPDATE x SET y = 1": Kind.WRITE,
    "ANALYZE FORMAT=JSON UPDATE x SET y = 1": Kind.WRITE,
    "ANALYZE TABLE x": Kind.READ,
    "DESC x": Kind.READ,
    "REPLACE INTO x VALUES (1)": Kind.WRITE,
    "MERGE INTO x USING y ON true WHEN MATCHED THEN DELETE": Kind.WRITE,
    "CALL something()": Kind.WRITE,
    "EXECUTE prepared": Kind.WRITE,
    "COPY x FROM STDIN": Kind.WRITE,
    "COPY x TO STDOUT": Kind.READ,
    "COPY (SELECT * FROM x) TO STDOUT": Kind.READ,
    "DO $$ BEGIN UPDATE x SET y = 1; END $$": Kind.WRITE,
    "CREATE TABLE x (y integer)": Kind.DDL,
    "CREATE TRIGGER t AFTER INSERT ON x BEGIN UPDATE y SET z = 1; END": Kind.DDL,
    "CREATE OR REPLACE FUNCTION f() RETURNS trigger AS $a$ BEGIN COMMIT; END $a$": Kind.DDL,
    "CREATE DEFINER=root@localhost PROCEDURE p() BEGIN DELETE FROM x; END": Kind.DDL,
    "TRUNCATE x": Kind.DDL,
    "BEGIN": Kind.BEGIN,
    "START TRANSACTION": Kind.BEGIN,
    "BEGIN ISOLATION LEVEL SERIALIZABLE": Kind.ISOLATION,
    "START TRANSACTION WITH CONSISTENT SNAPSHOT": Kind.ISOLATION,
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ": Kind.ISOLATION,
    "SET default_transaction_isolation = 'serializable'": Kind.ISOLATION,
    "SET x = 1": Kind.READ,
    "SET STATEMENT a = 1 FOR SELECT 1 FOR UPDATE": Kind.READ,
    "SET STATEMENT a = 'for', b = 2 FOR UPDATE x SET y = 1": Kind.WRITE,
    "SET STATEMENT a = 1 FOR ALTER TABLE x ADD y integer": Kind.MIXED,
    "SET @@session.autocommit = 0": Kind.AUTOCOMMIT,
    "COMMIT": Kind.COMMIT,
    "END": Kind.COMMIT,
    "COMMIT AND CHAIN": Kind.COMMIT,
    "PREPARE TRANSACTION 'x'": Kind.COMMIT,
    "COMMIT PREPARED 'x'": Kind.PREPARED,
    "ROLLBACK": Kind.ROLLBACK,
    "ROLLBACK TO x": Kind.SAVEPOINT,
    "ROLLBACK WORK TO SAVEPOINT x": Kind.SAVEPOINT,
    "SAVEPOINT x": Kind.SAVEPOINT,
    "RELEASE x": Kind.SAVEPOINT,
    "BEGIN; UPDATE x SET y = 1; COMMIT": Kind.MIXED,
    "BEGIN; UPDATE x SET y = 1": Kind.MIXED,
    "UPDATE x SET y = 1; COMMIT;": Kind.MIXED,
    "UPDATE x SET y = 1; UPDATE x SET y = 2;": Kind.WRITE,
    "COMMIT;": Kind.COMMIT,
    "PRAGMA journal_mode": Kind.READ,
    "": Kind.READ,
    "nobody knows": Kind.WRITE,
}


@pytest.mark.parametrize("sql", STATEMENTS)
def test_what_a_statement_does(sql: str) -> None:
    """Statements are told apart by their words, in doubt they are writes."""
    assert classify(sql) is STATEMENTS[sql]


@pytest.mark.parametrize(
    ("sql", "commits"),
    [
        ("CREATE TABLE x (y integer)", True), ("create temporary table x (y integer)", False),
        ("DROP TEMPORARY TABLE x", False), ("/* x */ TRUNCATE x", True), ("BEGIN", True),
        ("LOCK TABLES x READ", True), ("UNLOCK TABLES", True), ("UPDATE x SET y = 1", False),
        ("SELECT 1", False), ("SAVEPOINT x", False), ("# x\nALTER TABLE x", True),
    ],
)  # fmt: skip
def test_statements_that_commit_in_mysql(sql: str, commits: bool) -> None:
    """DDL and some others end the transaction in which MySQL is given them."""
    assert commits_in_mysql(sql) is commits


# -- statements among statements ---------------------------------------------------------------


def test_statement_run_while_a_compiler_runs_another(world: World) -> None:
    """Raw SQL in an execute wrapper counts although a compiler is just telling of its statement."""

    def audit(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and "tests_author" in sql:
            with context["connection"].cursor() as cursor:
                cursor.execute(f"UPDATE tests_tag SET name = 'green' WHERE id = {world.red.pk}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(audit):
        m.Author.objects.filter(pk=world.author.pk).update(email="a@b.cd")
    assert world.reds.cached() == []
    assert len(world.greens.cached()) == 1


def test_update_by_chance(world: World) -> None:
    """Which rows a volatile condition holds for is decided by the statement, not by a look-up."""
    names = [f"t{index}" for index in range(4)]
    tags = [m.Tag.objects.create(name=name, group="half") for name in names]
    reads = [world.named(name) for name in names]
    for _ in range(40):
        prime(*reads)
        halves = m.Tag.objects.alias(chance=Random()).filter(chance__lt=0.5, group="half")
        halves.update(name="changed")
        for read in reads:
            assert_fresh(read)
        for tag in tags:
            tag.save()


def test_clearing_what_is_empty_drops_nothing(world: World) -> None:
    """A relation that has no rows to clear leaves those of others cached."""
    category = m.Category.objects.create(title="c", slug="c")
    posts = [
        m.Post.objects.create(title=title, category=category, author=world.author)
        for title in ("one", "two")
    ]
    posts[0].tags.add(world.red)
    tags = Read(lambda: posts[0].tags.all())
    prime(tags)
    posts[1].tags.clear()
    posts[1].tags.remove(world.red)
    assert_hit(tags)


# -- who sees what -----------------------------------------------------------------------------


def test_threads_do_not_share_transactions(world: World) -> None:
    """What one thread has written and not committed neither bypasses nor drops for another."""
    gate = Gate()

    def write() -> None:
        with transaction.atomic():
            world.repaint()
            gate.wait_here()

    writer = Actor(write)
    gate.wait_reached()
    world.assert_untouched()
    gate.open()
    writer.finish()
    world.assert_repainted()


def test_threads_do_not_share_no_invalidation(world: World) -> None:
    """Muting holds for who asked for it."""
    with cacheops_lite.no_invalidation:
        elsewhere(world.repaint)
    world.assert_repainted()


@pytest.mark.parametrize("tasks", [8])
def test_async_tasks_do_not_share_state(world: World, tasks: int) -> None:
    """Reads and writes of many tasks at once: each sees what was committed, and its own muting."""

    async def task(number: int) -> None:
        for step in range(4):
            if number % 2:
                await m.Tag.objects.filter(pk=world.red.pk).aupdate(name=f"n{number}{step}")
            else:
                await m.Tag.objects.filter(name="red").cache().acount()
                await m.Author.objects.cache().aget(pk=world.author.pk)
            await asyncio.sleep(0)
            await sync_to_async(in_transaction)(number)

    def in_transaction(number: int) -> None:
        with transaction.atomic():
            m.Author.objects.filter(pk=world.author.pk).update(email=f"{number}@b.cd")
            assert m.Author.objects.cache().get(pk=world.author.pk).email == f"{number}@b.cd"
        assert not pending(connection).dirty

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(tasks)))

    async_to_sync(main)()
    for read in (world.reds, world.authors, Read(lambda: m.Tag.objects.all())):
        assert_fresh(read)
        prime(read)


def test_async_task_that_mutes(world: World) -> None:
    """One task's ``no_invalidation`` does not mute another that runs meanwhile."""
    ready, done = asyncio.Event(), asyncio.Event()

    async def muted() -> None:
        with cacheops_lite.no_invalidation:
            ready.set()
            await done.wait()

    async def writer() -> None:
        await ready.wait()
        await m.Tag.objects.filter(pk=world.red.pk).aupdate(name="green")
        done.set()

    async def main() -> None:
        await asyncio.gather(muted(), writer())

    async_to_sync(main)()
    world.assert_repainted()


def test_reads_bypass_only_what_the_transaction_has_written(world: World) -> None:
    """Inside a transaction other tables are answered from the cache, and stored in it."""
    fresh = Read(lambda: m.Author.objects.filter(name="nobody"))
    with transaction.atomic():
        world.repaint()
        with hits() as seen:
            world.reds.cached()
            world.authors.cached()
            fresh.cached()
            fresh.cached()
            m.Post.objects.filter(tags__name="red").cache().count()
        expected = [True, False, True]
        assert seen == expected
    assert_hit(fresh)


# -- several databases -------------------------------------------------------------------------


def test_write_through_another_alias(world: World) -> None:
    """Two aliases may be one database: a write through either drops what both have cached."""
    other = Read(lambda: m.Tag.objects.using("other").filter(name="red"))
    prime(other)
    with transaction.atomic(using="other"):
        m.Tag.objects.using("other").create(name="red")
        with hits() as seen:
            assert len(other.cached()) == 1
            assert len(world.reds.cached()) == 1
        assert seen == [True], "the other connection has written nothing"
    assert_dropped(other)
    assert_fresh(world.reds)
    assert_hit(world.authors)
    m.Tag.objects.filter(name="red").delete()
    assert world.reds.cached() == []
    assert len(other.cached()) == 1


def test_transactions_over_two_databases(world: World) -> None:
    """One is rolled back, the other is committed."""
    other = Read(lambda: m.Author.objects.using("other").filter(name="Bea"))
    prime(other)
    with transaction.atomic(using="other"):
        m.Author.objects.using("other").create(name="Bea")
        with suppress(ZeroDivisionError), transaction.atomic():
            world.repaint()
            raise ZeroDivisionError
        world.assert_untouched()
    assert_dropped(other)
    assert len(other.cached()) == 1
    assert_hit(world.reds)


def test_replicas_that_lag(world: World, settings: Any) -> None:
    """While a replica may be behind, nothing is stored that it may have answered."""
    settings.CACHEOPS_REPLICA_LAG = 0.6
    world.prime()
    world.repaint()
    until = time.monotonic() + 0.5
    with hits() as seen:
        while time.monotonic() < until:
            assert world.reds.cached() == []
            time.sleep(0.1)
    assert not any(seen), "stored while the replica may lag"
    assert_hit(world.blues)
    time.sleep(0.3)
    prime(world.reds, world.greens)
    world_is = [len(read.cached()) for read in (world.reds, world.greens)]
    assert world_is == [0, 1]


# -- many changes ------------------------------------------------------------------------------

MANY = 10_000


def bulk_update(tags: list[m.Tag]) -> None:
    for tag in tags:
        tag.group = "new"
    m.Tag.objects.bulk_update(tags, ["group"], batch_size=500)


def one_transaction(tags: list[m.Tag]) -> None:
    with transaction.atomic():
        for start in range(0, len(tags), 100):
            keys = [tag.pk for tag in tags[start : start + 100]]
            m.Tag.objects.filter(pk__in=keys).update(group="new")


def one_by_one(tags: list[m.Tag]) -> None:
    with transaction.atomic():
        for tag in tags[:1500]:
            tag.group = "new"
            tag.save(update_fields=["group"])


def create_many(tags: list[m.Tag]) -> None:
    m.Tag.objects.bulk_create([m.Tag(name="new", group="new") for _ in range(MANY)])


def delete_all(tags: list[m.Tag]) -> None:
    m.Tag.objects.filter(group="old").delete()


@pytest.mark.slow
@pytest.mark.parametrize(
    "write", [bulk_update, one_transaction, one_by_one, create_many, delete_all]
)
def test_many_changes_cost_little(world: World, write: Callable[[Any], None]) -> None:
    """Ten thousand rows cost a few round trips, none with more than a few thousand keys."""
    m.Tag.objects.bulk_create([m.Tag(name=f"t{i}", group="old") for i in range(MANY)])
    tags = list(m.Tag.objects.nocache().filter(group="old"))
    old, new, count = (
        Read(lambda: m.Tag.objects.filter(group="old", name="t7")),
        Read(lambda: m.Tag.objects.filter(group="new", name="t7")),
        Read(lambda: m.Tag.objects.filter(group="new"), "count"),
    )
    world.prime()
    prime(old, new, count, Read(lambda: m.Tag.objects.filter(pk=tags[0].pk)))
    with tapped() as tap:
        write(tags)
    assert len(tap.trips) <= 4, tap.trips
    assert max(tap.keys) <= 1100
    for read in (old, new, count):
        assert_fresh(read)
    assert_hit(world.authors)


def test_write_where_nothing_is_cached(world: World) -> None:
    """A tracked table with nothing cached costs a mark and a bump per transaction."""

    def write() -> None:
        with transaction.atomic():
            owner = m.Owner.objects.create(name="x")
            owner.name = "y"
            owner.save()
            m.Owner.objects.filter(name="y").update(name="z")
            m.Big.objects.bulk_create([m.Big(pk=i) for i in range(3)])
            owner.delete()
            m.Big.objects.all().delete()

    write()  # learns that the tables, and those that the deletion reaches, have no schemes
    with tapped() as tap:
        write()
    assert len(tap.trips) == 2, tap.trips


def test_write_of_an_untracked_model(world: World, settings: Any) -> None:
    """Models whose profile is None cost nothing, in whichever way they are written."""
    settings.CACHEOPS = {"tests.owner": None, "tests.big": None, "*.*": {"timeout": 60}}
    world.prime()
    with tapped() as tap:
        owner = m.Owner.objects.create(name="x")
        owner.save()
        m.Owner.objects.update(name="y")
        m.Big.objects.bulk_create([m.Big(pk=1)])
        m.Big.objects.all().delete()
        # (A tracked table refers to the owners with DO_NOTHING: raw SQL may have changed it along.)
        execute("UPDATE tests_big SET name = 'z'")
        with transaction.atomic():
            m.Big.objects.create(pk=2)
    assert tap.trips == []
    world.assert_untouched()


@pytest.mark.parametrize("tenants", ["", "abc"], ids=["no prefix", "prefix function"])
def test_write_while_a_model_was_untracked(world: World, settings: Any, tenants: str) -> None:
    """Who tracks it again trusts nothing from before, under no prefix that there is."""
    asking = [""]

    def each(act: Callable[[], None]) -> None:
        for asking[0] in tenants or " ":
            act()

    def fresh() -> None:
        assert world.reds.cached() == []

    if tenants:
        settings.CACHEOPS_PREFIX = lambda query: f"{asking[0]}:"
    each(world.prime)
    tracked = settings.CACHEOPS
    settings.CACHEOPS = {**tracked, "tests.tag": None}
    world.repaint()
    settings.CACHEOPS = tracked
    each(fresh)
    each(lambda: assert_hit(world.reds))
    each(lambda: assert_hit(world.authors))


@pytest.mark.parametrize("raw", [False, True], ids=["orm", "raw"])
def test_untracked_table_between_two_others(world: World, settings: Any, raw: bool) -> None:
    """What a rule of the database may change counts if only a profile depends on it."""
    settings.CACHEOPS = {
        "tests.owner": None, "tests.ignoring": None,
        "tests.tag": {"timeout": 60, "depends_on": ["tests.ignoring"]}, "*.*": {"timeout": 60},
    }  # fmt: skip
    owner = m.Owner.objects.create(name="x")
    world.prime()
    execute("DELETE FROM tests_owner") if raw else owner.delete()
    assert_dropped(world.reds)
    assert_hit(world.authors)


def test_view_that_depends_on_its_tables(world: World, settings: Any) -> None:
    """A model over a database view is dropped with the tables that its profile names."""
    settings.CACHEOPS = {
        "tests.livepost": {"timeout": 60, "depends_on": ["tests.post"]}, "*.*": {"timeout": 60},
    }  # fmt: skip
    category = m.Category.objects.create(title="c", slug="c")
    execute("CREATE VIEW tests_live_post AS SELECT id, title FROM tests_post WHERE status = 'live'")
    try:
        live = Read(lambda: m.LivePost.objects.filter(title="p"))
        world.prime()
        prime(live)
        post = m.Post.objects.create(
            title="p", status="live", category=category, author=world.author
        )
        assert_dropped(live)
        assert len(live.cached()) == 1
        prime(live)
        with suppress(ZeroDivisionError), transaction.atomic():
            post.delete()
            assert live.cached() == []
            raise ZeroDivisionError
        assert_hit(live)
        execute("DELETE FROM tests_post")
        assert_dropped(live)
        assert live.cached() == []
        world.assert_untouched()
    finally:
        execute("DROP VIEW tests_live_post")


def test_state_is_small_after_each_transaction(world: World) -> None:
    """Nothing is left on a connection when its transactions are over."""
    threads = threading.active_count()  # tests before may have left some of theirs
    for _ in range(3):
        with transaction.atomic():
            world.repaint()
            with suppress(ZeroDivisionError), transaction.atomic():
                world.repaint("x")
                raise ZeroDivisionError
        world.repaint("red")
        execute("UPDATE tests_tag SET name = 'red'")
    state = pending(connection)
    assert not (state.changes or state.dirty or state.savepoints or state.explained or state.names)
    assert threading.active_count() <= threads


def test_state_is_small_in_a_long_transaction(world: World) -> None:
    """Of savepoints that are over nothing is kept; those around them still take back."""
    with transaction.atomic():
        with suppress(ZeroDivisionError), transaction.atomic():
            for number in range(20):
                with suppress(ZeroDivisionError), transaction.atomic():
                    world.repaint()
                    if number % 2:
                        raise ZeroDivisionError
                assert len(pending(connection).savepoints) == 1
            raise ZeroDivisionError
        assert not pending(connection).savepoints
    world.assert_untouched()
