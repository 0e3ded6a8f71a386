"""A database in miniature: rows with committed versions, row locks, transactions, a replica."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

#: The values of a row. Never changed in place.
Values = Mapping[str, str]
#: Table and primary key.
Place = tuple[str, int]
Rows = dict[Place, Values]


class Database:
    """What has been committed, version by version, and what is still open."""

    def __init__(self, rows: Rows) -> None:
        #: All committed states; the last one is current.
        self.versions: list[Rows] = [dict(rows)]
        self.locks: dict[Place, Hashable] = {}
        self.open: dict[Hashable, list[Rows]] = {}
        #: Commits that were sent and not yet done; nobody knows whether they will be.
        self.in_flight: list[Hashable] = []
        #: Which version a replica shows; None: loads go to the primary.
        self.replica: int | None = None
        #: When each version was committed, by the store's clock.
        self.times: list[int] = [0]

    @property
    def rows(self) -> Rows:
        return self.versions[-1]

    @property
    def version(self) -> int:
        return len(self.versions) - 1

    @property
    def visible(self) -> Rows:
        """What a load sees."""
        return self.rows if self.replica is None else self.versions[self.replica]

    def blocked(self, owner: Hashable, place: Place) -> bool:
        return self.locks.get(place, owner) != owner

    def lock(self, owner: Hashable, place: Place) -> Values | None:
        """Lock a row (or the place of one) and read it."""
        assert not self.blocked(owner, place)
        self.locks[place] = owner
        return self.seen(owner, place)

    def seen(self, owner: Hashable, place: Place) -> Values | None:
        """The row as the transaction sees it."""
        for changes in reversed(self.open.get(owner, [])):
            if place in changes:
                return changes[place] or None
        return self.rows.get(place)

    def write(self, owner: Hashable, place: Place, values: Values | None) -> None:
        """Change a row inside the transaction; None deletes it."""
        assert not self.blocked(owner, place)
        self.locks[place] = owner
        self.open.setdefault(owner, [{}])[-1][place] = values or {}

    def savepoint(self, owner: Hashable) -> None:
        self.open.setdefault(owner, [{}]).append({})

    def rollback_to_savepoint(self, owner: Hashable) -> None:
        self.open[owner].pop()

    def commit(self, owner: Hashable, now: int) -> int:
        """Make the changes current; return the version that has them."""
        rows = dict(self.rows)
        for changes in self.open.pop(owner, []):
            for place, values in changes.items():
                if values:
                    rows[place] = values
                else:
                    rows.pop(place, None)
        self.versions.append(rows)
        self.times.append(now)
        self._unlock(owner)
        return self.version

    def rollback(self, owner: Hashable) -> None:
        self.open.pop(owner, None)
        self._unlock(owner)

    def _unlock(self, owner: Hashable) -> None:
        self.locks = {place: other for place, other in self.locks.items() if other != owner}

    def digest(self) -> Any:
        rows = tuple(sorted((place, tuple(sorted(row.items()))) for place, row in self.rows.items()))
        lag = None if self.replica is None else self.version - self.replica
        return rows, tuple(sorted(self.locks.items())), tuple(self.in_flight), lag
