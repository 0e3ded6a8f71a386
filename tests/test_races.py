"""Interleavings of readers and writers over real connections, where each trap of the protocol lies.

The letters are those of the traps that docs/protocol describes. What needs several writers at once
runs on PostgreSQL and MariaDB; SQLite has one writer, and traps of its own.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import F

from . import models as m
from .watching import Read, assert_dropped, assert_fresh, assert_hit, hits, prime
from .wires import Actor, Gate, Paused, elsewhere, in_process, start_process

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default"]),
    pytest.mark.database,
]


def only_on(*vendors: str) -> Any:
    """This needs what other databases do not have; .ci/run runs each database."""
    from django.conf import settings

    here = {"sqlite": "sqlite", "postgres": "postgresql", "mysql": "mysql"}[settings.TEST_DB]
    return pytest.mark.skipif(here not in vendors, reason=f"needs {' or '.join(vendors)}")


servers = only_on("postgresql", "mysql")


class World:
    """Three categories, an author each, and a post in the first."""

    def __init__(self) -> None:
        self.a, self.b, self.c = (
            m.Category.objects.create(title=name, slug=name) for name in "abc"
        )
        self.ann, self.bob = (m.Author.objects.create(name=name) for name in ("Ann", "Bob"))
        self.post = m.Post.objects.create(title="p", category=self.a, author=self.ann)
        self.other = m.Post.objects.create(title="o", category=self.c, author=self.bob)

    def of(self, category: m.Category) -> Read:
        return Read(lambda: m.Post.objects.filter(category=category), label=f"of {category.slug}")

    def count(self, category: m.Category) -> Read:
        return Read(lambda: m.Post.objects.filter(category=category), "count")

    def with_author(self, category: m.Category) -> Read:
        return Read(
            lambda: m.Post.objects.filter(category=category).select_related("author"),
            label="with author",
        )

    def nothing(self) -> Read:
        return Read(lambda: m.Post.objects.filter(category=self.b), label="nothing there yet")


@pytest.fixture
def world() -> Iterator[World]:
    yield World()
    connection.close()  # whatever transaction a failed test has left open


def retitle(world: World) -> None:
    m.Post.objects.filter(pk=world.post.pk).update(title="new")


def rename(world: World) -> None:
    m.Author.objects.filter(pk=world.ann.pk).update(name="new")


def change_author(world: World) -> None:
    m.Post.objects.filter(pk=world.post.pk).update(author=world.bob)


def move(world: World) -> None:
    m.Post.objects.filter(pk=world.post.pk).update(category=world.b)


def add(world: World) -> None:
    m.Post.objects.create(title="q", category=world.b, author=world.ann)


def remove(world: World) -> None:
    world.post.delete()


# -- a reader that is slow between its load and its store --------------------------------------

SLOW: dict[str, tuple[Callable[[World], Read], Callable[[World], None]]] = {
    "a row": (lambda w: w.of(w.a), retitle),
    "a row that leaves": (lambda w: w.of(w.a), move),
    "a row that goes": (lambda w: w.of(w.a), remove),
    "a count": (lambda w: w.count(w.a), move),
    "a joined row (A1)": (lambda w: w.with_author(w.a), rename),
    "another joined row (A1)": (lambda w: w.with_author(w.a), change_author),
    "nothing, until it comes": (lambda w: w.nothing(), add),
    "nothing, until it moves there": (lambda w: w.nothing(), move),
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("known", [False, True])
def test_reader_paused_between_its_select_and_its_store(
    world: World, name: str, known: bool
) -> None:
    """A result loaded before a commit and stored after it is dead on arrival, schemes known or not."""
    make, write = SLOW[name]
    read = make(world)
    if known:
        prime(read)
        m.Post.objects.filter(pk=world.post.pk).update(views=F("views") + 1)
        m.Author.objects.filter(pk=world.ann.pk).update(email="a@b.cd")
        if read.op == "fetch" and not read.uncached():
            m.Post.objects.filter(pk=world.other.pk).update(category=world.b)
            m.Post.objects.filter(pk=world.other.pk).update(category=world.c)
    with Paused(read.cached, after="select") as reader:
        write(world)
        reader.finish()
    assert_fresh(read)
    prime(read)
    assert_fresh(read)


def test_reader_paused_while_two_writers_commit(world: World) -> None:
    """Away and back again: the row looks as the reader saw it, and nothing is stale after either."""
    read = world.of(world.a)
    with Paused(read.cached, after="select") as reader:
        move(world)
        m.Post.objects.filter(pk=world.post.pk).update(category=world.a, title="back")
        reader.finish()
    assert_fresh(read)


def test_reader_between_mark_and_commit(world: World) -> None:
    """While a commit is under way its rows are neither answered from the cache nor stored."""
    read, unrelated = world.of(world.a), world.of(world.c)
    prime(read, unrelated)
    gate = Gate()

    def write() -> None:
        with transaction.atomic():
            retitle(world)
            connections["default"].commit = committing  # type: ignore[method-assign]

    def committing() -> None:
        del connections["default"].commit
        original = connections["default"]._commit

        def slowly() -> None:
            gate.wait_here()
            original()

        connections["default"]._commit = slowly
        try:
            connections["default"].commit()
        finally:
            del connections["default"]._commit

    writer = Actor(write)
    gate.wait_reached()
    with hits() as seen:
        read.cached()
        read.cached()
    assert seen == [False, False]
    assert_hit(unrelated)
    gate.open()
    writer.finish()
    assert read.cached()[0][1]["title"] == "new"
    assert_fresh(read)


# -- two writers -------------------------------------------------------------------------------


def test_two_writers_on_one_row(world: World) -> None:
    """A18: the second writer drops what the first one wrote, not what it saw before it waited."""
    reads = [world.of(world.a), world.of(world.b), world.of(world.c)]
    prime(*reads)
    gate = Gate()

    def second() -> None:
        with transaction.atomic():
            if connection.vendor != "sqlite":
                m.Post.objects.nocache().get(pk=world.post.pk)
            m.Post.objects.filter(pk=world.post.pk).update(category=world.c)
            gate.wait_here()

    with transaction.atomic():
        m.Post.objects.filter(pk=world.post.pk).update(category=world.b)
        writer = Actor(second)
        time.sleep(0.3)
        assert not gate.reached.is_set(), "the second writer did not wait for the first"
    gate.wait_reached()
    prime(world.of(world.b))  # holds the row, which the second writer takes away
    gate.open()
    writer.finish()
    for read in reads:
        assert_fresh(read)
    assert [len(read.cached()) for read in reads] == [0, 0, 2]


@servers
def test_two_writers_of_many_rows_do_not_deadlock(world: World) -> None:
    """Rows are looked up in one order, so writers that touch the same ones wait, and no more."""
    for index in range(30):
        m.Post.objects.create(title=str(index), category=world.a, author=world.ann)
    prime(world.of(world.a), world.of(world.b))

    def write(ordering: str, category: m.Category) -> None:
        for _ in range(5):
            m.Post.objects.order_by(ordering).filter(category__in=[world.a, world.b]).update(
                category=category
            )

    actors = [Actor(lambda o=o, c=c: write(o, c)) for o, c in (("pk", world.a), ("-pk", world.b))]
    for actor in actors:
        actor.finish()
    assert_fresh(world.of(world.a))
    assert_fresh(world.of(world.b))


@servers
def test_locks_do_not_block_foreign_keys(world: World) -> None:
    """A18: looking old rows up must not hold up inserts that only refer to them."""
    prime(Read(lambda: m.Author.objects.filter(name="Ann")))
    gate = Gate()

    def slow() -> None:
        with transaction.atomic():
            m.Author.objects.filter(pk=world.ann.pk).update(name="slow")
            gate.wait_here()

    writer = Actor(slow)
    gate.wait_reached()
    if connection.vendor == "postgresql":
        elsewhere(lambda: m.Post.objects.create(title="r", category=world.a, author=world.ann))
    gate.open()
    writer.finish()
    assert_fresh(Read(lambda: m.Author.objects.filter(name="Ann")))


# -- old snapshots -----------------------------------------------------------------------------


@contextmanager
def repeatable(how: str) -> Iterator[None]:
    """A transaction that reads from one snapshot."""
    with ExitStack() as stack:
        stack.callback(connection.close)
        cursor = stack.enter_context(connection.cursor())
        if how == "level of the session":
            cursor.execute(
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"
                if connection.vendor == "postgresql"
                else "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
            )
            # Transactions before this one make no difference.
            with transaction.atomic():
                m.Tag.objects.create(name="x")
        if how == "raw BEGIN":
            if connection.vendor == "mysql":
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            else:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            stack.callback(lambda: connection.cursor().execute("ROLLBACK"))
        else:
            if how == "SET TRANSACTION" and connection.vendor == "mysql":
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            stack.enter_context(transaction.atomic())
            if how == "SET TRANSACTION" and connection.vendor == "postgresql":
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


HOWS = ["SET TRANSACTION", "raw BEGIN", "level of the session"]


@servers
@pytest.mark.parametrize("how", HOWS)
def test_reader_in_repeatable_read(world: World, how: str) -> None:
    """What a reader with an old snapshot loads is not stored; it is not told the news either."""
    read = world.of(world.a)
    with repeatable(how):
        assert len(m.Post.objects.nocache()) == 2  # the snapshot is taken
        elsewhere(lambda: move(world))
        elsewhere(read.cached)
        assert len(read.cached()) == len(read.uncached()) == 1
        assert elsewhere(read.cached) == []
    assert_fresh(read)
    assert read.cached() == []


@only_on("postgresql")
def test_reader_under_a_server_default(world: World) -> None:
    """A default isolation level that only the server's configuration knows counts as well."""
    read = world.of(world.a)
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    connection.close()
    try:
        with transaction.atomic():
            assert len(m.Post.objects.nocache()) == 2
            elsewhere(lambda: move(world))
            assert len(read.cached()) == 1
        assert elsewhere(read.cached) == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")
        connection.close()
    assert_fresh(read)


