"""Keys and dependencies are pure functions of the query: equal SQL, equal key, and conversely.

Random querysets are asked for their keys, and for what decides them: the SQL, the parameters with
their types, how columns are converted, how rows are packed, the database. Neither may be equal
without the other.
"""

from __future__ import annotations

import copy
import enum
import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import EmptyResultSet, FieldError, FullResultSet
from django.db import connection, models
from django.db.models import Avg, Count, F, Func, IntegerField, Max, Prefetch, Q, Sum, Value
from django.db.models.functions import Cast, Coalesce

from cacheops_lite import conf
from cacheops_lite.orm import explain, fingerprint, planning, reads

from . import models as m
from .random_queries import Dice

pytestmark = [pytest.mark.django_db]

ROUNDS = int(os.environ.get("CACHEOPS_TEST_ROUNDS", "4"))
QUERIES = 250
PROFILE = conf.Profile(ops=conf.ALL_OPS, timeout=60)


class Shouted(models.CharField):
    """Comes out of the database otherwise than its class says."""

    def from_db_value(self, value: Any, *args: Any) -> Any:
        return value and value.upper()


class Reversed_(models.query.ValuesListIterable):
    """Packs rows in its own way."""

    def __iter__(self) -> Iterator[Any]:
        return iter([row[::-1] for row in super().__iter__()])


def packed(queryset: Any) -> Any:
    clone = queryset.values_list("pk", "id") if queryset.model is m.Tag else queryset.values_list()
    clone._iterable_class = Reversed_
    return clone


#: Other ways to write, and to read, what may be the same query.
TURNS: dict[str, Callable[[Any], Any]] = {
    "copy": lambda q: q.all(),
    "filter()": lambda q: q.filter(),
    "empty Q": lambda q: q.filter(Q(), ~~Q()),
    "pickled": lambda q: _unpickled(q),
    "no prefetch": lambda q: q.prefetch_related(None),
    "related none": lambda q: q.select_related(None) if q._fields is None else q,
    "ordered": lambda q: q.order_by("pk"),
    "ordered by id": lambda q: q.order_by(q.model._meta.pk.name),
    "ordered by F": lambda q: q.order_by(F("pk").asc()),
    "reversed": lambda q: q.order_by("-pk").reverse(),
    "unordered": lambda q: q.order_by(),
    "distinct": lambda q: q.distinct(),
    "sliced": lambda q: q.order_by("pk")[:2],
    "sliced otherwise": lambda q: q.order_by("pk")[0:2],
    "values": lambda q: q.values("pk"),
    "values list": lambda q: q.values_list("pk"),
    "flat": lambda q: q.values_list("pk", flat=True),
    "named": lambda q: q.values_list("pk", named=True),
    "own packing": packed,
    "only": lambda q: q.only("pk"),
    "defer": lambda q: q.defer("pk"),
    "one": lambda q: q.annotate(z=Value(1)),
    "text one": lambda q: q.annotate(z=Value("1")),
    "true": lambda q: q.annotate(z=Value(True)),
    "one as a text": lambda q: q.annotate(z=Value(1, output_field=models.CharField())),
    "one shouted": lambda q: q.annotate(z=Value(1, output_field=Shouted())),
    "one point": lambda q: q.annotate(z=Value(1.0)),
    "by another name": lambda q: q.annotate(y=Value(1)),
    "key": lambda q: q.filter(pk=1),
    "key as text": lambda q: q.filter(pk="1"),
    "keys": lambda q: q.filter(pk__in=[1]),
    "keys twice": lambda q: q.filter(pk__in=[1, 1]),
    "keys of a tuple": lambda q: q.filter(pk__in=(1,)),
    "other key": lambda q: q.filter(pk=2),
    "coalesced": lambda q: q.annotate(z=Coalesce(F("pk"), 0)),
    "cast": lambda q: q.annotate(z=Cast("pk", IntegerField())),
    "cast to text": lambda q: q.annotate(z=Cast("pk", models.CharField())),
    "big": lambda q: q.annotate(z=Func(F("pk"), function="ABS", output_field=IntegerField())),
    "decimal": lambda q: q.annotate(
        z=Func(F("pk"), function="ABS", output_field=models.DecimalField())
    ),
}
_FINAL = ("values", "flat", "named", "own packing", "values list", "sliced", "sliced otherwise")
OPS = ("fetch", "fetch", "fetch", "fetch", "count", "exists")


