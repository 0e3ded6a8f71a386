"""Inside Django's ``TestCase``: its own transactions never commit, so a test can have them ignored.

``TestCase`` marks the two ``atomic`` blocks that it rolls back, one around the class and one
around each test. While ``absent`` is true, what is written directly inside them counts as committed
when its statement, or the outermost ``atomic`` block of the code under test, ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Whether the transactions of a ``TestCase`` count as absent now.
absent = False

#: Called when such a transaction was rolled back: what was cached of it never existed.
on_rollback: list[Callable[[], None]] = []


def alone(connection: Any) -> bool:
    """Whether transactions of a ``TestCase`` are open, and no others."""
    blocks = connection.atomic_blocks
    return bool(blocks) and all(block._from_testcase for block in blocks)
