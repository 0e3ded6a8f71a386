"""Who may connect and what for: TLS, passwords, forms of the URL, rights, a server that is shared."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import subprocess
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cacheops_lite import cached, engine

from . import world
from .machines import Machine, Machines, free_port, missing
from .processes import Processes
from .test_attack import use_everything
from .world import WRITES, Checker

pytestmark = pytest.mark.django_db(transaction=True)


#: One attempt is enough to see that it fails.
PATIENT = {"failures": 1, "pause": 5.0, "ceiling": 5.0, "jitter": 0.0}


def goes_on_without(checker: Checker, processes: Processes, config: Any) -> None:
    """A process with this configuration answers and writes, and nothing comes from the cache."""
    before = checker.hits
    processes.start("own", config, breaker=PATIENT)
    with processes.on("own"):
        for write in list(WRITES.values())[:2]:
            world.look()
            write()
        world.look()
    assert checker.hits == before


def works(processes: Processes, config: Any) -> None:
    """A process with this configuration is answered by the cache, and its writes are seen."""
    processes.start("own", config)
    with processes.on("own"):
        world.recovers()
        for write in list(WRITES.values())[:2]:
            write()
        world.recovers()


# -- TLS ---------------------------------------------------------------------------------------


def openssl(*words: Any) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


CURVE = "ec_paramgen_curve:P-256"


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.file = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", CURVE, "-nodes", "-days", 1, "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", self.key, "-out", self.file,
        )  # fmt: skip

    def sign(self, name: str, address: str = "127.0.0.1") -> tuple[Path, Path]:
        """A certificate and its key."""
        base = self.folder / f"{self.name}-{name}"
        key, request, file = (base.with_suffix(end) for end in (".key", ".csr", ".crt"))
        base.with_suffix(".ext").write_text(f"subjectAltName=IP:{address}\n")
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            CURVE,
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            key,
            "-out",
            request,
        )
        openssl(
            "x509", "-req", "-days", 1, "-in", request, "-CA", self.file, "-CAkey", self.key,
            "-CAcreateserial", "-extfile", base.with_suffix(".ext"), "-out", file,
        )  # fmt: skip
        return file, key


class Secure:
    """A server that speaks TLS, and the files for it."""

    def __init__(self, folder: Path, machines: Machines) -> None:
        self.ours, self.theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        file, key = self.ours.sign("server")
        self.port = free_port()
        self.machine = machines(
            "--tls-port", str(self.port), "--bind", "127.0.0.1", "--tls-cert-file", str(file),
            "--tls-key-file", str(key), "--tls-ca-cert-file", str(self.ours.file),
            "--tls-auth-clients", "no", binary="redis-server",
        )  # fmt: skip

    def url(self, **options: Any) -> str:
        words = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rediss://127.0.0.1:{self.port}/0?socket_timeout=2&{words}"


@pytest.fixture
def secure(tmp_path: Path, machines: Machines) -> Secure:
    for program in ("openssl", "redis-server"):
        if shutil.which(program) is None:
            missing(program)
    return Secure(tmp_path, machines)


def test_tls(
    checker: Checker,
    secure: Secure,
    processes: Processes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The right certificate is accepted; a wrong one, or none, costs the cache and nothing else."""
    works(processes, secure.url(ssl_ca_certs=secure.ours.file))
    works(processes, secure.url(ssl_cert_reqs="none", ssl_check_hostname="false"))
    wrong = {
        "certificate": secure.url(ssl_ca_certs=secure.theirs.file),
        "rror": secure.url(ssl_ca_certs=secure.theirs.folder / "missing.crt"),
        "onnection": f"redis://127.0.0.1:{secure.port}?socket_timeout=2",  # TLS, asked without
    }
    for word, url in wrong.items():
        caplog.clear()
        goes_on_without(checker, processes, url)
        assert word in caplog.text, url


def test_tls_for_another_host(checker: Checker, secure: Secure, processes: Processes) -> None:
    """A certificate of the right authority for another machine is refused."""
    file, key = secure.ours.sign("elsewhere", "10.9.8.7")
    secure.machine.command("CONFIG", "SET", "tls-cert-file", str(file), "tls-key-file", str(key))
    goes_on_without(
        checker, processes, secure.url(ssl_ca_certs=secure.ours.file, ssl_check_hostname="true")
    )


