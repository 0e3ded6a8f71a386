"""The outbox: what a process owes survives it, wherever it dies; and costs two statements."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.core.signals import request_finished
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext, isolate_apps

from cacheops_lite import (
    InvalidationRefused,
    cached,
    conf,
    engine,
    invalidate_all,
    invalidate_functions,
    invalidate_model,
    invalidate_obj,
    invalidate_tag,
    pulse,
)
from cacheops_lite.contrib.outbox import delivery
from cacheops_lite.contrib.outbox.models import Undelivered
from cacheops_lite.orm import registry
from tests import models as m
from tests import servers
from tests.watching import hits

from .acceptance.tools import MANUAL
from .wires import elsewhere, in_process

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.database,
    # Before 5.1 redis-py does not close a unix socket that could not be connected.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: Milliseconds that a mark lives here, instead of ten seconds.
MARK_TTL = 300


@pytest.fixture(autouse=True)
def outbox(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(
        engine, "CacheProtocol", partial(engine.CacheProtocol, mark_ttl_ms=MARK_TTL)
    )
    settings.CACHEOPS = MANUAL
    settings.CACHEOPS_OUTBOX_INTERVAL = 1000
    delivery._seen.clear()
    delivery._all_due.clear()
    yield
    delivery._seen.clear()
    delivery._all_due.clear()


@pytest.fixture
def away(settings: Any) -> Iterator[servers.KeyValueServer]:
    """A server of our own, which tests stop."""
    server = servers.start_valkey()
    settings.CACHEOPS_REDIS = server.url
    settings.CACHEOPS_BREAKER = {"pause": 0.01, "ceiling": 0.01}
    yield server
    server.stop()


def rows(using: str = "default") -> list[str]:
    return sorted(Undelivered.objects.using(using).values_list("tables", flat=True))


def names(using: str = "default") -> list[str]:
    return sorted(tag.name for tag in m.Tag.objects.using(using).cache())


def prime(using: str = "default") -> list[str]:
    """The names of tags, cached."""
    names(using)
    with hits() as seen:
        found = names(using)
    assert seen == [True]
    return found


# -- in one process ----------------------------------------------------------------------------


def statements(write: Callable[[], Any]) -> list[str]:
    """The statements of a write that touch the outbox, by their first words."""
    write()  # whether the table is there is asked once
    with CaptureQueriesContext(connection) as seen:
        write()
    return [query["sql"].split()[0] for query in seen.captured_queries if "outbox" in query["sql"]]


def test_a_commit_costs_two_statements() -> None:
    """One INSERT before the commit and one DELETE after it, and nothing stays."""
    tag = m.Tag.objects.create(name="a")
    assert statements(tag.save) == ["INSERT", "DELETE"]

    def two() -> None:
        with transaction.atomic():
            tag.save()
            m.Category.objects.create(slug=f"s{time.monotonic_ns()}", title="one")

    assert statements(two) == ["INSERT", "DELETE"]
    assert rows() == []


def test_what_is_not_cached_costs_nothing(settings: Any) -> None:
    """Writes of untracked tables, rolled back writes and reads leave the outbox alone."""
    settings.CACHEOPS = {**MANUAL, "tests.memo": None}
    assert statements(lambda: m.Memo.objects.create(text="x")) == []
    assert statements(names) == []

    def never() -> None:
        with transaction.atomic():
            m.Tag.objects.create(name="never")
            transaction.set_rollback(True)

    assert statements(never) == []
    settings.CACHEOPS_OUTBOX_INTERVAL = None
    assert statements(lambda: m.Tag.objects.create(name=str(time.monotonic_ns()))) == []


def test_the_row_is_part_of_the_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the tables that change, and is there exactly if they have changed."""
    seen: list[list[str]] = []
    bump = engine.Engine.bump

    def looking(self: Any, *args: Any, **named: Any) -> Any:
        seen.append(elsewhere(rows))
        return bump(self, *args, **named)

    monkeypatch.setattr(engine.Engine, "bump", looking)
    m.Tag.objects.create(name="a")
    assert seen == [['["tests_tag"]']]


