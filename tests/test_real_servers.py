"""Cached views in gunicorn and uvicorn, asked over TCP by an HTTP client, written to meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.db import connection

from .models import Category
from .test_functions import category

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]

#: How each server is told to serve the socket that the test has opened on a free port.
SERVERS = {
    "gunicorn": ["gunicorn", "--workers", "2", "--threads", "2", "--bind", "fd://{fd}", "tests.real_app:wsgi"],
    "uvicorn": ["uvicorn", "--fd", "{fd}", "--lifespan", "off", "tests.real_app:asgi"],
}  # fmt: skip


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def titles(self) -> list[str]:
        found: list[str] = json.loads(self.body)["titles"]
        return found


class Site:
    """A running server: asked by ``get``, or by any method; each call is a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.timeout = 2.0  # until it has answered once

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            client.request(
                method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
            response = client.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            client.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)


@pytest.fixture(params=SERVERS, scope="module")
def site(request: Any, django_db_setup: None, tmp_path_factory: Any) -> Iterator[Site]:
    """The site in a real server, started on a free port and stopped by its process id."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    command = [part.format(fd=listening.fileno()) for part in SERVERS[request.param]]
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.real_settings",
        "CACHEOPS_TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
    }
    log = tmp_path_factory.mktemp("site") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=env, stdout=output, stderr=output,
            pass_fds=[listening.fileno()],
        )  # fmt: skip
        try:
            found = Site(listening.getsockname()[1])
            _wait(found, server, log)
            yield found
        finally:
            server.terminate()
            server.wait(30)
            listening.close()


def _wait(site: Site, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            if site.get("/page/").status == 200:
                site.timeout = 60.0
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the server does not answer:\n{log.read_text()[-3000:]}")


@pytest.mark.parametrize("path", ["/page/", "/apage/"])
def test_pages(site: Site, path: str) -> None:
    """A page is made once, in whichever process; its type, ETag and headers come back; HEAD has no
    body; a client that has it already gets 304."""
    category(title="a")
    first, second = site.get(path), site.get(path)
    assert first.titles == ["a"]
    assert first == second._replace(headers={**second.headers, "date": first.headers["date"]})
    assert second.headers["content-type"] == "application/json"
    known = site.get(path, If_None_Match=second.headers["etag"])
    assert (known.status, known.body) == (304, b"")
    head = site.ask("HEAD", path)
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", "application/json")
    assert site.get(path).headers["x-made"] == first.headers["x-made"]


@pytest.mark.parametrize("path", ["/page/", "/apage/"])
def test_writes(site: Site, path: str) -> None:
    """What was written, here or there, is on the page as soon as the write has returned."""
    expected = []
    for number in range(10):
        title = f"t{number}"
        if number % 2:
            category(title=title)
        else:
            assert site.ask("POST", f"/write/?title={title}").status == 201
        expected.append(title)
        assert site.get(path).titles == expected
        assert site.get(path).titles == expected


def test_what_is_not_kept(site: Site) -> None:
    """Cookies of one visitor and streams go to one visitor only."""
    for path in ("/cookie/", "/stream/"):
        bodies = {site.get(path).headers.get("x-made") or site.get(path).body for _ in range(3)}
        assert len(bodies) == 3
    cookies = {site.get("/cookie/").headers["set-cookie"] for _ in range(3)}
    assert len(cookies) == 3
    assert site.ask("POST", "/page/").headers["x-made"] != site.get("/page/").headers["x-made"]


def test_vary(site: Site) -> None:
    """Languages that a client asks for are told apart, and other caches are told so."""
    one, other = (
        site.get("/varying/", Accept_Language="fr"),
        site.get("/varying/", Accept_Language="de"),
    )
    assert [one.titles, other.titles] == [["fr"], ["de"]]
    again = site.get("/varying/", Accept_Language="fr")
    assert again.headers["x-made"] == one.headers["x-made"]
    assert "Accept-Language" in again.headers["vary"]


def test_request_scope(site: Site) -> None:
    """One request reads the same twice, and what it wrote itself."""
    category(title="a")
    for number, title in enumerate(["b", "c"], 1):
        found = json.loads(site.get(f"/twice/?title={title}").body)
        assert found["before"] == found["again"]
        assert found["after"][0] == [*found["before"][0], title]
        assert found["after"][1] == found["before"][1] + 1 == number + 1


def test_many_clients(site: Site) -> None:
    """Under load of readers and writers no page lacks what had been written before it was asked
    for."""
    written: list[str] = []
    wrong: list[str] = []
    stop = threading.Event()

    def reading(path: str) -> Callable[[], None]:
        def read() -> None:
            while not stop.is_set():
                least = list(written)
                missing = set(least) - set(site.get(path).titles)
                if missing:
                    wrong.append(f"{path} lacks {missing}")

        return read

    threads = [threading.Thread(target=reading(path)) for path in ("/page/", "/apage/") * 2]
    for thread in threads:
        thread.start()
    for number in range(25):
        assert site.ask("POST", f"/write/?title=w{number}").status == 201
        written.append(f"w{number}")
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert Category.objects.count() == 25
