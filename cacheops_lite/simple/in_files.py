"""The file cache: one file for each value, safe among processes that read and write it.

A file is written aside and renamed, so readers see a whole value or none. Its modification time
is its end, so telling that a value is over costs no reading. Each of the 256 folders has a stamp,
kept under a lock and changed by every ``set`` and ``delete``; a value whose computing began under
another stamp is not stored.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .. import conf, engine
from ..functions.backend import CacheMiss
from ..functions.times import seconds
from .base import BaseCache, Timeout

try:
    import fcntl
except ImportError:  # Windows: a removal during a store may go unnoticed there
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("cacheops_lite")

#: A file that was begun and never renamed is given up after this, in seconds.
ABANDONED = 3600.0

_STAMP = ".stamp"


class FileCache(BaseCache):
    """Values in files under ``path`` (default: ``FILE_CACHE_DIR``), one file for each.

    ``timeout`` (seconds; default: ``FILE_CACHE_TIMEOUT``) is for values that are stored without
    one. Processes may read and write the folder at the same time. ``clock``: seconds since the
    epoch. Functions and views that are cached here have no ``tags``, no ``lock`` and no options of
    ``refresh.Refreshing``. They are invalidated call by call: their ``invalidate_all()`` raises
    ``NotImplementedError``, and ``cacheops_lite.invalidate_all()`` and ``invalidate_functions()``
    do not reach them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        timeout: Timeout = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._timeout, self._clock = path, timeout, clock

    @property
    def path(self) -> Path:
        """The folder: the one given, or ``FILE_CACHE_DIR``."""
        return Path(self._path if self._path is not None else conf.current().file_cache_dir)

    def _file(self, cache_key: str) -> Path:
        name = blake2b(str(cache_key).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return self.path / name[:2] / name[2:]

    def get(self, cache_key: str) -> Any:
        """The value. Raises ``CacheMiss``, also when the file cannot be read."""
        file = self._file(cache_key)
        try:
            with file.open("rb") as source:
                if os.fstat(source.fileno()).st_mtime <= self._clock():
                    raise CacheMiss(cache_key)
                data = source.read()
            return engine.current().codec.bytes_to_object(data, _context(cache_key))
        except CacheMiss:
            raise
        except Exception:  # no such file, no right to read it, another key's or release's bytes
            raise CacheMiss(cache_key) from None

    def begin(self, cache_key: str, timeout: Timeout = None) -> bytes:
        """A token for ``store``: the stamp of the folder."""
        try:
            with _Stamp(self._file(cache_key).parent) as stamp:
                return stamp.read()
        except OSError:
            return b""

    def store(self, cache_key: str, data: Any, timeout: Timeout, token: Any) -> None:
        """Store a computed value."""
        self._write(cache_key, data, timeout, token)

    def set(self, cache_key: str, data: Any, timeout: Timeout = None) -> None:
        """Store a value."""
        self._write(cache_key, data, timeout, None)

    def add(self, cache_key: str, data: Any, timeout: Timeout = None) -> bool:
        """Store a value if there is none; tell whether it was stored."""
        return self._write(cache_key, data, timeout, None, only_new=True)

    def delete(self, cache_key: str) -> None:
        """Remove a value."""
        file = self._file(cache_key)
        try:
            with _Stamp(file.parent) as stamp:
                stamp.change()
                file.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("cacheops_lite: cannot delete %r: %s", cache_key, error)

    def _write(
        self, cache_key: str, data: Any, timeout: Timeout, token: Any, only_new: bool = False
    ) -> bool:
        content = engine.current().codec.object_to_bytes(data, _context(cache_key))
        lasts = seconds(timeout if timeout is not None else self._timeout)
        end = self._clock() + (conf.current().file_cache_timeout if lasts is None else lasts)
        file = self._file(cache_key)
        aside = file.parent / f".{file.name}.{secrets.token_hex(8)}"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with aside.open("xb") as target:
                    target.write(content)
                os.utime(aside, (end, end))
                with _Stamp(file.parent) as stamp:
                    if token is not None and stamp.read() != token:
                        return False
                    if only_new and self._is_there(cache_key):
                        return False
                    if token is None:
                        stamp.change()
                    aside.replace(file)
                    return True
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:  # a full disk costs the value, not the request
            logger.warning("cacheops_lite: cannot store %r: %s", cache_key, error)
            return False

    def _is_there(self, cache_key: str) -> bool:
        try:
            self.get(cache_key)
        except CacheMiss:
            return False
        return True


class _Stamp:
    """The stamp of one folder, under its lock."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / _STAMP

    def __enter__(self) -> _Stamp:
        # The folder may lie in /tmp: what somebody else put there is not followed.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(self._path, flags, 0o666)
        if fcntl is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)

    def read(self) -> bytes:
        """The stamp; empty if nothing was ever changed."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return os.read(self._descriptor, 16)

    def change(self) -> None:
        """Make it another one."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, os.urandom(16))


def _context(cache_key: str) -> bytes:
    return b"file:" + str(cache_key).encode("utf-8", "surrogatepass")


def expired(path: Path, clock: Callable[[], float] = time.time) -> Iterator[tuple[Path, bool]]:
    """Each file of a file cache under ``path``, and whether its time is over."""
    now = clock()
    for folder in sorted(path.iterdir()):
        if not folder.is_dir() or len(folder.name) != 2:
            continue
        for file in folder.iterdir():
            if file.name == _STAMP:
                continue
            with contextlib.suppress(FileNotFoundError):
                limit = now - ABANDONED if file.name.startswith(".") else now
                yield file, file.stat().st_mtime <= limit