@pytest.fixture
def wal() -> Iterator[None]:
    """The database in WAL mode."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
    yield
    connections.close_all()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def half_read(how: str) -> Iterator[None]:
    """Something that keeps an old snapshot of the database open."""
    for index in range(300):
        m.Tag.objects.create(name=str(index))
    if how == "a transaction":
        with transaction.atomic():
            len(m.Tag.objects.nocache()[:1])
            yield
    elif how == "an iterator":
        iterator = m.Tag.objects.iterator(chunk_size=2)
        next(iterator)
        yield
        iterator.close()  # type: ignore[attr-defined]
    elif how == "raw queryset":
        iterator = m.Tag.objects.raw("SELECT * FROM tests_tag").iterator()
        next(iterator)
        yield
        iterator.close()
    else:
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM tests_tag")
        cursor.fetchone()
        yield
        cursor.close()


@only_on("sqlite")
@pytest.mark.parametrize("how", ["an iterator", "a cursor", "a transaction", "raw queryset"])
def test_open_cursor_on_sqlite_in_wal_mode(world: World, wal: None, how: str) -> None:
    """A7: a half-read cursor keeps an old snapshot open; what is loaded meanwhile is not stored."""
    read = world.of(world.a)
    with half_read(how):
        elsewhere(lambda: move(world))
        assert len(read.cached()) == len(read.uncached())
        assert elsewhere(read.cached) == []
        with hits() as seen:
            read.cached()
        assert seen == []
    assert_fresh(read)
    prime(read)  # the snapshot is gone: it caches again
    assert read.cached() == []


# -- rows that were not looked up --------------------------------------------------------------

PREDICATES: dict[str, Callable[[World], Any]] = {
    "update": lambda w: m.Post.objects.filter(published=True).update(category=w.b),
    "update joined": lambda w: m.Post.objects.filter(editor__name="Bob").update(category=w.b),
    "update in": lambda w: m.Post.objects.filter(
        editor__in=m.Author.objects.filter(name="Bob")
    ).update(category=w.b),
    "delete": lambda w: m.Post.objects.filter(published=True)._raw_delete("default"),
    "delete joined": lambda w: m.Post.objects.filter(editor__name="Bob")._raw_delete("default"),
}


def lock_by_index(world: World) -> None:
    """Have MariaDB find posts by their editors: reading all of them, it would lock all of them."""
    m.Post.objects.bulk_create(
        m.Post(title="t", category=world.a, author=world.ann) for _ in range(500)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE TABLE tests_post, tests_author")
        cursor.fetchall()


@servers
@pytest.mark.parametrize("name", PREDICATES)
def test_predicate_that_comes_to_hold_for_another_row(world: World, name: str) -> None:
    """A5: under READ COMMITTED a statement touches rows that were not there when they were sought."""
    m.Post.objects.filter(pk=world.post.pk).update(published=True, editor=world.bob)
    if connection.vendor == "mysql":
        lock_by_index(world)
    late, third = world.of(world.c), world.of(world.b)
    prime(late, third, world.of(world.a))
    before = "delete" if name.startswith("delete") else "update"
    with Paused(lambda: PREDICATES[name](world), before=before) as writer:
        m.Post.objects.filter(pk=world.other.pk).update(published=True, editor=world.bob)
        prime(late)  # holds the row that the waiting statement is going to touch
        writer.finish()
    for read in (late, third, world.of(world.a)):
        assert_fresh(read)


@pytest.mark.parametrize("name", ["update_conflicts", "ignore_conflicts"])
def test_upsert_of_a_row_that_came_meanwhile(world: World, name: str) -> None:
    """A6: whether an upsert inserts or updates is decided inside of it."""
    if name == "update_conflicts":
        options: dict[str, Any] = {"update_conflicts": True, "update_fields": ["title"]}
        if connection.vendor != "mysql":
            options["unique_fields"] = ["slug"]
    else:
        options = {"ignore_conflicts": True}
    old, new = (
        Read(lambda title=title: m.Category.objects.filter(title=title)) for title in ("old", "new")
    )
    prime(old, new)

    def upsert() -> None:
        m.Category.objects.bulk_create([m.Category(title="new", slug="u")], **options)

    if connection.vendor == "sqlite":
        # One writer at a time: the other one comes before the first takes the write lock.
        m.Category.objects.create(title="old", slug="u")
        prime(old)
        upsert()
    else:
        with Paused(upsert, before="insert") as writer:
            m.Category.objects.create(title="old", slug="u")
            prime(old)
            writer.finish()
    assert_fresh(old)
    assert_fresh(new)


def test_row_that_the_statement_moves_out_of_its_own_condition(world: World) -> None:
    """A16: the row cannot be found again by a condition on what changed, by its key, or by others."""
    a, b, c = world.of(world.a), world.of(world.b), world.of(world.c)
    prime(a, b, c)
    m.Post.objects.filter(category=world.a).update(category=world.b)
    assert_dropped(a)
    assert_dropped(b)
    assert_hit(c)
    m.Post.objects.filter(category__slug="b").update(category=world.a)
    assert_dropped(a)
    assert_dropped(b)
    assert_hit(c)
    red = m.Tag.objects.create(name="red")
    by_key, by_name = (
        Read(lambda: m.Tag.objects.filter(pk=red.pk)),
        Read(lambda: m.Tag.objects.filter(name="red")),
    )
    prime(by_key, by_name)
    m.Tag.objects.filter(pk=red.pk).update(id=red.pk + 1000)
    assert_dropped(by_key)
    assert_dropped(by_name)


# -- what the database does by itself ----------------------------------------------------------

TRIGGERS = {
    "sqlite": (
        [
            "CREATE TRIGGER loud AFTER {event} ON tests_post WHEN NEW.text = 'loud' BEGIN "
            "UPDATE tests_post SET title = 'LOUD', category_id = {category} WHERE id = NEW.id; END"
        ],
        ["DROP TRIGGER loud"],
    ),
    "postgresql": (
        [
            "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.text = 'loud' THEN NEW.title := 'LOUD'; NEW.category_id := {category}; "
            "END IF; RETURN NEW; END $$",
            "CREATE TRIGGER loud BEFORE {event} ON tests_post FOR EACH ROW EXECUTE FUNCTION loud()",
        ],
        ["DROP TRIGGER loud ON tests_post", "DROP FUNCTION loud"],
    ),
    "mysql": (
        [
            "CREATE TRIGGER loud BEFORE {event} ON tests_post FOR EACH ROW BEGIN "
            "IF NEW.text = 'loud' THEN SET NEW.title = 'LOUD', NEW.category_id = {category}; "
            "END IF; END"
        ],
        ["DROP TRIGGER loud"],
    ),
}


@contextmanager
def trigger(event: str, category: m.Category) -> Iterator[None]:
    """Posts whose text is "loud" get another title and category as they are written."""
    made, dropped = TRIGGERS[connection.vendor]
    with connection.cursor() as cursor:
        for statement in made:
            cursor.execute(statement.format(event=event, category=category.pk))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            for statement in dropped:
                cursor.execute(statement)


@pytest.mark.parametrize("how", ["save", "update", "bulk_update", "create", "bulk_create"])
def test_trigger_that_changes_the_row(world: World, settings: Any, how: str) -> None:
    """A15: with the profile option ``triggers`` the row is read back after each write."""
    settings.CACHEOPS = {"tests.post": {"timeout": 60, "triggers": True}, "*.*": {"timeout": 60}}
    titled = [Read(lambda t=t: m.Post.objects.filter(title=t)) for t in ("LOUD", "p", "quiet")]
    reads = [*titled, world.of(world.a), world.of(world.b)]
    with trigger("INSERT" if "create" in how else "UPDATE", world.b):
        prime(*reads, world.of(world.c))
        new = m.Post(title="quiet", text="loud", category=world.a, author=world.ann)
        world.post.text = "loud"
        if how == "save":
            world.post.save()
        elif how == "update":
            m.Post.objects.filter(pk=world.post.pk).update(text="loud")
        elif how == "bulk_update":
            m.Post.objects.bulk_update([world.post], ["text"])
        elif how == "create":
            new.save()
        else:
            m.Post.objects.bulk_create([new])
        assert_dropped(titled[0])
        assert_dropped(world.of(world.b))
        for read in reads:
            assert_fresh(read)


def test_table_written_indirectly_and_rolled_back(world: World, settings: Any) -> None:
    """A11: what a trigger wrote in a transaction is read there, and never stored."""
    settings.CACHEOPS = {
        "tests.tag": {"timeout": 60, "depends_on": ["tests.memo"]}, "*.*": {"timeout": 60},
    }  # fmt: skip
    group = connection.ops.quote_name("group")
    insert = f"INSERT INTO tests_tag (name, {group}) VALUES ('made', '')"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                f"CREATE FUNCTION tag_it() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN {insert}; RETURN NEW; END $$"
            )
            call = "EXECUTE FUNCTION tag_it()"
        else:
            call = f"BEGIN {insert}; END"
        cursor.execute(f"CREATE TRIGGER tag_it AFTER INSERT ON tests_memo FOR EACH ROW {call}")
    made = Read(lambda: m.Tag.objects.filter(name="made"))
    try:
        prime(made)
        with suppress(ZeroDivisionError), transaction.atomic():
            m.Memo.objects.create(note="n")
            assert len(made.cached()) == 1, "own writes are read in their transaction"
            assert elsewhere(made.cached) == []
            raise ZeroDivisionError
        assert_hit(made)
        m.Memo.objects.create(note="n")
        assert_dropped(made)
        assert len(made.cached()) == 1
    finally:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("DROP TRIGGER tag_it ON tests_memo")
                cursor.execute("DROP FUNCTION tag_it")
            else:
                cursor.execute("DROP TRIGGER tag_it")


def test_parents_written_indirectly_and_rolled_back() -> None:
    """A11: a child's row is a row of each parent table as well."""
    places = Read(lambda: m.Place.objects.filter(name="Luigi"))
    prime(places)
    with suppress(ZeroDivisionError), transaction.atomic():
        m.Pizzeria.objects.create(name="Luigi")
        assert len(places.cached()) == 1
        raise ZeroDivisionError
    assert_hit(places)
    assert places.cached() == []


