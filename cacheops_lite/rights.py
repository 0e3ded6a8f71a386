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
#: What a key begins with, after CACHEOPS_PREFIX.
KINDS = ("gen:", "schemes:", "conj:", "q:", "simple:", "stats:")

_TABLE = "cacheops check"
_MS = 1000


def acl_line(prefix: str, user: str = "cacheops") -> str:
    """The line that gives a Redis user these rights and no others; replace ``>secret``."""
    keys = " ".join(f"~{prefix}{kind}*" for kind in KINDS)
    return f"ACL SETUSER {user} on >secret resetkeys {keys} -@all " + " ".join(
        f"+{name}" for name in COMMANDS
    )


def refused(cache: engine.Engine) -> dict[str, str]:
    """What the server does not let us do -> what it said."""
    found = {}
    for what, attempt in _attempts(cache):
        try:
            attempt()
        except StoreUnavailable as error:
            found[what] = str(error.__cause__ or error)
        except Exception as error:  # redis-py's, of the commands that scripts call
            found[what] = str(error)
    return found


def _attempts(cache: engine.Engine) -> Iterator[tuple[str, Callable[[], Any]]]:
    keys, way, send = cache.protocol.keys, cache.transport, cache.client.execute_command
    gen, schemes, any_row = keys.gen(_TABLE), keys.schemes(_TABLE), keys.conj(_TABLE, ANY_ROW)
    entry, simple = keys.entry(_TABLE, "0" * 32), f"{keys.prefix}simple:{{{_TABLE}}}".encode()
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
