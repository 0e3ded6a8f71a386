"""The limits that ``docs/what_it_does_not_do.rst`` states of the server are real, and no worse."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from cacheops_lite import invalidate_all
from tests import models as m
from tests.wires import elsewhere

from .conftest import PROFILES
from .machines import Machine, Machines
from .processes import Processes
from .world import populate

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def rows(transactional_db: None, settings: Any, quick: None) -> None:
    settings.CACHEOPS = PROFILES
    populate()


def title() -> str:
    return m.Post.objects.cache().get(pk=1).title


def rename(to: str) -> None:
    m.Post.objects.filter(pk=1).update(title=to)


def test_a_primary_that_is_demoted_with_its_sockets_open(
    machines: Machines, processes: Processes
) -> None:
    """``REPLICAOF`` alone leaves old sockets answering; ``CLIENT KILL`` ends that at once."""
    old, new = machines(), machines()
    processes.start("reader", old.url)
    processes.start("writer", new.url)
    with processes.on("reader"):
        assert title() == title() == "post 1"
    old.command("REPLICAOF", "127.0.0.1", "1")
    with processes.on("writer"):
        rename("new")
    with processes.on("reader"):
        assert title() == "post 1"  # the limit
        assert old.command("CLIENT", "KILL", "TYPE", "normal") > 0
        assert title() == "new"


def test_the_first_write_of_a_socket_notices_the_replica(
    machines: Machines, processes: Processes
) -> None:
    """A miss has something to write: refused, it ends the socket, and the database answers."""
    old, new = machines(), machines()
    processes.start("reader", old.url)
    processes.start("writer", new.url)
    with processes.on("reader"):
        assert title() == title() == "post 1"
    old.command("REPLICAOF", "127.0.0.1", "1")
    with processes.on("writer"):
        rename("new")
    with processes.on("reader"):
        assert m.Post.objects.filter(pk=1).cache().count() == 1
        assert title() == "new"


def test_databases_that_are_swapped(machine: Machine, processes: Processes) -> None:
    """An older copy of our keys in another database is believed; ``invalidate_all()`` ends that."""
    processes.start("one", machine.url)
    with processes.on("one"):
        assert title() == title() == "post 1"
        for key in machine.command("KEYS", "*"):
            assert machine.command("COPY", key, key, "DB", 1) == 1
        rename("new")
        assert title() == title() == "new"
        machine.command("SWAPDB", 0, 1)
        assert title() == "post 1"  # the limit
        invalidate_all()
        assert title() == "new"


def test_databases_that_are_swapped_for_an_empty_one(
    machine: Machine, processes: Processes
) -> None:
    """That is a ``FLUSHDB``: everything is a miss."""
    processes.start("one", machine.url)
    with processes.on("one"):
        assert title() == title() == "post 1"
        machine.command("SWAPDB", 0, 5)
        rename("new")
        assert title() == title() == "new"


@pytest.mark.parametrize("moment", ["statement", "mark", "commit"])
def test_flushed_in_the_middle_of_a_write(
    machine: Machine, processes: Processes, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """``FLUSHDB`` at any step of a write, and readers that fill the cache anew: nothing is stale."""
    for name in ("writer", "reader"):
        processes.start(name, machine.url)
    original = BaseDatabaseWrapper._commit

    def flush() -> None:
        machine.command("FLUSHDB")

        def read() -> None:
            assert title() == title() == "post 1"

        with processes.on("reader"):
            elsewhere(read)

    def commit(self: Any) -> None:
        if moment == "mark" and self is connection:
            flush()  # the marks stand, the commit has not begun
        original(self)
        if moment == "commit" and self is connection:
            machine.command("FLUSHDB")

    for name in ("reader", "writer"):
        with processes.on(name):
            assert title() == title() == "post 1"
    with processes.on("writer"):
        monkeypatch.setattr(BaseDatabaseWrapper, "_commit", commit)
        with transaction.atomic():
            rename("new")
            if moment == "statement":
                flush()
        monkeypatch.undo()
        assert title() == "new"
    with processes.on("reader"):
        assert title() == title() == "new"
