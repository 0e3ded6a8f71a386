"""Times as users write them: a number of seconds, or a ``timedelta``."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

#: "For ever", in seconds: nothing is stored without an end.
NO_TIMEOUT = 365 * 24 * 60 * 60.0


def seconds(timeout: float | timedelta | None) -> float | None:
    """A timeout as a number of seconds; ``None`` for none. Raises as ``number`` does."""
    return None if timeout is None else number(timeout, "A timeout is a number of seconds or None")


def number(given: Any, rule: str, least: float = -math.inf) -> float:
    """A finite number from ``least`` on, in seconds if it is a time; ``rule`` is what errors say.

    Raises ``TypeError`` or ``ValueError``.
    """
    found: float = given.total_seconds() if isinstance(given, timedelta) else given
    try:
        right = not isinstance(found, bool) and math.isfinite(found) and found >= least
    except TypeError:
        raise TypeError(f"{rule}, not {given!r}.") from None
    if not right:
        raise ValueError(f"{rule}, not {given!r}.")
    return found
