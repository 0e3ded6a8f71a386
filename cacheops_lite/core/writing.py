"""MARK before the commit, BUMP after it, and what happens when the store does not answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..exceptions import StoreUnavailable
from . import stamps
from .entry import UNKNOWN, Change
from .keys import scheme_columns
from .plans import Reply, Script, Ticket, Transport
from .servers import server_at
from .touching import Seen, Touching

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

log = logging.getLogger("cacheops_lite")

#: Keys in one MARK or BUMP.
CHUNK = 1000


def by_table(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """Sort changes by their tables."""
    tables: dict[str, list[Change]] = {}
    for change in changes:
        tables.setdefault(change.table, []).append(change)
    return tables


class Writing(Touching):
    """Announces changes before they are committed, and drops what they touched afterwards."""

    chunk = CHUNK

    async def known_schemes(
        self, transport: Transport, tables: Iterable[str]
    ) -> dict[str, tuple[str, ...] | None]:
        """The schemes in use of each table (columns joined by commas); remembered, or asked for.

        None for a table that is not remembered while the store does not answer.
        """
        known = {table: self.schemes.get(table) for table in tables}
        asked = [table for table, schemes in known.items() if schemes is None]
        if asked:
            keys = [
                key for table in asked for key in (self.keys.gen(table), self.keys.schemes(table))
            ]
            try:
                reply = await transport.mget(keys)
            except StoreUnavailable:
                reply = Reply([], b"")
            for table, gen, raw in zip(asked, reply.values[::2], reply.values[1::2], strict=False):
                server = server_at(reply.server, self.keys.gen(table))
                known[table] = self._remember(table, Seen(gen, stamps.parse_schemes(raw), server))
        return {
            table: None
            if schemes is None
            else tuple(
                ",".join(scheme_columns(text))
                for text in sorted({*schemes, *(self.used.get(table) or ())})
            )
            for table, schemes in known.items()
        }

    async def mark(self, transport: Transport, changes: Iterable[Change]) -> Ticket:
        """Mark what the changes touch, before the commit. The ticket says where that failed."""
        ticket = Ticket(self.token(), by_table(changes), self.monotonic())
        await self._mark(transport, ticket)
        return ticket

    async def refresh(self, transport: Transport, ticket: Ticket) -> None:
        """Mark again, right before the commit, if much of the marks' time has passed."""
        if self.monotonic() - ticket.started > self.mark_ttl_ms / 2000:
            ticket.started = self.monotonic()
            await self._mark(transport, ticket)

    async def bump(self, transport: Transport, ticket: Ticket, *, committed: bool | None) -> bool:
        """Take the marks away, after the transaction; tell whether that worked. Never raises.

        ``committed``: True, False if it surely was not, None if nobody knows: then the marks stay
        until they run out, and this process leaves the tables alone until it has dropped their
        gens after that.
        """
        if committed is None:
            self._owe(ticket, ticket.changes, self.mark_ttl_ms / 1000)
            return False
        keys = {table: dict(ticket.marked.get(table, {})) for table in ticket.changes}
        for table in ticket.failed if committed else ():
            keys[table][self.keys.gen(table)] = None
        if await self._bump(
            transport, ticket, keys, ticket.changes if committed else {}, committed=committed
        ):
            self.overdue.discard(ticket.changes, ticket.token)
            return True
        if committed:
            self._owe(ticket, ticket.changes, ticket.again)
        return False

    async def invalidate(self, transport: Transport, changes: Iterable[Change]) -> bool:
        """Drop what changes outside a transaction touch. False if it failed: it is done later."""
        ticket = Ticket(self.token(), by_table(changes), self.monotonic())
        keys = {
            table: self._touched_by(ticket, table, self._known(table)).keys
            for table in ticket.changes
        }
        if await self._bump(transport, ticket, keys, ticket.changes, committed=True):
            return True
        self._owe(ticket, ticket.changes, ticket.again)
        return False

    async def drop_tables(self, transport: Transport, tables: Iterable[str]) -> bool:
        """Drop every result that depends on the tables. False if it failed: it is done later."""
        return await self.invalidate(
            transport, [Change(table, UNKNOWN, UNKNOWN) for table in tables]
        )

    async def settle(self, transport: Transport) -> None:
        """Drop the gens of overdue tables whose time has come."""
        due = self.overdue.due(self.monotonic())
        if not due:
            return
        # Together, or else one by one: the tables of a cluster are on several servers.
        if await self._settle(transport, due) or len(due) == 1:
            return
        for table, tokens in due.items():
            await self._settle(transport, {table: tokens})

    async def _settle(self, transport: Transport, due: Mapping[str, Iterable[bytes]]) -> bool:
        keys = {table: {self.keys.gen(table): None} for table in due}
        ticket = Ticket(self.token(), {}, self.monotonic())
        done = await self._bump(transport, ticket, keys, {}, committed=True)
        if not done and not ticket.again:
            return False
        for table, tokens in due.items():
            for token in tokens:
                if done:
                    self.overdue.discard([table], token)
                else:
                    self.overdue.add([table], token, self.monotonic() + ticket.again)
        return True

    # -- the two steps

    async def _mark(self, transport: Transport, ticket: Ticket) -> None:
        tables = {
            table: self._touched_by(ticket, table, self._known(table)).keys
            | ticket.marked.get(table, {})
            for table in ticket.changes
        }
        args = [ticket.token, b"%d" % self.mark_ttl_ms]
        try:
            # No third trip: the any-row key is marked, so schemes that come now are young.
            for trip in (1, 2):
                for table, keys in tables.items():
                    ticket.marked.setdefault(table, {}).update(keys)
                seen = await self._send(transport, "mark", tables, args)
                if trip == 2:
                    break
                tables = {
                    table: more
                    for table, sight in seen.items()
                    if (more := self._missing(ticket, table, sight, ticket.marked[table]))
                }
        except StoreUnavailable:
            ticket.failed.update(ticket.changes)
            self._owe(ticket, ticket.changes, self.mark_ttl_ms / 1000)
            await self._drop(transport, ticket.changes)
        except BaseException:
            self._owe(ticket, ticket.changes, self.mark_ttl_ms / 1000)
            raise

    async def _bump(
        self,
        transport: Transport,
        ticket: Ticket,
        tables: Mapping[str, dict[bytes, None]],
        changes: Iterable[str],
        *,
        committed: bool,
    ) -> bool:
        """Take our token from the keys; of changed tables also drop what schemes seen now add."""
        args = [ticket.token, b"%d" % (self.lag_ms if committed else 0)]
        try:
            seen = await self._send(transport, "bump", tables, args)
            more = {
                table: keys
                for table in changes
                if (keys := self._missing(ticket, table, seen[table], tables[table]))
            }
            await self._send(transport, "bump", more, args)
        except StoreUnavailable:
            if not committed or not await self._drop(transport, tables):
                return False
            # No mark keeps readers of a lagging replica off: the gens fall again when it is over.
            ticket.again = self.lag_ms / 1000
            return not ticket.again
        return True

    async def _drop(self, transport: Transport, tables: Iterable[str]) -> bool:
        """Delete gens, which goes through even if the server is out of memory (C6)."""
        try:
            await transport.delete([self.keys.gen(table) for table in tables])
        except StoreUnavailable:
            return False
        return True

    async def _send(
        self,
        transport: Transport,
        name: str,
        tables: Mapping[str, Collection[bytes]],
        args: list[bytes],
    ) -> dict[str, Seen]:
        """Run a script over the keys of each table, in one round trip; tell what it saw of each."""
        if not tables:
            return {}
        calls, owners = [], []
        for table, keys in tables.items():
            ordered = list(keys)
            for start in range(0, len(ordered), self.chunk):
                head = [self.keys.gen(table), self.keys.schemes(table)]
                calls.append(
                    Script(name, [*head, *ordered[start : start + self.chunk]], list(args))
                )
                owners.append(table)
        seen: dict[str, Seen] = {}
        for table, answer in zip(owners, await transport.scripts(calls), strict=True):
            gen, schemes = answer.value
            # Of several calls the first one counts: it holds the any-row key, which must be marked
            # before the schemes are read (B4), in whichever order the calls ran.
            if table not in seen:
                seen[table] = Seen(gen, stamps.parse_schemes(schemes), answer.server)
                self._remember(table, seen[table])
        return seen

    def _owe(self, ticket: Ticket, tables: Iterable[str], seconds: float) -> None:
        names = sorted(tables)
        if names:
            log.warning(
                "The cache could not be told of changes of %s; their results are dropped later",
                ", ".join(names),
            )
            self.overdue.add(names, ticket.token, self.monotonic() + seconds)
