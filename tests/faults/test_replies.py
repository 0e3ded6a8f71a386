"""A server, or what stands in its place, answers what nobody expects: no error, no lie."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cacheops_lite import engine
from cacheops_lite.core.protocol import SERVER_ID, Script, run
from cacheops_lite.exceptions import StoreUnavailable

from . import world
from .conftest import long
from .machines import Machine
from .processes import Processes
from .proxy import Proxy
from .test_exchanges import SCENARIOS, spoilt_everywhere
from .world import Checker

pytestmark = pytest.mark.django_db(transaction=True)

REPLIES = {
    "ok": b"+OK\r\n",
    "number": b":1\r\n",
    "nil": b"$-1\r\n",
    "text": b"$5\r\nhello\r\n",
    "nothing": b"*0\r\n",
    "nil array": b"*-1\r\n",
    "numbers": b"*2\r\n:1\r\n:2\r\n",
    "array in array": b"*2\r\n*1\r\n$1\r\ns\r\n*1\r\n$1\r\ns\r\n",
    "text and text": b"*2\r\n$2\r\ns1\r\n$2\r\ns1\r\n",
    "text and array": b"*2\r\n$2\r\ns1\r\n*1\r\n:7\r\n",
    "error in array": b"*2\r\n-ERR no\r\n$1\r\ns\r\n",
    "long array": b"*1000\r\n" + b"$1\r\ns\r\n" * 1000,
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "error": b"-ERR something\r\n",
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "busy": b"-BUSY Redis is busy running a script\r\n",
    "no disk": b"-MISCONF Redis is configured to save RDB snapshots, but cannot\r\n",
    "full": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "read only": b"-READONLY You can't write against a read only replica.\r\n",
    "no master": b"-MASTERDOWN Link with MASTER is down\r\n",
    "moved": b"-MOVED 1234 127.0.0.1:1\r\n",
    "no auth": b"-NOAUTH Authentication required.\r\n",
    "no permission": b"-NOPERM this user has no permissions to run this command\r\n",
    "unknown": b"-ERR unknown command 'MGET', with args beginning with: 'x'\r\n",
    "no script": b"-NOSCRIPT No matching script. Please use EVAL.\r\n",
    "replicas": b"-NOREPLICAS Not enough good replicas to write.\r\n",
}


NAMES = [
    "first contact",
    "dynamic miss",
    "locked miss",
    "two tables",
    "async function",
    "tags",
    "view",
]


def test_strange_replies(
    checker: Checker, proxy: Proxy, machine: Machine, processes: Processes
) -> None:
    """One exchange after the other is answered with something strange: as if it had failed."""
    processes.start("other", machine.url)
    replies = list(REPLIES.values())
    used = 0
    for name in NAMES:
        rest = replies[used % len(replies) :] + replies
        used += spoilt_everywhere(rest.__getitem__, name, proxy, processes)
    assert used >= len(replies), "not each was tried"


@pytest.mark.parametrize("reply", [pytest.param(reply, marks=long) for reply in REPLIES])
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_strange_reply_at_each_exchange(
    checker: Checker, proxy: Proxy, machine: Machine, processes: Processes, reply: str, name: str
) -> None:
    """The same with every reply in every scenario."""
    processes.start("other", machine.url)
    spoilt_everywhere(lambda at: REPLIES[reply], name, proxy, processes)


# -- any reply at all --------------------------------------------------------------------------

_TEXT = st.binary(max_size=40) | st.sampled_from(
    [b"s", b"p", b"y", b"f", b"s1abc", b"s" + b"0" * 32]
)
_LEAVES = (
    st.none().map(lambda none: b"$-1\r\n")
    | st.integers(-(2**63), 2**63 - 1).map(lambda number: b":%d\r\n" % number)
    | _TEXT.map(lambda text: b"$%d\r\n%s\r\n" % (len(text), text))
    | st.sampled_from([b"+OK\r\n", b"-ERR no\r\n", b"*-1\r\n"])
)
ANY_REPLY = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4).map(
        lambda parts: b"*%d\r\n%s" % (len(parts), b"".join(parts))
    ),
    max_leaves=8,
)
KEYS = [b"gen:{t}", b"schemes:{t}", b"conj:{t}:"]
CALLS = {
    "ensure": Script(
        "ensure",
        [*KEYS, b"conj:{t}:"],
        [SERVER_ID, b"1", b"0" * 16, b"9", b"9", b"64", b"", b"1" * 16],
    ),
    "mark": Script("mark", KEYS, [b"2" * 16, b"1000"]),
    "bump": Script("bump", KEYS, [b"2" * 16, b"0"]),
    "unlock": Script("unlock", [b"lock"], [b"2" * 16]),
}


@settings(
    max_examples=60,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(reply=ANY_REPLY, name=st.sampled_from([*CALLS, "mget", "set", "pttl", "delete"]))
def test_any_reply_is_as_expected_or_a_failure(
    checker: Checker, proxy: Proxy, processes: Processes, reply: bytes, name: str
) -> None:
    """Whatever bytes come, the transport answers in the shape that it promises, or is unavailable."""
    if "own" not in processes.names():
        processes.start("own", f"{proxy.url}?socket_timeout=0.1")
    proxy.rule = lambda number, words: None if words[0] == b"INFO" else reply
    with processes.on("own"):
        way = engine.current().transport
        way.breaker.success()
        way.client.connection_pool.disconnect()
        with contextlib.suppress(StoreUnavailable):
            assert_shape(name, way)
    proxy.heal()


def assert_shape(name: str, way: Any) -> None:
    if name == "mget":
        values = run(way.mget(KEYS)).values
        assert len(values) == 3
        assert {type(value) for value in values} <= {bytes, type(None)}
    elif name == "set":
        assert type(run(way.set(b"k", b"v", 100, nx=True))) is bool
    elif name == "pttl":
        assert type(run(way.pttl(b"k"))) is int
    elif name == "delete":
        run(way.delete([b"k"]))
    else:
        (answer,) = run(way.scripts([CALLS[name]]))
        if name == "ensure":
            gen, out = answer.value
            assert type(gen) is bytes
            assert len(out) == 1
            assert type(out[0]) is bytes
        elif name == "unlock":
            assert type(answer.value) is int
        else:
            gen, schemes = answer.value
            assert {type(gen), type(schemes)} <= {bytes, type(None)}


def test_a_server_that_is_none_at_all(
    checker: Checker, processes: Processes, tmp_path: Any
) -> None:
    """Where another program listens, or nobody, or nothing can be resolved: the database answers."""
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def talk() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.sendall(b"220 mail.example.com ESMTP\r\n")
            client.close()

    threading.Thread(target=talk, daemon=True).start()
    urls = [
        f"redis://127.0.0.1:{port}?socket_timeout=0.2",
        "redis://127.0.0.1:1",
        f"unix://{tmp_path}/nobody",
        "redis://no-such-host.invalid:6379",
        f"redis://127.0.0.1:{port}/0?socket_timeout=0.2&protocol=3",
    ]
    for url in urls:
        processes.start("own", url)
        with processes.on("own"):
            for write in list(world.WRITES.values())[:3]:
                world.look()
                write()
            world.look()
    listener.close()
    assert checker.hits == 0
