"""Which commands and keys this package uses, tried one by one on keys of our own.

``COMMANDS`` is what the guide to operations tells to allow; ``refused`` proves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from . import engine
from .core.entry import ANY_ROW
from .core.protocol import SERVER_ID, Script, run
from .exceptions import StoreUnavailable

#: All that is ever sent, or called by our scripts.
COMMANDS = (
    "info", "select", "ping", "mget", "get", "set", "del", "pttl", "pexpire", "time", "eval",
    "evalsha", "hincrby", "hgetall",
)  # fmt: skip
#: What is sent to the nodes of a Redis Cluster besides.
CLUSTER_COMMANDS = ("cluster|slots", "asking")
#: What a key begins with, after CACHEOPS_PREFIX.
KINDS = ("gen:", "schemes:", "conj:", "q:", "simple:", "stats:")

_MS = 1000


def acl_line(prefix: str, *, cluster: bool = False, user: str = "cacheops") -> str:
    """The line that gives a Redis user these rights and no others; replace ``>secret``."""
    keys = " ".join(f"~{prefix}{kind}*" for kind in KINDS)
    return f"ACL SETUSER {user} on >secret resetkeys {keys} -@all " + " ".join(
        f"+{name}" for name in (*COMMANDS, *(CLUSTER_COMMANDS if cluster else ()))
    )


def refused(cache: engine.Engine, server: engine.Server) -> dict[str, str]:
    """What a server does not let us do -> what it said."""
    found = {}
    for what, attempt in _attempts(cache, server):
        try:
            attempt()
        except StoreUnavailable as error:
            found[what] = str(error.__cause__ or error)
        except Exception as error:  # redis-py's, of the commands that scripts call
            found[what] = str(error)
    return found


def _attempts(
    cache: engine.Engine, server: engine.Server
) -> Iterator[tuple[str, Callable[[], Any]]]:
    keys, way, send = cache.protocol.keys, cache.transport, server.client.execute_command
    table = server.table
    gen, schemes, any_row = keys.gen(table), keys.schemes(table), keys.conj(table, ANY_ROW)
    entry, simple = keys.entry(table, "0" * 32), f"{keys.prefix}simple:{{{table}}}".encode()
    for name, *args in (
        ("INFO", "server"),
        ("PING",),
        ("GET", gen),
        ("SET", gen, b"", "PX", _MS),
        ("PTTL", gen),
        ("PEXPIRE", gen, _MS),
        ("TIME",),
    ):
        yield name, partial(send, name, *args)
    for key in (gen, schemes, any_row, entry, keys.lock(entry), simple):
        yield f"MGET {_shown(key)}", partial(_finish, way.mget, [key])
        yield f"SET {_shown(key)}", partial(_finish, way.set, key, b"", _MS)
        yield f"DEL {_shown(key)}", partial(_finish, way.delete, [key])
    token = b"0" * 16
    fresh = [b"0" * 16, b"%d" % _MS, b"%d" % _MS, b"64", b"", b"0" * 16]
    for script in (
        Script("ensure", [gen, schemes, any_row, any_row], [SERVER_ID, b"0", *fresh]),
        Script("mark", [gen, schemes, any_row], [token, b"%d" % _MS]),
        Script("bump", [gen, schemes, any_row], [token, b"0"]),
        Script("unlock", [keys.lock(entry)], [token]),
    ):
        yield f"the script {script.name}", partial(_finish, way.scripts, [script])
    yield "EVAL", partial(send, "EVAL", "return 1", 1, gen)
    if cache.settings.stats_interval is not None:
        hour = keys.stats(0)
        yield f"HINCRBY {_shown(hour)}", partial(_finish, way.tally, hour, {b"check": 1}, _MS)
        yield f"HGETALL {_shown(hour)}", partial(_finish, way.tallies, [hour])


def _finish(command: Callable[..., Any], *args: Any) -> Any:
    return run(command(*args))


def _shown(key: bytes) -> str:
    return key.decode("utf-8", "replace")
