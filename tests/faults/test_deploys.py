"""Old and new code side by side: other fields, other conditions, other formats, migrations between.

Each release is a program of its own on one database and one server. After each write by either,
and after each migration, both answer what the database says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .machines import Machine
from .processes import Companion

FIRST = """
import os
from django.conf import settings
settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.faults.deployed"]
settings.DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": "", "OPTIONS": {"timeout": 30},
}}
settings.CACHEOPS = {"*.*": {"timeout": 60}}
settings.CACHEOPS_REDIS = os.environ["CACHEOPS_TEST_URL"]
settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS = os.environ["SECRETS"].split()
"""
CODE = """
from django.db.migrations.executor import MigrationExecutor
from cacheops_lite import signals
from cacheops_lite.core import stamps
from tests.faults.deployed import models as d

seen = []
def on_read(sender, hit, **kwargs):
    seen.append(hit)
signals.cache_read.connect(on_read)

Item, Box = d.Item, d.Box
QUERIES = [
    lambda: Item.objects.order_by("pk"),
    lambda: Item.objects.filter(color="red").order_by("pk"),
    lambda: Item.objects.filter(name="one", color__in=["red", "green"]).order_by("pk"),
    lambda: Box.objects.select_related("item").order_by("pk"),
    lambda: Box.objects.filter(item__color="red").order_by("pk"),
    lambda: Item.objects.filter(name__startswith="m").values_list("name", "color"),
]
if d.RELEASE != "last":
    QUERIES.append(lambda: Item.objects.filter(size=1).order_by("pk"))
if d.RELEASE != "old":
    QUERIES.append(lambda: Item.objects.filter(weight=1).order_by("pk"))
    QUERIES.append(lambda: Item.objects.filter(weight__gt=0, color="red").order_by("pk"))

def spelt(one):
    fields = lambda row: {key: value for key, value in vars(row).items() if key[0] != "_"}
    if isinstance(one, tuple):
        return one
    item = one._state.fields_cache.get("item")
    return [fields(one), item and fields(item)]

def read():
    seen.clear()
    for query in QUERIES:
        answer = [spelt(one) for one in query().cache()]
        truth = [spelt(one) for one in query().nocache()]
        assert answer == truth, f"stale in {d.RELEASE}: {answer} instead of {truth}"
    assert d.names() == sorted(Item.objects.nocache().values_list("name", flat=True)), "stale function"
    assert d.thing().value == "thing"
    return sum(seen)

def use():
    for query in QUERIES * 3:
        list(query().cache())
    d.names()

def write(number):
    some = list(Item.objects.nocache().order_by("pk"))
    one = some[number % len(some)]
    kind = number % 6
    if kind == 0:
        one.color = ["red", "green", "blue"][number % 3]
        one.save()
    elif kind == 1:
        Item.objects.filter(color="red").update(name=f"n{number % 4}")
    elif kind == 2:
        Box.objects.create(label="new", item=Item.objects.create(name="made", color="red"))
    elif kind == 3:
        Item.objects.filter(pk=some[-1].pk).delete() if len(some) > 3 else None
    elif kind == 4 and d.RELEASE != "last":
        Item.objects.update(size=number % 3)
    elif d.RELEASE != "old":
        Item.objects.filter(pk=one.pk).update(weight=number % 3)

def migrate(to):
    executor = MigrationExecutor(connection)  # without the signals that want Django's own tables
    executor.migrate([key for key in executor.loader.graph.nodes if key[1].startswith(to)])

def version(what):
    if what == "protocol":
        engine.current().protocol.version = b"2"
    elif what == "entries":
        stamps.ENTRY_FORMAT = 77

def populate():
    for name in ("one", "two", "three"):
        Box.objects.create(label=name, item=Item.objects.create(name=name, color="red"))

while (asked := hear()) is not None:
    name, *args = asked
    say(globals()[name](*args))
