"""Whatever is read and written, in whichever order: the cache never differs from the database.

Hypothesis draws reads and writes from the whole list, in and out of transactions; after every
write each read that was ever cached is asked again, with and without the cache. CACHEOPS_STEPS is
the number of steps, CACHEOPS_SEED draws others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.core.exceptions import FieldError, ObjectDoesNotExist
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)  # fmt: skip

from cacheops_lite.core.entry import Change
from cacheops_lite.orm import (
    one_read,
    rawwrites,
    refusals,
    rows_lookup,
    transactions,
    updated,
    writes,
)
from cacheops_lite.orm.explained import explained
from cacheops_lite.orm.pending import Pending

from . import drawn_reads, drawn_writes
from . import models as m
from .conftest import reset_cacheops
from .watching import hits

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default"]),
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.timeout(0),
]

STEPS = int(os.environ.get("CACHEOPS_STEPS", "1500"))
SEED = int(os.environ.get("CACHEOPS_SEED", "0"))
#: "" to print the first failing story as it came: shrinking may take minutes.
SHRINK = bool(os.environ.get("CACHEOPS_SHRINK", "1"))
#: Steps of one example. More find longer stories, fewer shrink faster.
LENGTH = 50
#: Reads that are compared after every write; the oldest make room.
MOST_READS = 16


class Stale(AssertionError):
    """The cache answered otherwise than the database."""


class Machine(RuleBasedStateMachine):
    """One connection that reads, writes and opens and ends transactions in every way."""

    #: Filled by ``running``: how to empty the server, and what was seen.
    flush: Callable[[], Any]
    seen: list[bool]

    def __init__(self) -> None:
        super().__init__()
        self.primed: list[drawn_reads.Drawn] = []
        #: The open ``atomic`` blocks, outermost first.
        self.blocks: list[Any] = []
        #: How a transaction was begun other than by ``atomic``: "", "manual" or "raw".
        self.other = ""
        self.log: list[str] = []

    @initialize(number=st.none() | st.integers(0, 10_000), data=st.data())
    def begin(self, number: int | None, data: st.DataObject) -> None:
        """``number`` chooses what the example is about."""
        drawn_reads.set_focus(number)
        first = data.draw(st.lists(drawn_reads.reads(), min_size=2, max_size=12))
        empty_tables()
        type(self).flush()
        reset_cacheops()
        populate()
        for read in first:
            self.read(read)

    def teardown(self) -> None:
        self.unwind()

    # -- reading

    @rule(some=st.lists(drawn_reads.reads(), min_size=1, max_size=4))
    def read_some(self, some: list[drawn_reads.Drawn]) -> None:
        for read in some:
            self.read(read)

    def read(self, read: drawn_reads.Drawn) -> None:
        if self.other == "raw":
            return  # ``atomic`` cannot be had inside, so an error would end the transaction
        try:
            with transaction.atomic():
                read.answer(cached=False)
        except (DatabaseError, FieldError, ValueError, TypeError):
            return  # this database cannot ask that
        self.compare(read)
        self.compare(read)
        self.primed.append(read)
        del self.primed[:-MOST_READS]

    def compare(self, read: drawn_reads.Drawn) -> None:
        try:
            uncached = read.answer(cached=False)
        except TypeError:
            return  # a slice cannot be prefetched, which shows when there are rows to do it for
        cached = read.answer(cached=True)
        if cached != uncached:
            plan = read.queryset.all().cache().cache_explain()
            story = "\n".join(f"  {step}" for step in self.log)
            raise Stale(f"{read}\ncached   {cached}\nuncached {uncached}\n{plan}\n{story}")

    def compare_all(self) -> None:
        for read in self.primed:
            self.compare(read)

    # -- writing

    @rule(write=drawn_writes.writes())
    def write(self, write: drawn_writes.Drawn) -> None:
        self.do(write)

    @rule(write=drawn_writes.writes())
    def write_again(self, write: drawn_writes.Drawn) -> None:
        self.do(write)

    @rule(some=st.lists(drawn_writes.writes(), min_size=2, max_size=3))
    def write_some(self, some: list[drawn_writes.Drawn]) -> None:
        for write in some:
            self.do(write)

    @rule(write=drawn_writes.nested())
    def write_nested(self, write: drawn_writes.Drawn) -> None:
        self.do(write)

    def do(self, write: drawn_writes.Drawn) -> None:
        if self.other == "raw" and connection.vendor == "mysql" and not write.raw:
            return  # an ``atomic`` inside would commit what raw SQL began
        try:
            write.run()
            self.log.append(repr(write))
        except (DatabaseError, ObjectDoesNotExist, ValueError, drawn_writes.Wanted) as error:
            self.log.append(f"{write!r} failed: {error!r}")
            self.unwind(error)
        self.compare_all()

    # -- transactions

    @property
    def inside(self) -> bool:
        return bool(self.blocks or self.other)

    @precondition(lambda self: len(self.blocks) < 3 and self.other != "raw")
    @rule(savepoint=st.booleans())
    def enter(self, savepoint: bool) -> None:
        block = transaction.atomic(savepoint=savepoint, durable=not self.inside)
        block.__enter__()
        self.blocks.append(block)
        self.log.append(f"enter {savepoint}")

    @precondition(lambda self: self.blocks)
    @rule(how=st.sampled_from(["commit", "commit", "exception", "roll back"]))
    def leave(self, how: str) -> None:
        self.log.append(f"leave: {how}")
        if how == "roll back":
            transaction.set_rollback(True)
        try:
            self.pop(drawn_writes.Wanted() if how == "exception" else None)
        except DatabaseError as error:  # a deferred constraint
            self.unwind(error)
        if connection.needs_rollback:  # asked for by the block inside, which had no savepoint
            self.unwind(drawn_writes.Wanted())
        self.compare_all()

    def pop(self, error: BaseException | None) -> None:
        block = self.blocks.pop()
        block.__exit__(type(error) if error else None, error, None)

    @precondition(lambda self: not self.inside)
    @rule(how=st.sampled_from(["manual", "raw"]))
    def begin_by_hand(self, how: str) -> None:
        if how == "manual":
            transaction.set_autocommit(False)
        else:
            drawn_writes.execute("BEGIN")
        self.other = how
        self.log.append(f"begin {how}")

    @precondition(lambda self: self.other and not self.blocks)
    @rule(commit=st.booleans(), stay=st.booleans())
    def end_by_hand(self, commit: bool, stay: bool) -> None:
        self.log.append(f"end by hand: {'commit' if commit else 'roll back'}, stay {stay}")
        try:
            if self.other == "raw":
                drawn_writes.execute("COMMIT" if commit else "ROLLBACK")
                self.other = ""
            elif commit:
                transaction.commit()
            else:
                transaction.rollback()
        except DatabaseError as error:
            self.unwind(error)
        if self.other and not stay:
            transaction.set_autocommit(True)
            self.other = ""
        self.compare_all()

    @precondition(lambda self: self.other == "raw")
    @rule(write=drawn_writes.raw_writes(), keep=st.booleans())
    def raw_savepoint(self, write: drawn_writes.Drawn, keep: bool) -> None:
        drawn_writes.execute("SAVEPOINT by_hand")
        try:
            write.run()
            self.log.append(f"raw savepoint {write!r} keep {keep}")
        except (DatabaseError, ObjectDoesNotExist, ValueError) as error:
            self.log.append(f"raw savepoint {write!r} failed {error!r}")
            keep = False
        drawn_writes.execute(f"{'RELEASE' if keep else 'ROLLBACK TO'} SAVEPOINT by_hand")
        self.compare_all()

    @rule(lost=st.booleans())
    def close(self, lost: bool) -> None:
        """The connection is closed by its owner, or lost; an open transaction goes with it."""
        if self.blocks:
            return
        self.log.append(f"close, lost {lost}")
        if lost and connection.connection is not None:
            connection.connection.close()
        with suppress(DatabaseError):  # MySQL minds closing twice
            connection.close()
        self.other = ""
        self.compare_all()

    def unwind(self, error: BaseException | None = None) -> None:
        """Leave every transaction, rolling back."""
        error = error or drawn_writes.Wanted()
        while self.blocks:
            try:
                self.pop(error)
            except DatabaseError as another:
                error = another
        if self.other == "manual":
            transaction.rollback()
            transaction.set_autocommit(True)
        elif self.other == "raw":
            drawn_writes.execute("ROLLBACK")
        self.other = ""


# -- the world ---------------------------------------------------------------------------------


def empty_tables() -> None:
    """Delete all rows, behind everybody's back and fast."""
    tables = [
        connection.ops.quote_name(table)
        for table in connection.introspection.table_names()
        if table.startswith("tests_")
    ]
    with connection.cursor() as cursor:
        raw = cursor.cursor
        if connection.vendor == "sqlite":
            raw.execute("PRAGMA foreign_keys = OFF")
            for table in tables:
                raw.execute(f"DELETE FROM {table}")
            raw.execute("DELETE FROM sqlite_sequence")
            raw.execute("PRAGMA foreign_keys = ON")
        elif connection.vendor == "postgresql":
            # Deletes are faster than TRUNCATE, which makes new files.
            deletes = "; ".join(f"DELETE FROM {table}" for table in tables)
            raw.execute(f"SET session_replication_role = replica; {deletes}")
            raw.execute("SET session_replication_role = DEFAULT")
        else:
            raw.execute("SET foreign_key_checks = 0")
            for table in tables:
                raw.execute(f"DELETE FROM {table}")
            raw.execute("SET foreign_key_checks = 1")


