"""Who takes part: casts that the protocol must survive."""

from __future__ import annotations

from typing import Any

from cacheops_lite.core.entry import UNKNOWN, Change, Conj, conjunction
from cacheops_lite.core.protocol import CacheProtocol, TablePlan

from .actors import Savepoint, Set, invalidate, read, write, write_raw
from .cast import Cast, Demons, Query
from .database import Rows

# -- what is read


def books(column: str, value: str, name: str = "") -> Query:
    """The books with a value in a column."""

    def answer(rows: Rows) -> Any:
        return [
            (place, sorted(row.items()))
            for place, row in sorted(rows.items())
            if place[0] == "book" and row.get(column) == value
        ]

    conj = conjunction({column: value})
    return Query(name or f"{column}={value}", (TablePlan("book", (conj,)),), answer)


def every_book(rows: Rows) -> Any:
    return [
        (place, sorted(row.items())) for place, row in sorted(rows.items()) if place[0] == "book"
    ]


def post(rows: Rows) -> Any:
    """Post 1 with its author, as select_related shows it: (author_id, name or None)."""
    row = rows.get(("post", 1), {"author_id": "0"})
    author = rows.get(("author", int(row["author_id"])))
    return row["author_id"], author and author["name"]


def by_join_column(answer: Any) -> list[tuple[str, Conj]]:
    """The author that a post shows, by the value on the left side: also if there is none (A13)."""
    return [("author", conjunction({"id": answer[0]}))]


def prices(rows: Rows) -> Any:
    """Prices of the books of category A, from the books' table and the prices' table."""
    return [
        (number, rows.get(("price", number), {}).get("amount"))
        for (table, number), row in sorted(rows.items())
        if table == "book" and row["cat"] == "A"
    ]


A, B, Z = books("cat", "A"), books("cat", "B"), books("cat", "Z")
ALL = Query("all", (TablePlan("book", ((),)),), every_book)
VAL = books("val", "0")
POST_PLAN = (TablePlan("post", (conjunction({"id": "1"}),)), TablePlan("author", (), dynamic=True))
POST = Query("post", POST_PLAN, post, by_join_column)
PRICES = Query(
    "prices", (TablePlan("book", (conjunction({"cat": "A"}),)), TablePlan("price", ((),))), prices
)

ONE: Rows = {("book", 1): {"cat": "A", "val": "0"}}
TWO: Rows = {**ONE, ("book", 2): {"cat": "A", "val": "0"}}
POSTS: Rows = {
    ("post", 1): {"id": "1", "author_id": "1"},
    ("author", 1): {"id": "1", "name": "x"},
    ("author", 2): {"id": "2", "name": "y"},
}
PRICED: Rows = {**ONE, ("price", 1): {"amount": "5"}}

# -- what is written

FIRST = Set(("book", 1), {"val": "1"})
AGAIN = Set(("book", 1), {"val": "2"})
SECOND = Set(("book", 2), {"val": "2"})
TO_B = Set(("book", 1), {"cat": "B"})
TO_C = Set(("book", 1), {"cat": "C"})
INSERT = Set(("book", 9), {"cat": "Z", "val": "9"})
DELETE = Set(("book", 1), None)
RENAME = Set(("author", 1), {"name": "z"})
REPOST = Set(("post", 1), {"author_id": "2"})


def known(statement: Set) -> Set:
    """The writer learns only the columns of the schemes that it knows, as the ORM does."""
    return statement._replace(knows="known")


def unknown(statement: Set) -> Set:
    return statement._replace(knows="unknown")


def actors(*stages: Any) -> tuple[tuple[tuple[Any, ...], ...], ...]:
    """One process for each."""
    return tuple(((stage,) if callable(stage) else tuple(stage),) for stage in stages)


def threads(*stages: Any) -> tuple[tuple[Any, ...], ...]:
    """One process with a thread for each."""
    return tuple((stage,) if callable(stage) else tuple(stage) for stage in stages)


class KeyByKey(CacheProtocol):
    """Marks and bumps are sent one by one."""

    chunk = 1


class Narrow(CacheProtocol):
    """A table is full with one scheme."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(prefix, **options)
        self.most_schemes = 1


class NextVersion(CacheProtocol):
    """The next release, which spells the values of its conjunctions in another way."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(prefix, **options)
        self.version = b"2"
        spell = self.keys.conj

        def conj(table: str, terms: Conj) -> bytes:
            return spell(table, tuple((column, value.lower()) for column, value in terms))

        self.keys.conj = conj  # type: ignore[method-assign]


CASTS: list[Cast] = []
#: Casts that take long.
DEEP: list[Cast] = []


def cast(
    name: str,
    processes: Any,
    *queries: Query,
    rows: Rows = ONE,
    deep: bool = False,
    demons: dict[str, Any] | None = None,
    **options: Any,
) -> Cast:
    made = Cast(name, rows, queries or (A,), processes, Demons(**(demons or {})), **options)
    (DEEP if deep else CASTS).append(made)
    return made


# -- known values, one row or two

