"""And, or and terms may widen, never narrow, and never take long."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheops_lite.core import dnf

KEYS = "abc"
TEXTS = "012"

#: A tree: a term ("a", "1"), or ("and" | "or", [trees]).
trees: st.SearchStrategy[Any] = st.recursive(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(TEXTS)),
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, max_size=4)),
    max_leaves=20,
)
rows = [dict(zip(KEYS, texts, strict=True)) for texts in itertools.product(TEXTS, repeat=3)]


def build(tree: Any, limit: int) -> dnf.Dnf[str]:
    head, rest = tree
    if head == "and":
        return dnf.conjoin([build(part, limit) for part in rest], limit)
    if head == "or":
        return dnf.disjoin([build(part, limit) for part in rest], limit)
    return dnf.one_of(head, [rest], limit)


def holds(tree: Any, row: dict[str, str]) -> bool:
    head, rest = tree
    if head == "and":
        return all(holds(part, row) for part in rest)
    if head == "or":
        return any(holds(part, row) for part in rest)
    return row[head] == rest


def admits(options: dnf.Dnf[str], row: dict[str, str]) -> bool:
    return any(all(row[key] == text for key, text in option) for option in options)


@given(trees, st.integers(1, 8))
def test_every_row_that_satisfies_the_tree_satisfies_a_conjunction(tree: Any, limit: int) -> None:
    """The law: nothing that holds is left out, however small the limit."""
    options = build(tree, limit)
    assert len(options) <= limit
    assert [row for row in rows if holds(tree, row) and not admits(options, row)] == []


@given(trees)
def test_without_widening_the_conjunctions_say_exactly_what_the_tree_says(tree: Any) -> None:
    """Nothing is lost where the limit is not reached."""
    options = build(tree, 1000)
    assert [row for row in rows if holds(tree, row) != admits(options, row)] == []


@given(trees, st.integers(1, 8))
def test_no_conjunction_is_a_special_case_of_another(tree: Any, limit: int) -> None:
    """Redundant conjunctions would cost keys and say nothing."""
    for one, other in itertools.permutations(build(tree, limit), 2):
        assert not one <= other


def test_a_product_past_the_limit_keeps_the_factors_that_fit() -> None:
    """Seven times seven times seven values do not become 343 conjunctions, nor nothing."""
    factors = [dnf.one_of(key, map(str, range(7)), 64) for key in KEYS]
    options = dnf.conjoin(factors, 64)
    assert len(options) == 49
    assert dnf.conjoin(factors, 10) == factors[0]


def test_the_longest_factor_survives_beside_all_that_cost_nothing() -> None:
    """Where not everything fits, single terms and the most selective list are kept."""
    options = dnf.conjoin(
        [
            dnf.one_of("few", ["1", "2"], 10),
            dnf.one_of("many", map(str, range(9)), 10),
            dnf.one_of("one", ["x"], 10),
        ],
        10,
    )
    assert len(options) == 9
    assert all({key for key, _ in option} == {"many", "one"} for option in options)


def test_values_past_the_limit_say_nothing() -> None:
    """A list longer than the limit is any value, not some of them."""
    assert dnf.one_of("a", map(str, range(3)), 2) == dnf.ANY
    assert len(dnf.one_of("a", "0101010101", 2)) == 2


def test_a_disjunction_past_the_limit_forgets_the_key_with_the_most_values() -> None:
    """What the alternatives have in common is kept."""
    options = dnf.disjoin(
        [(frozenset({("a", "1"), ("b", str(number))}),) for number in range(9)], 8
    )
    assert options == (frozenset({("a", "1")}),)


def test_contradictions_disappear() -> None:
    """One key cannot hold two values at once."""
    assert dnf.conjoin([dnf.one_of("a", "1", 9), dnf.one_of("a", "2", 9)], 9) == dnf.NEVER
    assert dnf.conjoin([dnf.one_of("a", "123", 9), dnf.one_of("a", "234", 9)], 9) == (
        frozenset({("a", "2")}),
        frozenset({("a", "3")}),
    )


class Work:
    """Counts what and, or and not cost: pairs merged, pairs compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs = 0
        merge, absorb = dnf._merge, dnf.absorb

        def merging(*args: Any) -> Any:
            self.pairs += 1
            return merge(*args)

        def absorbing(conjuncts: Any) -> Any:
            conjuncts = list(conjuncts)
            self.pairs += len(conjuncts) ** 2
            return absorb(conjuncts)

        monkeypatch.setattr(dnf, "_merge", merging)
        monkeypatch.setattr(dnf, "absorb", absorbing)


LIMIT = 64
#: What one operation on two conditions may cost.
MOST = 32 * LIMIT**2


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def listed(key: str, *, besides: str = "") -> dnf.Dnf[str]:
    """A list of values of one key, each together with one value of another."""
    extra = {(besides, "x")} if besides else set()
    return tuple(frozenset({(key, str(number)), *extra}) for number in range(LIMIT))


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("shape", ["and of ors", "or of ands", "deep"])
def test_any_tree_is_done_in_bounded_steps(shape: str, overlapping: bool, work: Work) -> None:
    """A hundred lists, joined in any way: the steps grow with the tree, not with their product."""
    lists = [listed(f"k{number}", besides="shared" if overlapping else "") for number in range(100)]
    if shape == "and of ors":
        dnf.conjoin(lists, LIMIT)
    elif shape == "or of ands":
        dnf.disjoin([dnf.conjoin(lists[at : at + 3], LIMIT) for at in range(97)], LIMIT)
    else:
        result = lists[0]
        for at, part in enumerate(lists):
            result = (dnf.conjoin, dnf.disjoin)[at % 2]([result, part], LIMIT)
    assert work.pairs <= 4 * len(lists) * MOST
