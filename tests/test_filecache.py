"""Files of the file cache: whole or absent, over in time, and cleaned up from outside."""

from __future__ import annotations

import io
import multiprocessing
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

import cacheops_lite
from cacheops_lite import CacheMiss, FileCache


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> FileCache:
    return FileCache(tmp_path, clock=clock)


def value_files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file() and file.name != ".stamp"]


# -- time ------------------------------------------------------------------------------------------


def test_values_end(cache: FileCache, clock: Clock) -> None:
    """A value is there until its timeout is over, and not a moment longer."""
    cache.set("key", 1, timeout=10)
    clock.now += 9.9
    assert cache.get("key") == 1
    clock.now += 0.2
    with pytest.raises(CacheMiss):
        cache.get("key")
    assert cache.get_or_set("key", 2, timeout=10) == 2
    assert cache.get("key") == 2


def test_timeouts(tmp_path: Path, clock: Clock) -> None:
    """Without a timeout of its own a value has the cache's, or else FILE_CACHE_TIMEOUT."""
    with override_settings(FILE_CACHE_TIMEOUT=100):
        FileCache(tmp_path, clock=clock).set("settings", 1)
        FileCache(tmp_path, timeout=50, clock=clock).set("cache", 1)
        FileCache(tmp_path, timeout=50, clock=clock).set("value", 1, timeout=10)
    ends = sorted(round(file.stat().st_mtime - clock.now) for file in value_files(tmp_path))
    assert ends == [10, 50, 100]


def test_an_expired_value_is_as_good_as_none(cache: FileCache, clock: Clock) -> None:
    """`add` stores over a value that is over."""
    cache.set("key", 1, timeout=1)
    assert cache.add("key", 2, timeout=60) is False
    clock.now += 2
    assert cache.add("key", 2, timeout=60) is True
    assert cache.get("key") == 2


# -- files -----------------------------------------------------------------------------------------


def test_the_folder_is_read_from_the_settings(tmp_path: Path) -> None:
    """`file_cache` follows FILE_CACHE_DIR, also when it changes."""
    for name in ("one", "two"):
        with override_settings(FILE_CACHE_DIR=str(tmp_path / name)):
            cacheops_lite.file_cache.set("key", name)
            assert cacheops_lite.file_cache.get("key") == name
            assert len(value_files(tmp_path / name)) == 1


def test_nothing_is_left_beside_values(cache: FileCache, tmp_path: Path) -> None:
    """Neither storing nor refusing to store leaves a file behind."""
    cache.set("key", 1)
    cache.add("key", 2)
    cache.store("key", 3, None, b"an old stamp")
    assert len(value_files(tmp_path)) == 1
    cache.delete("key")
    assert value_files(tmp_path) == []


def test_files_have_the_usual_rights(cache: FileCache, tmp_path: Path) -> None:
    """The umask decides who may read and remove files, as for any other file."""
    before = os.umask(0o027)
    try:
        cache.set("key", 1)
    finally:
        os.umask(before)
    (file,) = value_files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o750


@pytest.mark.parametrize("content", [b"", b"garbage", b"O" + b"\0" * 40])
def test_damaged_files_are_missing(cache: FileCache, tmp_path: Path, content: bytes) -> None:
    """Bytes that were not signed for this key are not unpickled."""
    cache.set("key", 1)
    (file,) = value_files(tmp_path)
    end = file.stat().st_mtime
    file.write_bytes(content)
    os.utime(file, (end, end))
    with pytest.raises(CacheMiss):
        cache.get("key")


def test_a_file_of_another_key_is_missing(cache: FileCache, tmp_path: Path) -> None:
    """A value is bound to its key: a copied file is not answered."""
    cache.set("one", 1)
    (one,) = value_files(tmp_path)
    cache.set("two", 2)
    (two,) = set(value_files(tmp_path)) - {one}
    end = two.stat().st_mtime
    two.write_bytes(one.read_bytes())
    os.utime(two, (end, end))
    with pytest.raises(CacheMiss):
        cache.get("two")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A full or forbidden disk costs the caching, not the request."""
    (tmp_path / "file").write_text("in the way")
    cache = FileCache(tmp_path / "file")
    cache.set("key", 1)
    assert cache.add("key", 1) is False
    assert cache.get_or_set("key", 2) == 2
    cache.delete("key")
    with pytest.raises(CacheMiss):
        cache.get("key")


def test_links_are_not_followed(cache: FileCache, tmp_path: Path) -> None:
    """What somebody else put into a shared folder does not make us write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    cache.set("key", 1)
    (file,) = (each for each in value_files(tmp_path) if each != victim)
    (file.parent / ".stamp").unlink()
    (file.parent / ".stamp").symlink_to(victim)
    cache.delete("key")
    file.unlink()
    file.symlink_to(victim)
    cache.set("key", 2)
    assert victim.read_bytes() == b"precious"