def test_unknown_table_written_and_rolled_back(world: World) -> None:
    """A11: raw SQL that names nothing known may have written everything, until it is rolled back."""
    read = world.of(world.a)
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW some_posts AS SELECT * FROM tests_post")
        try:
            prime(read)
            with suppress(ZeroDivisionError), transaction.atomic():
                if connection.vendor == "sqlite":
                    with hits() as seen:
                        cursor.execute("REPLACE INTO sqlite_sequence VALUES ('x', 1)")
                        read.cached()
                    assert seen == []
                else:
                    cursor.execute("UPDATE some_posts SET title = 'through the view'")
                    assert read.cached()[0][1]["title"] == "through the view"
                raise ZeroDivisionError
            assert_hit(read)
        finally:
            cursor.execute("DROP VIEW some_posts")


# -- commits that are not Django's -------------------------------------------------------------

IMPLICIT = [
    "CREATE TABLE made (x integer)",
    "ALTER TABLE tests_odd ADD COLUMN made integer",
    "TRUNCATE TABLE tests_odd",
    "LOCK TABLES tests_odd READ, tests_post READ, tests_category READ",
    "BEGIN",
    "START TRANSACTION",
    "ANALYZE TABLE tests_odd",
    "FLUSH TABLES",
    "/* hm */ rename TABLE tests_odd TO odd_now",
]