def test_it_is_never_cached_nor_tracked(settings: Any) -> None:
    """Whatever the settings say, the outbox's own table takes no part."""
    settings.CACHEOPS = {"*.*": {"ops": "all", "timeout": 60}}
    for patterns in ({}, {"cacheops_outbox.*": {"timeout": 60}},
                     {"cacheops_outbox.undelivered": {"ops": "all", "timeout": 60}}):  # fmt: skip
        settings.CACHEOPS = {**settings.CACHEOPS, **patterns}
        assert conf.current().profile("cacheops_outbox.undelivered") is None
        assert delivery.TABLE not in registry.current().tracked


def test_redis_away_leaves_the_row(away: servers.KeyValueServer) -> None:
    """A bump that did not go through stays in the database, and is delivered after the outage."""
    m.Tag.objects.create(name="a")
    prime()
    folder = away.folder
    away.stop()
    m.Tag.objects.create(name="b")
    assert rows() == ['["tests_tag"]']
    delivery.look()
    delivery.look()
    assert rows() == ['["tests_tag"]'], "nothing is taken away undelivered"
    with servers.start_valkey(folder=folder):
        deadline = time.monotonic() + 20
        while rows() and time.monotonic() < deadline:
            assert names() == ["a", "b"]
            time.sleep(0.02)
        assert rows() == [], "the first contact after the outage delivers all"
        assert prime() == ["a", "b"]


