"""The shipped protocol keeps its promises in every order of every cast."""

from __future__ import annotations

import pytest

from .actors import read, write, write_raw
from .cast import Cast, Demons
from .casts import (
    ALL,
    BOTH,
    CASTS,
    DEEP,
    FIRST,
    POST,
    POSTS,
    PRICED,
    PRICES,
    RENAME,
    REPOST,
    SECOND,
    TO_B,
    TO_C,
    TWO,
    VAL,
    A,
    B,
    actors,
    known,
    threads,
    unknown,
)
from .conftest import LONG
from .explore import Report, explore, wander

pytestmark = pytest.mark.simulation

EVERYTHING = {**TWO, **POSTS, **PRICED}
CROWD = Cast(
    "a crowd",
    EVERYTHING,
    (A, B, VAL, ALL, POST, PRICES),
    (
        *actors(
            [read(A), read(POST), read(A)],
            [read(PRICES), read(VAL), read(ALL)],
            [write(FIRST), write(known(TO_B)), read(B)],
            [write(SECOND), write(unknown(TO_C)), write(RENAME)],
            [BOTH, write(REPOST, FIRST), write_raw(*SECOND[:2])],
        ),
        threads([read(A), read(B)], [write(TO_B, rollback=True), write(FIRST)]),
    ),
)
CROWDS = [
    Demons(crash=2, evict=1),
    Demons(evict=3, expire="any"),
    Demons(crash=1, repeat=3, switch=2),
    Demons(fail=3, restart=1),
    Demons(restore=1, wait=2, crash=1),
]


def check(cast: Cast, note: Report, limit: int) -> None:
    found = explore(cast, limit)
    note.__dict__.update(found.__dict__)
    assert found.complete or LONG


@pytest.mark.parametrize("cast", CASTS, ids=lambda cast: cast.name)
def test_cast(cast: Cast, note: Report) -> None:
    """All interleavings, all demons: never an old answer, never one that stays wrong."""
    check(cast, note, 100_000)


@pytest.mark.skipif(not LONG, reason="CACHEOPS_SIM=long explores it")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("cast", DEEP, ids=lambda cast: cast.name)
def test_deep_cast(cast: Cast, note: Report) -> None:
    """The same for casts with very many interleavings."""
    check(cast, note, 5_000_000)


@pytest.mark.timeout(0 if LONG else 120)
@pytest.mark.parametrize("demons", CROWDS, ids=range(len(CROWDS)))
def test_crowd(demons: Demons, note: Report) -> None:
    """Random schedules of many actors, tables and kinds of queries."""
    cast = CROWD.but(demons=demons)
    found = wander(cast, seed=CROWDS.index(demons), schedules=20_000 if LONG else 60)
    note.__dict__.update(found.__dict__)