@only_on("mysql")
@pytest.mark.parametrize("statement", IMPLICIT)
def test_statement_that_commits_by_itself(world: World, statement: str) -> None:
    """A12: what was pending is committed, so a later rollback does not undo it in the cache."""
    read, unrelated = world.of(world.a), Read(lambda: m.Owner.objects.filter(name="x"))
    prime(read, unrelated)
    try:
        with suppress(ZeroDivisionError), transaction.atomic():
            move(world)
            with connection.cursor() as cursor:
                cursor.execute(statement)
                if statement.startswith("LOCK"):
                    cursor.execute("UNLOCK TABLES")
            assert elsewhere(read.cached) == []
            raise ZeroDivisionError
        assert read.cached() == []
        assert_fresh(read)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS made")
            cursor.execute("ALTER TABLE IF EXISTS odd_now RENAME TO tests_odd")
            cursor.execute("ALTER TABLE tests_odd DROP COLUMN IF EXISTS made")


@only_on("mysql")
def test_statement_that_commits_and_fails(world: World) -> None:
    """A12: it has committed what was pending although it then failed."""
    read = world.of(world.a)
    prime(read)
    with suppress(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        move(world)
        cursor.execute("CREATE TABLE tests_post (x integer)")
    assert read.uncached() == []
    assert_fresh(read)


@only_on("mysql")
def test_temporary_table_commits_nothing(world: World) -> None:
    """A12: a temporary table leaves the transaction open, so what is pending stays pending."""
    read = world.of(world.a)
    prime(read)
    with transaction.atomic(), connection.cursor() as cursor:
        move(world)
        cursor.execute("CREATE TEMPORARY TABLE passing (x integer)")
        cursor.execute("DROP TEMPORARY TABLE passing")
        elsewhere(lambda: prime(read))
    assert_fresh(read)
    assert read.cached() == []


@only_on("postgresql")
@pytest.mark.parametrize("tail", ["COMMIT", "BEGIN; SELECT 1"])
def test_transaction_control_among_other_statements(world: World, tail: str) -> None:
    """A12: several statements in one string, some of which begin or end a transaction."""
    read = world.of(world.a)
    prime(read)
    with connection.cursor() as cursor:
        cursor.execute(f"BEGIN; UPDATE tests_post SET category_id = {world.b.pk}; {tail}")
        elsewhere(lambda: prime(read))
        if tail != "COMMIT":
            cursor.execute("COMMIT")
        assert elsewhere(read.cached) == []
        cursor.execute(f"BEGIN; UPDATE tests_post SET category_id = {world.a.pk}")
        elsewhere(lambda: prime(read))
        cursor.execute("COMMIT")
    assert_fresh(read)
    assert len(read.cached()) == 2


@only_on("postgresql")
def test_prepared_transaction(world: World) -> None:
    """A12: COMMIT PREPARED makes visible what another connection wrote, long ago perhaps."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_prepared_transactions")
        if cursor.fetchone() == ("0",):
            pytest.skip("this server prepares no transactions")
        read = world.of(world.a)
        prime(read)
        cursor.execute("BEGIN")
        cursor.execute(f"UPDATE tests_post SET category_id = {world.b.pk}")
        cursor.execute("PREPARE TRANSACTION 'later'")
        elsewhere(lambda: prime(read))
        assert len(read.cached()) == 1
        cursor.execute("COMMIT PREPARED 'later'")
    assert_fresh(read)
    assert read.cached() == []


# -- writers that die --------------------------------------------------------------------------

WRITER = """
where, pk, category = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine.current().protocol.mark_ttl_ms = 700
die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
if where == "between commit and bump":
    engine.Engine.bump = die
elif where == "between mark and commit":
    connection._commit = die
else:
    engine.Engine.mark = die
with transaction.atomic():
    m.Post.objects.filter(pk=pk).update(category=category)
"""


@pytest.mark.parametrize(
    "where", ["between commit and bump", "between mark and commit", "before the mark"]
)
def test_writer_killed(world: World, where: str) -> None:
    """A writer killed at any step leaves nothing stale, nor a table that is never cached again."""
    reads = [world.of(world.a), world.of(world.b), world.with_author(world.a), world.count(world.b)]
    unrelated = world.of(world.c)
    prime(*reads, unrelated)
    process = in_process(WRITER, where, str(world.post.pk), str(world.b.pk), check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    committed = where == "between commit and bump"
    for _ in range(3):
        for read in reads:
            assert_fresh(read)
    assert len(world.of(world.b).uncached()) == int(committed)
    time.sleep(0.8)  # the marks run out
    for read in reads:
        assert_fresh(read)
    prime(*reads)
    assert_hit(unrelated)


# -- for a while, at random --------------------------------------------------------------------

CROWD = """
seed, seconds = int(sys.argv[1]), float(sys.argv[2])
dice = random.Random(seed)
until = time.monotonic() + seconds
mine = m.Author.objects.create(name=f"of {seed}")
reads = [
    lambda key: list(m.Post.objects.filter(category=key).cache()),
    lambda key: list(m.Post.objects.filter(category=key).select_related("author").cache()),
    lambda key: m.Post.objects.filter(views=key).cache().count(),
    lambda key: list(m.Post.objects.filter(tags=key).cache()),
    lambda key: list(m.Post(pk=key).tags.cache()),
    lambda key: m.Author.objects.filter(posts__views=key).cache().exists(),
]
writes = [
    lambda one, two: m.Post.objects.filter(pk=one).update(category=two),
    lambda one, two: m.Post.objects.filter(category=one).update(views=two),
    lambda one, two: m.Post(pk=one, title="x", category_id=two, author_id=one, views=two).save(),
    lambda one, two: m.Post.objects.filter(pk=one).delete(),
    lambda one, two: m.Author.objects.filter(pk=one).update(name=str(two)),
    lambda one, two: m.Post.objects.get(pk=one).tags.set([two]),
    lambda one, two: m.Post.objects.filter(author__name=str(one)).update(views=two),
    lambda one, two: connection.cursor().execute(
        f"UPDATE tests_post SET category_id = {one} WHERE views = {two}"),
]
done = 0
while time.monotonic() < until:
    try:
        for _ in range(3):
            dice.choice(reads)(dice.randint(1, 3))
        one, two = dice.randint(1, 3), dice.randint(1, 3)
        if dice.random() < 0.4:
            with transaction.atomic():
                dice.choice(writes)(one, two)
                dice.choice(writes)(two, one)
                if dice.random() < 0.3:
                    transaction.set_rollback(True)
        else:
            dice.choice(writes)(one, two)
        done += 1
        # What a process has committed it reads at once, whatever the others do.
        mine.name = f"of {seed}: {done}"
        mine.save()
        found = m.Author.objects.cache().get(pk=mine.pk)
        assert found.name == mine.name, (found.name, mine.name)
    except (DatabaseError, m.Post.DoesNotExist):
        pass  # a deadlock, a lock that somebody holds, a key that somebody took
print(done)
"""


@pytest.mark.slow
def test_processes_writing_at_random(world: World) -> None:
    """Two processes read and write the same rows for a while: nothing that they left is stale."""
    for key in (1, 2, 3):
        m.Author.objects.get_or_create(pk=key, defaults={"name": str(key)})
        m.Category.objects.get_or_create(pk=key, defaults={"title": "t", "slug": f"s{key}"})
        m.Tag.objects.get_or_create(pk=key, defaults={"name": str(key)})
    processes = [start_process(CROWD, str(seed), "3") for seed in (1, 2)]
    done = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        done.append(int(out))
    assert min(done) > 5, done
    for key in (1, 2, 3):
        for read in (
            Read(lambda k=key: m.Post.objects.filter(category=k)),
            Read(lambda k=key: m.Post.objects.filter(category=k).select_related("author")),
            Read(lambda k=key: m.Post.objects.filter(views=k), "count"),
            Read(lambda k=key: m.Post.objects.filter(tags=k)),
            Read(lambda k=key: m.Post(pk=k).tags.all()),
            Read(lambda k=key: m.Author.objects.filter(posts__views=k), "exists"),
        ):
            assert_fresh(read)
