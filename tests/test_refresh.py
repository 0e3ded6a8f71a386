"""Results that are computed again although they are there: early, past their end, by one caller."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory

from cacheops_lite import cached, cached_as, cached_view, cached_view_as, engine, invalidate_tag
from cacheops_lite.core.protocol import run
from cacheops_lite.functions.lease import Lease
from cacheops_lite.functions.memoize import memoize
from cacheops_lite.functions.options import Options
from cacheops_lite.functions.refresh import Kept, Refresh
from cacheops_lite.functions.results import EngineBackend
from cacheops_lite.functions.samples import Samples

from .crowds import Crowd
from .models import Category
from .test_functions import category

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    """A clock and a chance that a test sets, and a function under a policy that uses them."""

    def __init__(self) -> None:
        self.now, self.luck, self.calls, self.work = 1000.0, 0.0, 0, 0.0

    def policy(self, **chosen: float) -> Refresh:
        return Refresh(**chosen, clock=lambda: self.now, chance=lambda: self.luck)

    def body(self) -> int:
        self.calls += 1
        time.sleep(self.work)
        return self.calls

    def function(self, timeout: float = 60, samples: Any = None, **chosen: float) -> Any:
        found = Samples([samples]) if samples is not None else None
        backend = EngineBackend(timeout, None, found, self.policy(**chosen))
        return memoize(self.body, backend, Options(tags="t"))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def busy() -> Iterator[Callable[[Any], Any]]:
    """Somebody else holds the lease of a function's result, until the test ends."""
    leases: list[Lease] = []

    def hold(function: Any) -> Lease:
        cache = engine.current()
        lease = Lease(cache, cache.transport, str(function.key()).encode())
        assert run(lease.take())
        leases.append(lease)
        return lease

    yield hold
    for lease in leases:
        run(lease.release())


# -- early -----------------------------------------------------------------------------------------


def test_chance_follows_the_paper() -> None:
    """A hit recomputes with the probability exp(-left / (took * beta)) that XFetch prescribes."""
    dice = random.Random(7)
    for left, took, beta in [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (2.0, 1.0, 2.0), (0.1, 0.01, 1.0)]:
        policy = Refresh(early=beta, clock=lambda: 0.0, chance=dice.random)
        kept = Kept(None, until=left, took=took)
        share = sum(policy.due(kept) for _ in range(20_000)) / 20_000
        assert share == pytest.approx(math.exp(-left / (took * beta)), abs=0.02)


def test_early(world: World) -> None:
    """Near the end, and if chance will have it, a hit computes the next result; never without."""
    world.work = 0.01
    function = world.function(early=1.0)
    assert [function(), function()] == [1, 1]
    world.luck = 1 - 1e-9  # the unlikeliest that counts: twenty times what it took
    assert function() == 1
    world.now += 59.9
    world.luck = 0.0
    assert function() == 1
    world.luck = 1 - 1e-9
    assert function() == 2
    assert [function(), function()] == [2, 2]  # its end is far away again


def test_early_refreshes_once(world: World, busy: Any) -> None:
    """While one caller refreshes, the others are answered."""
    world.work = 0.01
    function = world.function(early=1.0)
    assert function() == 1
    world.now, world.luck = world.now + 59.9, 1 - 1e-9
    lease = busy(function)
    assert [function(), function()] == [1, 1]
    run(lease.release())
    assert function() == 2


def test_an_error_while_refreshing(world: World) -> None:
    """Who refreshes gets the error of the function; the lease is given back."""
    function = world.function(stale=30)
    assert function() == 1
    world.now += 61
    body, world.body = world.body, lambda: 1 / 0  # type: ignore[method-assign]
    backend = EngineBackend(60, None, None, world.policy(stale=30))
    fails = memoize(world.body, backend, Options(tags="t", prefix="one"))
    world.now -= 61
    works = memoize(body, backend, Options(tags="t", prefix="one"))
    assert works() == 2
    world.now += 61
    with pytest.raises(ZeroDivisionError):
        fails()
    with pytest.raises(ZeroDivisionError):
        fails()
    assert [works(), works()] == [3, 3]


# -- past its end ----------------------------------------------------------------------------------


def test_stale_while_revalidate(world: World, busy: Any) -> None:
    """Past the timeout the last value is answered for the stated time, while one caller computes."""
    function = world.function(stale=30)
    assert function() == 1
    lease = busy(function)
    world.now += 59
    assert function() == 1
    world.now += 2
    assert [function(), function()] == [1, 1]
    run(lease.release())
    assert [function(), function()] == [2, 2]


def test_no_longer_than_stated(world: World, busy: Any) -> None:
    """After that time nobody is answered with it, whoever computes."""
    function = world.function(stale=30)
    assert function() == 1
    busy(function)
    world.now += 91
    assert function() == 2


def test_never_across_an_invalidation(world: World, busy: Any) -> None:
    """What was invalidated is not answered, neither before nor after its end."""
    function = world.function(samples=Category, stale=30, early=1.0)
    drops = [category, function.invalidate, function.invalidate_all, lambda: invalidate_tag("t")]
    for number, drop in enumerate(drops, 1):
        assert function() == 2 * number - 1
        lease = busy(function)
        world.now += 61
        assert function() == 2 * number - 1
        drop()
        assert function() == 2 * number
        run(lease.release())
        function.invalidate()


def test_the_clock_decides_not_the_server_alone(world: World) -> None:
    """A result that took long is as old as its beginning, however late it was stored."""
    function = world.function(timeout=60)
    assert function() == 1
    world.now += 59
    assert function() == 1
    world.now += 2
    assert function() == 2


# -- across an invalidation ------------------------------------------------------------------------


