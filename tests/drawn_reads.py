"""Reads drawn by hypothesis: filters, joins, subqueries, aggregates, slices over the test models."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    Max,
    Min,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)  # fmt: skip
from django.db.models.functions import Length, Lower, RowNumber, TruncMonth
from hypothesis import strategies as st

from . import models as m
from .watching import plain

KEYS = [1, 2, 3]
WORDS = ["a", "b", "A", "ä", "b "]
NUMBERS = [0, 1, 2, 2.0]
TRUTH = [True, False]
STATUS = ["draft", "live", "LIVE"]
UUIDS = [uuid.UUID(int=number) for number in KEYS]
MONEY = [Decimal("1.5"), Decimal("1.50"), 2, Decimal("0.01"), None]
DAYS = [dt.date(2024, 2, 29), dt.date(2024, 3, 1), None]
MOMENTS = [
    dt.datetime(2024, 2, 29, 23, 30, tzinfo=dt.UTC),
    dt.datetime(2024, 3, 1, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    dt.datetime(2024, 3, 1, 12, 0, 0, 250, tzinfo=dt.UTC),
    None,
]
TIMES = [dt.time(12, 0), dt.time(12, 0, 0, 500), None]
SPANS = [dt.timedelta(seconds=1), dt.timedelta(days=1, microseconds=7), None]
BIGS = [2**53, 2**53 + 1, 2**60]
CODES = ["de", "DE", "fr"]


def some(options: list[Any]) -> list[list[Any]]:
    """Short lists of the options, for ``__in``."""
    return [options[:1], options[:2], options[1:], [*options[:1], None], []]


#: model -> lookup -> values.
LOOKUPS: dict[type[models.Model], dict[str, list[Any]]] = {
    m.Post: {
        "pk": KEYS, "pk__in": some(KEYS), "category": KEYS,
        "category__in": some(KEYS), "category__slug": WORDS, "category__parent": KEYS,
        "category__parent__title": WORDS, "category__parent__isnull": TRUTH,
        "author": KEYS, "author__name": WORDS, "author__name__in": some(WORDS),
        "author__profile__bio": WORDS, "author__profile__isnull": TRUTH, "editor": [*KEYS, None],
        "editor__name": WORDS, "editor__isnull": TRUTH, "editor__profile__bio": WORDS,
        "tags": KEYS, "tags__in": some(KEYS), "tags__name": WORDS, "tags__isnull": TRUTH,
        "comments__text": WORDS, "comments__isnull": TRUTH, "title": WORDS,
        "title__iexact": WORDS, "title__in": some(WORDS), "title__startswith": WORDS,
        "text": WORDS, "published": TRUTH, "status": STATUS, "views": NUMBERS,
        "views__in": some(NUMBERS),
        "score": NUMBERS, "rating": MONEY, "rating__in": some(MONEY), "rating__isnull": TRUTH,
        "created": MOMENTS, "created__date": DAYS[:2], "created__year": [2024, 2025],
        "day": DAYS, "day__month": [2, 3], "at": TIMES, "duration": SPANS,
        "views__exact": [F("pk"), F("author__pk"), F("score"), F("tags__pk")],
    },
    m.Author: {
        "pk": KEYS, "name": WORDS, "name__contains": WORDS, "profile": KEYS,
        "profile__bio": WORDS, "profile__isnull": TRUTH, "posts": KEYS,
        "posts__published": TRUTH, "posts__isnull": TRUTH, "posts__category__slug": WORDS,
        "posts__tags__name": WORDS, "edited__views": NUMBERS, "edited__isnull": TRUTH,
    },
    m.Category: {
        "pk": KEYS, "slug": WORDS, "title": WORDS, "parent": [*KEYS, None],
        "parent__slug": WORDS, "parent__parent__title": WORDS, "children__title": WORDS,
        "children__isnull": TRUTH, "posts__views": NUMBERS, "posts__editor__isnull": TRUTH,
    },
    m.Tag: {
        "pk": KEYS, "name": WORDS, "group": WORDS, "posts": KEYS, "posts__published": TRUTH,
        "posts__isnull": TRUTH, "posts__author__name": WORDS,
    },
    m.Profile: {"pk": KEYS, "author": KEYS, "bio": WORDS, "author__name": WORDS},
    m.Comment: {"pk": KEYS, "object_id": KEYS, "text": WORDS, "hidden": TRUTH,
                "content_type__model": ["post", "author"]},
    m.Place: {"pk": KEYS, "name": WORDS, "city": WORDS, "restaurant__stars": NUMBERS,
              "restaurant__isnull": TRUTH, "restaurant__pizzeria__oven": WORDS},
    m.Restaurant: {"pk": KEYS, "name": WORDS, "stars": NUMBERS, "pizzeria__oven": WORDS,
                   "pizzeria__isnull": TRUTH, "place_ptr": KEYS},
    m.Pizzeria: {"pk": KEYS, "name": WORDS, "stars": NUMBERS, "oven": WORDS, "city": WORDS},
    m.Person: {"pk": KEYS, "name": WORDS, "friends": KEYS, "friends__name": WORDS,
               "follows__name": WORDS, "followers": KEYS, "groups__name": WORDS,
               "membership__role": WORDS},
    m.Group: {"pk": KEYS, "name": WORDS, "members": KEYS, "members__name": WORDS,
              "membership__role": WORDS, "members__isnull": TRUTH},
    m.Membership: {"group": KEYS, "person": KEYS, "role": WORDS, "person__name": WORDS},
    m.OrderLine: {"pk": [(1, 1), (1, 2), (2, 1)], "pk__in": [[(1, 1), (2, 1)], []],
                  "order": KEYS, "line": KEYS, "product": WORDS, "quantity": NUMBERS},
    m.Box: {"pk": KEYS, "width": NUMBERS, "height": NUMBERS, "name": WORDS, "area": [0, 1, 2, 4],
            "lower_name": WORDS},
    m.Price: {"pk": KEYS, "amount": MONEY[:4], "amount__isnull": TRUTH, "labels": [["a"], ["a", "b"]],
              "name": WORDS},
    m.Note: {"pk": KEYS, "text": WORDS, "deleted": TRUTH},
    m.Token: {"pk": UUIDS, "pk__in": some(UUIDS), "label": WORDS, "uses__count": NUMBERS},
    m.TokenUse: {"token": UUIDS, "count": NUMBERS, "token__label": WORDS},
    m.Big: {"pk": BIGS, "name": WORDS},
    m.Country: {"pk": CODES, "name": WORDS, "cities__name": WORDS},
    m.City: {"country": CODES, "name": WORDS, "country__name": WORDS},
    m.Toy: {"pk": KEYS, "code": WORDS, "parts__name": WORDS},
    m.ToyPart: {"toy": WORDS, "toy__pk": KEYS, "name": WORDS, "toy__code": WORDS},
    m.Document: {"pk": KEYS, "data": [{"a": 1}, {}, [1]], "data__a": [1, "b"], "name": WORDS},
    m.Memo: {"pk": KEYS, "created": MOMENTS, "note": WORDS, "text": WORDS},
    m.Owner: {"pk": KEYS, "name": WORDS},
    m.Cascading: {"owner": KEYS, "name": WORDS, "owner__name": WORDS, "deeper__isnull": TRUTH},
    m.CascadingDeeper: {"cascading__owner": KEYS, "cascading__name": WORDS},
    m.Nulling: {"owner": [*KEYS, None], "owner__name": WORDS, "owner__isnull": TRUTH},
    m.Defaulting: {"owner": [*KEYS, None], "owner__isnull": TRUTH},
    m.Setting: {"owner": [*KEYS, None], "owner__name": WORDS},
    m.Protecting: {"owner": KEYS},
    m.Restricting: {"owner": KEYS},
    m.Ignoring: {"owner": KEYS, "owner__name": WORDS},
    m.Odd: {"pk": KEYS, "name": WORDS},
    m.Attachment: {"ip": ["127.0.0.1", "::1", None], "flag": [True, False, None], "file": WORDS},
}  # fmt: skip

LIMITS = [Decimal("1.5"), Decimal("1.499"), 2, 1.5, 0, -1, 1000, F("pk")]
#: model -> attribute -> limits, for <, <=, > and >=.
RANGES: dict[type[models.Model], dict[str, list[Any]]] = {
    m.Post: {
        "views": LIMITS, "pk": KEYS, "rating": LIMITS[:7], "created": MOMENTS[:3], "day": DAYS[:2],
        "at": TIMES[:2], "duration": SPANS[:2], "score": LIMITS, "title": WORDS,
        "category__pk": KEYS, "created__date": DAYS[:2], "author__pk": KEYS, "tags__pk": KEYS,
    },
    m.Restaurant: {"stars": LIMITS, "pk": KEYS},
    m.Place: {"pk": KEYS, "restaurant__stars": NUMBERS},
    m.OrderLine: {"quantity": LIMITS, "order": KEYS},
    m.Box: {"area": LIMITS, "width": NUMBERS, "lower_name": WORDS},
    m.Price: {"amount": MONEY[:4]},
    m.Big: {"pk": BIGS},
    m.TokenUse: {"count": LIMITS, "token__pk": UUIDS},
    m.Memo: {"created": MOMENTS[:3]},
    m.Owner: {"pk": KEYS},
    m.Comment: {"object_id": KEYS},
}  # fmt: skip
for _model, _attributes in RANGES.items():
    for _name, _limits in _attributes.items():
        for _operator in ("lt", "lte", "gt", "gte"):
            LOOKUPS[_model][f"{_name}__{_operator}"] = _limits
        if (_model, _name) not in ((m.Restaurant, "pk"), (m.OrderLine, "order")):  # relations
            LOOKUPS[_model][f"{_name}__range"] = [
                (_limits[0], _limits[-1]),
                (_limits[1], _limits[0]),
            ]

RELATED: dict[type[models.Model], list[str]] = {
    m.Post: ["category", "category__parent", "author", "author__profile", "editor", "editor__profile"],
    m.Author: ["profile"],
    m.Category: ["parent", "parent__parent"],
    m.Profile: ["author"],
    m.Place: ["restaurant", "restaurant__pizzeria"],
    m.Restaurant: ["pizzeria"],
    m.Membership: ["group", "person"],
    m.City: ["country"],
    m.TokenUse: ["token"],
    m.ToyPart: ["toy"],
    m.Comment: ["content_type"],
    m.Nulling: ["owner"],
    m.Ignoring: ["owner"],
    m.CascadingDeeper: ["cascading", "cascading__owner"],
}  # fmt: skip

PREFETCHED: dict[type[models.Model], list[str]] = {
    m.Post: ["tags", "comments", "author__posts"],
    m.Author: ["posts", "profile"],
    m.Group: ["members"],
    m.Category: ["children", "posts__tags"],
}

COLUMNS: dict[type[models.Model], list[str]] = {
    m.Post: ["pk", "title", "views", "category_id", "category__slug", "author__name", "editor__name",
             "tags__name", "tags", "author__profile__bio", "rating", "comments__text"],
    m.Author: ["pk", "name", "posts__title", "profile__bio"],
    m.Category: ["pk", "slug", "parent__slug", "posts__title", "parent_id"],
    m.Tag: ["pk", "name", "posts", "posts__title", "posts__author__name"],
    m.Restaurant: ["pk", "name", "stars", "pizzeria__oven"],
    m.Person: ["pk", "name", "friends__name", "groups__name"],
    m.Group: ["pk", "name", "members__name"],
    m.Token: ["pk", "label", "uses__count"],
    m.Country: ["pk", "name", "cities__name"],
    m.Toy: ["pk", "code", "parts__name"],
    m.Box: ["pk", "area", "lower_name"],
    m.Owner: ["pk", "name"],
}  # fmt: skip

TO_MANY = frozenset(
    "tags tags__name comments__text posts posts__title posts__author__name friends__name "
    "groups__name members__name uses__count cities__name parts__name".split()
)

#: model -> path -> the model whose keys it holds.
INNER: dict[type[models.Model], dict[str, Any]] = {
    m.Post: {"author_id": m.Author, "category_id": m.Category, "pk": m.Post, "tags": m.Tag},
    m.Author: {"pk": m.Author, "posts": m.Post},
    m.Tag: {"pk": m.Tag, "posts__author_id": m.Author},
    m.Category: {"parent_id": m.Category, "pk": m.Category},
    m.Restaurant: {"pk": m.Place},
    m.Place: {"pk": m.Restaurant},
    m.Person: {"pk": m.Person, "groups": m.Group},
}
FILTERED: dict[type[models.Model], tuple[str, str, list[Any]]] = {
    m.Post: ("tags", "tags__name", WORDS),
    m.Author: ("posts", "posts__published", TRUTH),
    m.Category: ("children", "children__title", WORDS),
}
NUMBER: dict[type[models.Model], str] = {
    m.Post: "views", m.Restaurant: "stars", m.OrderLine: "quantity", m.Box: "area",
}  # fmt: skip
#: Reads that start at a relation of one row.
RELATIONS: list[tuple[Any, Callable[[int], Any]]] = [
    (m.Post, lambda pk: m.Post(pk=pk).tags.all()),
    (m.Tag, lambda pk: m.Tag(pk=pk).posts.all()),
    (m.Post, lambda pk: m.Post(pk=pk).comments.all()),
    (m.Author, lambda pk: m.Author(pk=pk).posts.all()),
    (m.Author, lambda pk: m.Author(pk=pk).edited.filter(published=True)),
    (m.Category, lambda pk: m.Category(pk=pk).children.all()),
    (m.Person, lambda pk: m.Person(pk=pk).friends.all()),
    (m.Person, lambda pk: m.Person(pk=pk).followers.all()),
    (m.Group, lambda pk: m.Group(pk=pk).members.all()),
    (m.Group, lambda pk: m.Group(pk=pk).members.filter(membership__role="a")),
    (m.Person, lambda pk: m.Person(pk=pk).groups.all()),
    (m.Token, lambda pk: m.Token(pk=uuid.UUID(int=pk)).uses.all()),
    (m.Owner, lambda pk: m.Owner(pk=pk).ignoring.all()),
]

#: What one example is about, so that its writes meet its reads.
THEMES: list[list[Any]] = [
    [m.Post], [m.Post, m.Author], [m.Post, m.Tag], [m.Post, m.Category], [m.Author, m.Profile],
    [m.Post, m.Comment], [m.Place, m.Restaurant, m.Pizzeria], [m.Person, m.Group, m.Membership],
    [m.Token, m.TokenUse, m.Big], [m.Country, m.City], [m.Toy, m.ToyPart], [m.Box, m.Price],
    [m.Owner, m.Cascading, m.CascadingDeeper, m.Nulling, m.Defaulting, m.Setting],
    [m.Owner, m.Protecting, m.Restricting, m.Ignoring], [m.OrderLine, m.Note, m.Odd],
    [m.Memo, m.Document, m.Attachment], list(LOOKUPS), list(LOOKUPS),
]  # fmt: skip


class Focus:
    """The models, lookups and attributes that an example draws from."""

    def __init__(self, number: int | None = None) -> None:
        """``number`` chooses; None is everything."""
        dice = random.Random(number)
        self.models = dice.choice(THEMES) if number is not None else list(LOOKUPS)
        self.lookups = {
            model: sorted(names)
            if number is None or len(self.models) > 9
            else dice.sample(sorted(names), min(5, len(names)))
            for model, names in LOOKUPS.items()
        }

    def of(self, pool: Iterable[Any]) -> list[Any]:
        """Those of the pool that this example is about, or else all."""
        pool = list(pool)
        return [model for model in pool if model in self.models] or pool

    def attributes(self, model: Any, names: Iterable[str]) -> list[str]:
        """The attributes among ``names`` that the lookups ask for, or else all."""
        names = sorted(names)
        heads = {name.split("__")[0] for name in self.lookups[model]}
        return [name for name in names if name.removesuffix("_id") in heads] or names


focus = Focus()


def set_focus(number: int | None) -> None:
    """Choose what is drawn from now on."""
    global focus
    focus = Focus(number)


class Drawn:
    """A read drawn by hypothesis; ``answer(cached)`` runs it on a fresh copy of its queryset."""

    def __init__(
        self, queryset: Any, op: str, args: tuple[Any, ...] = (), text: str = "",
        options: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.queryset, self.op, self.args, self.text = queryset, op, args, text
        self.options = options or {}

    def answer(self, cached: bool) -> Any:
        queryset = self.queryset.all()
        queryset = queryset.cache() if cached else queryset.nocache()
        if self.op == "fetch":
            found = [plain(item) for item in queryset]
            # Without an order the database gives the rows as it likes.
            return found if queryset.query.is_sliced else sorted(found, key=repr)
        if self.op == "prefetch":
            return sorted((_with_prefetched(item) for item in queryset), key=repr)
        if self.op in ("get", "first", "last", "earliest", "latest"):
            try:
                return plain(getattr(queryset, self.op)(*self.args))
            except (queryset.model.DoesNotExist, queryset.model.MultipleObjectsReturned) as error:
                return type(error).__name__
        if self.op == "follow":
            return self._follow(cached)
        if self.op == "in_bulk":
            return {
                key: plain(item)
                for key, item in queryset.in_bulk(*self.args, **self.options).items()
            }
        if self.op == "aggregate":
            return queryset.aggregate(**self.args[0])
        return getattr(queryset, self.op)(*self.args)

    def _follow(self, cached: bool) -> Any:
        """What a foreign key leads to, from an object that knows nothing but the key."""
        field, key = self.args
        if not cached:
            wanted = {field.target_field.attname: key}
            return plain(self.queryset.nocache().filter(**wanted).first())
        try:
            return plain(getattr(field.model(**{field.attname: key}), field.name))
        except self.queryset.model.DoesNotExist:
            return None

    def __repr__(self) -> str:
        return f"<{self.op}{self.args or ''} {self.text or self._sql()}>"

    def _sql(self) -> str:
        try:
            return f"{self.queryset.model.__name__} {self.queryset.query}"
        except Exception as error:  # an empty result has no SQL
            return f"{self.queryset.model.__name__} without SQL ({error!r})"


def _with_prefetched(item: Any) -> Any:
    shown = {
        name: sorted((plain(one) for one in found), key=repr)
        for name, found in getattr(item, "_prefetched_objects_cache", {}).items()
    }
    return plain(item), shown


@st.composite
def conditions(draw: Any, model: Any, depth: int = 2) -> Q:
    """A condition on a model."""
    how = draw(st.integers(0, 19)) if depth else 0
    if how < 9:
        name = draw(st.sampled_from(focus.lookups[model]))
        return Q(**{name: draw(st.sampled_from(LOOKUPS[model][name]))})
    if how < 11:
        return draw(subqueries(model, depth - 1)) if model in INNER else Q()
    if how < 13:
        return ~draw(conditions(model, depth - 1))
    one, other = draw(conditions(model, depth - 1)), draw(conditions(model, depth - 1))
    if how < 16:
        return one & other
    return one | other if how < 19 else one ^ other


@st.composite
def subqueries(draw: Any, model: Any, depth: int) -> Q:
    """A condition that asks another query."""
    path, inner = draw(st.sampled_from(sorted(INNER[model].items(), key=repr)))
    queryset = inner._base_manager.filter(draw(conditions(inner, min(depth, 1))))
    kind = draw(st.sampled_from(["in", "not in", "exists", "not exists", "exact", "annotated"]))
    if kind == "in":
        return Q(**{f"{path}__in": queryset})
    if kind == "not in":
        return ~Q(**{f"{path}__in": queryset.values("pk")})
    if kind == "exact":
        return Q(**{path: Subquery(queryset.order_by("-pk").values("pk")[:1])})
    exists = Exists(queryset.filter(pk=OuterRef(path)))
    return Q(~exists if kind == "not exists" else exists)


SHAPES = [
    "rows", "rows", "get", "related", "related", "values", "slice", "count", "exists", "relation",
    "distinct", "aggregate", "group", "first", "filtered", "union", "prefetch", "in_bulk", "dates",
    "annotated", "window", "proxy", "manager", "only",
]  # fmt: skip


@st.composite
def reads(draw: Any) -> Drawn:
    """A read of any shape."""
    from .drawn_more import MORE  # which is made of what is here

    shape = draw(st.sampled_from([*SHAPES, *MORE]))
    if shape == "relation":
        wanted = focus.of(model for model, _ in RELATIONS)
        build = draw(st.sampled_from([build for model, build in RELATIONS if model in wanted]))
        queryset = build(draw(st.sampled_from(KEYS)))
        return Drawn(queryset, draw(st.sampled_from(["fetch", "fetch", "count", "exists"])))
    models_of, more = MORE.get(shape, (None, None))
    model = draw(st.sampled_from(focus.of(models_of) if more else _models(shape)))
    queryset = model._base_manager.all()
    for _ in range(draw(st.sampled_from([1, 1, 2, 0]))):
        condition = draw(conditions(model, draw(st.sampled_from([0, 0, 1, 2]))))
        negative = draw(st.integers(0, 4)) == 4
        queryset = queryset.exclude(condition) if negative else queryset.filter(condition)
    return more(draw, queryset, model) if more else draw(_shaped(queryset, model, shape))


def _models(shape: str) -> list[Any]:
    pools: dict[str, Any] = {
        "related": RELATED, "values": COLUMNS, "distinct": COLUMNS, "slice": COLUMNS,
        "group": COLUMNS, "union": COLUMNS, "window": COLUMNS, "annotated": [m.Post],
        "filtered": FILTERED, "prefetch": PREFETCHED, "dates": [m.Post], "proxy": [m.Post],
        "aggregate": NUMBER, "manager": [m.Note],
    }  # fmt: skip
    return focus.of(pools.get(shape, LOOKUPS))


@st.composite
def _shaped(draw: Any, queryset: Any, model: Any, shape: str) -> Drawn:
    def column() -> str:
        return draw(st.sampled_from(COLUMNS[model]))

    if shape in ("get", "count", "exists"):
        return Drawn(queryset, shape)
    if shape == "first":
        ordered = queryset.order_by("pk") if model is m.OrderLine else queryset
        return Drawn(ordered, draw(st.sampled_from(["first", "last"])))
    if shape == "related":
        names = draw(st.lists(st.sampled_from(RELATED[model]), min_size=1, max_size=2))
        return Drawn(queryset.select_related(*names), "fetch")
    if shape == "prefetch":
        return Drawn(queryset.prefetch_related(draw(st.sampled_from(PREFETCHED[model]))), shape)
    if shape in ("values", "distinct"):
        names = draw(st.lists(st.sampled_from(COLUMNS[model]), min_size=1, max_size=3, unique=True))
        flavour = queryset.values if draw(st.booleans()) else queryset.values_list
        queryset = flavour(*names)
        return Drawn(queryset.distinct() if shape == "distinct" else queryset, "fetch")
    if shape == "slice":
        order = draw(
            st.sampled_from([F(column()), Lower(F(column())), F(column()).desc(), F("pk")])
        )
        start = draw(st.sampled_from([0, 0, 1]))
        # Rows that a join to many repeats look alike here, so in whichever order they come.
        names = [name for name in COLUMNS[model] if name not in TO_MANY]
        queryset = queryset.values_list(*names).order_by(order, *names)
        return Drawn(queryset[start : start + draw(st.sampled_from([1, 2]))], "fetch")
    if shape == "aggregate":
        name = NUMBER[model]
        sums = {"n": Count("pk"), "s": Sum(name), "a": Avg(name), "lo": Min(name), "hi": Max(name)}
        chosen = draw(st.sampled_from(sorted(sums)))
        return Drawn(queryset, "aggregate", ({chosen: sums[chosen]},))
    if shape == "group":
        queryset = queryset.order_by().values(column()).annotate(n=Count("pk"), top=Max("pk"))
        having = draw(st.sampled_from([Q(), Q(n__gt=1), Q(n=1)]))
        return Drawn(queryset.filter(having), "fetch")
    if shape == "union":
        other = model._base_manager.filter(draw(conditions(model, 0))).order_by()
        how = draw(st.sampled_from(["union", "intersection", "difference"]))
        one, two = queryset.order_by().values_list("pk"), other.values_list("pk")
        return Drawn(getattr(one, how)(two), "fetch")
    if shape == "window":
        window = Window(RowNumber(), partition_by=column(), order_by="pk")
        queryset = queryset.order_by().annotate(number=window).values_list("pk", "number")
        return Drawn(queryset.filter(number=1) if draw(st.booleans()) else queryset, "fetch")
    if shape == "annotated":
        annotations = {
            "kind": Case(When(draw(conditions(model, 0)), then=Value("yes")), default=Value("no")),
            "size": Length("author__name"),
            "voted": Count("tags"),
            "best": Subquery(
                m.Comment.objects.filter(object_id=OuterRef("pk"))
                .order_by("-pk")
                .values("text")[:1]
            ),
            "busy": Exists(m.Tag.objects.filter(posts=OuterRef("pk"), name="a")),
        }
        name = draw(st.sampled_from(sorted(annotations)))
        return Drawn(queryset.annotate(**{name: annotations[name]}), "fetch")
    if shape == "filtered":
        name, lookup, options = FILTERED[model]
        condition = Q(**{lookup: draw(st.sampled_from(options))})
        queryset = queryset.annotate(rel=FilteredRelation(name, condition=condition))
        if draw(st.booleans()):
            return Drawn(queryset.filter(rel__isnull=draw(st.booleans())), "fetch")
        return Drawn(queryset.values_list("pk", "rel__pk"), "fetch")
    if shape == "in_bulk":
        keys: list[Any] = UUIDS if model is m.Token else CODES if model is m.Country else KEYS
        keys = BIGS if model is m.Big else [(1, 1), (2, 1)] if model is m.OrderLine else keys
        return Drawn(model._base_manager.all(), "in_bulk", (keys[: draw(st.integers(1, 3))],))
    if shape == "dates":
        kinds = [
            lambda: queryset.dates("day", "month"),
            lambda: queryset.datetimes("created", "day"),
            lambda: queryset.annotate(mm=TruncMonth("day")).values("mm").annotate(n=Count("pk")),
        ]
        return Drawn(draw(st.sampled_from(kinds))(), "fetch")
    if shape == "proxy":
        proxies = m.PostProxy.objects.filter(pk__in=queryset.values("pk"))
        plainer = m.PostProxy.objects.filter(draw(conditions(m.Post, 0)))
        return Drawn(draw(st.sampled_from([plainer, proxies])), "fetch")
    if shape == "manager":
        return Drawn(m.Note.objects.filter(draw(conditions(m.Note, 0))), "fetch")
    if shape == "only" and model is not m.OrderLine:
        names = [field.name for field in model._meta.concrete_fields]
        name = draw(st.sampled_from(names))
        return Drawn(queryset.only(name) if draw(st.booleans()) else queryset.only("pk"), "fetch")
    return Drawn(queryset, "fetch")
