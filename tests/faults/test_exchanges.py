"""Each exchange with the server is spoilt, one after the other, in every way: no error, no lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.test import RequestFactory

from cacheops_lite import CacheMiss, cache, cached_as, cached_view_as, engine
from tests import models as m
from tests.watching import Read

from . import world
from .conftest import long
from .machines import Machine
from .processes import Processes
from .proxy import FAULTS, Proxy
from .world import BY_HAND, READS, WRITES, Checker

pytestmark = pytest.mark.django_db(transaction=True)


def sum_of_views() -> int:
    return sum(m.Post.objects.nocache().values_list("views", flat=True))


def all_titles(request: Any) -> HttpResponse:
    return HttpResponse(",".join(m.Post.objects.nocache().values_list("title", flat=True)))


cached_sum = cached_as(m.Post, timeout=60)(sum_of_views)
cached_titles = cached_view_as(m.Post, timeout=60)(all_titles)


@cached_as(m.Post, timeout=60)
async def acached_sum() -> int:
    return await sync_to_async(sum_of_views)()


def function() -> None:
    assert cached_sum() == sum_of_views()


def view() -> None:
    request = RequestFactory().get("/titles")
    assert cached_titles(request).content == all_titles(request).content


def in_a_loop(make: Callable[[], Any]) -> Any:
    """Run a coroutine in an event loop of its own, which leaves no socket behind."""

    async def main() -> Any:
        try:
            return await make()
        finally:
            await engine.current().aclose()

    return asyncio.run(main())


def afunction() -> None:
    assert in_a_loop(acached_sum) == sum_of_views()


def simple() -> None:
    cache.set("key", "value", timeout=60)
    with suppress(CacheMiss):
        assert cache.get("key") == "value"
    cache.delete("key")


async def _asimple() -> None:
    await cache.aset("akey", "value", timeout=60)
    with suppress(CacheMiss):
        assert await cache.aget("akey") == "value"
    await cache.adelete("akey")


def locked() -> None:
    queryset = m.Post.objects.filter(title="post 1")
    assert list(queryset.cache(lock=True)) == list(queryset.nocache())


def other_titles() -> None:
    queryset = m.Post.objects.filter(title="post 2").select_related("author")
    assert list(queryset.cache()) == list(queryset.nocache())


#: What is done while one of its exchanges is spoilt. All that ``READS`` ask is in the cache.
SCENARIOS: dict[str, Callable[[], Any]] = {
    "first contact": lambda: world.look([READS[0]]),
    "hit": lambda: world.look([READS[0], READS[2]]),
    "miss": lambda: world.look([Read(lambda: m.Post.objects.filter(title="post 1"))]),
    "dynamic miss": other_titles,
    "locked miss": locked,
    "function": function,
    "async function": afunction,
    "view": view,
    "simple": simple,
    "async simple": lambda: in_a_loop(_asimple),
    **WRITES,
    **BY_HAND,
}


def spoilt_at(
    at: int,
    fault: str | bytes,
    name: str,
    proxy: Proxy,
    processes: Processes,
    *,
    for_good: bool = False,
) -> bool:
    """Run a scenario with one exchange spoilt; tell whether it came to that exchange at all."""
    why = f"({name}, exchange {at}, {fault!r})"
    processes.start("own", f"{proxy.url}?socket_timeout=0.1")
    with processes.on("other"):
        world.recovers(why=why)
    with processes.on("own"):
        if name != "first contact":
            world.recovers(why=why)
        before = proxy.spoilt
        proxy.spoil(at, fault, for_good=for_good)
        SCENARIOS[name]()
        happened = proxy.spoilt > before
        if not for_good:
            proxy.rule = lambda number, words: None
        world.look(why=why)
        proxy.heal()
        world.recovers(why=why)
    with processes.on("other"):
        world.recovers(why=why)
    return happened


#: ``invalidate_all`` asks as often as there are tables; the first exchanges stand for all.
MOST = 12


def spoilt_everywhere(
    fault: Callable[[int], str | bytes],
    name: str,
    proxy: Proxy,
    processes: Processes,
    *,
    for_good: bool = False,
) -> int:
    """Run a scenario with exchange 0, 1, 2 … spoilt by ``fault(exchange)``; how many it has."""
    at = 0
    while at < MOST and spoilt_at(at, fault(at), name, proxy, processes, for_good=for_good):
        at += 1
    assert at >= 1
    return at


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_exchange_is_spoilt(
    checker: Checker, proxy: Proxy, machine: Machine, processes: Processes, name: str
) -> None:
    """Exchange 0, 1, 2 … of a scenario is spoilt: nobody raises, nobody is stale, caching goes on."""
    processes.start("other", machine.url)
    # One of the faults at each place; `test_every_fault_at_each_exchange` does them all.
    faults = list(FAULTS)
    spoilt_everywhere(lambda at: faults[(len(name) + at) % len(faults)], name, proxy, processes)
    assert checker.hits > 0


@pytest.mark.parametrize("fault", [pytest.param(fault, marks=long) for fault in FAULTS])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_fault_at_each_exchange(
    checker: Checker, proxy: Proxy, machine: Machine, processes: Processes, name: str, fault: str
) -> None:
    """The same with each fault at each place."""
    processes.start("other", machine.url)
    spoilt_everywhere(lambda at: fault, name, proxy, processes)


def some(*names: str) -> list[Any]:
    """All scenarios; those that are not named take long."""
    return [name if name in names else pytest.param(name, marks=long) for name in SCENARIOS]


@pytest.mark.parametrize(
    "name", some("dynamic miss", "locked miss", "two tables", "async function")
)
def test_the_server_is_gone_from_an_exchange_on(
    checker: Checker, proxy: Proxy, machine: Machine, processes: Processes, name: str
) -> None:
    """From exchange 0, 1, 2 … on nothing is answered any more, until the server is back."""
    processes.start("other", machine.url)
    spoilt_everywhere(lambda at: "cut before", name, proxy, processes, for_good=True)
