"""A call has one name in every process, and no two different calls share one."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import subprocess
import sys
from collections import OrderedDict, namedtuple
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override
from hypothesis import given
from hypothesis import strategies as st

from cacheops_lite.functions.calls import Namer, Unstable, digest, function_name, spell

from .models import Author, Category, OrderLine, Post, PostProxy


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.IntEnum):
    SMALL = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


Pair = namedtuple("Pair", "a b")

DIFFERENT = [
    None, True, 1, 1.0, "1", b"1", "None", "", [], {}, (1,), [1, 2], [[1], 2], [1, [2]], "[1,2]",
    {"a": 1}, {"a": "1"}, {1: "a"}, {1, 2}, "{1,2}", Decimal(1), Decimal("1.0"), Colour.RED,
    Colour.BLUE, "Colour.RED", Point(1, 2), Point(2, 1), Named("1"), datetime.date(2024, 1, 1),
    datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2024, 1, 1, fold=1), datetime.time(1), datetime.timedelta(1),
    datetime.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), UUID(int=1), Point, Category,
    functools.partial(len), len, "a,b", ["a", "b"], ["a,b"], Category(pk=1), Category(pk=2),
    Author(pk=1), Category(title="a"), Category(title="b"), "len",
]  # fmt: skip


def test_different_values_have_different_texts() -> None:
    """Values that differ in value, type or structure never share a text."""
    texts = [spell(value) for value in DIFFERENT]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", mark_safe("a")),
        ("live", Post.Status.LIVE),
        (1, Size.SMALL),
        ((1, 2), [1, 2]),
        (Pair(1, 2), (1, 2)),
        ({"a": 1, "b": 2}, OrderedDict([("b", 2), ("a", 1)])),
        ({3, 1, 2}, frozenset([2, 3, 1])),
        (PurePosixPath("/a"), "/a"),
        (bytearray(b"a"), b"a"),
        (Category(pk=1, title="a"), Category(pk=1, title="b")),
        (Category(pk=1), SimpleLazyObject(lambda: Category(pk=1))),
        (RequestFactory().get("/hi?a=1"), "http://testserver/hi?a=1"),
    ],
)
def test_values_that_mean_the_same_share_a_text(one: Any, other: Any) -> None:
    """What code uses interchangeably names one call, for caching and for invalidation alike."""
    assert spell(one) == spell(other)


def test_instances_are_named_by_row() -> None:
    """Model, key and database name an instance; its other values do not."""
    assert spell(OrderLine(pk=(1, 2))) != spell(OrderLine(pk=(2, 1)))
    assert spell(Post(pk=1)) != spell(PostProxy(pk=1))
    elsewhere = Category(pk=1)
    elsewhere._state.db = "other"
    assert spell(elsewhere) != spell(Category(pk=1))


@pytest.mark.django_db(databases=["default", "other"])
def test_querysets_are_named_without_running_them(django_assert_num_queries: Any) -> None:
    """A queryset argument is its SQL with parameters and its database; it is not evaluated."""
    with django_assert_num_queries(0):
        posts = Post.objects.filter(views=1)
        assert spell(posts) == spell(Post.objects.filter(views=1))
        others = [
            Post.objects.filter(views=2), posts.using("other"), posts.values(), posts[:2],
            Post.objects.none(),
        ]  # fmt: skip
        assert spell(posts) not in map(spell, others)


def test_lazy_translations_are_named_in_the_active_language() -> None:
    """A lazy text is what it says now."""
    lazy = gettext_lazy("Yes")
    with override("de"):
        german = spell(lazy)
    with override("en"):
        assert spell(lazy) == spell("Yes") != german


class Opaque:
    pass


class Array:
    def __str__(self) -> str:
        return "[1 2 3 ... 7 8 9]"


@pytest.mark.parametrize("value", [Opaque(), object(), [Opaque()], {"a": Opaque()}, Array()])
def test_values_without_a_stable_text_are_refused(value: Any) -> None:
    """An address, or a text that leaves something out, would name two values at once."""
    with pytest.raises(Unstable, match="no stable text"):
        spell(value)


def test_values_that_contain_themselves_are_refused() -> None:
    """A cycle has no text; the error says so instead of blowing the stack."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Unstable, match="contains itself"):
        Namer(function_name).name_call((loop,), {})


@given(st.lists(st.text()), st.lists(st.text()))
def test_digests_keep_texts_apart(one: list[str], other: list[str]) -> None:
    """Where one text ends and the next begins is part of the digest."""
    assert (digest(one) == digest(other)) == (one == other)


def test_arguments_by_name_and_position_are_one_call() -> None:
    """f(1, 2), f(1, b=2) and f(b=2, a=1) are the same call."""

    def function(a: int, b: int = 0, *rest: int, c: int = 0, **more: int) -> None: ...

    name = Namer(function).name_call
    assert name((1, 2), {}) == name((1,), {"b": 2}) == name((), {"b": 2, "a": 1})
    calls = [((1, 2), {}), ((2, 1), {}), ((1, 2, 3), {}), ((1, 2), {"c": 3}), ((1, 2), {"d": 3})]
    assert len({name(*call) for call in calls}) == len(calls)
    assert name((1,), {}, extra="a") != name((1,), {}, extra="b")


def test_wrong_arguments_are_left_to_the_function() -> None:
    """Naming a call never raises what the function itself would say better."""

    def function(a: int) -> None: ...

    assert Namer(function).name_call((), {"wrong": 1})


def test_functions_are_told_apart_by_line() -> None:
    """Two lambdas of one module have one name and two keys."""
    first = lambda: 1  # noqa: E731
    second = lambda: 1  # noqa: E731
    assert function_name(first) != function_name(second)
    assert function_name(first, line=False) == function_name(second, line=False)
    assert function_name(functools.partial(first)) == function_name(first)


def test_lines_are_left_out_in_development(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CACHEOPS_DEBUG in its module a function keeps its key while the file is edited."""
    before = function_name(test_lines_are_left_out_in_development)
    monkeypatch.setitem(globals(), "CACHEOPS_DEBUG", True)
    assert function_name(test_lines_are_left_out_in_development) == before.rpartition(":")[0]


def test_texts_are_equal_in_every_process() -> None:
    """Neither hash randomization nor addresses get into a text."""
    values = "{'b', 'a', 'c'}, {'x': {3, 1}, 'y': [1.5, None]}, len, str"
    program = (
        f"from cacheops_lite.functions.calls import spell; print([spell(v) for v in ({values})])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(outputs) == 1
    assert outputs.pop().strip() == repr([spell(v) for v in eval(f"({values})")])
