"""A process dies by SIGKILL at each exchange of a read or a write: what it leaves behind is no lie.

One process is started and waits; for each death it forks a child, which runs a scenario through
the proxy and is killed there, before or after the server carried the command out. What the
database has by then is the truth: everybody else must answer it, at once and after the dead one's
marks and locks have run out.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import world
from .conftest import MARK_TTL, long
from .machines import Machine
from .processes import Companion, Processes
from .proxy import Proxy
from .world import Checker

pytestmark = pytest.mark.django_db(transaction=True)

CODE = """
from functools import partial
engine.CacheProtocol = partial(engine.CacheProtocol, mark_ttl_ms=int(sys.argv[2]))
engine.LOCK_TTL = 0.2
settings.CACHEOPS = {"*.*": {"timeout": 60}}
settings.CACHEOPS_REDIS = sys.argv[1]
from tests.faults.test_exchanges import SCENARIOS
import asyncio, traceback, cacheops_lite.orm.explain  # what each child would import by itself
while (name := hear()) is not None:
    if not (pid := os.fork()):
        status = 1
        try:
            hear()  # our id is known
            for _ in range(2):
                SCENARIOS[name]()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    say(pid)
    say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture
def parent(checker: Checker, proxy: Proxy) -> Iterator[Companion]:
    # Nobody gives up waiting here: a writer who does may commit without a word, and then die.
    with Companion(CODE, f"{proxy.url}?socket_timeout=30", str(MARK_TTL)) as made:
        yield made


def dies_at(parent: Companion, proxy: Proxy, name: str, at: int, how: str) -> bool:
    """Run a scenario in a child that is killed at an exchange; tell whether it came to that."""
    proxy.victim = parent.ask(name)
    proxy.spoil(at, how)
    parent.tell("go")
    status = parent.hear()
    proxy.heal()
    assert status in (0, -9), parent.errors()
    return bool(status)


NAMES = [
    "miss", "dynamic miss", "locked miss", "function", "async function", "view", "simple",
    "save", "update", "two tables", "roll back", "raw SQL", "tags", "create", "delete",
    "invalidate_obj", "invalidate_model",
]  # fmt: skip
QUICK = {("locked miss", "kill before"), ("two tables", "kill after")}
DEATHS = [
    pytest.param(name, how, marks=() if (name, how) in QUICK else long)
    for name in NAMES
    for how in ("kill before", "kill after")
]


@pytest.mark.parametrize(("name", "how"), DEATHS)
def test_killed_at_each_exchange(
    parent: Companion,
    checker: Checker,
    proxy: Proxy,
    machine: Machine,
    processes: Processes,
    name: str,
    how: str,
) -> None:
    """Killed at exchange 0, 1, 2 …: others are right at once, and before long cache again."""
    processes.start("other", machine.url)
    with processes.on("other"):
        at = 0
        while True:
            why = f"({name}, exchange {at}, {how})"
            world.recovers(why=why)
            died = dies_at(parent, proxy, name, at, how)
            world.look(why=why)
            if not died:
                break
            at += 1
        world.recovers(why=why)
    assert at > 3
    parent.finish()


@pytest.mark.slow
def test_a_dead_writer_holds_nothing_up(
    parent: Companion, checker: Checker, proxy: Proxy, machine: Machine, processes: Processes
) -> None:
    """Right after the death of a writer, at any exchange, others read, write and end as ever."""
    processes.start("other", machine.url)
    with processes.on("other"):
        world.recovers()
        at = 0
        while dies_at(parent, proxy, "two tables", at, "kill before"):
            for write in world.WRITES.values():
                write()
                world.look()
            at += 1
        world.recovers()
    assert at > 3