def test_an_outage_does_not_fill_it(
    away: servers.KeyValueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks that cannot deliver leave one row for many; all that they named is told later."""
    monkeypatch.setattr(delivery, "BATCH", 5)
    m.Tag.objects.create(name="a")
    names()
    folder = away.folder
    away.stop()
    most = 0
    for number in range(40):
        if number % 2:
            m.Tag.objects.create(name=f"b{number}")
        else:
            m.Category.objects.create(title=f"c{number}", slug=f"c{number}")
        delivery.look()
        most = max(most, len(rows()))
    assert most < 12, "two looks until a row is due, then one for each five"
    assert set(json.loads(" ".join(rows()).replace("] [", ", "))) == {"tests_tag", "tests_category"}
    with servers.start_valkey(folder=folder):
        deadline = time.monotonic() + 20
        while rows() and time.monotonic() < deadline:
            assert len(names()) == 21
            time.sleep(0.02)
        assert rows() == [] and len(prime()) == 21


def test_rows_are_never_folded_half(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Where the fold fails in its middle, what was there stays."""
    monkeypatch.setattr(delivery, "BATCH", 2)
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    for number in range(3):
        Undelivered.objects.create(id=str(number), tables='["tests_tag"]')

    def broken(*args: Any) -> None:
        raise DatabaseError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_delete", broken)
        assert delivery.deliver() == 0
    assert len(rows()) == 3
    assert delivery.deliver() == 0
    assert rows() == ['["tests_tag"]']


@cached(timeout=60)
def answer() -> int:
    return 42


async def drop_answer() -> None:
    await answer.ainvalidate()
    await engine.current().aclose()


BY_HAND: dict[str, tuple[Callable[[], Any], str]] = {
    "a model": (lambda: invalidate_model(m.Tag), "tests_tag"),
    "an object": (lambda: invalidate_obj(m.Tag(pk=1, name="a")), "tests_tag"),
    "all": (invalidate_all, "tests_tag"),
    "a call": (lambda: answer.invalidate(), "func:tests.test_outbox.answer"),
    "a call, async": (lambda: asyncio.run(drop_answer()), "func:tests.test_outbox.answer"),
    "a function": (lambda: answer.invalidate_all(), "func:tests.test_outbox.answer"),
    "a tag": (lambda: invalidate_tag("red"), engine.TAGS),
    "functions": (invalidate_functions, engine.FUNCTIONS),
}


@pytest.mark.parametrize("what", BY_HAND)
@pytest.mark.parametrize("inside", [False, True])
def test_invalidation_by_hand_is_kept_too(
    away: servers.KeyValueServer, what: str, inside: bool
) -> None:
    """So does what could not be dropped by hand, in a transaction with its commit."""
    drop, table = BY_HAND[what]
    if inside and "async" in what:
        pytest.skip("no transactions there")
    prime()
    away.stop()
    if inside:
        with transaction.atomic():
            drop()
    else:
        drop()
    kept = rows() + rows("other")
    assert kept and all(f'"{table}"' in row for row in kept), kept


@pytest.mark.parametrize("broken", ["default", "other", "both"])
def test_invalidation_by_hand_is_kept_where_it_can_be(
    away: servers.KeyValueServer, monkeypatch: Any, caplog: Any, broken: str
) -> None:
    """A database that fails leaves it to the next one; if none takes it, the log says so."""
    insert = delivery._insert

    def failing(connection: Any, tables: set[str]) -> str:
        if broken in (connection.alias, "both"):
            raise DatabaseError("no row")
        return insert(connection, tables)

    prime()
    away.stop()
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_insert", failing)
        invalidate_model(m.Tag)
    assert len(rows() + rows("other")) == (broken != "both")
    assert ("could not be kept" in caplog.text) == (broken == "both")


def test_a_refused_commit_leaves_nothing(settings: Any, away: servers.KeyValueServer) -> None:
    """With CACHEOPS_DEGRADE_ON_FAILURE = False the row is rolled back with the write."""
    settings.CACHEOPS_DEGRADE_ON_FAILURE = False
    prime()
    away.stop()
    with pytest.raises(InvalidationRefused):
        m.Tag.objects.create(name="never")
    assert rows() == [] and m.Tag.objects.count() == 0


def test_an_outbox_that_cannot_be_written_fails_the_commit(monkeypatch: Any) -> None:
    """What cannot be promised is not done: the write is rolled back, the connection is usable."""

    def broken(*args: Any) -> str:
        raise RuntimeError("no row")

    with monkeypatch.context() as patch:
        patch.setattr(delivery.Outbox, "write", broken)
        with pytest.raises(RuntimeError):
            m.Tag.objects.create(name="never")
        with pytest.raises(RuntimeError), transaction.atomic():
            m.Tag.objects.create(name="never")
    assert connection.get_autocommit() and not connection.in_atomic_block
    assert m.Tag.objects.count() == 0
    m.Tag.objects.create(name="now")
    assert prime() == ["now"]


def test_a_row_that_cannot_be_deleted_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is over by then: the caller sees no error, and the row is told again."""

    def broken(*args: Any) -> None:
        raise DatabaseError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_delete", broken)
        m.Tag.objects.create(name="a")
    assert len(rows()) == 1
    assert delivery.deliver() == 1
    assert rows() == []


@pytest.mark.parametrize("autocommit", [True, False])
def test_manual_transactions(autocommit: bool) -> None:
    """With autocommit off the row joins the commit; nothing is deleted in the user's next one."""
    if autocommit:
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO tests_tag (name, {quoted('group')}) VALUES ('a', 0)")
        assert rows() == []
    else:
        transaction.set_autocommit(False)
        try:
            m.Tag.objects.create(name="a")
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert rows() == ['["tests_tag"]']
    assert names() == ["a"]


def quoted(name: str) -> str:
    return connection.ops.quote_name(name)


def test_several_databases() -> None:
    """Each database keeps the rows of its own transactions, and all are looked at."""
    for using in ("default", "other"):
        Undelivered.objects.using(using).create(id=using, tables='["tests_tag"]')
        m.Tag.objects.using(using).create(name=using)
        prime(using)
    assert delivery.deliver() == 2
    assert rows() == rows("other") == []
    for using in ("default", "other"):
        with hits() as seen:
            assert names(using) == [using]
        assert seen == [False]


def test_a_router_keeps_it_out(settings: Any) -> None:
    """A database where a router refuses the table is left alone."""
    settings.DATABASE_ROUTERS = [NotInOther()]
    connections["other"]._cacheops_outbox = False
    with CaptureQueriesContext(connections["other"]) as seen:
        m.Tag.objects.using("other").create(name="b")
    assert not [query for query in seen.captured_queries if "outbox" in query["sql"]]


class NotInOther:
    """A router."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if (db, app_label) == ("other", "cacheops_outbox") else None


def test_without_its_table_it_is_off() -> None:
    """Before ``migrate`` commits go on without the outbox, and the check says what to run."""
    with connection.schema_editor() as editor:
        editor.delete_model(Undelivered)
    try:
        if delivery.usable(connection):  # it was seen there: one commit learns better
            with pytest.raises(DatabaseError):
                m.Tag.objects.create(name="never")
        m.Tag.objects.create(name="a")
        with CaptureQueriesContext(connection) as seen:
            m.Tag.objects.filter(name="a").update(name="a")
        run = {query["sql"] for query in seen.captured_queries} - {"BEGIN", "COMMIT"}
        assert run and all("tests_tag" in sql for sql in run)
        assert prime() == ["a"] and delivery.deliver() == 0
        (message,) = (
            one for one in checks.run_checks(databases=["default"]) if one.id.endswith("W010")
        )
        assert "migrate cacheops_outbox" in message.hint
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(Undelivered)
    m.Tag.objects.create(name="b")
    assert delivery.usable(connection)
    assert not [one for one in checks.run_checks(databases=["default"]) if one.id.endswith("W010")]


def test_the_migration_is_complete() -> None:
    """The migration makes what the model says."""
    call_command("makemigrations", "cacheops_outbox", check=True, dry_run=True, stdout=StringIO())


# -- delivering --------------------------------------------------------------------------------


def test_a_look_leaves_what_is_new() -> None:
    """A row is delivered at the second look that sees it: its writer may be about to."""
    m.Tag.objects.create(name="a")
    prime()
    Undelivered.objects.create(id="x", tables='["tests_tag"]')
    delivery.look()
    with hits() as seen:
        names()
    assert (len(rows()), seen) == (1, [True])
    delivery.look()
    with hits() as seen:
        names()
    assert (rows(), seen) == ([], [False])


def test_one_look_is_no_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that come into sight at one look, go by go, are left to the next one."""
    monkeypatch.setattr(delivery, "BATCH", 3)
    Undelivered.objects.create(id="1", tables='["tests_tag"]')
    delivery.look()
    for name in "0234":
        Undelivered.objects.create(id=name, tables='["tests_tag"]')
    delivery.look()
    assert sorted(Undelivered.objects.values_list("id", flat=True)) == ["0", "2", "3", "4"]
    delivery.look()
    assert len(rows()) <= 1
    for _ in range(2):
        delivery.look()
    assert rows() == [] and delivery._seen["default"] == set()


def test_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than fit into one go are delivered as well, by looks and at once."""
    monkeypatch.setattr(delivery, "BATCH", 3)
    for go in (delivery.deliver, lambda: [delivery.look() for _ in range(8)]):
        for number in range(8):
            Undelivered.objects.create(id=str(number), tables='["tests_tag"]')
        go()
        assert rows() == []


@pytest.mark.parametrize("text", ["", "7", "{", "null", '{"a": 1}'])
def test_rows_that_are_not_ours(text: str) -> None:
    """What cannot be read drops everything rather than nothing, and is not read again."""
    m.Tag.objects.create(name="a")
    prime()
    Undelivered.objects.create(id="x", tables=text)
    assert delivery.deliver() == 1
    with hits() as seen:
        names()
    assert rows() == [] and (seen == [False] or text.startswith('{"'))


def test_looks_are_between_requests(settings: Any) -> None:
    """The end of a request looks when it is due; a transaction of the thread is never used."""
    Undelivered.objects.create(id="x", tables='["tests_tag"]')
    pulse.beat()
    for _ in range(2):
        pulse.hurry("outbox")
        with transaction.atomic():
            request_finished.send(sender=None)
        assert len(rows()) == 1
    for _ in range(2):
        pulse.hurry("outbox")
        request_finished.send(sender=None)
    assert rows() == []


def test_the_command_delivers(settings: Any) -> None:
    """``cacheops deliver`` delivers everything at once, or says why not."""
    Undelivered.objects.create(id="x", tables='["tests_tag"]')
    out = StringIO()
    call_command("cacheops", "deliver", stdout=out)
    assert "1" in out.getvalue() and rows() == []
    Undelivered.objects.create(id="x", tables='["tests_tag"]')
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
    with pytest.raises(CommandError, match="does not answer"):
        call_command("cacheops", "deliver")
    assert len(rows()) == 1


@isolate_apps()
def test_the_command_without_the_app(settings: Any) -> None:
    """Without the app the command says what to install."""
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if "outbox" not in app]
    with pytest.raises(CommandError, match="INSTALLED_APPS"):
        call_command("cacheops", "deliver")


# -- death -------------------------------------------------------------------------------------

DIE = (
    f"MARK_TTL = {MARK_TTL}"
    """
from functools import partial
from django.db.backends.base.base import BaseDatabaseWrapper
from cacheops_lite.contrib.outbox import delivery
engine.CacheProtocol = partial(engine.CacheProtocol, mark_ttl_ms=MARK_TTL)
settings.CACHEOPS = {"*.*": {"timeout": 60}}
settings.CACHEOPS_OUTBOX_INTERVAL = float(sys.argv[3]) or None
point, write = sys.argv[1:3]
if sys.argv[4] == "cut off":
    settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"

def killed(owner, name, when):
    original = getattr(owner, name)
    def method(*args, **named):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, method)

