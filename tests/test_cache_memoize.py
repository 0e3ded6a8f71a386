"""What users of django-cache-memoize rely on: each of its options, in our words.

The decorator is ``cached(timeout, …)`` there as here; only ``cache_alias`` is refused.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory

from cacheops_lite import cached, cached_as, file_cache

from .models import Author, Category
from .test_functions import counting

pytestmark = pytest.mark.django_db(transaction=True)


def test_calls_are_told_apart_by_their_arguments() -> None:
    """Numbers, texts, lists, dicts, long ones, by position or by name."""
    function = counting(cached(10))
    calls = [
        lambda: function(1, 2),
        lambda: function(1, 3),
        lambda: function(1.1, "foo"),
        lambda: function(1.1, "foo", k=list("åäö")),
        lambda: function("A" * 200, "B" * 200, {"C" * 100: "D" * 100}),
    ]
    assert [call() for call in calls] == [call() for call in calls] == [1, 2, 3, 4, 5]


def test_functions_are_told_apart_by_name() -> None:
    """The same arguments of another function are another call."""

    @cached(10)
    def double(number: int) -> int:
        return number * 2

    @cached(10)
    def treble(number: int) -> int:
        return number * 3

    assert [double(1), treble(1), double(1), treble(1)] == [2, 3, 2, 3]


def test_prefix() -> None:
    """Functions under one prefix share their results, whatever their names; they are dropped
    together."""
    calls = []

    @cached(10, prefix="randomness")
    def one(number: int) -> str:
        calls.append("one")
        return f"one {number}"

    @cached(10, prefix="randomness")
    def two(number: int) -> str:
        calls.append("two")
        return f"two {number}"

    @cached(10, prefix="other")
    def three(number: int) -> str:
        calls.append("three")
        return f"three {number}"

    assert [one(1), two(1), three(1), two(2), one(2)] == ["one 1", "one 1", "three 1", "two 2", "two 2"]  # fmt: skip
    assert one.key(1) == two.key(1) != three.key(1)
    two.invalidate(1)
    assert [two(1), one(1)] == ["two 1", "two 1"]
    one.invalidate_all()
    assert [one(2), two(1)] == ["one 2", "two 1"]
    assert calls == ["one", "three", "two", "two", "one", "two"]


def test_key_generator_callable() -> None:
    """A function of the arguments names the call: what it leaves out makes no difference."""
    function = counting(
        cached(10, key_generator_callable=lambda user, verbose=False: f"user-{user['id']}")
    )
    alice, bob = {"id": 1, "opaque": object()}, {"id": 2}
    assert [function(alice), function(alice, verbose=True), function(bob)] == [1, 1, 2]
    assert function.get_cache_key(alice) == function.get_cache_key({"id": 1})
    function.invalidate(alice, verbose=True)
    assert [function(alice), function(bob)] == [3, 2]


def test_key_generators_that_give_no_text() -> None:
    """Whatever else it returns is warned about, and the call is not cached."""
    function = counting(cached(10, key_generator_callable=lambda: None))
    with pytest.warns(RuntimeWarning, match="must return a text"):
        assert function() == 1
    assert function() == 2


@pytest.mark.parametrize(
    ("extra", "same", "other"),
    [
        ({"version": 2}, {"version": 2}, {"version": 3}),
        (["a", 1], ["a", 1], ["a", 2]),
        (None, None, 1),
        (lambda number: number % 2, lambda number: number % 2, lambda number: "other"),
    ],
)
def test_extra(extra: Any, same: Any, other: Any) -> None:
    """A value, however nested, or a function of the arguments is part of the key."""

    def body(number: int) -> int:
        return number

    one, two, three = (cached(10, extra=each)(body) for each in (extra, same, other))
    assert one.get_cache_key(1) == two.get_cache_key(1) != three.get_cache_key(1)


def test_extra_takes_models_requests_and_functions() -> None:
    """Rows are named by their keys, requests by their addresses, functions by their names."""
    author = Author.objects.create(name="a")
    request = RequestFactory().get("/page?x=1")
    for value in (author, request, test_extra):
        function = counting(cached(10, extra=[value]))
        assert [function(), function()] == [1, 1]


def test_args_rewrite() -> None:
    """What it makes of the positional arguments stands for them; names stay as they are."""
    function = counting(cached(10, args_rewrite=lambda record: record["id"]))
    smith, other = {"id": 1, "opaque": object()}, {"id": 1}
    assert [function(smith), function(other), function({"id": 2})] == [1, 1, 2]
    assert [function(smith, tax=1), function(smith, tax=2), function(other, tax=1)] == [3, 4, 3]
    function.invalidate(other)
    assert function(smith) == 5


def test_hit_and_miss_callables() -> None:
    """They are told of each hit and each miss, with the arguments, and not asked for a result."""
    told: list[Any] = []
    function = counting(
        cached(
            10,
            hit_callable=lambda *args, **kwargs: told.append(("hit", args, kwargs)),
            miss_callable=lambda *args, **kwargs: told.append(("miss", args, kwargs)),
        )
    )
    assert [function(100), function(100), function(200, tax=1), function(100)] == [1, 1, 2, 1]
    assert told == [
        ("miss", (100,), {}), ("hit", (100,), {}), ("miss", (200,), {"tax": 1}), ("hit", (100,), {}),
    ]  # fmt: skip
    told.clear()
    assert function(100, _refresh=True) == 3
    assert told == [("miss", (100,), {})]


def test_store_result() -> None:
    """With `store_result=False` a function is called once; its result may be of any kind, a hit
    is True, and an expected exception is remembered."""
    calls = []

    @cached(10, store_result=False, cache_exceptions=ValueError)
    def send(mail: str) -> Any:
        calls.append(mail)
        if mail == "bad":
            raise ValueError(mail)
        return lambda: "no pickler takes this"

    first = send("a")
    assert callable(first)
    assert send("a") is True
    assert [send("a", _refresh=True)(), send("a")] == ["no pickler takes this", True]
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            send("bad")
    assert calls == ["a", "a", "bad"]


@pytest.mark.parametrize(
    "expected", [ValueError, (KeyError, ValueError), (LookupError, ValueError)]
)
def test_cache_exceptions(expected: Any) -> None:
    """Expected exceptions are results; others are not kept."""
    calls = []

    @cached(10, cache_exceptions=expected)
    def function(error: str) -> None:
        calls.append(error)
        raise {"value": ValueError, "type": TypeError}[error](error)

    for _ in range(2):
        with pytest.raises(ValueError, match="value"):
            function("value")
    for _ in range(2):
        with pytest.raises(TypeError, match="type"):
            function("type")
    assert calls == ["value", "type", "type"]
    function.invalidate("value")
    with pytest.raises(ValueError, match="value"):
        function("value")
    assert calls.count("value") == 2


def test_invalidate() -> None:
    """`invalidate(…)` with the arguments of a call drops that call; `_refresh` among them is no
    argument."""
    function = counting(cached(10))
    assert [function(1, 100), function(100, 200), function(1, 100)] == [1, 2, 1]
    function.invalidate(1, 100)
    assert [function(1, 100), function(100, 200)] == [3, 2]
    function.invalidate(100, 200, _refresh=True)
    assert [function(1, 100), function(100, 200)] == [3, 4]


def test_get_cache_key() -> None:
    """It names a call as calling it does, in any spelling; `_refresh` is no argument."""

    @cached(10)
    def function(one: int, two: int = 2) -> int:
        return one + two

    key = function.get_cache_key(1, 2)
    assert key == function.get_cache_key(1, two=2) == function.get_cache_key(1, 2, _refresh=True)
    assert key == function.key(two=2, one=1)
    assert key != function.get_cache_key(2, 1)
    function(1, 2)
    assert key.get() == 3


def test_refresh() -> None:
    """`_refresh=True` computes and keeps the result; the function never sees it."""
    function = counting(cached(10))
    assert [function(10), function(10), function(10, _refresh=True), function(10)] == [1, 1, 2, 2]
    assert function(10, _refresh=False) == 2


def test_methods() -> None:
    """Methods are cached by their instance, class methods by their class."""

    class Report:
        def __init__(self, number: int) -> None:
            self.number = number

        def __str__(self) -> str:
            return f"report {self.number}"

        @cached(10)
        def total(self, factor: int) -> list[int]:
            calls.append(self.number)
            return [self.number * factor]

        @classmethod
        @cached(10)
        def name(cls) -> str:
            calls.append(cls)
            return cls.__name__

    calls: list[Any] = []
    assert [Report(1).total(2), Report(2).total(2), Report(1).total(2)] == [[2], [4], [2]]
    assert [Report.name(), Report.name()] == ["Report", "Report"]
    assert calls == [1, 2, Report]
    Report.total.invalidate(Report(1), 2)
    assert Report(1).total(2) == [2]
    assert calls == [1, 2, Report, 1]


def test_arguments_without_a_text_of_their_own() -> None:
    """The other package takes the address in such a text for a name; here it is warned about."""

    class Opaque:
        pass

    function = counting(cached(10))
    with pytest.warns(RuntimeWarning, match="no stable text"):
        assert function(Opaque()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(Opaque()) == 2  # said once
    request = HttpRequest()
    request.META = {"SERVER_NAME": "testserver", "SERVER_PORT": "80"}
    assert [function(request), function(request)] == [3, 3]


@pytest.mark.parametrize("decorate", [cached, file_cache.cached])
def test_cache_alias(decorate: Any) -> None:
    """Another of Django's caches cannot be chosen; the error says what can."""
    with pytest.raises(TypeError, match="CACHEOPS_REDIS"):
        decorate(10, cache_alias="other")
    with pytest.raises(TypeError, match="CACHEOPS_REDIS"):
        cached_as(Category, cache_alias="other")


@pytest.mark.usefixtures("closed_after")
async def test_async() -> None:
    """Coroutine functions take the same options; what they call may be a coroutine function too."""
    told: list[Any] = []

    async def hit(number: int) -> None:
        told.append(("hit", number))

    @cached(
        10, prefix="p", args_rewrite=str, store_result=False, cache_exceptions=ValueError,
        hit_callable=hit, miss_callable=lambda number: told.append(("miss", number)),
    )  # fmt: skip
    async def function(number: int) -> int:
        if number == 2:
            raise ValueError(number)
        return number

    assert [await function(1), await function(1), await function(1, _refresh=True)] == [1, True, 1]
    for _ in range(2):
        with pytest.raises(ValueError, match="2"):
            await function(2)
    assert told == [("miss", 1), ("hit", 1), ("miss", 1), ("miss", 2), ("hit", 2)]