"""


class Fleet:
    """Releases that run."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        self.running: dict[str, Companion] = {}

    def start(self, release: str, name: str = "", secrets: str = "secret") -> None:
        names = {"default": str(self.folder / "deployed.sqlite3")}
        self.running[name or release] = Companion(
            CODE, first=FIRST, DEPLOYED=release, CACHEOPS_TEST_URL=self.machine.url,
            CACHEOPS_TEST_NAMES=json.dumps(names), SECRETS=secrets,
        )  # fmt: skip

    def ask(self, name: str, *words: Any) -> Any:
        return self.running[name].ask(words)

    def stop(self, name: str) -> None:
        self.running.pop(name).finish()

    def look(self) -> None:
        """All of them are right."""
        for name in self.running:
            self.ask(name, "read")

    def busy(self, rounds: int = 12) -> None:
        """They write in turn, and after each write all are right."""
        names = list(self.running)
        for number in range(rounds):
            self.ask(names[number % len(names)], "write", number * 7 + number // 3)
            self.look()
        for name in names:
            assert self.ask(name, "read") > 0, f"{name} is never answered by the cache"


@pytest.fixture
def fleet(shared_machine: Machine, tmp_path: Path) -> Iterator[Fleet]:
    shared_machine.command("FLUSHALL")
    made = Fleet(shared_machine, tmp_path)
    yield made
    for program in made.running.values():
        program.close()


def test_a_deploy_and_its_rollback(fleet: Fleet) -> None:
    """Migrate forward under the old code, run both, go on with the new, go back to the old."""
    fleet.start("old")
    fleet.ask("old", "migrate", "0001")
    fleet.ask("old", "populate")
    fleet.busy(4)
    fleet.start("new")
    fleet.ask("new", "migrate", "0002")
    fleet.busy()
    fleet.ask("new", "migrate", "0003")
    fleet.look()
    fleet.busy(6)
    fleet.stop("new")
    fleet.start("old", "older")
    fleet.ask("old", "migrate", "0001")
    fleet.look()
    fleet.busy(6)
    fleet.start("last")
    fleet.stop("old")
    fleet.stop("older")
    fleet.ask("last", "migrate", "0004")
    fleet.busy(6)


CHANGES: dict[str, Callable[[Fleet], None]] = {
    "protocol": lambda fleet: fleet.ask("two", "version", "protocol"),
    "entries": lambda fleet: fleet.ask("two", "version", "entries"),
    "fields": lambda fleet: None,
}


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=() if what == "protocol" else pytest.mark.slow) for what in CHANGES],
)
def test_other_versions_of_ours(fleet: Fleet, what: str) -> None:
    """Releases of ours that spell values differently share keys and drop each other's results."""
    fleet.start("old", "one")
    fleet.ask("one", "migrate", "0002")
    fleet.ask("one", "populate")
    fleet.start("new" if what == "fields" else "old", "two")
    CHANGES[what](fleet)
    names = list(fleet.running)
    for number in range(12):
        fleet.ask(names[number % 2], "write", number)
        fleet.look()
        fleet.look()


@pytest.mark.slow
def test_a_secret_that_is_rotated(fleet: Fleet) -> None:
    """Code with the new secret and code without it: each is right, and neither can crash."""
    fleet.start("old", "before", "first")
    fleet.ask("before", "migrate", "0001")
    fleet.ask("before", "populate")
    fleet.start("old", "between", "second first")
    fleet.start("old", "after", "second")
    fleet.busy(9)
    assert fleet.ask("between", "read") > 0


@pytest.mark.slow
def test_migrations_while_others_read(fleet: Fleet) -> None:
    """Columns come and go and data moves while old code reads without a pause."""
    fleet.start("new")
    fleet.ask("new", "migrate", "0001")
    fleet.start("old")
    fleet.ask("old", "populate")
    fleet.ask("old", "read")
    for to in ("0002", "0003", "0002", "0001") * 2:
        for _ in range(3):
            fleet.running["old"].tell(["use"])
        fleet.ask("new", "migrate", to)
        for _ in range(3):
            fleet.running["old"].hear()
        fleet.ask("old", "read")