def _unpickled(queryset: Any) -> Any:
    copy = queryset.all()
    copy.query = pickle.loads(pickle.dumps(queryset.query))
    return copy


def turned(dice: Dice, queryset: Any) -> Any:
    """The queryset, written or read otherwise, as far as Django lets it."""
    names = dice.sample(sorted(TURNS), dice.choice([0, 1, 1, 2]))
    for name in sorted(names, key=lambda name: name in _FINAL):
        try:
            queryset = TURNS[name](queryset)
        except (FieldError, TypeError, ValueError, AttributeError, models.NotSupportedError):
            return queryset
    return queryset


def compiler_of(queryset: Any, op: str, using: str) -> Any:
    query = queryset.query.clone()
    if op != "fetch":
        query = explain._single_query(query, op, using)
    return query.get_compiler(using)


def truth(queryset: Any, op: str, using: str, *, agnostic: bool) -> tuple[Any, ...]:
    """Whatever decides the answer, told by Django alone."""
    compiler = compiler_of(queryset, op, using)
    sql, params = compiler.as_sql()
    columns = [_conversion(entry[0]) for entry in compiler.select or ()]
    packing = (
        (queryset.model, queryset._iterable_class, queryset._fields) if op == "fetch" else None
    )
    # Drivers hand over a member of a text or integer enum as what it is besides.
    plain = (value.value if isinstance(value, enum.Enum) else value for value in params)
    typed = tuple((type(value), repr(value)) for value in plain)
    return sql, typed, tuple(columns), packing, op == "fetch", None if agnostic else using


def _conversion(expression: Any) -> Any:
    try:
        field = expression.output_field
    except FieldError:
        return None
    if getattr(field, "model", None) is not None:
        return field.model, field.name
    return type(field), repr(field.deconstruct()[2:])


def key_of(queryset: Any, op: str, using: str, *, agnostic: bool) -> planning.Plan | None:
    """The plan, made as if for the first time."""
    kind, packing = ("rows", reads.packing(queryset)) if op == "fetch" else ("single", "")
    compiler = compiler_of(queryset, op, using)
    for memo in (planning._plans, reads._templates):
        memo.clear()
    return planning.plan_compiler(
        compiler, using, replace(PROFILE, db_agnostic=agnostic), kind, packing
    ).plan


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_equal_sql_is_equal_key(seed: int) -> None:
    """Same SQL, parameters, packing, database: same key. Anything else: another one."""
    dice = Dice(seed + int(os.environ.get("CACHEOPS_TEST_SEED", "0")))
    keys: dict[Any, bytes] = {}
    truths: dict[bytes, Any] = {}
    seen: Counter[str] = Counter()
    pool: list[Any] = []
    while seen["asked"] < QUERIES:
        try:
            if not pool or dice.chance(0.1):
                pool.append(dice.queryset())
            queryset = turned(dice, dice.choice(pool[-5:]))
            op = dice.choice(OPS)
            using = dice.choice(["default", "default", "other"])
            agnostic = dice.chance(0.2)
            wanted = truth(queryset, op, using, agnostic=agnostic)
            text = str(queryset.query)
        except (EmptyResultSet, FullResultSet):
            continue
        except Exception:  # what Django does not compile has no key
            seen["refused"] += 1
            assert seen["refused"] < 2 * QUERIES
            continue
        plan = key_of(queryset, op, using, agnostic=agnostic)
        again = key_of(queryset, op, using, agnostic=agnostic)
        assert plan is not None
        assert again == plan
        assert str(queryset.query) == text
        seen["asked"] += 1
        seen["shared"] += wanted in keys
        assert keys.setdefault(wanted, plan.digest) == plan.digest, f"two keys for {wanted}"
        assert truths.setdefault(plan.digest, wanted) == wanted, f"one key for {wanted} and another"
        assert tables_in(wanted[0]) <= plan.tables.keys(), wanted[0]
    assert seen["shared"] > QUERIES / 10, seen
    assert len(keys) > QUERIES / 3, seen


