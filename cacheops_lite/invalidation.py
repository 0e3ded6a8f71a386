"""Invalidation by hand, and how to suspend it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db.models import Model

from .orm import by_hand, collecting

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "ainvalidate_all", "ainvalidate_model", "ainvalidate_obj",
    "invalidate_all", "invalidate_model", "invalidate_obj", "no_invalidation",
]  # fmt: skip


def invalidate_obj(obj: Model, using: str | None = None) -> None:
    """Drop the results that a row with this object's values may belong to.

    In a transaction it joins the transaction's changes: it happens at the commit.
    """
    by_hand.announce(obj, using)


def invalidate_model(model: type[Model], using: str | None = None) -> None:
    """Drop every result that depends on the table of ``model``."""
    by_hand.drop_model(model, using)


def invalidate_all() -> None:
    """Drop every cached result of this project: of queries, functions, views and fragments.

    Values of ``cache`` and ``file_cache`` stay, and so do results of functions in ``file_cache`` or
    in a ``RedisCache`` with a client of its own. Keys of others in the same Redis are left alone.
    """
    by_hand.drop_all()


ainvalidate_obj = sync_to_async(invalidate_obj)
ainvalidate_model = sync_to_async(invalidate_model)
ainvalidate_all = sync_to_async(invalidate_all)


class _NoInvalidation:
    """``with no_invalidation: …`` or ``@no_invalidation``: writes inside invalidate nothing.

    What stays cached is then the caller's business; call ``invalidate_*`` when done.
    """

    @property
    def active(self) -> bool:
        """Whether invalidation is suspended here and now."""
        return collecting.suspended()

    def __enter__(self) -> None:
        collecting.suspend()

    def __exit__(self, *exc_info: object) -> None:
        collecting.resume()

    def __call__(self, func: F) -> F:
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def awaiting(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await func(*args, **kwargs)

            return awaiting  # type: ignore[return-value]

        @functools.wraps(func)
        def calling(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return calling  # type: ignore[return-value]


no_invalidation = _NoInvalidation()
