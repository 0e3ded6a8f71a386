"""Misconfiguration: at the start a check, at the first use an error, both saying what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from cacheops_lite import conf
from tests import models as m

from .tools import MANUAL, messages, post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

SENTINEL = {"locations": [("127.0.0.1", 1)], "service_name": "main"}


@pytest.fixture(autouse=True)
def manual(settings: Any) -> None:
    settings.CACHEOPS = MANUAL


def test_a_right_configuration_is_silent() -> None:
    """``manage.py check`` has nothing to say about a configuration that works."""
    assert messages() == []
    call_command("check", stdout=StringIO(), stderr=StringIO())


@pytest.mark.parametrize(
    "redis",
    [
        "redis://127.0.0.1:1/0",
        "unix:///nowhere/at/all.sock",
        {"host": "127.0.0.1", "port": 1},
        {"unix_socket_path": "/nowhere/at/all.sock"},
        "redis://no-such-host.invalid:6379/0",
    ],
)
def test_an_unreachable_server_is_a_warning_at_start(settings: Any, redis: Any) -> None:
    """A server that does not answer is warned of with what to do, and the site works without it."""
    settings.CACHEOPS_REDIS = redis
    (message,) = messages()
    assert isinstance(message, checks.Warning)
    assert message.msg.count("does not answer") == 1
    assert "CACHEOPS_REDIS" in message.hint and "database" in message.hint
    call_command("check", stdout=StringIO(), stderr=StringIO())
    conf.reset()
    started = time.monotonic()
    one = post()
    for title in ("a", "b"):
        one.title = title
        one.save()
        assert m.Post.objects.cache().get(pk=one.pk).title == title
    assert time.monotonic() - started < 3, "nobody waits for it long"


def test_a_wrong_password_is_a_warning_at_start(settings: Any, redis_client: Any) -> None:
    """A server that refuses us is warned of with what it said."""
    redis_client.acl_setuser("nobody", enabled=True, passwords=["+x"])
    try:
        settings.CACHEOPS_REDIS = (
            f"unix://nobody:wrong@{settings.TEST_FOLDER}/redis/s"
            if settings.TEST_REDIS.partition("://")[1] == ""
            else pytest.skip("needs the private server")
        )
        (message,) = messages()
        assert isinstance(message, checks.Warning)
        assert "WRONGPASS" in message.msg or "invalid" in message.msg.lower()
    finally:
        redis_client.acl_deluser("nobody")


def test_both_ways_to_redis_are_an_error(settings: Any) -> None:
    """CACHEOPS_REDIS and CACHEOPS_SENTINEL together are refused by the check and at first use."""
    settings.CACHEOPS_SENTINEL = SENTINEL
    (message,) = messages()
    assert isinstance(message, checks.Error)
    assert "CACHEOPS_REDIS" in message.msg and "CACHEOPS_SENTINEL" in message.msg
    assert "remove" in message.hint
    with pytest.raises(SystemCheckError):
        call_command("check", stdout=StringIO(), stderr=StringIO())
    with pytest.raises(ImproperlyConfigured, match=r"CACHEOPS_REDIS.*CACHEOPS_SENTINEL"):
        list(m.Post.objects.cache())


def test_no_way_to_redis_is_an_error(settings: Any) -> None:
    """Profiles without CACHEOPS_REDIS are refused by the check and at first use."""
    settings.CACHEOPS_REDIS = None
    (message,) = messages()
    assert isinstance(message, checks.Error)
    assert "CACHEOPS_REDIS" in message.msg and "redis://" in message.hint
    with pytest.raises(ImproperlyConfigured, match=r"CACHEOPS_REDIS.*redis://"):
        list(m.Post.objects.cache())


def test_nothing_configured_is_fine(settings: Any) -> None:
    """An app that is installed and not configured is silent, and does nothing."""
    settings.CACHEOPS = {}
    settings.CACHEOPS_REDIS = None
    assert messages() == []
    post()
    assert m.Post.objects.count() == 1


@pytest.mark.parametrize(
    ("redis", "words"),
    [
        ("localhost:6379", ["scheme"]),
        ("http://localhost:6379", ["scheme"]),
        ("redis://localhost:port/0", ["port"]),
        ({"hots": "localhost"}, ["hots"]),
        ("redis://localhost/0?hots=1", ["hots"]),
        (5, []),
        (["localhost"], []),
    ],
)
def test_what_is_no_address_is_an_error(settings: Any, redis: Any, words: list[str]) -> None:
    """A CACHEOPS_REDIS that cannot be understood is an error of the check, and at first use."""
    settings.CACHEOPS_REDIS = redis
    (message,) = messages()
    assert isinstance(message, checks.Error)
    assert "CACHEOPS_REDIS" in message.msg + message.hint
    with pytest.raises(ImproperlyConfigured) as caught:
        list(m.Post.objects.cache())
    for text in (message.msg, str(caught.value)):
        assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("missing", ["locations", "service_name"])
def test_half_a_sentinel_is_an_error(settings: Any, missing: str) -> None:
    """A CACHEOPS_SENTINEL without what it needs says what is missing."""
    settings.CACHEOPS_REDIS = None
    settings.CACHEOPS_SENTINEL = {k: v for k, v in SENTINEL.items() if k != missing}
    (message,) = messages()
    assert isinstance(message, checks.Error)
    assert missing in message.msg and "CACHEOPS_SENTINEL" in message.msg


def test_an_unreachable_sentinel_is_a_warning(settings: Any) -> None:
    """A Sentinel that does not answer is warned of, and the site works without it."""
    settings.CACHEOPS_REDIS = None
    settings.CACHEOPS_SENTINEL = SENTINEL
    started = time.monotonic()
    (message,) = messages()
    assert isinstance(message, checks.Warning)
    assert "CACHEOPS_SENTINEL" in message.hint
    post()
    assert len(m.Post.objects.cache()) == 1
    assert time.monotonic() - started < 3


def test_the_old_app_beside_the_new_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """'cacheops' and 'cacheops_lite' in one project would patch the same methods."""
    both = SimpleNamespace(INSTALLED_APPS=["cacheops", "cacheops_lite"])
    monkeypatch.setattr("cacheops_lite.checks.settings", both)
    (message,) = messages()
    assert isinstance(message, checks.Error)
    assert "INSTALLED_APPS" in message.hint


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CACHEOPS", {"blog": {}}, "must be 'app.model'"),
        ("CACHEOPS_REPLICA_LAG", "2", "must be a number"),
        ("CACHEOPS_SERIALIZER", "nowhere.to.be.Found", "nowhere"),
        ("CACHEOPS_SERIALIZER", "math", "dumps"),
        ("CACHEOPS_COMPRESSION", "gzip", "zstd"),
    ],
)
def test_a_wrong_setting_is_told_by_check(name: str, value: Any, words: str) -> None:
    """Whoever misspells a setting reads what to write, with the admin, too, and no traceback.

    The admin's forms make querysets while the apps are loaded.
    """
    chosen = {
        "CACHEOPS": {"*.*": {"timeout": 60}},
        "CACHEOPS_REDIS": "memory://start",
        "INSTALLED_APPS": [
            "cacheops_lite",
            *(f"django.contrib.{app}" for app in ("admin", "auth", "contenttypes", "messages")),
            "django.contrib.sessions",
        ],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        "SECRET_KEY": "x",
        "SILENCED_SYSTEM_CHECKS": ["admin.E403", "admin.E408", "admin.E409", "admin.E410"],
        name: value,
    }
    code = (
        "import sys, django; from django.conf import settings; "
        f"settings.configure(**{chosen!r}); django.setup(); "
        "from django.core.management import execute_from_command_line as run; "
        "run(['manage.py', 'check'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "cacheops_lite.E" in line]
    assert "E001" in line and name in line and words in line


def test_a_wrong_serializer_is_an_error(settings: Any) -> None:
    """A CACHEOPS_SERIALIZER that is not there is named by the error."""
    settings.CACHEOPS_SERIALIZER = "nowhere.to.be.Found"
    with pytest.raises(ImproperlyConfigured, match="CACHEOPS_SERIALIZER"):
        list(m.Post.objects.cache())
