"""A database in miniature: rows with committed versions, row locks, transactions, a replica."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: The values of a row. Never changed in place.
Values = Mapping[str, str]
#: Table and primary key.
Place = tuple[str, int]
Rows = dict[Place, Values]


class Version:
    """A committed state; there is one object for all equal states, which remembers answers."""

    def __init__(self, rows: Rows, number: int) -> None:
        self.rows = rows
        self.number = number
        self.answers: dict[str, bytes] = {}

    def answer(self, name: str, of: Callable[[Rows], Any]) -> bytes:
        """What a query answers in this version, as bytes."""
        if name not in self.answers:
            self.answers[name] = repr(of(self.rows)).encode()
        return self.answers[name]


class Database:
    """What has been committed, version by version, and what is still open. Owners are numbers."""

    def __init__(self, rows: Rows, *, replica: bool = False) -> None:
        self._known: dict[Any, Version] = {}
        #: All committed states; the last one is current.
        self.versions: tuple[Version, ...] = (self._version(rows),)
        #: When each version was committed, by the store's clock.
        self.times: tuple[int, ...] = (0,)
        self.locks: dict[Place, int] = {}
        #: What a transaction has written, one layer for each savepoint.
        self.open: dict[int, tuple[Rows, ...]] = {}
        #: Commits that were sent and not yet done; nobody knows whether they will be.
        self.in_flight: tuple[int, ...] = ()
        #: Which version a replica shows; None: loads go to the primary.
        self.replica = 0 if replica else None

    def _version(self, rows: Rows) -> Version:
        key = tuple([(place, tuple(sorted(row.items()))) for place, row in sorted(rows.items())])
        if key not in self._known:
            self._known[key] = Version(rows, len(self._known))
        return self._known[key]

    def copy(self) -> Database:
        other = Database.__new__(Database)
        other.__dict__.update(self.__dict__)
        other.locks = dict(self.locks)
        other.open = dict(self.open)
        return other

    @property
    def version(self) -> int:
        return len(self.versions) - 1

    @property
    def rows(self) -> Rows:
        return self.versions[-1].rows

    @property
    def visible(self) -> Rows:
        """What a load sees."""
        return self.versions[-1 if self.replica is None else self.replica].rows

    @property
    def lags(self) -> bool:
        return self.replica is not None and self.replica < self.version

    def blocked(self, owner: int, place: Place) -> bool:
        return self.locks.get(place, owner) != owner

    def seen(self, owner: int, place: Place) -> Values | None:
        """The row as the transaction sees it."""
        for layer in reversed(self.open.get(owner, ())):
            if place in layer:
                return layer[place] or None
        return self.rows.get(place)

    def update(
        self, owner: int, place: Place, values: Values | None
    ) -> tuple[Values | None, Values | None]:
        """Lock a row, read it, merge values into it (None deletes it); return old and new."""
        assert not self.blocked(owner, place)
        self.locks[place] = owner
        old = self.seen(owner, place)
        new = None if values is None else {**(old or {}), **values}
        *layers, top = self.open.get(owner, ({},))
        self.open[owner] = (*layers, {**top, place: new or {}})
        return old, new

    def savepoint(self, owner: int) -> None:
        self.open[owner] = (*self.open.get(owner, ({},)), {})

    def rollback_to_savepoint(self, owner: int) -> None:
        self.open[owner] = self.open[owner][:-1]

    def commit(self, owner: int, now: int) -> int:
        """Make the changes current; return the version that has them."""
        rows = dict(self.rows)
        for layer in self.open.get(owner, ()):
            for place, values in layer.items():
                if values:
                    rows[place] = values
                else:
                    rows.pop(place, None)
        self.versions = (*self.versions, self._version(rows))
        self.times = (*self.times, now)
        self.rollback(owner)
        return self.version

    def rollback(self, owner: int) -> None:
        self.open.pop(owner, None)
        self.locks = {place: other for place, other in self.locks.items() if other != owner}

    def digest(self) -> Any:
        shown = (
            None if self.replica is None else tuple(v.number for v in self.versions[self.replica :])
        )
        locks = tuple(sorted(self.locks.items()))
        return self.versions[-1].number, locks, self.in_flight, shown
