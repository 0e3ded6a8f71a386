"""The redis-py client of the engine, under the name that django-cacheops gives it."""

from __future__ import annotations

from typing import Any

from .. import engine

__all__ = ["redis_client"]


class _Client:
    """Stands for the client of the settings in force, whichever these are when it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(engine.current().client, name)

    def __repr__(self) -> str:
        return f"<the client of {engine.__name__}>"


redis_client = _Client()