def count_from_1000() -> None:
    """Keys that the database makes shall not meet those that examples choose, or not by chance."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT setval(oid, 1000) FROM pg_class "
                "WHERE relkind = 'S' AND relname LIKE 'tests\\_%'"
            )
        elif connection.vendor == "mysql":
            cursor.execute(
                "SELECT table_name FROM information_schema.tables WHERE auto_increment IS NOT NULL "
                "AND table_schema = DATABASE() AND table_name LIKE 'tests\\_%'"
            )
            for (table,) in cursor.fetchall():
                cursor.execute(f"ALTER TABLE {table} AUTO_INCREMENT = 1000")


def populate() -> None:
    """A few rows of most kinds, with small keys."""
    words = ["a", "b", "ä"]
    for key, word in zip(drawn_reads.KEYS, words, strict=True):
        m.Author.objects.create(pk=key, name=word)
        m.Category.objects.create(
            pk=key, title=word, slug=f"{word}{key}", parent_id=key - 1 or None
        )
        m.Tag.objects.create(pk=key, name=word)
        m.Person.objects.create(pk=key, name=word)
        m.Group.objects.create(pk=key, name=word)
        m.Owner.objects.create(pk=key, name=word)
    for key in (1, 2):
        post = m.Post.objects.create(
            pk=key, title="a", category_id=key, author_id=key, views=key, published=key == 1
        )
        post.tags.add(key)
        m.Cascading.objects.create(pk=key, owner_id=key)
        m.Nulling.objects.create(pk=key, owner_id=key)
        m.Defaulting.objects.create(pk=key, owner_id=key)
        m.Setting.objects.create(pk=key, owner_id=key)
    m.Pizzeria.objects.create(pk=1, name="a", city="b", stars=1)
    m.Restaurant.objects.create(pk=2, name="b", city="b", stars=1)
    m.Box.objects.create(pk=1, name="A")
    m.Ignoring.objects.create(owner_id=1)


def run_machine(
    flush: Callable[[], Any], steps: int, *, shrink: bool = SHRINK, number: int = SEED
) -> list[bool]:
    """Run the machine; returns for each cached read whether it was a hit."""
    Machine.flush = staticmethod(flush)
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    options = settings(
        max_examples=max(1, steps // LENGTH),
        stateful_step_count=LENGTH,
        deadline=None,
        database=None,
        derandomize=False,
        phases=phases,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    # What a foreign key leads to is cached by its model's profile: there is no queryset to tell.
    with override_settings(CACHEOPS={"*.*": {"ops": {"get"}, "timeout": 60}}), hits() as seen:
        run_state_machine_as_test(seed(number)(Machine), settings=options)
    return seen


@pytest.fixture
def flush(redis_client: Any) -> Iterator[Callable[[], Any]]:
    """Empties the server, and the tables when the test is over."""
    count_from_1000()
    yield redis_client.flushdb
    if not connection.in_atomic_block:
        connection.close()


def test_the_cache_never_differs_from_the_database(flush: Callable[[], Any]) -> None:
    """After every step each cached answer equals the uncached one; and many were hits."""
    seen = run_machine(flush, STEPS)
    assert sum(seen) > len(seen) / 3, f"{sum(seen)} hits of {len(seen)}: too few to mean anything"


# -- it can fail -------------------------------------------------------------------------------


def _without_old_values(connection: Any, model: Any, *args: Any) -> Any:
    known = updated_changes(connection, model, *args)
    return [Change(change.table, change.new, change.new) for change in known]


updated_changes = updated.changes

BROKEN: dict[str, tuple[Any, str, Any]] = {
    "updates are not seen": (
        writes, "update",
        lambda compiler, execute, instance=None, **kwargs: explained(compiler, execute),
    ),
    "inserts are not seen": (
        writes, "insert",
        lambda compiler, execute, fields=None: explained(
            compiler, lambda: execute(compiler, fields)
        ),
    ),
    "deletes are not seen": (
        writes, "delete",
        lambda compiler, execute, kind, instance=None: explained(
            compiler, lambda: execute(compiler, kind)
        ),
    ),
    "old values are not looked up": (updated, "changes", _without_old_values),
    "raw SQL is not seen": (rawwrites, "executed", lambda cursor, sql, run: run()),
    "changes of savepoints are lost": (
        Pending, "savepoint_began", lambda state, sid: state.changes.clear(),
    ),
    "tables written in the transaction are read from the cache": (
        refusals, "read_refusal", lambda alias, tables: "",
    ),
    "joined rows are no dependencies": (
        one_read, "_dynamic", lambda cache, plan, using: lambda found: iter(()),
    ),
    "what the database made is not read back": (
        rows_lookup.Lookup, "by_pks",
        lambda self, pks: {pk: dict.fromkeys(self.fields, "?") for pk in pks},
    ),
    "commits do not drop anything": (
        transactions, "settle", lambda connection, commit: commit(),
    ),
}  # fmt: skip


@pytest.mark.control
@pytest.mark.parametrize("name", BROKEN)
def test_it_finds_what_is_broken(
    name: str, flush: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one source of invalidation switched off, the same steps find a stale answer."""
    target, attribute, broken = BROKEN[name]
    monkeypatch.setattr(target, attribute, broken)
    with pytest.raises(Stale):
        for number in range(8):  # the rarer the place, the longer it takes
            run_machine(flush, 2000, shrink=False, number=number)