def test_tls_with_certificates_of_clients(
    checker: Checker, secure: Secure, processes: Processes
) -> None:
    """Where the server asks for a certificate too: ours is accepted, none and a foreign one not."""
    secure.machine.command("CONFIG", "SET", "tls-auth-clients", "yes")
    trust = {"ssl_ca_certs": secure.ours.file}
    file, key = secure.ours.sign("client")
    works(processes, secure.url(**trust, ssl_certfile=file, ssl_keyfile=key))
    goes_on_without(checker, processes, secure.url(**trust))
    file, key = secure.theirs.sign("client")
    goes_on_without(checker, processes, secure.url(**trust, ssl_certfile=file, ssl_keyfile=key))


def test_tls_of_loops_that_are_over(secure: Secure, settings: Any) -> None:
    """The sockets of an event loop that is over are closed, and nobody is warned of them."""
    settings.CACHEOPS_REDIS = secure.url(ssl_ca_certs=secure.ours.file)

    @cached(60)
    async def function() -> int:
        return 1

    loops: weakref.WeakSet[Any] = weakref.WeakSet()

    async def act() -> int:
        loops.add(asyncio.get_running_loop())
        return await function()

    assert [asyncio.run(act()) for _ in range(4)] == [1] * 4
    assert engine.current().breaker.calm
    engine.reset()
    gc.collect()
    assert len(loops) == 0


# -- passwords and forms -----------------------------------------------------------------------

PASSWORD = "p@ss/w:ord?#&"


@pytest.fixture
def guarded(machines: Machines) -> Machine:
    """A server on a port and a socket, with a user, and without access for anybody else."""
    machine = machines("--port", str(free_port()), "--bind", "127.0.0.1")
    with machine.client() as client:
        client.acl_setuser(
            "app", enabled=True, passwords=[f"+{PASSWORD}"], keys="*", commands=["+@all"]
        )
        client.config_set("requirepass", PASSWORD)
    return machine


def test_forms_of_the_configuration(
    checker: Checker, guarded: Machine, processes: Processes
) -> None:
    """URLs and dicts, with user, password and database in every place where they may stand."""
    port, path, word = guarded.port, guarded.socket, quote(PASSWORD, safe="")
    forms: list[tuple[Any, int]] = [
        (f"redis://:{word}@127.0.0.1:{port}", 0),
        (f"redis://:{word}@127.0.0.1:{port}/3", 3),
        (f"redis://127.0.0.1:{port}?db=4&password={word}", 4),
        (f"redis://app:{word}@localhost:{port}/5?socket_timeout=2", 5),
        (f"redis://default:{word}@127.0.0.1:{port}/1", 1),
        (f"unix://:{word}@{path}?db=6", 6),
        (f"unix://app:{word}@{path}", 0),
        (f"unix://{path}?db=7&username=app&password={word}", 7),
        (f"redis://:{word}@127.0.0.1:{port}/8?protocol=3", 8),
        (f"redis://:{word}@127.0.0.1:{port}/9?decode_responses=true", 9),
        (f"redis://:{word}@127.0.0.1:{port}/10?health_check_interval=1", 10),
        (f"redis://:{word}@127.0.0.1:{port}/11?max_connections=1", 11),
        ({"host": "127.0.0.1", "port": port, "password": PASSWORD, "db": 12}, 12),
        ({"unix_socket_path": str(path), "username": "app", "password": PASSWORD, "db": 13}, 13),
    ]
    for form, db in forms:
        works(processes, form)
        with guarded.client(password=PASSWORD, db=db) as client:
            assert client.dbsize() > 0, f"{form} is not in database {db}"
            client.flushall()