list(m.Tag.objects.all())
delivery.usable(connection)
killed(*{
    "before the row": (delivery.Outbox, "write", "before"),
    "before the mark": (engine.Engine, "mark", "before"),
    "before the commit": (engine.Engine, "refresh", "after"),
    "before the bump": (engine.Engine, "bump", "before"),
    "before the deletion": (engine.Engine, "bump", "after"),
    "after the deletion": (delivery.Outbox, "delivered", "after"),
}[point])
if write == "save":
    m.Tag.objects.create(name="new")
elif write == "raw SQL":
    name = connection.ops.quote_name("group")
    connection.cursor().execute(f"INSERT INTO tests_tag (name, {name}) VALUES ('new', 0)")
else:
    with transaction.atomic():
        m.Tag.objects.create(name="new")
        m.Author.objects.create(name="new")
"""
)

#: Where a writer dies -> whether it has committed by then, and whether its row is there.
POINTS = {
    "before the row": (False, False),
    "before the mark": (False, False),
    "before the commit": (False, False),
    "before the bump": (True, True),
    "before the deletion": (True, True),
    "after the deletion": (True, False),
}


@pytest.mark.parametrize("write", ["save", "raw SQL", "transaction"])
@pytest.mark.parametrize(
    ("point", "redis"),
    [(point, "there") for point in POINTS]
    + [(point, "cut off") for point in POINTS if point != "after the deletion"],
)
def test_a_writer_dies(point: str, redis: str, write: str) -> None:
    """Killed at any point: after the others have looked, nobody is told what is not so.

    Cut off from Redis its marks are lost as well, so that nothing but the row can tell.
    """
    m.Tag.objects.create(name="old")
    assert prime() == ["old"]
    dead = in_process(DIE, point, write, "5", redis, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    committed, left = POINTS[point]
    if write != "raw SQL" or committed:  # in autocommit the row stands before the statement
        assert len(rows()) == left
    time.sleep(MARK_TTL / 1000 + 0.05)  # its marks are over
    delivery.look()
    delivery.look()
    truth = ["new", "old"] if committed else ["old"]
    assert rows() == []
    assert prime() == truth


@pytest.mark.parametrize("outbox", [True, False])
def test_a_writer_that_reached_nobody_dies(settings: Any, outbox: bool) -> None:
    """Cut off from Redis it commits and dies: with the outbox the others hear of it all the same."""
    m.Tag.objects.create(name="old")
    prime()
    code = """
settings.CACHEOPS = {"*.*": {"timeout": 60}}
settings.CACHEOPS_OUTBOX_INTERVAL = float(sys.argv[1]) or None
settings.CACHEOPS_REDIS = "redis://127.0.0.1:1/0"
m.Tag.objects.create(name="new")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_process(code, "5" if outbox else "0", check=False).returncode == -9
    assert prime() == ["old"], "nobody has told us yet (C2)"
    delivery.look()
    delivery.look()
    assert prime() == (["new", "old"] if outbox else ["old"])
