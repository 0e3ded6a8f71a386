"""The cached queries of the demo, and what one read of them costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Max, QuerySet
from django.test.utils import CaptureQueriesContext

from cacheops_lite.orm.explain import Explanation
from cacheops_lite.signals import cache_read

from .models import Country, CountryName, Currency, Language, Subdivision


class Query(NamedTuple):
    """A query, the op that it is cached as, and how it is run."""

    name: str
    op: str
    rows: Callable[[], QuerySet[Any]]
    run: Callable[[QuerySet[Any]], Any] = list


class Read(NamedTuple):
    """One run of a query: its answer, and what it took."""

    answer: Any
    hit: bool
    statements: int
    milliseconds: float

    @property
    def free(self) -> bool:
        """Answered by the cache alone."""
        return self.hit and self.statements == 0

    @property
    def word(self) -> str:
        return "hit" if self.hit else "miss"


QUERIES = {
    query.name: query
    for query in (
        Query(
            "provinces of Canada",
            "fetch",
            lambda: Subdivision.objects.filter(country="CA", kind="Province"),
        ),
        Query(
            "territories of Canada",
            "fetch",
            lambda: Subdivision.objects.filter(country="CA", kind="Territory"),
        ),
        Query(
            "how many parts has Canada",
            "count",
            lambda: Subdivision.objects.filter(country="CA"),
            lambda rows: rows.count(),
        ),
        Query(
            "last name in Canada",
            "aggregate",
            lambda: Subdivision.objects.filter(country="CA"),
            lambda rows: rows.aggregate(last=Max("name")),
        ),
        Query(
            "Quebec",
            "get",
            lambda: Subdivision.objects.filter(code="CA-QC"),
            lambda rows: rows.get(),
        ),
        Query(
            "Ontario",
            "get",
            lambda: Subdivision.objects.filter(code="CA-ON"),
            lambda rows: rows.get(),
        ),
        Query(
            "regions of France, with France",
            "fetch",
            lambda: Subdivision.objects.filter(
                country="FR", kind="Metropolitan region"
            ).select_related("country"),
            lambda rows: [(row.name, row.country.name) for row in rows],
        ),
        Query(
            "parts of Brittany",
            "fetch",
            lambda: Subdivision.objects.filter(parent="FR-BRE").order_by("name"),
        ),
        Query(
            "countries with cantons",
            "fetch",
            lambda: Country.objects.filter(kinds="Canton").order_by("code"),
        ),
        Query(
            "countries with emirates",
            "fetch",
            lambda: Country.objects.filter(kinds="Emirate").order_by("code"),
        ),
        Query(
            "Canada or Mexico in German",
            "fetch",
            lambda: CountryName.objects.filter(language="deu", country__in=["CA", "MX"]),
        ),
        Query(
            "currency of Japan",
            "fetch",
            lambda: Currency.objects.filter(country="JP"),
        ),
        Query(
            "is any language ancient",
            "exists",
            lambda: Language.objects.filter(kind="A"),
            lambda rows: rows.exists(),
        ),
        Query(
            "country names with 'land'",
            "count",
            lambda: CountryName.objects.filter(name__icontains="land"),
            lambda rows: rows.count(),
        ),
        Query(
            "best translated languages",
            "fetch",
            lambda: (
                Language.objects.annotate(names=Count("countryname"))
                .order_by("-names", "code")
                .values_list("name", "names")[:5]
            ),
        ),
    )
}


def read(query: Query) -> Read:
    """Run a query through the cache."""
    heard: list[bool] = []

    def listen(*, hit: bool, **kwargs: Any) -> None:
        heard.append(hit)

    cache_read.connect(listen)
    rows = query.rows().cache()
    try:
        with CaptureQueriesContext(connection) as captured:
            started = time.perf_counter()
            answer = query.run(rows)
            taken = time.perf_counter() - started
    finally:
        cache_read.disconnect(listen)
    return Read(comparable(answer), heard == [True], len(captured), taken * 1000)


def fresh(query: Query) -> Read:
    """One run of a query past the cache: what the database says now."""
    rows = query.rows().nocache()
    started = time.perf_counter()
    answer = query.run(rows)
    taken = time.perf_counter() - started
    return Read(comparable(answer), False, 1, taken * 1000)


def comparable(answer: Any) -> Any:
    """An answer with the fields of its objects: two objects of one key are equal to Django."""
    if isinstance(answer, list):
        return [comparable(item) for item in answer]
    if hasattr(answer, "_meta"):
        return {field.attname: getattr(answer, field.attname) for field in answer._meta.fields}
    return answer


def explained(query: Query) -> Explanation:
    """What the cache says of a query; an aggregate depends on what a count of its rows does."""
    op = "count" if query.op == "aggregate" else query.op
    return query.rows().cache().cache_explain(op)


def dependencies(query: Query) -> list[str]:
    """The conjunctions of a query's result, each as ``table: column=text & …``."""
    told = explained(query)
    lines = []
    for table, conjunctions in told.dependencies.items():
        for conjunction in conjunctions:
            terms = " & ".join(f"{column}={text}" for column, text in conjunction)
            lines.append(f"{table.removeprefix('demo_')}: {terms or 'any row'}")
    lines += [
        f"{table.removeprefix('demo_')}: {column}=… of each row shown"
        for table, column in told.dynamic
    ]
    return lines
