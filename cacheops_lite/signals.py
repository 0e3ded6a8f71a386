"""What happened, for whoever wants to count or log it.

``cache_read``: ``sender`` is the model (``None`` for functions), ``func`` the cached function or
``None``, ``hit`` a bool.
``cache_invalidated``: ``sender`` is the model (``None`` for everything), ``obj_dict`` the known
values of the changed row by attribute name, or ``None`` when a whole table was dropped.
``cache_reachable``: Redis was lost or found again; ``reachable`` a bool, ``reason`` the error as
text. Sent once for each change, by the process that noticed it; ``sender`` is ``None``. Of a Redis
Cluster each node is lost and found by itself, by synchronous callers and by each event loop.
"""

from __future__ import annotations

from django.dispatch import Signal

cache_read = Signal()
cache_invalidated = Signal()
cache_reachable = Signal()
