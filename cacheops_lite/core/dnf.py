"""And, or and not over terms, as a bounded disjunction of conjunctions.

A term says that one key (here a column of a table in a query) holds one value, given as text.
Two terms of one key with different texts exclude each other. A :data:`Dnf` is a set of
conjunctions of which at least one holds whenever the condition that it stands for is true.

The law: every operation here may only *widen*. What satisfies the exact condition satisfies at
least one conjunction of the result; the converse is given up where the result would grow past
``limit`` conjunctions. Each operation takes time in the order of ``limit**2`` conjunctions, so a
tree of n nodes costs n times that, whatever its shape.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Final, TypeVar

Key = TypeVar("Key", bound=Hashable)

Conjunct = frozenset[tuple[Key, str]]
Dnf = tuple[Conjunct[Key], ...]

#: Holds always: one conjunction without terms.
ANY: Final[tuple[frozenset[tuple[object, str]], ...]] = (frozenset(),)
#: Holds never: no conjunction at all.
NEVER: Final[tuple[frozenset[tuple[object, str]], ...]] = ()


def is_any(dnf: Dnf[Key]) -> bool:
    """Whether the condition says nothing."""
    return any(not conjunct for conjunct in dnf)


def one_of(key: Key, texts: Iterable[str], limit: int) -> Dnf[Key]:
    """``key`` holds one of ``texts``; says nothing when they are more than ``limit``."""
    distinct: dict[str, None] = {}
    for text in texts:
        distinct[text] = None
        if len(distinct) > limit:
            return (frozenset(),)
    return tuple(frozenset(((key, text),)) for text in distinct)


def disjoin(parts: Iterable[Dnf[Key]], limit: int) -> Dnf[Key]:
    """At least one of ``parts`` holds."""
    result: list[Conjunct[Key]] = []
    for part in parts:
        if is_any(part):
            return (frozenset(),)
        result.extend(part)
        if len(result) > 2 * limit:
            result = list(widen(absorb(result), limit))
    return widen(absorb(result), limit)


def conjoin(parts: Iterable[Dnf[Key]], limit: int) -> Dnf[Key]:
    """All of ``parts`` hold.

    A part by which the product would outgrow ``limit`` is left out. The short ones are multiplied
    first as they cost nothing, then the longest, which tend to be the most selective.
    """
    ordered = sorted(parts, key=lambda part: (len(part) > 1, -len(part)))
    result: Dnf[Key] = (frozenset(),)
    for part in ordered:
        if len(result) * len(part) > limit and keys(result).isdisjoint(keys(part)):
            continue  # nothing would cancel out
        product = _product(result, part, 4 * limit)
        if product is None:
            continue
        product = absorb(product)
        if len(product) <= limit:
            result = product
            if not result:
                break
    return result


def _product(left: Dnf[Key], right: Dnf[Key], most: int) -> Dnf[Key] | None:
    """Each with each; None if that is more than ``most``, as comparing them takes the square."""
    found: dict[Conjunct[Key], None] = {}
    for one in left:
        for other in right:
            merged = _merge(one, other)
            if merged is not None:
                found[merged] = None
        if len(found) > most:
            return None
    return tuple(found)


def absorb(conjuncts: Iterable[Conjunct[Key]]) -> Dnf[Key]:
    """Leave out repetitions, and what is a special case of another conjunction."""
    kept: list[Conjunct[Key]] = []
    for conjunct in sorted(dict.fromkeys(conjuncts), key=len):
        if not any(shorter <= conjunct for shorter in kept):
            kept.append(conjunct)
    return tuple(kept)


def widen(dnf: Sequence[Conjunct[Key]], limit: int) -> Dnf[Key]:
    """At most ``limit`` conjunctions: forget keys, those with the most values first."""
    conjuncts = tuple(dnf)
    while len(conjuncts) > limit:
        values: dict[Key, set[str]] = {}
        for conjunct in conjuncts:
            for key, text in conjunct:
                values.setdefault(key, set()).add(text)
        forgotten = max(values, key=lambda key: (len(values[key]), repr(key)))
        conjuncts = absorb(
            frozenset(term for term in conjunct if term[0] != forgotten) for conjunct in conjuncts
        )
    return conjuncts


def keys(dnf: Dnf[Key]) -> set[Key]:
    """The keys of which ``dnf`` says something."""
    return {key for conjunct in dnf for key, _ in conjunct}


def _merge(left: Conjunct[Key], right: Conjunct[Key]) -> Conjunct[Key] | None:
    """Both at once, or None when they exclude each other."""
    merged = left | right
    if len(merged) > 1 and len({key for key, _ in merged}) < len(merged):
        return None
    return merged
