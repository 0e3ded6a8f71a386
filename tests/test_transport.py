"""The Redis transports when things go wrong: stale sockets, repeats of ENSURE, unread replies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from cacheops_lite.core.protocol import SERVER_ID, Asked, Script, run
from cacheops_lite.exceptions import StoreUnavailable
from cacheops_lite.stores.breaker import Breaker
from cacheops_lite.stores.scripts import SCRIPTS
from cacheops_lite.stores.transport import AsyncTransport, SyncTransport

from . import servers

ENSURE = Script(
    "ensure",
    [b"gen:{t}", b"schemes:{t}", b"conj:{t}:", b"conj:{t}:"],
    [SERVER_ID, b"1", b"0" * 16, b"100000", b"100000", b"64", b"", b"1" * 16],
)
MARK = Script("mark", [b"gen:{t}", b"schemes:{t}", b"conj:{t}:"], [b"2" * 16, b"100000"])


class FakeServer:
    """A server whose answers a test chooses: bytes, None to hang up, or "hang" to say nothing."""

    def __init__(self) -> None:
        self.run_id = b"a" * 40
        self.commands: list[list[bytes]] = []
        self.answers: dict[bytes, list[Any]] = {}
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def names(self) -> list[bytes]:
        return [command[0] for command in self.commands if command[0] not in (b"CLIENT", b"HELLO")]

    def drop_all(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        self._listener.close()
        self.drop_all()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            stream = connection.makefile("rb")
            while line := stream.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(stream.readline()[1:])
                    words.append(stream.read(size + 2)[:-2])
                self.commands.append(words)
                answer = self._answer(words)
                if answer is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    connection.close()
                    return
                if answer != "hang":
                    connection.sendall(answer)
        except (OSError, ValueError):
            return

    def _answer(self, words: list[bytes]) -> Any:
        chosen = self.answers.get(words[0])
        if chosen:
            return chosen.pop(0)
        if words[0] == b"INFO":
            text = b"run_id:%s\r\n" % self.run_id if words[1] == b"server" else b"role:master\r\n"
            return b"$%d\r\n%s\r\n" % (len(text), text)
        if words[0] == b"MGET":
            return b"*%d\r\n%s" % (len(words) - 1, b"$-1\r\n" * (len(words) - 1))
        if words[0] in (b"EVALSHA", b"EVAL"):
            ensure = words[1] in SCRIPTS["ensure"]
            return ensured(b"gen", int(words[2]) - 3) if ensure else seen(b"gen")
        return b"+OK\r\n"


def seen(gen: bytes) -> bytes:
    """What MARK and BUMP answer: the gen, and no schemes."""
    return b"*2\r\n$%d\r\n%s\r\n$-1\r\n" % (len(gen), gen)


def ensured(gen: bytes, stamps: int = 1) -> bytes:
    """What ENSURE answers: the gen, and for each stamp that it is pending."""
    return b"*2\r\n$%d\r\n%s\r\n*%d\r\n" % (len(gen), gen, stamps) + b"$1\r\np\r\n" * stamps


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


class Side:
    """A transport of one colour over a client that retries as eagerly as redis-py allows."""

    def __init__(self, colour: str, runner: asyncio.Runner, **options: Any) -> None:
        options = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3, "protocol": 2, **options}
        self.breaker = Breaker(pause=0)
        self.asynchronous = colour == "async"
        eager = [redis.ConnectionError, redis.TimeoutError]
        if self.asynchronous:
            retry = AsyncRetry(NoBackoff(), 3)
            self.client: Any = redis.asyncio.Redis(retry=retry, retry_on_error=eager, **options)
            self.transport: Any = AsyncTransport(self.client, breaker=self.breaker)
            self.finish: Callable[[Coroutine[Any, Any, Any]], Any] = runner.run
        else:
            self.client = redis.Redis(retry=Retry(NoBackoff(), 3), retry_on_error=eager, **options)
            self.transport = SyncTransport(self.client, breaker=self.breaker)
            self.finish = run

    def mget(self, *keys: bytes) -> Any:
        return self.finish(self.transport.mget(keys))

    def scripts(self, *calls: Script) -> Any:
        return self.finish(self.transport.scripts(calls))

    def close(self) -> None:
        if self.asynchronous:
            self.finish(self.client.aclose())
        else:
            self.client.close()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["sync", "async"])
def make_side(
    request: pytest.FixtureRequest, runner: asyncio.Runner
) -> Iterator[Callable[..., Side]]:
    sides: list[Side] = []

    def make(**options: Any) -> Side:
        sides.append(Side(request.param, runner, **options))
        return sides[-1]

    yield make
    for side in sides:
        side.close()


class TestTraffic:
    """What goes over the wire."""

    def test_identity_once(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """A socket asks once who its server is; later commands travel alone."""
        side = make_side(port=fake.port)
        assert side.mget(b"k").server == fake.run_id
        side.mget(b"k")
        side.mget(b"k")
        assert fake.names() == [b"INFO", b"INFO", b"MGET", b"MGET", b"MGET"]

    def test_identity_after_silent_reconnect(
        self, fake: FakeServer, make_side: Callable[..., Side]
    ) -> None:
        """A new socket asks again: the server behind it may be another one (A8)."""
        side = make_side(port=fake.port)
        side.mget(b"k")
        fake.run_id = b"b" * 40
        fake.drop_all()
        assert side.mget(b"k").server == b"b" * 40

    def test_identity_after_disconnect(
        self, fake: FakeServer, make_side: Callable[..., Side]
    ) -> None:
        """Nor is the id stale when somebody has closed the client's sockets behind our back."""
        side = make_side(port=fake.port)
        for name in (b"b", b"c", b"d"):
            side.mget(b"k")
            fake.run_id = name * 40
            closed = side.client.connection_pool.disconnect()
            if side.asynchronous:
                side.finish(closed)
            if name == b"c":
                assert side.scripts(MARK)[0].server == fake.run_id
            else:
                assert side.mget(b"k").server == fake.run_id

    def test_ensure_after_disconnect(
        self, fake: FakeServer, make_side: Callable[..., Side]
    ) -> None:
        """ENSURE under the id of another server than it ran on is a failure."""
        side = make_side(port=fake.port)
        side.mget(b"k")
        fake.run_id = b"b" * 40
        closed = side.client.connection_pool.disconnect()
        if side.asynchronous:
            side.finish(closed)
        with contextlib.suppress(StoreUnavailable):
            (answer,) = side.scripts(ENSURE)
            assert answer.server == fake.run_id
            (command,) = (command for command in fake.commands if command[0] == b"EVALSHA")
            assert command[2 + 1 + 4] == fake.run_id

    def test_replica_is_refused(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """Nothing is read from a replica: its stamps may be old (A19)."""
        fake.answers[b"INFO"] = [b"$10\r\nrun_id:abc\r\n", b"$10\r\nrole:slave\r\n"]
        side = make_side(port=fake.port)
        with pytest.raises(StoreUnavailable, match="replica"):
            side.mget(b"k")
        assert b"MGET" not in fake.names()
        assert side.mget(b"k").server == fake.run_id

    def test_script_once_known(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """Scripts go by their digest; only what the server does not know is sent in full."""
        side = make_side(port=fake.port)
        fake.answers[b"EVALSHA"] = [seen(b"one"), b"-NOSCRIPT no\r\n", seen(b"three")]
        fake.answers[b"EVAL"] = [ensured(b"two")]
        answers = side.scripts(MARK, ENSURE, MARK)
        assert [answer.value[0] for answer in answers] == [b"one", b"two", b"three"]
        evals = [command for command in fake.commands if command[0] == b"EVAL"]
        assert [command[1] for command in evals] == [SCRIPTS["ensure"].text]
        assert fake.names()[2:] == [b"EVALSHA"] * 3 + [b"EVAL"]

    def test_server_id_in_arguments(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """ENSURE is told the id of the server behind the socket that carries it."""
        side = make_side(port=fake.port)
        side.scripts(ENSURE)
        (command,) = (command for command in fake.commands if command[0] == b"EVALSHA")
        assert command[2 + 1 + 4] == fake.run_id

    def test_one_round_trip(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """Scripts are sent together: the first answer is not waited for."""
        side = make_side(port=fake.port)
        side.mget(b"k")
        fake.answers[b"EVALSHA"] = ["hang", seen(b"one") + seen(b"two")]
        assert [answer.value[0] for answer in side.scripts(MARK, MARK)] == [b"one", b"two"]


class TestFailures:
    """What fails is never repeated if that could do harm, and leaves no trace in the pool."""

    @pytest.mark.parametrize("answer", [None, "hang"])
    def test_ensure_is_never_repeated(
        self, fake: FakeServer, make_side: Callable[..., Side], answer: Any
    ) -> None:
        """ENSURE is delivered once, however eagerly the client would retry (A4)."""
        side = make_side(port=fake.port)
        fake.answers[b"EVALSHA"] = [answer] * 5
        with pytest.raises(StoreUnavailable):
            side.scripts(ENSURE)
        assert fake.names().count(b"EVALSHA") == 1

    def test_ensure_in_a_batch(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """A batch with an ENSURE is not repeated either."""
        side = make_side(port=fake.port)
        fake.answers[b"EVALSHA"] = [seen(b"gen"), None]
        with pytest.raises(StoreUnavailable):
            side.scripts(MARK, ENSURE)
        assert fake.names().count(b"EVALSHA") <= 2

    def test_repeatable(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """What may be repeated is, once, after a stale socket."""
        side = make_side(port=fake.port)
        fake.answers[b"MGET"] = [None]
        assert side.mget(b"k").values == [None]
        fake.answers[b"EVALSHA"] = [None, seen(b"gen")]
        assert side.scripts(MARK)[0].value == [b"gen", None]
        fake.answers[b"MGET"] = [None, None, None]
        with pytest.raises(StoreUnavailable):
            side.mget(b"k")
        assert len(fake.answers[b"MGET"]) == 1

    def test_timeout_is_not_repeated(
        self, fake: FakeServer, make_side: Callable[..., Side]
    ) -> None:
        """A caller waits for one timeout, not for several."""
        side = make_side(port=fake.port, socket_timeout=0.2)
        side.mget(b"k")
        fake.answers[b"MGET"] = ["hang"] * 3
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            side.mget(b"k")
        assert time.monotonic() - started < 0.39

    def test_late_reply(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """A reply that comes after its timeout is never taken for the next command's."""
        side = make_side(port=fake.port, socket_timeout=0.2)
        side.mget(b"k")
        fake.answers[b"MGET"] = ["hang"]
        with pytest.raises(StoreUnavailable):
            side.mget(b"k")
        late = fake._open[0]
        with contextlib.suppress(OSError):
            late.sendall(b"*1\r\n$4\r\nlate\r\n")
        assert side.mget(b"k").values == [None]
        assert fake.connections == 2

    def test_error_reply(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """A refused command is an error; the other replies are read, the socket stays in step."""
        side = make_side(port=fake.port)
        fake.answers[b"EVALSHA"] = [b"-OOM no memory\r\n", seen(b"two")]
        with pytest.raises(StoreUnavailable, match="no memory"):
            side.scripts(MARK, MARK)
        assert side.mget(b"k").values == [None]
        assert fake.connections == 1
        assert not side.breaker.open

    def test_refusals_are_told(
        self,
        fake: FakeServer,
        make_side: Callable[..., Side],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A refused command is in the log in the server's words, once, and cuts no socket."""
        side = make_side(port=fake.port)
        side.mget(b"k")
        fake.answers[b"MGET"] = [b"-NOPERM no mget\r\n"] * 3
        fake.answers[b"SET"] = [b"-OOM no memory\r\n"]
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="no mget"):
                side.mget(b"k")
        with pytest.raises(StoreUnavailable, match="no memory"):
            side.finish(side.transport.set(b"k", b"v", 1000))
        told = [record.getMessage() for record in caplog.records]
        assert [text.rpartition(" ")[2] for text in told] == ["mget", "memory"]
        assert fake.connections == 1
        assert not side.breaker.open

    def test_readonly_reply(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """A primary that has become a replica loses its socket, so that the new one is found."""
        side = make_side(port=fake.port)
        fake.answers[b"SET"] = [b"-READONLY replica\r\n"]
        with pytest.raises(StoreUnavailable):
            side.finish(side.transport.set(b"k", b"v", 1000))
        assert side.mget(b"k").values == [None]
        assert fake.connections == 2

    def test_nobody_there(self, make_side: Callable[..., Side]) -> None:
        """A server that is away raises StoreUnavailable, and opens the circuit."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        side = make_side(port=port)
        with pytest.raises(StoreUnavailable):
            side.mget(b"k")
        assert side.breaker.open

    def test_no_run_id(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """A server that does not tell who it is cannot be trusted with stamps."""
        fake.answers[b"INFO"] = [b"-NOPERM no\r\n", b"$1\r\nx\r\n"]
        side = make_side(port=fake.port)
        with pytest.raises(StoreUnavailable, match="run id"):
            side.mget(b"k")

    def test_open_circuit(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """While the circuit is open nothing is sent."""
        side = make_side(port=fake.port)
        side.breaker.pause = side.breaker._next = 100
        side.breaker.failure()
        with pytest.raises(StoreUnavailable):
            side.mget(b"k")
        assert fake.names() == []

    def test_circuit_closes(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """The first command that succeeds after the pause closes the circuit."""
        side = make_side(port=fake.port)
        side.breaker.failure()
        side.mget(b"k")
        assert not side.breaker.open

    def test_cluster_client(self, fake: FakeServer, make_side: Callable[..., Side]) -> None:
        """A client without a pool of its own is refused at once, not at the first command."""
        side = make_side(port=fake.port)
        with pytest.raises(TypeError, match="pool"):
            type(side.transport)(object())


class Stop(BaseException):
    """As KeyboardInterrupt, GreenletExit or a greenlet's timeout: no Exception."""


@pytest.mark.parametrize("moment", ["send", "first reply", "second reply"])
def test_interrupted(fake: FakeServer, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Whatever interrupts an exchange, its socket is not used again, nor is it lost to the pool."""
    client = redis.Redis(port=fake.port, max_connections=1, protocol=2)
    transport = SyncTransport(client)
    run(transport.mget([b"k"]))
    method = "_send" if moment == "send" else "_read"
    original = getattr(transport, method)
    calls = {"send": 1, "first reply": 1, "second reply": 2}[moment]

    async def interrupted(*args: Any) -> Any:
        nonlocal calls
        result = await original(*args)
        calls -= 1
        if calls == 0:
            raise Stop
        return result

    monkeypatch.setattr(transport, method, interrupted)
    with pytest.raises(Stop):
        run(transport.scripts([MARK, MARK]))
    monkeypatch.undo()
    assert run(transport.mget([b"k"])).values == [None]
    assert fake.connections == 2
    assert not transport.breaker.open
    client.close()


async def test_cancelled(fake: FakeServer) -> None:
    """A cancelled task gives its socket back without the reply that it did not wait for."""
    client = redis.asyncio.Redis(port=fake.port, max_connections=1, protocol=2)
    transport = AsyncTransport(client)
    await transport.mget([b"k"])
    fake.answers[b"MGET"] = ["hang"]
    task = asyncio.create_task(transport.mget([b"k"]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await transport.mget([b"k"])).values == [None]
    assert fake.connections == 2
    await client.aclose()


def test_threads(redis_client: redis.Redis) -> None:
    """Many threads share a transport, each gets its own replies."""
    client = redis.Redis.from_url(settings.CACHEOPS_REDIS)
    transport = SyncTransport(client)
    wrong: list[Any] = []

    def work(number: int) -> None:
        key, value = b"k%d" % number, b"v%d" % number
        for _ in range(100):
            run(transport.set(key, value, 10_000))
            found = run(transport.mget([key, b"none"])).values
            if found != [value, None]:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    client.close()


def test_what_is_asked_again_is_packed_once(redis_client: redis.Redis) -> None:
    """Keys that are asked for again and again keep their command."""
    transport = SyncTransport(redis.Redis.from_url(settings.CACHEOPS_REDIS))
    keys = Asked([b"{k}1", b"{k}2"])
    redis_client.set(b"{k}2", b"there")
    commands = []
    for _ in range(3):
        assert run(transport.mget(keys)).values == [None, b"there"]
        commands.append(keys.command)
    assert commands[0] is None  # the first one connected
    assert commands[1] is not None
    assert commands[1] is commands[2]
    transport.client.close()


def test_one_stale_socket_of_many(fake: FakeServer) -> None:
    """When one socket turns out to be stale, those at hand are not tried one by one."""
    client = redis.Redis(port=fake.port, protocol=2)
    transport = SyncTransport(client)
    connections = [run(transport._borrow()) for _ in range(4)]
    for connection in connections:
        run(transport._server(connection))
        run(transport._release(connection))
    run(transport.mget([b"k"]))
    fake.drop_all()
    assert run(transport.mget([b"k"])).values == [None]
    assert not transport.breaker.open
    client.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_fork(redis_client: redis.Redis, colour: str, runner: asyncio.Runner) -> None:
    """A forked child does not speak on its parent's sockets, nor does it close them."""
    path = settings.CACHEOPS_REDIS.removeprefix("unix://")
    if not path.startswith("/"):
        pytest.skip("needs the private server")
    side = Side(colour, runner, unix_socket_path=path)
    client_id = side.finish(_client_id(side))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            finish = asyncio.new_event_loop().run_until_complete if side.asynchronous else run
            found = finish(_client_id(side))
            os.write(writer, b"%d" % found)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reader, 100)) != client_id
    assert side.finish(_client_id(side)) == client_id
    os.close(reader)
    os.close(writer)
    side.close()


async def _client_id(side: Side) -> int:
    (found,), _ = await side.transport._call([(b"CLIENT", b"ID")])
    return int(found)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_restart(colour: str, runner: asyncio.Runner) -> None:
    """After the server was restarted its new id is known with the first reply that it gives."""
    with servers.start_valkey() as first:
        path = str(first.socket)
        side = Side(colour, runner, unix_socket_path=path)
        before = side.mget(b"k").server
        folder = first.folder
    with servers.start_valkey(folder=folder):
        after = side.mget(b"k").server
        assert before != after
        side.close()


class TestBreaker:
    """The circuit breaker under a clock of its own."""

    now = 100.0

    def test_closed(self) -> None:
        """A closed circuit lets everyone through."""
        breaker = Breaker(monotonic=lambda: self.now)
        assert breaker.allow()
        assert breaker.allow()
        breaker.success()
        assert not breaker.open

    def test_opens_and_probes(self) -> None:
        """After a failure nobody passes for the pause; then one caller at a time."""
        breaker = Breaker(pause=1, monotonic=lambda: self.now)
        breaker.failure()
        assert not breaker.allow()
        self.now += 1
        assert breaker.allow()
        assert not breaker.allow()
        breaker.success()
        assert breaker.allow()
        assert breaker.allow()

    def test_backs_off(self) -> None:
        """Each failed probe doubles the pause up to the ceiling; a success resets it."""
        breaker = Breaker(pause=1, ceiling=3, monotonic=lambda: self.now)
        breaker.failure()
        for pause in (1, 2, 3, 3):
            self.now += pause - 0.01
            assert not breaker.allow()
            self.now += 0.01
            assert breaker.allow()
            breaker.failure()
        self.now += 3
        assert breaker.allow()
        breaker.success()
        breaker.failure()
        self.now += 1
        assert breaker.allow()

    def test_stragglers(self) -> None:
        """Failures of calls from before the circuit opened do not prolong the pause."""
        breaker = Breaker(pause=1, monotonic=lambda: self.now)
        breaker.failure()
        breaker.failure()
        breaker.failure()
        self.now += 1
        assert breaker.allow()

    def test_abandoned(self) -> None:
        """A probe that its caller gave up lets the next caller probe."""
        breaker = Breaker(pause=1, monotonic=lambda: self.now)
        breaker.failure()
        self.now += 1
        assert breaker.allow()
        breaker.abandoned()
        assert breaker.allow()
