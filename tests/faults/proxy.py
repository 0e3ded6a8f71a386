"""A proxy on the way to a server: it knows commands and replies, and spoils the one it is told to.

Each connection of a client is served in lockstep: one whole command, one whole reply. So a fault
can be put at any place of an exchange: before the server has seen a command, in the middle of it,
after it was carried out, in the middle of the reply.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers import short_folder

#: What can happen to an exchange, and whether the server has carried the command out before.
FAULTS = {
    "cut before": False,  # the connection ends before the command reaches the server
    "cut in request": False,  # in the middle of the command
    "cut after": True,  # the command is carried out, its reply is lost
    "cut in reply": True,  # half of the reply arrives
    "hang before": False,  # nothing arrives anywhere, the connection stays
    "hang after": True,  # the command is carried out, its reply never comes
    "late": False,  # the command is carried out long after its sender has given up
}

#: Commands by which a client introduces itself; they are exchanges, too, but not ours.
GREETINGS = frozenset({b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING", b"READONLY"})


class Gone(Exception):
    """One of the two sides has closed."""


class Proxy:
    """Listens on a unix socket of its own and passes on to the unix socket ``backend``.

    ``rule(number, words)`` is asked at each command that is no greeting, counted from 0, and
    returns a fault, ``b"…"`` for a reply of the test's own, or None. ``backend`` may be changed
    at any time and holds for new connections.
    """

    def __init__(self, backend: Path) -> None:
        self.backend = backend
        self._folder = short_folder()
        self.path = self._folder / "s"
        self.rule: Callable[[int, list[bytes]], Any] = lambda number, words: None
        #: The commands so far, without greetings; "EVALSHA" of a script is one.
        self.seen: list[list[bytes]] = []
        #: Exchanges that a client waited for in vain.
        self.spoilt = 0
        self.connections = 0
        #: No new connections, and none of the old ones lives.
        self.down = False
        #: Whom "kill before" and "kill after" kill.
        self.victim = 0
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._open: set[socket.socket] = set()
        self._late: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def names(self) -> list[str]:
        """What was asked, by command."""
        return [words[0].decode() for words in self.seen]

    def spoil(self, at: int, fault: Any, *, for_good: bool = False) -> None:
        """Spoil the exchange number ``at`` from here on, or it and all that follow."""
        self.seen.clear()
        self.rule = lambda number, words: (
            fault if number == at or (for_good and number > at) else None
        )

    def heal(self) -> None:
        """Nothing is spoilt any more; what was held back for later is carried out now."""
        self.rule = lambda number, words: None
        self.down = False
        self._released.set()
        for thread in self._late:
            thread.join(10)
            assert not thread.is_alive(), "a late command never came through"
        self._late.clear()
        self._released = threading.Event()

    def cut_all(self) -> None:
        """End every connection."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._released.set()
        self._listener.close()
        self.cut_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- one connection

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.down:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self.backend))
        except OSError:
            client.close()
            server.close()
            return
        with self._lock:
            self._open |= {client, server}
        try:
            asked, answered = Stream(client), Stream(server)
            while self._exchange(client, server, asked, answered):
                pass
        except (OSError, Gone):
            pass
        finally:
            with self._lock:
                self._open -= {client, server}
            client.close()
            server.close()

    def _exchange(
        self, client: socket.socket, server: socket.socket, asked: Stream, answered: Stream
    ) -> bool:
        words, request = asked.value()
        fault = None
        if self.down:
            return False
        if words[0].upper() not in GREETINGS:
            with self._lock:
                number = len(self.seen)
                self.seen.append(words)
            fault = self.rule(number, words)
        if fault is None:
            server.sendall(request)
            client.sendall(answered.value()[1])
            return True
        self.spoilt += 1
        if isinstance(fault, bytes):
            client.sendall(fault)
            return True
        if fault.startswith("kill"):
            if fault == "kill after":
                server.sendall(request)
                answered.value()
            os.kill(self.victim, signal.SIGKILL)
        elif fault == "late":
            self._later(request)
            asked.until_closed()
        elif fault == "hang before":
            asked.until_closed()
        elif fault == "cut in request":
            server.sendall(request[: len(request) // 2])
        elif fault != "cut before":
            server.sendall(request)
            reply = answered.value()[1]
            if fault == "cut in reply":
                client.sendall(reply[: len(reply) // 2])
            elif fault == "hang after":
                asked.until_closed()
            else:
                assert fault == "cut after", fault
        return False

    def _later(self, request: bytes) -> None:
        """Carry a command out at ``heal``, over a connection of its own."""
        released = self._released

        def deliver() -> None:
            released.wait(60)
            with socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError, Gone):
                server.settimeout(5)
                server.connect(str(self.backend))
                server.sendall(request)
                Stream(server).value()

        thread = threading.Thread(target=deliver, daemon=True)
        self._late.append(thread)
        thread.start()


class Stream:
    """Reads whole values of Redis' protocol (RESP 2 and 3) from a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._data = b""
        self._place = 0

    def value(self) -> tuple[Any, bytes]:
        """The next value, arrays of texts as such, and the bytes that it was."""
        found = self._parse()
        raw, self._data, self._place = self._data[: self._place], self._data[self._place :], 0
        return found, raw

    def until_closed(self) -> None:
        """Swallow what comes, until the other side has had enough."""
        while self._end.recv(65536):
            pass

    def _parse(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind in b"$=!" and kind:
            size = int(rest)
            return None if size < 0 else self._exactly(size + 2)[:-2]
        if kind in b"*~>" and kind:
            return [self._parse() for _ in range(max(0, int(rest)))]
        if kind in b"%|" and kind:
            return [self._parse() for _ in range(2 * int(rest))]
        return rest

    def _line(self) -> bytes:
        while (end := self._data.find(b"\r\n", self._place)) < 0:
            self._more()
        line, self._place = self._data[self._place : end], end + 2
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._data) < self._place + size:
            self._more()
        found = self._data[self._place : self._place + size]
        self._place += size
        return found

    def _more(self) -> None:
        data = self._end.recv(65536)
        if not data:
            raise Gone
        self._data += data