cast("a reader, a writer", actors(read(A), write(FIRST)), demons={"crash": 1})
cast("the same, warm", actors(read(A), write(FIRST)), warm=(A,), demons={"crash": 1, "evict": 1})
cast("two readers, a writer", actors(read(A), read(A), write(FIRST)), demons={"crash": 1})
cast(
    "two readers, a writer, eviction",
    actors(read(A), read(A), write(FIRST)),
    demons={"crash": 1, "evict": 1},
    deep=True,
)
cast(
    "two rows under one conj",
    actors(read(A), write(FIRST), write(SECOND)),
    rows=TWO,
    demons={"crash": 2},
)
cast(
    "two rows under one conj, eviction",
    actors(read(A), write(FIRST), write(SECOND)),
    rows=TWO,
    demons={"crash": 2, "evict": 1},
    deep=True,
)
cast("moves of one row", actors(read(A), write(TO_B), write(TO_C)), A, B, demons={"crash": 2})
cast(
    "moves of one row, two readers",
    actors(read(A), read(B), write(TO_B), write(TO_C)),
    A,
    B,
    demons={"crash": 1},
    deep=True,
)
cast(
    "two readers, two writers",
    actors(read(A), read(A), write(FIRST), write(SECOND)),
    rows=TWO,
    demons={"crash": 1},
    deep=True,
)
cast(
    "two readers, two writers, evictions at any time",
    actors(read(A), read(A), write(FIRST), write(SECOND)),
    rows=TWO,
    demons={"evict": 1, "expire": "any"},
    deep=True,
)
cast(
    "reading twice, marks run out",
    actors([read(A), read(A)], write(FIRST)),
    demons={"crash": 1, "evict": 1, "expire": "any"},
)
cast(
    "reading twice, two evictions, marks run out",
    actors([read(A), read(A)], write(FIRST)),
    demons={"crash": 1, "evict": 2, "expire": "any"},
    deep=True,
)
cast(
    "two writers, evictions, marks run out",
    actors(read(A), write(FIRST), write(SECOND)),
    rows=TWO,
    demons={"evict": 2, "expire": "any"},
    deep=True,
)
cast("insert", actors(read(Z), write(INSERT)), Z, demons={"crash": 1, "evict": 1})
cast("insert and delete", actors(read(A), write(INSERT), write(DELETE)), A, Z, demons={"crash": 2})
cast(
    "any row and one conj",
    actors(read(ALL), read(A), write(FIRST)),
    A,
    ALL,
    demons={"crash": 1},
)
cast(
    "any row and one conj, eviction",
    actors(read(ALL), read(A), write(FIRST)),
    A,
    ALL,
    demons={"crash": 1, "evict": 1},
    deep=True,
)
cast("two schemes", actors(read(A), read(VAL), write(FIRST)), A, VAL, demons={"crash": 1})
cast(
    "an unrelated conj stays",
    actors(write(FIRST), write(AGAIN)),
    A,
    B,
    rows={**ONE, ("book", 2): {"cat": "B", "val": "0"}},
    warm=(A, B),
    keeps=(B,),
    demons={"crash": 1},
)

# -- what the writer knows

for what, change in (("known columns", known), ("nothing", unknown)):
    for asks in (True, False):
        about = f"a writer that learns {what}" + ("" if asks else " and does not ask")
        cast(
            about, actors(read(A), write(change(FIRST), asks=asks)), demons={"crash": 1, "evict": 1}
        )
cast(
    "two writers that learn known columns",
    actors(read(A), write(known(FIRST)), write(known(SECOND))),
    rows=TWO,
    demons={"crash": 1},
)
cast(
    "two writers that do not ask",
    actors(read(A), write(FIRST, asks=False), write(SECOND, asks=False)),
    rows=TWO,
    demons={"crash": 2},
)
cast(
    "unknown and known values",
    actors(read(A), write(unknown(FIRST)), write(SECOND)),
    rows=TWO,
    demons={"crash": 1},
)
cast(
    "unknown and known values, evictions",
    actors(read(A), write(unknown(FIRST)), write(SECOND)),
    rows=TWO,
    demons={"crash": 2, "evict": 1},
    deep=True,
)
cast("a raw statement", actors(read(A), write_raw(*FIRST[:2])), demons={"crash": 1, "evict": 1})
cast(
    "a raw statement and a writer",
    actors(read(A), write_raw(*FIRST[:2]), write(SECOND)),
    rows=TWO,
    demons={"crash": 1},
)

# -- transactions

cast(
    "rollback",
    actors(read(A), write(FIRST, rollback=True), write(SECOND)),
    rows=TWO,
    demons={"crash": 1},
)
cast(
    "savepoint",
    actors(read(A), write(FIRST, Savepoint((TO_B,)), SECOND)),
    A,
    B,
    rows=TWO,
    demons={"crash": 1, "evict": 1},
)
cast(
    "outcome unknown",
    actors([write(FIRST, unknown_outcome=True), read(A)], read(A)),
    warm=(A,),
)
cast(
    "outcome unknown, cold, crash",
    actors([write(FIRST, unknown_outcome=True), read(A)], read(A)),
    demons={"crash": 1},
)
cast(
    "a long transaction marks again",
    actors(read(A), write(FIRST)),
    demons={"wait": 1, "crash": 1},
)
cast(
    "a long transaction among readers",
    actors([read(A), read(A)], write(known(FIRST))),
    demons={"wait": 2},
)