def tables_in(sql: str) -> set[str]:
    """The tables that SQL names, wherever: no column is called like a table."""
    named = set(re.findall(r'["`](\w+)["`]', sql))
    return named & {model._meta.db_table for model in apps.get_models(include_auto_created=True)}


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any], bool]] = {
    "chained filters": (
        lambda: m.Post.objects.filter(views=1).filter(pk=2),
        lambda: m.Post.objects.filter(Q(views=1), Q(pk=2)),
        True,
    ),
    "pk and id": (
        lambda: m.Post.objects.filter(pk=1), lambda: m.Post.objects.filter(id="1"), True,
    ),
    "by instance": (
        lambda: m.Post.objects.filter(category=m.Category(pk=3)),
        lambda: m.Post.objects.filter(category_id=3),
        True,
    ),
    "enum": (
        lambda: m.Post.objects.filter(status=m.Post.Status.LIVE),
        lambda: m.Post.objects.filter(status="live"),
        True,
    ),
    "prefetch": (
        lambda: m.Post.objects.prefetch_related("tags"),
        lambda: m.Post.objects.prefetch_related(Prefetch("comments")),
        True,
    ),
    "1 and '1'": (
        lambda: m.Post.objects.annotate(x=Value(1)),
        lambda: m.Post.objects.annotate(x=Value("1")),
        False,
    ),
    "1 and True": (
        lambda: m.Post.objects.annotate(x=Value(1)),
        lambda: m.Post.objects.annotate(x=Value(True)),
        False,
    ),
    "output_field": (
        lambda: m.Post.objects.annotate(x=Func("pk", function="ABS", output_field=IntegerField())),
        lambda: m.Post.objects.annotate(x=Func("pk", function="ABS", output_field=Shouted())),
        False,
    ),
    "output_field of one class": (
        lambda: m.Post.objects.annotate(
            x=Func("pk", function="ABS", output_field=models.DecimalField(decimal_places=1))
        ),
        lambda: m.Post.objects.annotate(
            x=Func("pk", function="ABS", output_field=models.DecimalField(decimal_places=2))
        ),
        False,
    ),
    "proxy": (lambda: m.Post.objects.all(), lambda: m.PostProxy.objects.all(), False),
    "values and values_list": (
        lambda: m.Post.objects.values("pk"), lambda: m.Post.objects.values_list("pk"), False,
    ),
    "named or not": (
        lambda: m.Post.objects.values_list("pk"),
        lambda: m.Post.objects.values_list("pk", named=True),
        False,
    ),
    "rows or instances": (
        lambda: m.Post.objects.only("pk"), lambda: m.Post.objects.values_list("pk"), False,
    ),
    "text with a quote": (
        lambda: m.Post.objects.filter(title="a', 'b"),
        lambda: m.Post.objects.filter(title="a").filter(title="b"),
        False,
    ),
    "parameters side by side": (
        lambda: m.Post.objects.filter(title="ab", text="c"),
        lambda: m.Post.objects.filter(title="a", text="bc"),
        False,
    ),
}  # fmt: skip


def _copied(places: int) -> Any:
    field = copy.copy(DECIMAL)
    field.decimal_places = places
    return m.Post.objects.annotate(x=Func("pk", function="ABS", output_field=field))