def test_stale_if_invalidated(world: World, busy: Any) -> None:
    """Who asks for it is answered with the last value while one caller computes the next."""
    function = world.function(samples=Category, invalidated=600)
    assert function() == 1
    category()
    assert [function(), function()] == [2, 2]  # nobody else was at it
    lease = busy(function)
    category()
    assert [function(), function()] == [2, 2]
    assert function(_refresh=True) == 3
    run(lease.release())
    assert function() == 3


def test_no_longer_than_stated_across_an_invalidation(world: World, busy: Any) -> None:
    """From the first call that finds it invalid the stated time runs, whoever computes."""
    function = world.function(samples=Category, invalidated=0.3)
    assert function() == 1
    busy(function)
    category()
    deadline = time.monotonic() + 20
    while (answer := function()) == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert answer == 2
    assert function() == 2
    category()
    assert function() == 2  # another invalidation has its own time


def test_each_invalidation_has_its_own_time(world: World, busy: Any) -> None:
    """A result that was stored since is not as old as the one before it."""
    function = world.function(samples=Category, invalidated=600)
    for number in (1, 2, 3):
        assert function() == number
        lease = busy(function)
        category()
        assert function() == number
        run(lease.release())


def test_a_dead_holder(world: World, busy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease whose holder died runs out, and another caller computes."""
    monkeypatch.setattr(engine, "LOCK_TTL", 0.2)
    function = world.function(samples=Category, invalidated=600)
    assert function() == 1
    busy(function)
    category()
    deadline = time.monotonic() + 20
    while (answer := function()) == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert answer == 2


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decorate",
    [
        lambda **o: cached(60, **o),
        lambda **o: cached_as(Category, **o),
        lambda **o: cached_view(60, **o),
        lambda **o: cached_view_as(Category, **o),
    ],
)
def test_options(decorate: Any) -> None:
    """All decorators take them; what makes no sense is refused when decorating."""
    decorate(early=1, stale_while_revalidate=5, stale_if_invalidated=timedelta(seconds=3))
    for wrong in (
        {"early": -1}, {"early": True}, {"stale_while_revalidate": float("inf")},
        {"stale_if_invalidated": timedelta(seconds=-1)}, {"stale_if_invalidated": 86400},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            decorate(**wrong)
    with pytest.raises(TypeError):
        decorate(stale=1)


def test_views(busy: Any) -> None:
    """A response is refreshed like a result, also where it varies."""
    calls = 0

    @cached_view_as(Category, stale_if_invalidated=600)
    def view(request: Any) -> HttpResponse:
        nonlocal calls
        calls += 1
        return HttpResponse(str(calls), headers={"X-Calls": str(calls)})

    def get() -> str:
        response = view(RequestFactory().get("/"))
        assert response.headers["X-Calls"] == response.content.decode()
        return response.content.decode()

    assert [get(), get()] == ["1", "1"]
    cache = engine.current()
    key = str(view.key(RequestFactory().get("/"))).encode()
    lease = Lease(cache, cache.transport, key)
    assert run(lease.take())
    category()
    assert get() == "1"
    run(lease.release())
    assert [get(), get()] == ["2", "2"]


def test_options_that_come_and_go(world: World) -> None:
    """Entries of one kind are read by code of the other kind."""
    plain = cached(60, prefix="p")(world.body)
    kept = cached(60, prefix="p", early=1.0)(world.body)
    assert [kept(), plain(), plain.key().get()] == [1, 1, 1]
    plain.invalidate()
    assert [plain(), kept(), kept.key().get()] == [2, 2, 2]
    kept.key().set(7)
    assert [plain(), kept()] == [7, 7]


def test_iterators_that_end() -> None:
    """A function that raises StopIteration raises just that."""

    @cached(60)
    def function() -> Any:
        return next(iter(()))

    with pytest.raises(StopIteration):
        function()


# -- many at once ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("closed_after")
async def test_async(world: World) -> None:
    """Of many tasks one refreshes; the others take the last value at once."""
    policy = world.policy(stale=30)
    started, go = asyncio.Event(), asyncio.Event()

    async def body() -> int:
        world.calls += 1
        if world.calls > 1:
            started.set()
            await go.wait()
        return world.calls

    function = memoize(body, EngineBackend(60, None, None, policy), Options())
    assert await function() == 1
    world.now += 61
    first = asyncio.create_task(function())
    await started.wait()
    assert await asyncio.gather(*(function() for _ in range(5))) == [1] * 5
    go.set()
    assert await first == 2
    assert await function() == 2


@pytest.mark.parametrize("lock", [True, False])
def test_load(lock: bool) -> None:
    """Under load one caller computes at a time; nobody else waits, nobody gets what is older than
    what was stated, and nobody gets what was invalidated unless he asked for it."""
    crowd, wrong = Crowd(), []

    def body() -> int:
        with crowd.inside() as number:
            time.sleep(0.003)
        return number

    strict = cached(0.02, lock=True, stale_while_revalidate=60, early=1.0)(body)
    loose = cached(60, lock=lock, stale_if_invalidated=60, prefix="loose")(body)

    def read_strict() -> None:
        while not crowd.stop.is_set():
            least = crowd.announced
            if strict() < least:
                wrong.append("an invalidated result was answered")
        connection.close()

    def read_loose() -> None:
        last = 0
        while not crowd.stop.is_set():
            number = loose()
            if number < last:
                wrong.append("an older result came after a newer one")
            last = number
        connection.close()

    for read, function in ((read_strict, strict), (read_loose, loose)):
        crowd.stop.clear()
        crowd.most = 0
        function()
        crowd.run([threading.Thread(target=read) for _ in range(5)], 29, function.invalidate)
        assert wrong == []
        assert crowd.most == 1
        assert function() == crowd.fresh
