"""Counting hits and invalidations."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.dispatch import receiver

from cacheops_lite.signals import cache_invalidated, cache_read

stats: Counter[str] = Counter()


@receiver(cache_read)
def count_read(sender: Any, func: Any, hit: bool, **kwargs: Any) -> None:
    stats["hit" if hit else "miss"] += 1


@receiver(cache_invalidated)
def count_invalidation(sender: Any, obj_dict: Any, **kwargs: Any) -> None:
    stats[f"invalidated {sender.__name__ if sender else 'all'}"] += 1
