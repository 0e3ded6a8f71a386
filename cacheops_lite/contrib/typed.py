"""The methods that querysets and managers have through this package, as type checkers see them.

``contrib.mypy_plugin`` makes these classes bases of Django's. For checkers without plugins a class
of one's own names them, behind Django's: ``class PostQuerySet(QuerySet[Post], CachedQuerySet)``. At
run time they are empty: the methods are Django's own by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db.models import Model

M_co = TypeVar("M_co", bound=Model, covariant=True)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from django.db.models.query import QuerySet

    from ..orm.explain import Explanation

    class CachedQuerySet:
        """What a queryset gets; its type is kept."""

        def cache(
            self,
            ops: str | Iterable[str] | None = None,
            timeout: float | None = None,
            lock: bool | None = None,
        ) -> Self:
            raise NotImplementedError

        def nocache(self) -> Self:
            raise NotImplementedError

        def inplace(self) -> Self:
            raise NotImplementedError

        def cloning(self, cloning: int = 1000) -> Self:
            raise NotImplementedError

        def invalidated_update(self, **kwargs: Any) -> int:
            raise NotImplementedError

        def cache_explain(self, op: str = "fetch") -> Explanation:
            raise NotImplementedError

    class CachedManager(Generic[M_co]):
        """What a manager gets: the methods of ``all()``."""

        def cache(
            self,
            ops: str | Iterable[str] | None = None,
            timeout: float | None = None,
            lock: bool | None = None,
        ) -> QuerySet[M_co, M_co]:
            raise NotImplementedError

        def nocache(self) -> QuerySet[M_co, M_co]:
            raise NotImplementedError

        def inplace(self) -> QuerySet[M_co, M_co]:
            raise NotImplementedError

        def cloning(self, cloning: int = 1000) -> QuerySet[M_co, M_co]:
            raise NotImplementedError

        def invalidated_update(self, **kwargs: Any) -> int:
            raise NotImplementedError

        def cache_explain(self, op: str = "fetch") -> Explanation:
            raise NotImplementedError

else:

    class CachedQuerySet:
        """Nothing: Django's querysets have the methods."""

    class CachedManager(Generic[M_co]):
        """Nothing: Django's managers have the methods."""
