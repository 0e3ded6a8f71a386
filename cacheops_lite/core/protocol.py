"""The one algorithm: read, mark, commit, bump. Told here once; its parts are in the modules named.

A *stamp* is a random value under a key. An entry is kept together with every stamp that it was
read under, and is valid while all of them are unchanged. Nobody ever deletes an entry; whoever
changes a row drops stamps.

*Keys* of a table (`keys`): its gen, the schemes in use under that gen, the any-row conjunction,
which every write touches, and one key for each conjunction ``column=value&…`` that a cached
result depends on.

*Read* (`reading`, `ensuring`). One MGET gets the entry, the gens and the conj stamps. If every
stamp that the entry names is still the same, none is pending, and every gen was made on this very
server: hit. Else ENSURE, one atomic script per table, makes the stamps that are missing,
registers new schemes and returns the stamps; only then the database is read, and the result is
stored under *those* stamps. A write in between leaves an entry that is dead on arrival. There is
no race to lose, as long as (A1 and so on are the traps that docs/internals.rst lists)

- stamps are fixed before the load (A1, with a guard for what only the result tells),
- no stamp ever returns (A4: fresh ones for each attempt, of 56 random bits; what a BUMP leaves is
  a digest of the stamp before it and of its token),
- a stamp never outlives the knowledge which schemes are in use (A2, A3: a gen without its schemes
  is unknown to writers; conj stamps carry their gen).

ENSURE is left out where the look found all stamps living: made under the gen that stands, and to
last as long as this entry.

*Write* (`writing`). Before the commit MARK puts a pending token on the any-row key, then on the
conj keys of the old and the new row of each scheme, or on the gen where a value is unknown; after
the commit BUMP takes it off. The last token to leave makes the next stamp of a conj that had one
before, as a reader's ENSURE would at that moment, and deletes any other key. While a key is
pending, readers neither answer from it nor get a stamp of it, and schemes that come into use wait
(they are *young*), since this writer has not marked them (B1). Both scripts return the schemes as
they are afterwards, so that what is missing is marked or bumped in a second trip. A token dies by
itself after some seconds: a writer that died can hold up a key no longer than that.

A stale answer would need a mark that was lost *and* a writer that died before its bump.

Everything is ``async def`` and awaits nothing but the transport and the load. A synchronous
transport never suspends, so `run` finishes such a coroutine in one step; a simulator suspends at
every command and chooses who goes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import StoreUnavailable
from .keys import Keys
from .plans import (
    SERVER_ID,
    Answer,
    Asked,
    Outcome,
    ReadPlan,
    Reply,
    Script,
    ServerId,
    TablePlan,
    Ticket,
    Transport,
)
from .reading import Reading

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = [
    "SERVER_ID",
    "Answer",
    "Asked",
    "CacheProtocol",
    "Keys",
    "Outcome",
    "ReadPlan",
    "Reply",
    "Script",
    "ServerId",
    "StoreUnavailable",
    "TablePlan",
    "Ticket",
    "Transport",
    "run",
]

T = TypeVar("T")


class CacheProtocol(Reading):
    """The protocol of one process under one prefix; how it is made, `State` tells."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Finish a coroutine that never suspends, as all are over a synchronous transport.

    Raises RuntimeError if it does suspend.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine over a synchronous transport was suspended")
