"""The methods that querysets and managers have through this package, as type checkers see them.

``contrib.mypy_plugin`` makes these classes bases of Django's; at run time nobody inherits them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from django.db.models import Model

if TYPE_CHECKING:
    from typing import Self

    from django.db.models.query import QuerySet

    from ..orm.explain import Explanation

M_co = TypeVar("M_co", bound=Model, covariant=True)


class CachedQuerySet(Protocol):
    """What a queryset gets; its type is kept."""

    def cache(
        self,
        ops: str | Iterable[str] | None = None,
        timeout: float | None = None,
        lock: bool | None = None,
    ) -> Self: ...

    def nocache(self) -> Self: ...

    def inplace(self) -> Self: ...

    def cloning(self, cloning: int = 1000) -> Self: ...

    def invalidated_update(self, **kwargs: Any) -> int: ...

    def cache_explain(self, op: str = "fetch") -> Explanation: ...


class CachedManager(Protocol, Generic[M_co]):
    """What a manager gets: the methods of ``all()``."""

    def cache(
        self,
        ops: str | Iterable[str] | None = None,
        timeout: float | None = None,
        lock: bool | None = None,
    ) -> QuerySet[M_co, M_co]: ...

    def nocache(self) -> QuerySet[M_co, M_co]: ...

    def inplace(self) -> QuerySet[M_co, M_co]: ...

    def cloning(self, cloning: int = 1000) -> QuerySet[M_co, M_co]: ...

    def invalidated_update(self, **kwargs: Any) -> int: ...

    def cache_explain(self, op: str = "fetch") -> Explanation: ...
