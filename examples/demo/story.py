"""The story: load, read twice, then a save, a move, an update(), an m2m change and a rollback."""

from __future__ import annotations

import sqlite3
import time

import django
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.servers import KeyValueServer

from . import screen
from .load import SOURCES, insert
from .reads import QUERIES, Read, dependencies, explained, fresh, read
from .writes import WRITES, Write, read_inside


def tell(server: KeyValueServer) -> screen.Claims:
    """Run the whole story; return the claims that it made."""
    claims = screen.Claims()
    prepare(claims)
    read_twice(server, claims)
    for write in WRITES:
        write_and_read_again(write, claims)
    look_inside(claims)
    return claims


def prepare(claims: screen.Claims) -> None:
    screen.step(f"SQLite {sqlite3.sqlite_version}, Django {django.get_version()}")
    call_command("migrate", run_syncdb=True, verbosity=0)
    screen.done("a database file with empty tables")
    total = 0
    for what, objects in SOURCES.items():
        screen.step(what)
        started = time.perf_counter()
        count = insert(objects())
        screen.done(f"{count:>6} rows  {time.perf_counter() - started:5.2f} s")
        total += count
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
        claims.check(f"{query.name}: the second read is a hit without SQL", second.free)
        claims.check(f"{query.name}: a hit is one Redis command, not {used}", used == 1)
        claims.check(
            f"{query.name}: both say what the database says",
            first.answer == second.answer == truth.answer,
        )
        lines.append(
            [number, query.name, query.op]
            + [cell for one in (first, second) for cell in (one.word, one.statements, ms(one))]
            + [used, ms(truth)]
        )
    screen.table(
        ["#", "query", "op", "1st", "SQL", "ms", "2nd", "SQL", "ms", "Redis", "uncached ms"],
        lines,
        "rlllrrlrrrr",
    )
    screen.say("""The last column is SQLite without the cache, in this very process: it answers what
        is simple as fast as Redis does. A cache saves what is heavy (14, 15) or far away.""")
    screen.say("""A result depends on conjunctions: conditions joined by AND on columns of one
        table, their values spelt in lower case. It is dropped when a commit writes a row that met
        one of them before, or meets one after. This is what each result depends on:""")
    screen.table(
        ["#", "query", "depends on rows of"],
        [
            (number, query.name, "  or  ".join(dependencies(query)))
            for number, query in enumerate(QUERIES.values(), 1)
        ],
        "rll",
    )


def write_and_read_again(write: Write, claims: screen.Claims) -> None:
    """Write, read everything again; show and check what was dropped, and why."""
    screen.title(write.title)
    screen.body(write.run)
    with CaptureQueriesContext(connection) as captured:
        started = time.perf_counter()
        write.run()
        taken = (time.perf_counter() - started) * 1000
    print(f"  SQL that this ran, in {taken:.1f} ms:")
    for statement in captured.captured_queries:
        print(f"    {shorten(statement['sql'])}")
    print()

    lines = []
    dropped = 0
    for number, query in enumerate(QUERIES.values(), 1):
        told = explained(query)
        again = read(query)
        shall_drop = query.name in write.drops
        dropped += not again.hit
        fate = "survived" if again.hit else "DROPPED"
        if shall_drop:
            why = write.drops[query.name]
        elif write.table in told.dependencies:
            why = write.spares
        else:
            why = "does not read the table"
        lines.append((number, query.name, fate, again.statements, ms(again), why))
        claims.check(
            f"{write.title}: {query.name!r} is {'dropped' if shall_drop else 'spared'}",
            again.hit != shall_drop and again.statements == int(shall_drop),
        )
        claims.check(
            f"{write.title}: {query.name!r} says what the database says",
            again.answer == fresh(query).answer,
        )
        if query.op in ("fetch", "count", "exists"):
            claims.check(
                f"{write.title}: cache_explain() foretells the read of {query.name!r}",
                told.cached == again.hit,
            )
    screen.table(["#", "query", "result", "SQL", "ms", "why"], lines, "rllrrl")
    print(f"  {dropped} dropped, {len(lines) - dropped} survived.")


def look_inside(claims: screen.Claims) -> None:
    """Check what the reads inside the rolled-back transaction saw."""
    written, other = read_inside
    claims.check("inside, a written table is read from the database", written.statements == 1)
    claims.check("inside, the transaction sees its own write", written.answer["name"] == "nowhere")
    claims.check("inside, a table that it did not write is a hit", other.free)
    print()
    screen.say(f"""Inside the transaction "Ontario" took {written.statements} SQL statement and was
        called "{written.answer["name"]}": a transaction reads the tables that it has written past
        the cache. "currency of Japan", of another table, was a {other.word}.""")


def ms(one: Read) -> str:
    return f"{one.milliseconds:.2f}"


def shorten(sql: str, width: int = screen.WIDTH - 4) -> str:
    """One line of SQL, with its WHERE clause."""
    sql = " ".join(sql.replace('"', "").replace("demo_subdivision.", "").split())
    if len(sql) <= width:
        return sql
    where = sql.rfind(" WHERE ")
    tail = sql[where:][: width // 2] if where > 0 else ""
    return f"{sql[: width - len(tail) - 2]} …{tail}"


def commands(server: KeyValueServer) -> int:
    """How many commands the server has run, not counting those that ask it for that."""
    total = 0
    for line in server.command("INFO", "commandstats").decode().splitlines():
        name, _, numbers = line.partition(":calls=")
        if name.startswith("cmdstat_") and name != "cmdstat_info":
            total += int(numbers.partition(",")[0])
    return total
