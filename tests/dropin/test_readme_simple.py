"""What django-cacheops' manual says of the simple and the file cache holds here."""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from cacheops_lite import CacheMiss, FileCache, RedisCache, cache, file_cache
from cacheops_lite.reaper import reap_conjs
from cacheops_lite.redis import redis_client

from ..models import Post

factory = RequestFactory()


@pytest.fixture(autouse=True)
def _own_files(settings: Any, tmp_path: Path) -> None:
    settings.FILE_CACHE_DIR = str(tmp_path)


@pytest.fixture(params=["cache", "file_cache", "own"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The two caches by their names, and one that a project makes for itself."""
    return {"cache": cache, "file_cache": file_cache, "own": RedisCache(redis_client)}[
        request.param
    ]


def test_primitives(either: Any) -> None:
    """get, set and delete by key, with a timeout or None."""
    either.set("key", {"a": 1}, timeout=None)
    assert either.get("key") == {"a": 1}
    either.set("key", 2, timeout=60)
    assert either.get("key") == 2
    either.delete("key")
    with pytest.raises(CacheMiss):
        either.get("key")


def test_what_is_missing(either: Any) -> None:
    """A missing value raises CacheMiss, so that None can be a value."""
    try:
        found = either.get("key")
    except CacheMiss:
        found = "computed"
    assert found == "computed"
    either.set("key", None)
    assert either.get("key") is None


def test_functions(either: Any) -> None:
    """Results are kept for each combination of arguments, dropped and replaced by arguments."""
    numbers = count(1)

    @either.cached(timeout=60)
    def top(category: str) -> int:
        return next(numbers)

    assert [top("a"), top("b"), top("a")] == [1, 2, 1]
    top.invalidate("a")
    assert [top("a"), top("b")] == [3, 2]
    top.key("b").set(42)
    assert top("b") == 42
    assert top.key("b").get() == 42


def test_views(either: Any) -> None:
    """Views too, by address and arguments."""
    numbers = count(1)

    @either.cached_view(timeout=60)
    def top(request: HttpRequest, category: str) -> HttpResponse:
        return HttpResponse(str(next(numbers)))

    def shown(path: str, category: str) -> bytes:
        content: bytes = top(factory.get(path), category).content
        return content

    assert [shown("/a", "x"), shown("/b", "x"), shown("/a", "x")] == [b"1", b"2", b"1"]
    top.invalidate("http://testserver/a", "x")
    assert [shown("/a", "x"), shown("/b", "x")] == [b"3", b"2"]


def test_clean_from_cron(tmp_path: Path) -> None:
    """Expired files stay until the command removes them, from here or from a folder named."""
    other = tmp_path / "other"
    for place in (file_cache, FileCache(str(other))):
        place.set("old", 1, timeout=1)
        place.set("living", 1)
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.stat().st_mtime < time.time() + 60:
            os.utime(file, (0, time.time() - 1))
    before = sum(1 for file in tmp_path.rglob("*") if file.is_file())
    call_command("cleanfilecache")
    call_command("cleanfilecache", str(other))
    assert sum(1 for file in tmp_path.rglob("*") if file.is_file()) <= before - 2
    assert file_cache.get("living") == 1
    assert FileCache(str(other)).get("living") == 1
    with pytest.raises(CacheMiss):
        file_cache.get("old")


def test_reaping_is_not_needed() -> None:
    """The function and the command of old schedules may be called, and do nothing."""
    assert reap_conjs(chunk_size=2000, min_conj_set_size=100) is None
    call_command("reapconjs", "--chunk-size=100", "--min-conj-set-size=10000")


def test_the_redis_client() -> None:
    """The configured client can be used for commands of one's own."""
    redis_client.set("mine", "1")
    assert int(redis_client.get("mine")) == 1


@pytest.mark.django_db
def test_rows_as_values(either: Any) -> None:
    """Model instances and lists of them can be stored."""
    either.set("rows", list(Post.objects.all()))
    assert either.get("rows") == []