# -- many at once ----------------------------------------------------------------------------------


def _hammer(path: str, seed: int, seconds: float) -> list[str]:
    """Write and read one key; give what was wrong with what was read."""
    cache = FileCache(path)
    wrong = []
    end = time.monotonic() + seconds
    number = seed
    while time.monotonic() < end:
        number += 1
        value = (number, "x" * (number * 7919 % 100_000))
        (cache.set if number % 3 else cache.add)("key", value, 60)
        if number % 5 == 0:
            cache.delete("key")
        try:
            found, text = cache.get("key")
        except CacheMiss:
            continue
        if text != "x" * (found * 7919 % 100_000):
            wrong.append(f"{found}: {len(text)}")
    return wrong


def _worker(path: str, seed: int, answers: Any) -> None:
    answers.put(_hammer(path, seed, 0.7))


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_processes_never_read_a_torn_value(tmp_path: Path) -> None:
    """Processes that write, remove and read one key see whole values or none."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [
        context.Process(target=_worker, args=(str(tmp_path), 1000 * number, answers))
        for number in range(3)
    ]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found == [[], [], []]
    assert len(value_files(tmp_path)) <= 1


def test_threads_never_read_a_torn_value(tmp_path: Path) -> None:
    """The same for threads."""
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda seed=seed: found.extend(_hammer(str(tmp_path), seed, 0.5)))
        for seed in (0, 1000, 2000)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == []


# -- cleaning --------------------------------------------------------------------------------------


def clean(*args: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("cleanfilecache", *args, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A cache with two values that are over, one that is not, and what writers left behind."""
    cache = FileCache(tmp_path, clock=lambda: time.time() - 100)
    cache.set("old", 1, timeout=10)
    cache.set("older", 1, timeout=1)
    cache.set("living", 1, timeout=1000)
    folder = next(file.parent for file in value_files(tmp_path))
    for name, age in ((".begun", 10), (".abandoned", 10_000)):
        (folder / name).write_bytes(b"x" * 2000)
        os.utime(folder / name, (time.time() - age,) * 2)
    (tmp_path / "foreign.txt").write_text("not ours")
    return tmp_path


def test_clean(filled: Path) -> None:
    """`cleanfilecache` removes what is over and leaves everything else."""
    with override_settings(FILE_CACHE_DIR=str(filled)):
        assert "removed 3 of 5 files" in clean()
        assert cacheops_lite.file_cache.get("living") == 1
        assert "removed 0 of 2 files" in clean("default")
    assert (filled / "foreign.txt").exists()
    assert len(value_files(filled)) == 3


def test_clean_other_folders(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Folders can be named; one that is not there is said and skipped."""
    other = tmp_path_factory.mktemp("other")
    FileCache(other, clock=lambda: 0.0).set("old", 1, timeout=1)
    text = clean(str(filled), str(other), str(other / "missing"))
    assert "removed 3 of 5" in text
    assert f"{other}: removed 1 of 1" in text
    assert "no file cache there" in text


def test_clean_dry_run(filled: Path) -> None:
    """`--dry-run` says the same and removes nothing."""
    before = value_files(filled)
    assert "would remove 3 of 5 files" in clean(str(filled), "--dry-run")
    assert value_files(filled) == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_clean_shows_its_progress(filled: Path) -> None:
    """A terminal sees a bar, unless it asked for none; a log file never does."""
    for options, bar in (([], True), (["--no-progress"], False)):
        out = Terminal()
        call_command("cleanfilecache", str(filled), *options, "--dry-run", stdout=out)
        assert ("[##############################] 5/5" in out.getvalue()) is bar
    assert "#" not in clean(str(filled))


def test_reapconjs_explains_itself() -> None:
    """The command of old schedules succeeds with its options and says that it is not needed."""
    out = io.StringIO()
    call_command("reapconjs", "--chunk-size=100", "--min-conj-set-size=10", "--dry-run", stdout=out)
    assert "nothing to do" in out.getvalue()