def test_wrong_passwords(
    checker: Checker,
    guarded: Machine,
    processes: Processes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A wrong password, user or database, or none: the database answers and the log says why."""
    for form, words in {
        f"unix://{guarded.socket}": "uthentication",
        f"unix://:wrong@{guarded.socket}": "invalid username-password",
        f"unix://nobody:wrong@{guarded.socket}": "invalid username-password",
        f"unix://:{quote(PASSWORD, safe='')}@{guarded.socket}?db=999": "out of range",
    }.items():
        caplog.clear()
        goes_on_without(checker, processes, form)
        assert words in caplog.text, (form, caplog.text)


def test_a_password_that_changes(
    checker: Checker, machines: Machines, processes: Processes
) -> None:
    """The password is changed and all are thrown out, then changed back: never an error."""
    machine = machines()
    processes.start("own", machine.url)
    with processes.on("own"):
        world.recovers()
        with machine.client() as client:
            client.config_set("requirepass", "new")
            client.client_kill_filter(_type="normal", skipme=True)
            for write in WRITES.values():
                write()
                world.look()
            client.config_set("requirepass", "")
        world.recovers()


# -- rights ------------------------------------------------------------------------------------

#: All that we ask of a server, and what redis-py says when it connects.
NEEDED = "mget set del pttl info evalsha eval get pexpire time hincrby hgetall".split()
GREETINGS = "hello auth ping select client".split()


class Limited:
    """A server with a user whose rights a test changes."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.url = f"unix://app:secret@{machine.socket}"
        self.may(*NEEDED)

    def may(self, *commands: str, keys: str = "app:*") -> None:
        with self.machine.client() as client:
            client.acl_setuser(
                "app",
                reset=True,
                enabled=True,
                passwords=["+secret"],
                keys=[keys],
                commands=[f"+{name}" for name in (*commands, *GREETINGS)],
            )


@pytest.fixture
def limited(machine: Machine, settings: Any) -> Iterator[Limited]:
    settings.CACHEOPS_PREFIX = "app:"
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    yield Limited(machine)
    machine.command("ACL", "DELUSER", "app")


def test_the_rights_that_are_needed(
    checker: Checker,
    limited: Limited,
    processes: Processes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A user with these rights on our prefix and no others can do everything."""
    processes.start("own", limited.url)
    with processes.on("own"):
        for _ in range(2):
            use_everything()
        for write in WRITES.values():
            write()
        world.recovers()
        use_everything()
        from cacheops_lite import invalidate_all, reap_conjs

        invalidate_all()
        reap_conjs()
        use_everything()
    assert "refuses" not in caplog.text


@pytest.mark.parametrize("name", NEEDED)
def test_each_right_may_be_missing(
    checker: Checker,
    limited: Limited,
    machine: Machine,
    processes: Processes,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """One right is missing: no error, nobody stale, a line in the log; when it is given all is well."""
    processes.start("full", machine.url)
    processes.start("limited", limited.url)
    for each in ("full", "limited"):
        with processes.on(each):
            world.recovers()
    limited.may(*(each for each in NEEDED if each != name))
    with machine.client() as client:  # who is connected keeps what was said at first
        client.client_kill_filter(_type="normal", skipme=True)
    caplog.clear()
    # Without INFO there is no connection: others hear of nothing, as if the process were cut off.
    others = () if name == "info" else ("full",)
    for write in WRITES.values():
        for each in others:
            with processes.on(each):
                world.look(why=f"({each}, without {name})")
        with processes.on("limited"):
            write()  # and no read of its own before the others look
        for each in (*others, "limited"):
            with processes.on(each):
                world.look(why=f"({each}, without {name})")
        checker.judge()
    if name not in ("eval", "pttl", "pexpire", "hincrby", "hgetall"):  # asked for now and then
        assert f"the '{name}' command" in caplog.text or "NOPERM" in caplog.text, caplog.text
    limited.may(*NEEDED)
    for each in ("limited", "full"):
        with processes.on(each):
            world.recovers(why=f"({name} is back)")


def test_rights_on_other_keys_only(
    checker: Checker, limited: Limited, processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    """The user may touch other keys, not ours: the database answers, the log says why."""
    limited.may(*NEEDED, keys="other:*")
    goes_on_without(checker, processes, limited.url)
    assert "NOPERM" in caplog.text or "No permissions" in caplog.text


def test_a_script_that_the_server_does_not_know(
    checker: Checker, limited: Limited, machine: Machine, processes: Processes
) -> None:
    """Without EVAL scripts can be run only while the server knows them; that is a miss otherwise."""
    processes.start("limited", limited.url)
    with processes.on("limited"):
        world.recovers()
        limited.may(*(each for each in NEEDED if each != "eval"))
        machine.command("SCRIPT", "FLUSH")
        for write in WRITES.values():
            write()
            world.look()
        limited.may(*NEEDED)
        world.recovers()


# -- sharing -----------------------------------------------------------------------------------


def test_another_application_flushes(
    checker: Checker, machine: Machine, processes: Processes
) -> None:
    """Others empty the database, forget scripts, and fill it with theirs: misses."""
    chance = random.Random(11)
    names = ["one", "two"]
    for name in names:
        processes.start(name, machine.url)
    with machine.client() as client:
        for _ in range(40):
            for name in names:
                with processes.on(name):
                    world.traffic(chance, 3)
            chance.choice(
                [
                    client.flushdb,
                    client.script_flush,
                    lambda: client.flushall(asynchronous=True),
                    lambda: client.mset({f"{number}": "x" for number in range(100)}),
                    lambda: [client.delete(key) for key in client.keys() if chance.random() < 0.3],
                    lambda: [
                        client.expire(key, 0) for key in client.keys() if chance.random() < 0.3
                    ],
                    lambda: [client.persist(key) for key in client.keys()],
                ]
            )()
    for name in names:
        with processes.on(name):
            world.recovers()
            assert engine.current().protocol.overdue.due(0) == {}