DECIMAL = models.DecimalField(max_digits=9, decimal_places=1)
PAIRS["copies of one field"] = (lambda: _copied(1), lambda: _copied(2), False)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_that_are_easily_mistaken(name: str) -> None:
    """Two ways to write one query share an entry; two queries of one SQL do not."""
    one, other, same = PAIRS[name]
    first, second = (key_of(make(), "fetch", "default", agnostic=False) for make in (one, other))
    assert first is not None
    assert second is not None
    assert (first.digest == second.digest) is same


def test_aggregates_of_other_names_or_fields_have_other_keys() -> None:
    """aggregate() packs under names outside of the SQL; what it computes is what is stored."""
    made: list[planning.Plan] = []
    plan_compiler = planning.plan_compiler

    def watch(*args: Any, **kwargs: Any) -> planning.Attempt:
        tried = plan_compiler(*args, **kwargs)
        assert tried.plan is not None
        made.append(tried.plan)
        return tried

    posts = m.Post.objects.cache()
    planning.plan_compiler = watch
    try:
        for asked in (Sum("views"), Avg("views"), Max("views"), Sum("views"), Count("pk")):
            posts.aggregate(a=asked)
        posts.aggregate(a=Sum("views", output_field=models.FloatField()))
    finally:
        planning.plan_compiler = plan_compiler
    digests = [plan.digest for plan in made]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 5


STABLE = """
import django
django.setup()
from django.db.models import *
from tests import models as m
from tests.test_keys import key_of, Shouted
for queryset in [
    m.Post.objects.filter(title="x", views__in={1, 2}, pk__in=[3]),
    m.Post.objects.defer("title", "views", "text").select_related("author", "category"),
    m.Post.objects.annotate(x=Value("a", output_field=Shouted(max_length=3))),
    m.Author.objects.filter(Exists(m.Post.objects.filter(author=OuterRef("pk")))).values("pk"),
]:
    print(key_of(queryset, "fetch", "default", agnostic=False).digest.hex())
"""


def test_keys_are_the_same_in_every_process() -> None:
    """No address and no random order of a set is part of a key, or processes would not share."""
    if connection.vendor != "sqlite":
        pytest.skip("a process of its own would need a server of its own")
    found = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "CACHEOPS_TEST_DB": "sqlite",
                       "DJANGO_SETTINGS_MODULE": "tests.settings"}  # fmt: skip
        found.add(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", STABLE],
                env=environment, stdout=subprocess.PIPE, text=True, check=True,
            ).stdout
        )  # fmt: skip
    (printed,) = found
    assert len(set(printed.split())) == 4


class Opaque:
    """Its text is its address."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: m.Post.objects.annotate(x=Value(1, output_field=Shouted(validators=[Opaque()]))),
        lambda: m.Post.objects.annotate(x=Value(Opaque(), output_field=models.Field())),
    ],
    ids=["field", "parameter"],
)
def test_what_has_only_an_address_has_no_key(make: Callable[[], Any]) -> None:
    """An address may be that of something else a moment later: such a query is not cached."""
    assert key_of(make(), "fetch", "default", agnostic=False) is None
    assert not make().cache().cache_explain().cacheable


def test_another_version_of_django_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fields may convert otherwise."""
    queryset = m.Post.objects.all()
    before = key_of(queryset, "fetch", "default", agnostic=False)
    monkeypatch.setattr(fingerprint, "_VERSION", "99.1")
    after = key_of(queryset, "fetch", "default", agnostic=False)
    assert before is not None
    assert after is not None
    assert before.digest != after.digest


def test_a_field_more_or_under_another_name_is_a_miss() -> None:
    """What an old process stored is not read by one whose model has another column."""
    queryset = m.Memo.objects.all()
    before = key_of(queryset, "fetch", "default", agnostic=False)
    column = m.Memo._meta.get_field("note").column
    try:
        m.Memo._meta.get_field("note").column = "remark"
        for name in ("cached_col",):
            m.Memo._meta.get_field("note").__dict__.pop(name, None)
        after = key_of(queryset, "fetch", "default", agnostic=False)
    finally:
        m.Memo._meta.get_field("note").column = column
    assert before is not None
    assert after is not None
    assert before.digest != after.digest