# -- several tables: nothing is atomic across them

BOTH = write(FIRST, Set(("price", 1), {"amount": "6"}))
cast("two tables", actors(read(PRICES), BOTH), PRICES, rows=PRICED, demons={"crash": 1})
cast(
    "two tables, warm, eviction",
    actors(read(PRICES), BOTH),
    PRICES,
    rows=PRICED,
    warm=(PRICES,),
    demons={"crash": 1, "evict": 1},
)
cast(
    "two tables, a writer for each",
    actors(read(PRICES), write(FIRST), write(Set(("price", 1), {"amount": "6"}))),
    PRICES,
    rows=PRICED,
    demons={"crash": 1},
)

# -- dependencies that the result tells

cast(
    "select_related",
    actors(read(POST), write(RENAME)),
    POST,
    rows=POSTS,
    demons={"crash": 1, "evict": 1},
)
cast(
    "select_related, the post moves",
    actors(read(POST), write(RENAME), write(REPOST)),
    POST,
    rows=POSTS,
    demons={"crash": 1},
    deep=True,
)
cast(
    "select_related, read twice, the post moves",
    actors([read(POST), read(POST)], write(REPOST)),
    POST,
    rows=POSTS,
)
cast(
    "select_related, two readers",
    actors(read(POST), read(POST), write(RENAME)),
    POST,
    rows=POSTS,
    demons={"crash": 1},
    deep=True,
)
cast(
    "select_related, two readers, warm, the post moves, then its author is renamed",
    actors([read(POST), read(POST)], [write(REPOST), write(Set(("author", 2), {"name": "z"}))]),
    POST,
    rows=POSTS,
    warm=(POST,),
)
NOBODY: Rows = {("post", 1): {"id": "1", "author_id": "1"}}
cast(
    "select_related, the author comes later",
    actors(read(POST), write(Set(("author", 1), {"id": "1", "name": "x"}))),
    POST,
    rows=NOBODY,
    demons={"crash": 1},
)

# -- limits

cast(
    "a full table widens",
    actors(read(A), read(VAL), write(FIRST)),
    A,
    VAL,
    protocol=Narrow,
    demons={"crash": 1},
)
cast(
    "key by key",
    actors(read(A), write(FIRST), write(SECOND)),
    rows=TWO,
    protocol=KeyByKey,
    demons={"crash": 1},
)

# -- the server

cast(
    "fail-over and back", actors([read(A), read(A)], write(FIRST)), warm=(A,), demons={"switch": 2}
)
cast("fail-over during a miss", actors(read(A), write(FIRST)), demons={"switch": 2, "crash": 1})
cast("an old snapshot", actors(read(A), write(FIRST)), warm=(A,), demons={"restore": 1, "crash": 1})
cast("restart", actors(read(A), write(FIRST)), warm=(A,), demons={"restart": 1})
cast(
    "late repeats",
    actors([read(A), read(A)], write(FIRST)),
    demons={"repeat": 1, "crash": 1},
)
cast("late repeats, warm", actors(read(A), write(FIRST)), warm=(A,), demons={"repeat": 2})
cast(
    "commands fail",
    actors([write(FIRST), read(A)], read(A)),
    demons={"fail": 1, "crash": 1},
)
cast(
    "commands fail, warm",
    actors([write(FIRST), read(A)], read(A)),
    warm=(A,),
    demons={"fail": 2},
)
cast(
    "replica lag",
    actors(read(A), write(FIRST)),
    warm=(A,),
    replica=True,
    options={"replica_lag_ms": 1000},
    demons={"crash": 1},
)
cast(
    "replica lag, a late commit",
    actors(read(A), write(FIRST)),
    replica=True,
    options={"replica_lag_ms": 5000},
    demons={"crash": 1, "wait": 1},
)
cast(
    "replica lag, eviction",
    actors(read(A), write(FIRST)),
    replica=True,
    options={"replica_lag_ms": 1000},
    demons={"evict": 1},
)
cast(
    "replica lag, cold, two readers",
    actors(read(A), read(A), write(FIRST)),
    replica=True,
    options={"replica_lag_ms": 1000},
)

# -- processes

cast(
    "threads of one process",
    (threads(read(A), write(FIRST)), threads(read(A))),
    demons={"crash": 1},
)
cast(
    "by hand",
    actors(read(A), [write(FIRST), invalidate(Change("book", UNKNOWN, UNKNOWN))]),
    warm=(A,),
)
cast(
    "two versions side by side",
    actors(read(A), read(A), write(FIRST)),
    protocols={1: NextVersion},
)
cast(
    "the next version writes",
    actors(read(A), write(FIRST)),
    warm=(A,),
    protocols={1: NextVersion},
    demons={"crash": 1},
)
