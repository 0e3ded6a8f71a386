"""The combinations that are tested: every two values of different dimensions meet at least once.

``python -m tests.matrix`` prints them. All combinations would be hundreds; nearly every bug that
one finds needs two of the dimensions at most, so a covering array of pairs is run. It is found
greedily, always in the same order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import combinations, product
from typing import NamedTuple


class Combination(NamedTuple):
    """One environment to test in."""

    python: str
    django: str
    database: str
    server: str
    client: str

    def __str__(self) -> str:
        return "-".join(self)


#: What each dimension can be; the first of each is the most usual.
DIMENSIONS = {
    "python": ("3.13", "3.12", "3.11", "3.14"),
    "django": ("6.1", "6.0", "5.2"),
    "database": ("sqlite", "postgres", "mysql"),
    "server": ("valkey", "redis", "redis6.2"),
    "client": ("newest+hiredis", "newest", "oldest", "oldest+hiredis"),
}

#: Beside them: a pre-release of Django, which is not always there.
PRE_RELEASE = Combination("3.13", "pre", "sqlite", "valkey", "newest+hiredis")

#: What to install for a value.
DJANGO = {"6.1": "django~=6.1.0", "6.0": "django~=6.0.0", "5.2": "django~=5.2.0", "pre": "django"}
CLIENT = {
    "newest": "redis",
    "newest+hiredis": "redis[hiredis]",
    "oldest": "redis~=5.0.0",
    "oldest+hiredis": "redis[hiredis]~=5.0.0",
}


def fits(python: str, django: str) -> bool:
    """Whether that Django runs on that Python."""
    return python >= {"6.1": "3.12", "6.0": "3.12", "5.2": "3.11"}[django]


def everything() -> list[Combination]:
    """All combinations that can be."""
    found = (Combination(*values) for values in product(*DIMENSIONS.values()))
    return [one for one in found if fits(one.python, one.django)]


def pairs(one: Combination) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """The pairs of values of two dimensions that a combination tries."""
    named = list(zip(Combination._fields, one, strict=True))
    return set(combinations(named, 2))


def covering() -> Iterator[Combination]:
    """Few combinations with every pair in them; the first has the most usual values."""
    left = everything()
    missing = {pair for one in left for pair in pairs(one)}
    while missing:
        # NOTE: max() takes the first of the best, and the list begins with the usual values.
        best = left[0] if len(left) == len(everything()) else None
        best = best or max(left, key=lambda one: len(pairs(one) & missing))
        left.remove(best)
        missing -= pairs(best)
        yield best


def chosen() -> list[Combination]:
    """What is run."""
    return [*covering(), PRE_RELEASE]


if __name__ == "__main__":
    if sys.argv[1:] == ["--json"]:
        print(json.dumps([one._asdict() for one in chosen()]))
    else:
        print(*chosen(), sep="\n")
