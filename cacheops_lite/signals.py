"""What happened, for whoever wants to count or log it.

``cache_read``: ``sender`` is the model (``None`` for functions), ``func`` the cached function or
``None``, ``hit`` a bool.
``cache_invalidated``: ``sender`` is the model (``None`` for everything), ``obj_dict`` the known
values of the changed row by attribute name, or ``None`` when a whole table was dropped.
"""

from __future__ import annotations

from django.dispatch import Signal

cache_read = Signal()
cache_invalidated = Signal()
