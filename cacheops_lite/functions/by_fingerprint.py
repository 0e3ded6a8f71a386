"""Results that are valid while fingerprints hold: ``cached_by`` functions, ``Fingerprinted`` rows.

A result is stored together with the fingerprints that stood before it was computed and still stood
after, so it is of that very state of the data. On a hit they are compared with those of now.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async

from ..orm import scope
from .backend import Answer, CacheMiss, Call, Pack, Unstored, as_it_is
from .calls import spell
from .colours import ALoad, Load
from .fingerprints import Fingerprint, RowHash
from .memoize import memoize
from .options import Options
from .results import EngineBackend

__all__ = ["Fingerprinted", "cached_by"]

#: How long a result whose fingerprint holds is kept if nobody says otherwise, in seconds.
TIMEOUT = 24 * 60 * 60.0


class Printed(NamedTuple):
    """The stored form of a result: what the fingerprints were, and the result."""

    texts: list[str]
    value: Any


class _Comparing:
    """One read: the fingerprints that it goes by, and whether they moved while it computed."""

    def __init__(self, prints: tuple[Fingerprint, ...], pack: Pack) -> None:
        self._prints, self._pack = prints, pack
        #: What the computation must not read from the cache: no event told of its changes.
        self.tables = frozenset[str]().union(*(one.tables() for one in prints))
        known = [one.known() for one in prints]
        self.texts = [text for text, _ in known]
        self._fresh = all(by_us for _, by_us in known)
        self._moved = False

    def before(self) -> None:
        """A result is about to be computed: the fingerprints must be of now, not of a while ago."""
        if not self._fresh:
            self.texts = [one.known(fresh=True)[0] for one in self._prints]

    def after(self) -> None:
        """It was computed."""
        self._moved = [one.asked() for one in self._prints] != self.texts

    def pack(self, value: Any) -> Printed:
        """What to store. Raises ``Unstored`` if the data changed meanwhile."""
        if self._moved:
            raise Unstored
        return Printed(self.texts, self._pack(value))

    def unpack(self, stored: Any) -> Any:
        """The value, if it is of this state of the data. Raises ``CacheMiss``."""
        if not isinstance(stored, Printed) or stored.texts != self.texts:
            raise CacheMiss
        return stored.value


class FingerprintBackend(EngineBackend):
    """Keeps results in the engine's store, valid as long as fingerprints hold."""

    def __init__(self, prints: tuple[Fingerprint, ...], timeout: Any, lock: bool) -> None:
        super().__init__(timeout, lock)
        self._prints = prints

    def read(self, call: Call, load: Load, pack: Pack = as_it_is, **how: Any) -> Answer:
        """Answer from the store while the fingerprints hold, or load and store."""
        comparing = self._comparing(pack)
        if comparing is None:
            return Answer(load(), False)

        def loading() -> Any:
            comparing.before()
            with scope.uncached(comparing.tables):
                value = load()
            comparing.after()
            return value

        return super().read(call, loading, comparing.pack, unpack=comparing.unpack, **how)

    async def aread(self, call: Call, load: ALoad, pack: Pack = as_it_is, **how: Any) -> Answer:
        """``read`` for async callers."""
        comparing = await sync_to_async(self._comparing)(pack)
        if comparing is None:
            return Answer(await load(), False)

        async def loading() -> Any:
            await sync_to_async(comparing.before)()
            with scope.uncached(comparing.tables):
                value = await load()
            await sync_to_async(comparing.after)()
            return value

        return await super().aread(call, loading, comparing.pack, unpack=comparing.unpack, **how)

    def _comparing(self, pack: Pack) -> _Comparing | None:
        if any(one.refusal() for one in self._prints):
            return None
        return _Comparing(self._prints, pack)

    def get(self, call: Call) -> Any:
        """The stored result of a call, whether or not its fingerprints hold."""
        return super().get(call).value

    async def aget(self, call: Call) -> Any:
        """``get`` for async callers."""
        return (await super().aget(call)).value


def cached_by(
    *fingerprints: Fingerprint,
    timeout: float | timedelta | None = TIMEOUT,
    extra: Any = None,
    lock: bool = True,
    **options: Any,
) -> Callable[[Any], Any]:
    """Cache the results of a function until one of the fingerprints moves.

    ``timeout`` (seconds) bounds how long a result is kept while its fingerprints hold; with
    ``lock`` one caller computes while the others wait for it, 5 seconds at most. ``extra`` is that
    of ``cached``; the other ``options`` are those of ``options.Options``. Raises ``TypeError`` for
    what is no fingerprint.
    """
    for one in fingerprints:
        if not isinstance(one, Fingerprint):
            raise TypeError(f"cached_by takes fingerprints such as RowHash(Model), not {one!r}.")
    if not fingerprints:
        raise TypeError("cached_by needs one fingerprint at least.")
    backend = FingerprintBackend(fingerprints, timeout, lock)
    chosen = Options(extra=extra, **options)
    return lambda func: memoize(func, backend, chosen)


class Fingerprinted:
    """The rows of a queryset in some form, read again only when their fingerprint has moved.

    ``by`` defaults to ``RowHash(queryset, every=every)``. ``serialize`` turns the queryset into
    what is kept (default: a list): a function, or a dataclass that can be called. ``timeout`` is
    that of ``cached_by``.
    """

    def __init__(
        self,
        queryset: Any,
        by: Fingerprint | None = None,
        *,
        every: float | timedelta = 30.0,
        serialize: Callable[[Any], Any] = list,
        timeout: float | timedelta | None = TIMEOUT,
    ) -> None:
        self.fingerprint = by if by is not None else RowHash(queryset, every=every)
        rows = RowHash(queryset)

        def read() -> Any:
            return serialize(rows.queryset().all())

        def name() -> str:
            around = getattr(serialize, "__closure__", None) or ()
            return spell([rows.queryset(), serialize, [cell.cell_contents for cell in around]])

        self._read = cached_by(
            self.fingerprint, timeout=timeout, prefix="fingerprinted", key_generator_callable=name
        )(read)

    def get(self) -> Any:
        """What ``serialize`` made of the rows when the fingerprint was last asked, or later."""
        return self._read()

    async def aget(self) -> Any:
        """``get`` for async callers."""
        return await sync_to_async(self._read)()

    def invalidate(self) -> None:
        """Drop what is kept: the next ``get()`` reads the rows whatever the fingerprint says."""
        self._read.invalidate()
