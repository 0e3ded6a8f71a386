"""Nothing to reap: kept for projects that call django-cacheops' ``reap_conjs``.

There, sets of keys outlived the entries that they named and had to be combed through. Here no key
lists others, and each one ends by itself.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("cacheops_lite")

EXPLANATION = (
    "reap_conjs has nothing to do: cacheops_lite keeps no sets of keys, and every key that it "
    "makes expires by itself. Remove the call from your schedule."
)


def reap_conjs(
    chunk_size: int = 1000,
    min_conj_set_size: int = 1000,
    using: str = "default",
    dry_run: bool = False,
) -> None:
    """Does nothing, and says so in the log; for old schedules."""
    logger.info(EXPLANATION)
