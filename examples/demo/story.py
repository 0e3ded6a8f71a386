"""The story: load, read twice, then a save, a move, an update(), an m2m change and a rollback."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

import django
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext

from tests.servers import KeyValueServer

from . import screen
from .load import load
from .models import Country, Kind, Subdivision
from .reads import QUERIES, Read, dependencies, fresh, read

CANADA = {"provinces of Canada", "how many parts has Canada", "last name in Canada"}


def tell(server: KeyValueServer) -> screen.Claims:
    """Run the whole story; return the claims that it made."""
    claims = screen.Claims()
    prepare(claims)
    read_twice(server, claims)
    save(claims)
    move(claims)
    update(claims)
    m2m(claims)
    roll_back(claims)
    return claims


def prepare(claims: screen.Claims) -> None:
    screen.step(f"SQLite {sqlite3.sqlite_version}, Django {django.get_version()}")
    call_command("migrate", run_syncdb=True, verbosity=0)
    screen.done("empty tables made")
    total = 0
    started = time.perf_counter()
    screen.step("languages …")
    for what, count in load():
        screen.done(f"\r  {what:<34}{count:>7} rows")
        total += count
        screen.step("…")
    screen.done(f"\r  {'all':<34}{total:>7} rows in {time.perf_counter() - started:.1f} s")
    claims.check("thousands of rows were loaded", total > 10_000)


def read_twice(server: KeyValueServer, claims: screen.Claims) -> None:
    screen.title("1. Every query is read twice, as queryset.cache()")
    lines = []
    for number, query in enumerate(QUERIES.values(), 1):
        first = read(query)
        before = commands(server)
        second = read(query)
        used = commands(server) - before
        truth = fresh(query)
        claims.check(f"{query.name}: the first read is a miss", not first.hit)
        claims.check(f"{query.name}: the second read is a hit without SQL", free(second))
        claims.check(f"{query.name}: a hit is one Redis command (was {used})", used == 1)
        claims.check(f"{query.name}: both say what the database says",
                     first.answer == second.answer == truth)  # fmt: skip
        lines.append((number, query.name, query.op, *cells(first), *cells(second), used))
    screen.table(
        ["#", "query", "op", "1st", "SQL", "ms", "2nd", "SQL ", "ms ", "Redis commands"],
        lines,
        right="# SQL ms SQL  ms ",
    )
    screen.say("""A result depends on conjunctions: conditions joined by AND, on columns of one
        table. It is dropped when a commit writes a row that met one of them before, or meets one
        after. This is what each result depends on:""")
    print()
    screen.table(
        ["#", "query", "depends on rows of"],
        [
            (number, query.name, "  or  ".join(dependencies(query)))
            for number, query in enumerate(QUERIES.values(), 1)
        ],
        right="#",
    )


def save(claims: screen.Claims) -> None:
    screen.title("2. One object is saved")
    screen.code("""
        quebec = Subdivision.objects.get(code="CA-QC")
        quebec.name = "Quebec, la belle province"
        quebec.save()
    """)

    def write() -> None:
        quebec = Subdivision.objects.get(code="CA-QC")
        quebec.name = "Quebec, la belle province"
        quebec.save()

    row = "the row has {}, before and after"
    changed = {
        "provinces of Canada": row.format("country_id=CA & kind_id=Province"),
        "how many parts has Canada": row.format("country_id=CA"),
        "last name in Canada": row.format("country_id=CA"),
        "Quebec": row.format("code=CA-QC"),
    }
    after(claims, "save()", write, changed, table="demo_subdivision",
          spared="no conjunction that the row of Quebec meets")  # fmt: skip


def move(claims: screen.Claims) -> None:
    screen.title("3. One object moves: from territory to province")
    screen.code("""
        nunavut = Subdivision.objects.get(code="CA-NU")
        nunavut.kind_id = "Province"
        nunavut.save()
    """)

    def write() -> None:
        nunavut = Subdivision.objects.get(code="CA-NU")
        nunavut.kind_id = "Province"
        nunavut.save()

    changed = {
        "provinces of Canada": "the new row has country_id=CA & kind_id=Province",
        "territories of Canada": "the old row had country_id=CA & kind_id=Territory",
        "how many parts has Canada": "both rows have country_id=CA",
        "last name in Canada": "both rows have country_id=CA",
    }
    after(claims, "move", write, changed, table="demo_subdivision",
          spared="neither the old nor the new row of Nunavut meets it")  # fmt: skip


def update(claims: screen.Claims) -> None:
    screen.title("4. Many rows change in one update()")
    screen.code("""
        Subdivision.objects.filter(parent="FR-BRE").update(name=Concat(F("name"), Value(" (29)")))
    """)

    def write() -> None:
        Subdivision.objects.filter(parent="FR-BRE").update(
            name=Concat(F("name"), Value(" (breizh)"))
        )

    changed = {"parts of Brittany": "the updated rows have parent_id=FR-BRE"}
    after(claims, "update()", write, changed, table="demo_subdivision",
          spared="none of the updated rows meets it")  # fmt: skip


def m2m(claims: screen.Claims) -> None:
    screen.title("5. A many-to-many relation changes")
    screen.code("""
        Country.objects.get(code="CA").kinds.add(Kind.objects.get(name="Canton"))
    """)

    def write() -> None:
        Country.objects.get(code="CA").kinds.add(Kind.objects.get(name="Canton"))

    changed = {"countries with cantons": "the new row of the m2m table has kind_id=Canton"}
    after(claims, "m2m add()", write, changed, table="demo_country_kinds",
          spared="the new row has another kind_id")  # fmt: skip


def roll_back(claims: screen.Claims) -> None:
    screen.title("6. A transaction is rolled back")
    screen.code("""
        with transaction.atomic():
            Subdivision.objects.filter(country="CA").update(name="nowhere")
            ...                      # reads in here see "nowhere", and go past the cache
            raise ChangedMyMind
    """)
    query = QUERIES["Ontario"]
    inside: list[Read] = []

    class ChangedMyMind(Exception):
        pass

    def write() -> None:
        try:
            with transaction.atomic():
                Subdivision.objects.filter(country="CA").update(name="nowhere")
                inside.append(read(query))
                inside.append(read(QUERIES["currency of Japan"]))
                raise ChangedMyMind
        except ChangedMyMind:
            pass

    after(claims, "rollback", write, {}, table="demo_subdivision",
          spared="the transaction was rolled back: nothing changed")  # fmt: skip
    written, other = inside
    claims.check("inside, a written table is read from the database", written.statements == 1)
    claims.check("inside, the transaction sees its own write", written.answer["name"] == "nowhere")
    claims.check("inside, a table that it did not write is a hit", free(other))
    screen.say(f"""Inside the transaction, "Ontario" was read with {written.statements} SQL
        statement and was called "{written.answer["name"]}"; "currency of Japan", whose table the
        transaction had not written, was {"a hit" if other.hit else "a miss"}.""")


def after(
    claims: screen.Claims,
    what: str,
    write: Callable[[], None],
    expected: dict[str, str],
    *,
    table: str,
    spared: str,
) -> None:
    """Write, read everything again, show and check what was dropped: ``expected``, and why."""
    with CaptureQueriesContext(connection) as captured:
        started = time.perf_counter()
        write()
        taken = (time.perf_counter() - started) * 1000
    print(f"\n  SQL that this ran, in {taken:.1f} ms:")
    for statement in captured.captured_queries:
        print(f"    {shorten(statement['sql'])}")
    print()
    lines = []
    for number, query in enumerate(QUERIES.values(), 1):
        foretold = query.rows().cache().cache_explain(query.op).dependencies
        again = read(query)
        fate = "survived" if again.hit else "DROPPED"
        if query.name in expected:
            why = expected[query.name]
        elif table not in foretold:
            why = f"does not read {table}"
        else:
            why = spared
        lines.append((number, query.name, fate, *cells(again), why))
        should_survive = query.name not in expected
        claims.check(
            f"after the {what}, {query.name!r} {'survived' if should_survive else 'was dropped'}",
            again.hit == should_survive and again.statements == (0 if should_survive else 1),
        )
        claims.check(
            f"after the {what}, {query.name!r} says what the database says",
            again.answer == fresh(query),
        )
    screen.table(
        ["#", "query", "result", "read", "SQL", "ms", "why"], lines, right="# SQL ms"
    )


def cells(one: Read) -> tuple[str, int, str]:
    return "hit" if one.hit else "miss", one.statements, f"{one.milliseconds:.2f}"


def free(one: Read) -> bool:
    return one.hit and one.statements == 0


def shorten(sql: str, width: int = screen.WIDTH - 4) -> str:
    sql = " ".join(sql.replace('"', "").replace("demo_subdivision.", "").split())
    if len(sql) <= width:
        return sql
    where = sql.rfind(" WHERE ")
    tail = sql[where:] if where > 0 else ""
    if len(tail) > width // 2:
        tail = tail[: width // 2]
    return f"{sql[: width - len(tail) - 2]} …{tail}"


def commands(server: KeyValueServer) -> int:
    """How many commands others than this one the server has run."""
    reply = server.command("INFO", "commandstats").decode()
    calls: dict[str, Any] = {}
    for line in reply.splitlines():
        if line.startswith("cmdstat_"):
            name, _, rest = line.removeprefix("cmdstat_").partition(":")
            calls[name] = int(rest.partition("calls=")[2].partition(",")[0])
    return sum(count for name, count in calls.items() if name != "info")
