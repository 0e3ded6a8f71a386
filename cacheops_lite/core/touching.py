"""Which keys a change touches, as far as the schemes in use are known, and which were missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import stamps
from .entry import ANY_ROW, UNKNOWN, Change
from .keys import scheme_columns
from .plans import Ticket
from .state import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: Keys of one table past which its gen stands in for them.
MOST_KEYS = 5000


class Touched(NamedTuple):
    """The keys that changes of one table touch; ``unknown``: not all have names, so the gen."""

    keys: dict[bytes, None]
    unknown: bool


class Seen(NamedTuple):
    """What a script saw of one table after it had done its work."""

    gen: bytes | None
    schemes: stamps.Schemes | None
    server: bytes


class Touching(State):
    """Tells what is to be marked and dropped."""

    def _known(self, table: str) -> tuple[str, ...]:
        """The schemes as remembered. What is missing here is found by the second trip."""
        return self.schemes.get(table) or ()

    def _touched(self, table: str, changes: Iterable[Change], schemes: Collection[str]) -> Touched:
        """The any-row key always and first (B1); then the conj keys, or the gen."""
        any_row = self.keys.conj(table, ANY_ROW)
        columns = [scheme_columns(text) for text in schemes]
        keys: dict[bytes, None] = {any_row: None}
        rows = [row for change in changes for row in (change.old, change.new) if row is not None]
        for row in rows:
            if row is UNKNOWN or any(column not in row for names in columns for column in names):
                return Touched({any_row: None, self.keys.gen(table): None}, True)
            for names in columns:
                keys[self.keys.conj(table, tuple((column, row[column]) for column in names))] = None
            if len(keys) > MOST_KEYS:
                return Touched({any_row: None, self.keys.gen(table): None}, False)
        return Touched(keys, False)

    def _touched_by(self, ticket: Ticket, table: str, schemes: tuple[str, ...]) -> Touched:
        """What the changes of a ticket touch: spelt once."""
        found: Touched | None = ticket.touched.get((table, schemes))
        if found is None:
            found = self._touched(table, ticket.changes[table], schemes)
            ticket.touched[table, schemes] = found
        return found

    def _missing(
        self, ticket: Ticket, table: str, seen: Seen, done: Collection[bytes]
    ) -> dict[bytes, None]:
        """What must be marked or dropped besides, now that the schemes in use have been seen."""
        gen = self.keys.gen(table)
        if gen in done and (seen.gen is None or stamps.is_pending(seen.gen)):
            return {}
        if self.mismatch(seen):
            return {gen: None}
        touched = self._touched_by(
            ticket, table, seen.schemes.names if seen.schemes is not None else ()
        )
        if touched.unknown:
            return {gen: None} if seen.gen is not None else {}
        return {key: None for key in touched.keys if key not in done}

    def mismatch(self, seen: Seen) -> bool:
        """Tell whether a living gen does not say which schemes are in use under it (A2, A8, A9)."""
        if seen.gen is None or stamps.is_pending(seen.gen):
            return False
        return (
            not self.own(seen.gen, seen.server)
            or seen.schemes is None
            or seen.schemes.gen != seen.gen
        )

    def _remember(self, table: str, seen: Seen) -> tuple[str, ...]:
        schemes = seen.schemes
        names = schemes.names if schemes is not None and schemes.gen == seen.gen else ()
        self.schemes.set(table, names)
        self.note_used(table, names)
        return names
