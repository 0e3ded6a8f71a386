"""The less usual reads of the random test: subqueries about the outer row, ON clauses, sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.db import connection, models
from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import Coalesce, Lower, Rank
from django.db.models.lookups import In
from hypothesis import strategies as st

from . import models as m
from .drawn_reads import CODES, COLUMNS, KEYS, TRUTH, UUIDS, WORDS, Drawn, conditions

Shape = Callable[[Any, Any, Any], Drawn]

#: (inner model, its lookup, what of the outer row, a column of the inner one that may be NULL).
CORRELATED: dict[Any, list[tuple[Any, str, str, str]]] = {
    m.Post: [
        (m.Author, "pk", "author_id", "pk"),
        (m.Author, "pk", "editor_id", "pk"),
        (m.Comment, "object_id", "pk", "pk"),
        (m.Post, "category", "category_id", "editor_id"),
        (m.Tag, "posts", "pk", "pk"),
    ],
    m.Author: [
        (m.Post, "author", "pk", "editor_id"),
        (m.Post, "editor", "pk", "editor_id"),
        (m.Profile, "author", "pk", "pk"),
    ],
    m.Category: [
        (m.Post, "category", "pk", "editor_id"),
        (m.Category, "parent", "pk", "parent_id"),
    ],
    m.Person: [(m.Membership, "person", "pk", "group_id")],
    m.Country: [(m.City, "country", "pk", "pk")],
    m.Owner: [(m.Nulling, "owner", "pk", "owner_id"), (m.Cascading, "owner", "pk", "pk")],
}
#: model -> (relation, conditions of its ON clause).
ON: dict[Any, list[tuple[str, list[Q]]]] = {
    m.Post: [
        ("tags", [Q(tags__name="a"), Q(tags__pk=1) | Q(tags__name="b")]),
        ("comments", [Q(comments__text="a"), Q(comments__hidden=False)]),
        ("editor", [Q(editor__name="a"), ~Q(editor__name="a"), Q(views=1)]),
    ],
    m.Author: [
        ("posts", [Q(posts__published=True), Q(posts__editor=None), Q(posts__views__gt=0)]),
        ("profile", [Q(profile__bio="a"), Q(name="a")]),
    ],
    m.Category: [("parent", [Q(parent__title="a")]), ("children", [Q(children__title="a")])],
    m.Owner: [("ignoring", [Q(ignoring__gt=1)])],
}
PREFETCHES: dict[Any, list[Callable[[], Any]]] = {
    m.Post: [
        lambda: Prefetch("tags", m.Tag.objects.filter(name="a")),
        lambda: Prefetch("comments", m.Comment.objects.filter(hidden=False)),
        lambda: Prefetch("author", m.Author.objects.select_related("profile")),
        lambda: Prefetch("tags", m.Tag.objects.filter(group=""), to_attr="some"),
    ],
    m.Author: [
        lambda: Prefetch("posts", m.Post.objects.filter(published=True).order_by("-pk")),
        lambda: Prefetch("posts", m.Post.objects.order_by("pk")[:1]),
    ],
    m.Comment: [
        lambda: "target",
        lambda: GenericPrefetch(
            "target", [m.Post.objects.select_related("author"), m.Author.objects.filter(name="a")]
        ),
    ],
}
NUMBERED = {m.Post: "views", m.Restaurant: "stars", m.OrderLine: "quantity", m.Box: "width"}


def correlated(draw: Any, queryset: Any, model: Any) -> Drawn:
    inner, lookup, path, nullable = draw(st.sampled_from(CORRELATED[model]))
    found = inner._base_manager.filter(draw(conditions(inner, 0)), **{lookup: OuterRef(path)})
    if draw(st.booleans()):  # something is known of the outer row
        queryset = queryset.filter(pk="de" if model is m.Country else draw(st.sampled_from(KEYS)))
    how = draw(st.sampled_from(["exists", "not exists", "in", "not in", "value", "case", "looked"]))
    if how == "exists":
        queryset = queryset.filter(Exists(found))
    elif how == "not exists":
        queryset = queryset.filter(~Exists(found))
    elif how == "in":
        queryset = queryset.filter(**{f"{path}__in": found.values(nullable)})
    elif how == "not in":
        queryset = queryset.exclude(**{f"{path}__in": found.values(nullable)})
    elif how == "value":
        last = Subquery(found.order_by("-pk").values("pk")[:1])
        zero = Value(0, output_field=models.BigIntegerField())
        queryset = queryset.annotate(x=Coalesce(last, zero))
    elif how == "case":
        queryset = queryset.annotate(x=Case(When(Exists(found), then=1), default=0))
    else:
        queryset = queryset.annotate(x=In(F(path), inner._base_manager.values(nullable)))
    return Drawn(queryset, draw(st.sampled_from(["fetch", "fetch", "count"])))


def on(draw: Any, queryset: Any, model: Any) -> Drawn:
    name, options = draw(st.sampled_from(ON[model]))
    queryset = queryset.annotate(r=FilteredRelation(name, condition=draw(st.sampled_from(options))))
    how = draw(st.sampled_from(["null", "key", "or", "shown", "counted"]))
    if how == "null":
        return Drawn(queryset.filter(r__isnull=draw(st.sampled_from(TRUTH))), "fetch")
    if how == "key":
        return Drawn(queryset.filter(r__pk=draw(st.sampled_from(KEYS))), "fetch")
    if how == "or":
        other = draw(conditions(model, 0))
        return Drawn(queryset.filter(Q(r__pk=draw(st.sampled_from(KEYS))) | other), "fetch")
    if how == "shown":
        return Drawn(queryset.values_list("pk", "r__pk"), "fetch")
    return Drawn(queryset.order_by().values("pk").annotate(n=Count("r")), "fetch")


def prefetch(draw: Any, queryset: Any, model: Any) -> Drawn:
    return Drawn(queryset.prefetch_related(draw(st.sampled_from(PREFETCHES[model]))()), "prefetch")


def contains(draw: Any, queryset: Any, model: Any) -> Drawn:
    return Drawn(queryset, "contains", (model(pk=draw(st.sampled_from(KEYS))),))


def combined(draw: Any, queryset: Any, model: Any) -> Drawn:
    other = model._base_manager.filter(draw(conditions(model, 1)))
    joined = draw(st.sampled_from([lambda: queryset | other, lambda: queryset & other]))()
    return Drawn(joined.distinct(), "fetch")


def sets(draw: Any, queryset: Any, model: Any) -> Drawn:
    """Unions that are named, ordered, sliced, counted."""
    other = model._base_manager.filter(draw(conditions(model, 0))).order_by()
    one = queryset.order_by().annotate(of=Value(1)).values_list("pk", "of")
    two = other.annotate(of=Value(2)).values_list("pk", "of")
    union = one.union(two, all=draw(st.booleans())).order_by("pk", "of")
    how = draw(st.sampled_from(["all", "some", "count", "exists"]))
    if how in ("count", "exists"):
        return Drawn(union, how)
    return Drawn(union[:2] if how == "some" else union, "fetch")


def distinct_on(draw: Any, queryset: Any, model: Any) -> Drawn:
    name = draw(st.sampled_from(COLUMNS[model]))
    names = [name] if name in ("pk", "id") else [name, "pk"]
    queryset = queryset.order_by(*names)
    if connection.features.can_distinct_on_fields:
        queryset = queryset.distinct(name)
    return Drawn(queryset.values_list("pk", name), "fetch")


def ends(draw: Any, queryset: Any, model: Any) -> Drawn:
    name = NUMBERED[model]
    key = ("order", "line") if model is m.OrderLine else ("pk",)
    return Drawn(queryset, draw(st.sampled_from(["earliest", "latest"])), (name, *key))


def packed(draw: Any, queryset: Any, model: Any) -> Drawn:
    name = draw(st.sampled_from(COLUMNS[model]))
    kinds: list[Callable[[], Any]] = [
        lambda: queryset.values_list(name, flat=True),
        lambda: queryset.values_list("pk", name, named=True),
        lambda: queryset.values("pk", lower=Lower(F(name))),
        lambda: queryset.alias(x=F(name)).filter(x__isnull=False).values_list("pk"),
    ]
    return Drawn(draw(st.sampled_from(kinds))(), "fetch")


def totals(draw: Any, queryset: Any, model: Any) -> Drawn:
    """Aggregates over annotations, slices, distinct rows, with filters of their own."""
    name = NUMBERED[model]
    condition = draw(conditions(model, 0))
    key = "order" if model is m.OrderLine else "pk"
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (queryset, {"x": Count(key, filter=condition)}),
        (queryset, {"x": Sum(name), "y": F("x") + 1}),
        (queryset.annotate(n=F(name) + 1), {"x": Max("n")}),
        (queryset.order_by(key)[:2], {"x": Sum(name)}),
        (queryset.values(name).distinct(), {"x": Count(name)}),
        (queryset.values(name).annotate(n=Count(key)), {"x": Avg("n")}),
    ]
    chosen, sums = draw(st.sampled_from(kinds))
    return Drawn(chosen, "aggregate", (sums,))


def counted(draw: Any, queryset: Any, model: Any) -> Drawn:
    """count() and exists() of what is sliced, distinct or grouped."""
    name = draw(st.sampled_from(COLUMNS[model]))
    kinds: list[Callable[[], Any]] = [
        lambda: queryset.order_by("pk")[:2],
        lambda: queryset.values(name).distinct(),
        lambda: queryset.order_by().values(name).annotate(n=Count("pk")).filter(n__gt=1),
        lambda: queryset.order_by("pk")[1:],
    ]
    return Drawn(draw(st.sampled_from(kinds))(), draw(st.sampled_from(["count", "exists"])))


def ranked(draw: Any, queryset: Any, model: Any) -> Drawn:
    name = draw(st.sampled_from(COLUMNS[model]))
    window = Window(Rank(), partition_by=F(name), order_by="pk")
    queryset = queryset.order_by().annotate(number=window).values_list("pk", "number")
    condition = draw(conditions(model, 0))
    keep = [Q(), Q(number=1), Q(number=1) & condition, Q(number__lte=1) | condition]
    return Drawn(queryset.filter(draw(st.sampled_from(keep))), "fetch")


def in_bulk(draw: Any, queryset: Any, model: Any) -> Drawn:
    words = [f"{word}{key}" for key, word in enumerate(WORDS[:3], 1)]
    asked = draw(st.lists(st.sampled_from(words), min_size=1, max_size=3, unique=True))
    options = {"field_name": "slug" if model is m.Category else "code"}
    return Drawn(model._base_manager.all(), "in_bulk", (asked,), options=options)


#: model -> (foreign keys that lead to it, keys).
FOLLOWED: dict[Any, tuple[list[Any], list[Any]]] = {
    m.Author: ([m.Post.author, m.Post.editor, m.Profile.author], [*KEYS, 4]),
    m.Category: ([m.Post.category, m.Category.parent], [*KEYS, 4]),
    m.Owner: ([m.Nulling.owner, m.Cascading.owner], KEYS),
    m.Country: ([m.City.country], CODES),
    m.Token: ([m.TokenUse.token], UUIDS),
    m.Toy: ([m.ToyPart.toy], ["a1", "b2"]),
    m.Person: ([m.Membership.person], KEYS),
}


def follow(draw: Any, queryset: Any, model: Any) -> Drawn:
    descriptors, keys = FOLLOWED[model]
    field = draw(st.sampled_from(descriptors)).field
    return Drawn(model._base_manager.all(), "follow", (field, draw(st.sampled_from(keys))))


#: shape -> (models, how it is drawn).
MORE: dict[str, tuple[Any, Shape]] = {
    "correlated": (CORRELATED, correlated),
    "on": (ON, on),
    "prefetch object": (PREFETCHES, prefetch),
    "contains": ([m.Post, m.Author, m.Category, m.Tag, m.Restaurant], contains),
    "combined": ([m.Post, m.Author, m.Category, m.Tag, m.Person], combined),
    "sets": ([m.Post, m.Author, m.Category, m.Tag, m.Place], sets),
    "distinct on": (COLUMNS, distinct_on),
    "ends": (NUMBERED, ends),
    "packed": (COLUMNS, packed),
    "totals": (NUMBERED, totals),
    "counted": (COLUMNS, counted),
    "ranked": ([m.Post, m.Author, m.Tag, m.Category], ranked),
    "in_bulk by name": ([m.Category, m.Toy], in_bulk),
    "follow": (FOLLOWED, follow),
}
