"""Each shape of query with the dependencies that it must have, no more and no less.

Dependencies are written as ``{"table": "column=text&… | …"}``: ``*`` is any row, an empty text no
row; ``table.column@3`` says that every value in column 3 of the result is one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.models import (
    Avg,
    BooleanField,
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    FilteredRelation,
    Func,
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
from django.db.models.expressions import RawSQL
from django.db.models.functions import (
    Cast,
    Coalesce,
    Lower,
    Now,
    Random,
    RowNumber,
)
from django.db.models.lookups import Exact, In

from cacheops_lite.core.entry import conjunction
from cacheops_lite.orm import values
from cacheops_lite.orm.conditions import Conditions, analyse
from cacheops_lite.orm.tables import Source, sources

from .models import (
    Author,
    Category,
    City,
    Document,
    Ignoring,
    Note,
    OrderLine,
    Person,
    Pizzeria,
    Place,
    Post,
    PostProxy,
    Price,
    Profile,
    Restaurant,
    Tag,
    TokenUse,
    ToyPart,
)
from .test_dnf import Work

pytestmark = pytest.mark.django_db

posts = Post.objects
Through = Post.tags.through
DAY = models.DateField()


def explain(query: Any, limit: int = 64) -> Conditions:
    """Compile a query as it would be run, and read it."""
    if isinstance(query, models.QuerySet):
        query = query.query
    compiler = query.clone().get_compiler("default")
    sql, _ = compiler.as_sql()
    return analyse(compiler, sql, limit)


def shown(found: Conditions) -> dict[str, str]:
    """The dependencies in the short form of this file."""
    result = {}
    for table, options in found.tables.items():
        conjs = sorted("&".join(f"{column}={text}" for column, text in conj) for conj in options)
        dynamic = sorted(
            f"{item.column}@{item.index}" for item in found.dynamic if item.table == table
        )
        result[table.removeprefix("tests_")] = " | ".join(
            [*(conj or "*" for conj in conjs), *dynamic]
        )
    return result


EXACT: list[tuple[str, Callable[[], Any], dict[str, str]]] = [
    # ---------------------------------------------------------------- conditions of one table
    ("all rows", lambda: posts.all(), {"post": "*"}),
    ("equal", lambda: posts.filter(category=3), {"post": "category_id=3"}),
    ("by instance", lambda: posts.filter(category=Category(pk=3)), {"post": "category_id=3"}),
    ("by string", lambda: posts.filter(category="3"), {"post": "category_id=3"}),
    (
        "and",
        lambda: posts.filter(category=3, published=True),
        {"post": "category_id=3&published=1"},
    ),
    ("chained", lambda: posts.filter(views=1).filter(pk=2), {"post": "id=2&views=1"}),
    (
        "or",
        lambda: posts.filter(Q(views=1) | Q(category=2)),
        {"post": "category_id=2 | views=1"},
    ),
    ("or with all", lambda: posts.filter(Q(views=1) | Q(title__contains="x")), {"post": "*"}),
    ("absorbed", lambda: posts.filter(Q(views=1) | Q(views=1, pk=2)), {"post": "views=1"}),
    ("in", lambda: posts.filter(views__in=[1, 2, 1, None]), {"post": "views=1 | views=2"}),
    ("in set", lambda: posts.filter(views__in={1}), {"post": "views=1"}),
    ("contradiction", lambda: posts.filter(views=1).filter(views=2), {"post": ""}),
    ("narrowed in", lambda: posts.filter(pk__in=[1, 2]).filter(pk__in=[2, 3]), {"post": "id=2"}),
    ("null", lambda: posts.filter(rating=None), {"post": "rating=NULL"}),
    ("isnull", lambda: posts.filter(rating__isnull=True), {"post": "rating=NULL"}),
    ("not null", lambda: posts.filter(rating__isnull=False), {"post": "*"}),
    ("not not null", lambda: posts.exclude(rating__isnull=False), {"post": "rating=NULL"}),
    ("true", lambda: posts.filter(published=True), {"post": "published=1"}),
    ("not true", lambda: posts.exclude(published=True), {"post": "published=0"}),
    ("not not", lambda: posts.filter(~~Q(views=1)), {"post": "views=1"}),
    ("not equal", lambda: posts.exclude(views=1), {"post": "*"}),
    ("not (or)", lambda: posts.exclude(Q(published=True) | Q(views=1)), {"post": "published=0"}),
    (
        "not (and)",
        lambda: posts.exclude(published=True, rating__isnull=False),
        {"post": "published=0 | rating=NULL"},
    ),
    ("xor", lambda: posts.filter(Q(views=1) ^ Q(category=2)), {"post": "category_id=2 | views=1"}),
    ("not xor", lambda: posts.filter(~(Q(views=1) ^ Q(category=2))), {"post": "*"}),
    (
        "annotated condition",
        lambda: posts.alias(c=ExpressionWrapper(Q(views=1), BooleanField())).filter(c=True),
        {"post": "*"},
    ),
    ("column of the table", lambda: posts.filter(views=F("category")), {"post": "*"}),
    ("expression", lambda: posts.filter(views=Value(1) + 1), {"post": "*"}),
    ("in with expression", lambda: posts.filter(views__in=[1, F("pk")]), {"post": "*"}),
    ("transformed", lambda: posts.filter(title__lower__exact="x"), {"post": "*"})
    if "lower" in Post._meta.get_field("title").get_lookups()
    else ("transformed", lambda: posts.alias(x=Lower("title")).filter(x="x"), {"post": "*"}),
    ("float", lambda: posts.filter(score=1.5), {"post": "*"}),
    ("json", lambda: Document.objects.filter(data__a=1), {"document": "*"}),
    ("text", lambda: posts.filter(title="Ärger "), {"post": "title=arger"}),
    ("enum", lambda: posts.filter(status=Post.Status.LIVE), {"post": "status=live"}),
    ("decimal", lambda: posts.filter(rating=Decimal("1.50")), {"post": "rating=1.5"}),
    ("decimal that does not fit", lambda: posts.filter(rating=Decimal("1.555")), {"post": "*"}),
    ("day", lambda: posts.filter(day=dt.date(2024, 3, 1)), {"post": "day=2024-03-01"}),
    (
        "duration",
        lambda: posts.filter(duration=dt.timedelta(seconds=1)),
        {"post": "duration=1000000"},
    ),
    ("uuid", lambda: TokenUse.objects.filter(token="0" * 32), {"tokenuse": f"token_id={'0' * 32}"}),
    ("custom field", lambda: Price.objects.filter(amount=Decimal("3.5")), {"price": "amount=350"}),
    ("text key", lambda: City.objects.filter(country="DE"), {"city": "country_id=de"}),
    ("to_field", lambda: ToyPart.objects.filter(toy="x"), {"toypart": "toy_id=x"}),
    ("composite key", lambda: OrderLine.objects.filter(pk=(1, 2)), {"orderline": "line=2&order=1"}),
    (
        "composite keys",
        lambda: OrderLine.objects.filter(pk__in=[(1, 2), (3, 4)]),
        {"orderline": "line=2&order=1 | line=4&order=3"},
    ),
    ("manager", lambda: Note.objects.filter(text="x"), {"note": "deleted=0&text=x"}),
    ("proxy", lambda: PostProxy.objects.filter(views=1), {"post": "views=1"}),
    ("sliced", lambda: posts.filter(views=1).order_by("pk")[5:10], {"post": "views=1"}),
    ("distinct", lambda: posts.filter(views=1).values("title").distinct(), {"post": "views=1"}),
    ("dates", lambda: posts.filter(views=1).dates("day", "year"), {"post": "views=1"}),
    ("too long", lambda: posts.filter(views__in=range(65), category=1), {"post": "category_id=1"}),
    # ----------------------------------------------------------------------------------- joins
    (
        "filter across",
        lambda: posts.filter(category__slug="x"),
        {"post": "*", "category": "slug=x"},
    ),
    ("key across", lambda: posts.filter(category__pk=3), {"post": "category_id=3"}),
    (
        "carried forth",
        lambda: posts.filter(category=3).filter(category__slug="x"),
        {"post": "category_id=3", "category": "id=3&slug=x"},
    ),
    (
        "carried back",
        lambda: ToyPart.objects.filter(toy__code="x", toy__pk=1),
        {"toypart": "toy_id=x", "toy": "code=x&id=1"},
    ),
    (
        "carried through",
        lambda: Profile.objects.filter(author=3, author__posts__views=1),
        {"profile": "author_id=3", "author": "", "post": "author_id=3&views=1"},
    ),
    (
        "reverse",
        lambda: Author.objects.filter(posts__views=1),
        {"author": "id@0", "post": "views=1"},
    ),
    (
        "many to many",
        lambda: posts.filter(tags=3),
        {"post": "id@0", "post_tags": "tag_id=3"},
    ),
    (
        "many to many and more",
        lambda: posts.filter(tags=3, published=True),
        {"post": "published=1", "post_tags": "tag_id=3"},
    ),
    (
        "twice many to many",
        lambda: posts.filter(tags=3).filter(tags=4),
        {"post": "id@0", "post_tags": "tag_id=3 | tag_id=4"},
    ),
    (
        "through a model",
        lambda: Person.objects.filter(membership__role="x", membership__group=1),
        {"person": "id@0", "membership": "group_id=1&role=x"},
    ),
    (
        "onto itself",
        lambda: Person.objects.filter(friends=3),
        {"person": "id@0", "person_friends": "to_person_id=3"},
    ),
    (
        "the table twice",
        lambda: Category.objects.filter(slug="a", parent__slug="b"),
        {"category": "slug=a | slug=b"},
    ),
    (
        "no right-hand row",
        lambda: Author.objects.filter(profile__isnull=True),
        {"author": "*", "profile": "*"},
    ),
    (
        "no right-hand row for one",
        lambda: Author.objects.filter(pk=3, profile__isnull=True),
        {"author": "id=3", "profile": "author_id=3"},
    ),
    (
        "null on the right",
        lambda: posts.filter(editor__name=None),
        {"post": "*", "author": "*"},
    ),
    (
        "or across",
        lambda: posts.filter(Q(editor__name="x") | Q(views=1)),
        {"post": "*", "author": "*"},
    ),
    (
        "not across many",
        lambda: posts.exclude(tags__name="x"),
        {"post": "*", "post_tags": "*", "tag": "name=x"},
    ),
    (
        "filtered relation",
        lambda: posts.annotate(r=FilteredRelation("tags", condition=Q(tags__group="g"))).filter(
            r__name="x"
        ),
        {"post": "id@0", "post_tags": "*", "tag": "group=g&name=x"},
    ),
    (
        "filtered relation, outer",
        lambda: Author.objects.annotate(
            r=FilteredRelation("posts", condition=Q(posts__published=True))
        ).values_list("pk", "r__title"),
        {"author": "*", "post": "published=1"},
    ),
    (
        "filtered relation, outer, of one row",
        lambda: (
            Author.objects.annotate(
                r=FilteredRelation("posts", condition=Q(posts__category=2) | Q(posts__category=3))
            )
            .filter(pk=1)
            .values_list("pk", "r__title")
        ),
        {"author": "id=1", "post": "author_id=1&category_id=2 | author_id=1&category_id=3"},
    ),
    (
        "filtered relation, none of it",
        lambda: Author.objects.annotate(
            r=FilteredRelation("posts", condition=Q(posts__editor=None))
        ).filter(r__isnull=True),
        {"author": "*", "post": "editor_id=NULL"},
    ),
    (
        "filtered relation by the outer row",
        lambda: Author.objects.annotate(
            r=FilteredRelation("posts", condition=Q(name="x"))
        ).values_list("pk", "r__title"),
        {"author": "*", "post": "author_id@0"},
    ),
    (
        "generic relation joined",
        lambda: posts.filter(comments__text="x"),
        {"post": "*", "comment": "content_type_id=?&text=x"},
    ),
    (
        "generic relation joined, outer",
        lambda: posts.filter(pk=4).values_list("pk", "comments__text"),
        {"post": "id=4", "comment": "content_type_id=?&object_id=4"},
    ),
    # ------------------------------------------------------------------------ select_related
    (
        "related",
        lambda: posts.filter(pk=1).select_related("author"),
        {"post": "id=1", "author": "id@15"},
    ),
    (
        "related, deep",
        lambda: posts.filter(pk=1).select_related("editor__profile"),
        {"post": "id=1", "author": "id@3", "profile": "author_id@15"},
    ),
    (
        "related, known key",
        lambda: posts.filter(author=7).select_related("author"),
        {"post": "author_id=7", "author": "id=7"},
    ),
    (
        "related, nothing there",
        lambda: posts.filter(editor=None).select_related("editor"),
        {"post": "editor_id=NULL", "author": ""},
    ),
    (
        "related, backwards",
        lambda: Author.objects.select_related("profile"),
        {"author": "*", "profile": "author_id@0"},
    ),
    (
        "related and sliced",
        lambda: posts.select_related("author").order_by("pk")[:5],
        {"post": "*", "author": "id@15"},
    ),
    (
        "ordered by what is joined",
        lambda: posts.select_related("author").order_by("author__name"),
        {"post": "*", "author": "id@15"},
    ),
    (
        "sliced by what is joined",
        lambda: posts.select_related("author").order_by("author__name")[:5],
        {"post": "*", "author": "*"},
    ),
    (
        "related and filtered",
        lambda: posts.select_related("author").filter(author__name="x"),
        {"post": "*", "author": "name=x"},
    ),
    (
        "related by a key nobody enforces",
        lambda: Ignoring.objects.select_related("owner"),
        {"ignoring": "*", "owner": "*"},
    ),
    (
        "deferred key",
        lambda: posts.values("author__name"),
        {"post": "*", "author": "*"},
    ),
    (
        "values with the key",
        lambda: posts.values_list("title", "author__name", "author"),
        {"post": "*", "author": "id@2"},
    ),
    (
        "passed through on the way to two",
        lambda: posts.filter(tags=3).values_list("pk", "category__slug"),
        {"post": "id@0", "post_tags": "tag_id=3", "category": "*"},
    ),
    (
        "passed through, only its key",
        lambda: posts.filter(tags=3).values_list("pk"),
        {"post": "", "post_tags": "tag_id=3"},
    ),
    (
        "values of many",
        lambda: posts.values_list("pk", "tags__name"),
        {"post": "*", "post_tags": "post_id@0", "tag": "*"},
    ),
    (
        "values of many, sliced",
        lambda: posts.order_by("pk").values_list("pk", "tags__name")[1:3],
        {"post": "*", "post_tags": "*", "tag": "*"},
    ),
    (
        "values of many with their key",
        lambda: posts.values_list("pk", "tags__name", "tags"),
        {"post": "*", "post_tags": "post_id@0", "tag": "id@2"},
    ),
    # ------------------------------------------------------------------------------ managers
    ("foreign key back", lambda: Category(pk=3).posts.all(), {"post": "category_id=3"}),
    (
        "many to many of one",
        lambda: Post(pk=4).tags.all(),
        {"tag": "id@0", "post_tags": "post_id=4"},
    ),
    (
        "many to many of one, filtered",
        lambda: Post(pk=4).tags.filter(group="g"),
        {"tag": "group=g", "post_tags": "post_id=4"},
    ),
    (
        "many to many of one, cut by key",
        lambda: Post(pk=4).tags.order_by("pk")[:1],
        {"tag": "id@0", "post_tags": "post_id=4"},
    ),
    (
        "many to many of one, cut by name",
        lambda: Post(pk=4).tags.order_by("name")[:1],
        {"tag": "*", "post_tags": "post_id=4"},
    ),
    (
        "generic relation",
        lambda: Post(pk=4).comments.filter(hidden=False),
        {"comment": "content_type_id=?&hidden=0&object_id=4"},
    ),
    # ------------------------------------------------------------------------------ inheritance
    (
        "child",
        lambda: Restaurant.objects.filter(pk=3),
        {"restaurant": "place_ptr_id=3", "place": "id=3"},
    ),
    (
        "all children",
        lambda: Pizzeria.objects.all(),
        {"pizzeria": "*", "restaurant": "place_ptr_id@3", "place": "id@0"},
    ),
    (
        "child by its parent's column",
        lambda: Restaurant.objects.filter(name="x"),
        {"restaurant": "*", "place": "name=x"},
    ),
    ("parent", lambda: Place.objects.filter(pk=3), {"place": "id=3"}),
    (
        "parent with child",
        lambda: Place.objects.select_related("restaurant"),
        {"place": "*", "restaurant": "place_ptr_id@0"},
    ),
    # ------------------------------------------------------------------------------- subqueries
    (
        "in a queryset",
        lambda: posts.filter(category__in=Category.objects.filter(slug="x")),
        {"post": "*", "category": "slug=x"},
    ),
    (
        "in values",
        lambda: posts.filter(author__in=Profile.objects.filter(bio="x").values("author")),
        {"post": "*", "profile": "bio=x"},
    ),
    (
        "not in a queryset",
        lambda: posts.exclude(category__in=Category.objects.filter(slug="x")),
        {"post": "*", "category": "slug=x"},
    ),
    (
        "exists",
        lambda: Author.objects.filter(Exists(posts.filter(author=OuterRef("pk"), views=1))),
        {"author": "*", "post": "views=1"},
    ),
    (
        "not exists",
        lambda: Author.objects.filter(~Exists(posts.filter(author=OuterRef("pk"), views=1)), pk=3),
        {"author": "id=3", "post": "author_id=3&views=1"},
    ),
    (
        "exists for some",
        lambda: Author.objects.filter(Exists(posts.filter(editor=OuterRef("pk"))), pk__in=[3, 4]),
        {"author": "id=3 | id=4", "post": "editor_id=3 | editor_id=4"},
    ),
    (
        "exists for one, but not of one",
        lambda: Author.objects.filter(
            Q(Exists(posts.filter(author=OuterRef("pk"))), name="x") | Q(pk=3)
        ),
        {"author": "id=3 | name=x", "post": "*"},
    ),
    (
        "exists two deep",
        lambda: posts.filter(
            Exists(
                Category.objects.filter(
                    Exists(posts.filter(category=OuterRef("pk"), author=OuterRef(OuterRef("pk")))),
                    pk=OuterRef("category"),
                )
            ),
            pk=7,
            category=3,
        ),
        {"post": "author_id=7&category_id=3 | category_id=3&id=7", "category": "id=3"},
    ),
    (
        "not across many, of one",
        lambda: posts.filter(pk=3).exclude(tags__name="x"),
        {"post": "id=3", "post_tags": "post_id=3", "tag": "name=x"},
    ),
    (
        "subquery of one",
        lambda: Author.objects.filter(pk=3).annotate(
            last=Subquery(posts.filter(author=OuterRef("pk")).order_by("-pk").values("pk")[:1])
        ),
        {"author": "id=3", "post": "author_id=3"},
    ),
    (
        "in a queryset, of one",
        lambda: posts.filter(category=3, category__in=Category.objects.filter(slug="x")),
        {"post": "category_id=3", "category": "id=3&slug=x"},
    ),
    (
        "in values of a queryset, of one",
        lambda: posts.filter(category=3, category__in=Category.objects.values("pk")),
        {"post": "category_id=3", "category": "id=3"},
    ),
    (
        "in groups of a queryset, of one",
        lambda: posts.filter(
            category=3,
            category__in=Category.objects.values("slug").annotate(n=Max("pk")).values("n"),
        ),
        {"post": "category_id=3", "category": "*"},
    ),
    (
        "not in a queryset, of one",
        lambda: Author.objects.filter(pk=3).exclude(pk__in=posts.values("editor")),
        {"author": "id=3", "post": "editor_id=3 | editor_id=NULL"},
    ),
    (
        "nothing in a queryset",
        lambda: posts.filter(editor=None).annotate(
            x=In(F("editor"), Author.objects.filter(name="x").values("pk"))
        ),
        {"post": "editor_id=NULL", "author": "name=x"},
    ),
    (
        "in a sliced queryset, of one",
        lambda: posts.filter(
            category=3, category__in=Category.objects.order_by("slug").values("pk")[:2]
        ),
        {"post": "category_id=3", "category": "*"},
    ),
    (
        "exists inside case",
        lambda: Author.objects.annotate(
            busy=Case(When(Exists(posts.filter(author=OuterRef("pk"))), then=1), default=0)
        ),
        {"author": "*", "post": "*"},
    ),
    (
        "subquery in coalesce",
        lambda: Author.objects.annotate(
            last=Coalesce(
                Subquery(
                    posts.filter(author=OuterRef("pk"), published=True)
                    .order_by("-pk")
                    .values("title")[:1]
                ),
                Value(""),
            )
        ),
        {"author": "*", "post": "published=1"},
    ),
    (
        "subquery in a subquery",
        lambda: posts.filter(
            category__in=Category.objects.filter(parent__in=Category.objects.filter(slug="x"))
        ),
        {"post": "*", "category": "*"},
    ),
    (
        "subquery in the order",
        lambda: posts.filter(pk=1).order_by(
            Subquery(Category.objects.filter(pk=OuterRef("category")).values("slug"))
        ),
        {"post": "id=1", "category": "*"},
    ),
    (
        "subquery in filter= of an aggregate",
        lambda: Author.objects.annotate(
            n=Count("posts", filter=Q(posts__tags__in=Tag.objects.filter(group="g")))
        ),
        {"author": "*", "post": "*", "post_tags": "*", "tag": "group=g"},
    ),
    (
        "outer column",
        lambda: Author.objects.filter(
            Exists(posts.filter(category=1).filter(Exact(OuterRef("name"), "x")))
        ),
        {"author": "*", "post": "category_id=1"},
    ),
    (
        "prefetch through a queryset",
        lambda: Prefetch("tags", Tag.objects.filter(group="g")).queryset,
        {"tag": "group=g"},
    ),
    # ------------------------------------------------------------------------- groups, windows
    (
        "aggregate annotation",
        lambda: Category.objects.annotate(n=Count("posts")),
        {"category": "*", "post": "*"},
    ),
    (
        "having",
        lambda: posts.filter(category=1).values("author").annotate(n=Count("pk")).filter(n__gt=1),
        {"post": "category_id=1"},
    ),
    (
        "having or",
        lambda: posts.annotate(n=Count("tags")).filter(Q(n=1) | Q(category=1)),
        {"post": "*", "post_tags": "*"},
    ),
    (
        "window",
        lambda: posts.filter(category=1).annotate(
            n=Window(RowNumber(), partition_by="author", order_by="pk")
        ),
        {"post": "category_id=1"},
    ),
    (
        "filtered window",
        lambda: posts.annotate(n=Window(RowNumber(), partition_by="author")).filter(
            n=1, category=1
        ),
        {"post": "category_id=1"},
    ),
    (
        "window or",
        lambda: posts.annotate(n=Window(RowNumber(), partition_by="author")).filter(
            Q(n=1) | Q(category=1)
        ),
        {"post": "*"},
    ),
    # -------------------------------------------------------------------------------- combined
    (
        "union",
        lambda: posts.filter(pk=1).union(posts.filter(pk=2)),
        {"post": "id=1 | id=2"},
    ),
    (
        "difference of tables",
        lambda: Tag.objects.order_by().values("name").difference(Author.objects.values("name")),
        {"tag": "*", "author": "*"},
    ),
    (
        "union in a filter",
        lambda: posts.filter(
            pk__in=posts.filter(views=1).values("pk").union(posts.filter(views=2).values("pk"))
        ),
        {"post": "*"},
    ),
]


@pytest.mark.parametrize(
    ("make", "expected"), [case[1:] for case in EXACT], ids=[case[0] for case in EXACT]
)
def test_dependencies(make: Callable[[], Any], expected: dict[str, str]) -> None:
    """A query depends on exactly these rows, and may be cached."""
    found = explain(make())
    comments = str(ContentType.objects.get_for_model(Post).pk)
    expected = {table: text.replace("?", comments) for table, text in expected.items()}
    assert shown(found) == expected
    assert found.reason == ""


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: posts.filter(category=3), {"post": "category_id=3"}),
        (lambda: posts.filter(tags=3), {"post": "", "post_tags": "tag_id=3"}),
        (lambda: Post(pk=4).tags.all(), {"tag": "", "post_tags": "post_id=4"}),
        (lambda: posts.filter(category__slug="x"), {"post": "*", "category": "slug=x"}),
        (lambda: Restaurant.objects.filter(stars=1), {"restaurant": "stars=1"}),
    ],
)
def test_counting_does_not_look_at_rows_that_are_only_passed_through(
    make: Callable[[], Any], expected: dict[str, str]
) -> None:
    """Behind a foreign key there is one row, whatever is in it: it changes no number."""
    queryset = make()
    counted = queryset.query.clone()
    counted.add_annotation(Count("*"), "n", select=True)
    counted.clear_select_fields()
    counted.default_cols = False
    counted.clear_ordering(force=True)
    assert shown(explain(counted)) == expected
    assert shown(explain(queryset.query.exists())) == expected


def test_an_aggregate_over_a_subquery_depends_on_what_is_inside() -> None:
    """count() of a slice and aggregate() of annotations wrap the query."""
    seen: list[Conditions] = []

    def look(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(sql, params, many, context)

    from django.db.models.sql.compiler import SQLAggregateCompiler

    original = SQLAggregateCompiler.as_sql

    def as_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        sql, params = original(self, *args, **kwargs)
        seen.append(analyse(self, sql))
        return sql, params

    SQLAggregateCompiler.as_sql = as_sql  # type: ignore[method-assign]
    try:
        posts.filter(views=1)[:5].count()
        posts.filter(views=1).annotate(n=Count("tags")).aggregate(Avg("n"))
        Author.objects.annotate(m=Max("posts__views")).filter(pk=1).aggregate(s=Sum("m"))
    finally:
        SQLAggregateCompiler.as_sql = original  # type: ignore[method-assign]
    assert [shown(found) for found in seen] == [
        {"post": "views=1"},
        {"post": "views=1", "post_tags": "*"},
        {"author": "id=1", "post": "author_id=1"},
    ]


class Noise(Func):
    """An expression of somebody else's: Django knows nothing of its SQL but the text."""

    function = "ABS"
    output_field = models.IntegerField()


class Peeking(Func):
    """SQL of its own, that reads a table."""

    output_field = models.IntegerField()

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return "(SELECT MAX(id) FROM tests_author)", []


class PeekingFar(Peeking):
    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return "(SELECT MAX(id) FROM elsewhere)", []


def sql(text: str, output_field: Any, *args: Any) -> Any:
    """A plain expression with this text."""
    return Func(*args, template=text, output_field=output_field)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: posts.order_by("?"), "volatile: Random"),
        (lambda: posts.annotate(x=Random()), "volatile: Random"),
        (lambda: posts.filter(created__lt=Now()), "volatile: Now"),
        (lambda: posts.annotate(x=Cast(Now(), models.DateField())), "volatile: Now"),
        (lambda: posts.filter(pk__in=posts.filter(created__lt=Now())), "volatile: Now"),
        (
            lambda: posts.annotate(x=sql("RANDOMBLOB(4)", models.BinaryField())),
            "volatile: randomblob()",
        ),
        (
            lambda: posts.annotate(x=sql("CURRENT_TIMESTAMP", models.TextField())),
            "volatile: current_timestamp",
        ),
        (
            lambda: posts.annotate(
                x=sql("DATE(%(expressions)s)", models.DateField(), Value("now"))
            ),
            "volatile: 'now'",
        ),
        (lambda: posts.annotate(x=sql("DATE('now')", models.DateField())), "volatile: 'now'"),
        (lambda: posts.annotate(x=sql("DATE()", models.DateField())), "volatile: date()"),
        (lambda: posts.annotate(x=sql("USER()", models.TextField())), "volatile: user()"),
        (lambda: posts.annotate(x=sql("DATE('2020-01-01')", models.DateField())), ""),
        (lambda: posts.annotate(x=RawSQL("1", ())), "raw SQL"),
        (lambda: posts.filter(pk__in=RawSQL("SELECT 1", ())), "raw SQL"),
        (lambda: posts.extra(where=["1=1"]), "raw SQL"),
        (lambda: posts.extra(select={"x": "1"}), "raw SQL: extra()"),
        (lambda: posts.extra(tables=["tests_tag"]), "raw SQL: extra()"),
        (lambda: posts.extra(order_by=["tests_post.id"]), "raw SQL: extra()"),
        (
            lambda: posts.annotate(x=sql("(SELECT 1)", models.IntegerField())),
            "raw SQL in Func",
        ),
        (lambda: posts.annotate(x=PeekingFar()), "unknown table elsewhere"),
    ],
)
def test_queries_that_must_not_be_cached_say_why(make: Callable[[], Any], reason: str) -> None:
    """Other answers for the same rows, and SQL that nobody can read."""
    assert explain(make()).reason == reason


def test_sql_of_strangers_is_compared_with_the_tables_that_it_names() -> None:
    """Any row of what an unknown expression reads by itself; nothing for a plain function."""
    assert shown(explain(posts.filter(pk=1).annotate(x=Noise("views")))) == {"post": "id=1"}
    found = explain(posts.filter(pk=1).annotate(x=Peeking()))
    assert shown(found) == {"post": "id=1", "author": "*"}
    assert ("tests_author", "read by Peeking") in found.widened


def test_compilers_and_queries_of_strangers_are_not_trusted() -> None:
    """A compiler from elsewhere may write any SQL."""
    query = posts.filter(pk=1).query
    compiler = query.get_compiler("default")
    sql, _ = compiler.as_sql()
    compiler.__class__ = type("Odd", (type(compiler),), {"__module__": "elsewhere"})
    assert analyse(compiler, sql).reason == "unknown Odd"
    strange = query.clone()
    strange.__class__ = type("Queer", (type(query),), {"__module__": "elsewhere"})
    compiler = strange.get_compiler("default")
    assert analyse(compiler, compiler.as_sql()[0]).reason == "unknown Queer"


def test_what_the_sql_reads_and_no_level_explains_is_any_row() -> None:
    """The safety net: joins that were found only in the text."""
    compiler = posts.filter(pk=1).query.get_compiler("default")
    sql, _ = compiler.as_sql()
    net = analyse(compiler, f"{sql} AND EXISTS(SELECT 1 FROM tests_tag, tests_author a)")
    assert shown(net) == {"post": "id=1", "tag": "*", "author": "*"}
    assert "unknown table" in analyse(compiler, f"{sql} AND EXISTS(SELECT 1 FROM x)").reason
    assert "table function" in analyse(compiler, f"{sql} AND EXISTS(SELECT 1 FROM f(1))").reason


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 FROM a", ["a"]),
        ('SELECT "x" FROM "a b" T1, `c` AS d', ["a b:T1", "c:d"]),
        ('SELECT 1 FROM "s"."a" INNER JOIN b ON (1 = 1) LEFT OUTER JOIN c', ["s.a:a", "b", "c"]),
        ("SELECT EXTRACT(YEAR FROM x), TRIM(BOTH ' ' FROM y) FROM a", ["a"]),
        ("SELECT a IS DISTINCT FROM b FROM c", ["c"]),
        ("SELECT * FROM (SELECT * FROM a) subquery", ["a"]),
        ("SELECT ' FROM x ', \"FROM\" FROM a -- FROM y\n", ["a"]),
        ("SELECT 1 FROM a WHERE x IN (SELECT 1 FROM b) ORDER BY y, z", ["a", "b"]),
        ("(SELECT 1 FROM a) UNION (SELECT 1 FROM b) ORDER BY (1)", ["a", "b"]),
        ("SELECT 1 FROM (a JOIN b ON 1=1), c", ["a", "b", "c"]),
        ("SELECT 1 FROM ONLY a", ["a"]),
        ("SELECT 1", []),
    ],
)
def test_tables_are_read_from_sql(sql: str, expected: list[str]) -> None:
    """After FROM, JOIN and commas, with schema and alias, and nowhere else."""
    wanted = {Source(*(name.split(":") * 2)[:2]) for name in expected}
    assert sources(sql) == (frozenset(wanted), "")


def test_long_conditions_widen_at_the_limit() -> None:
    """Seven times seven times seven values, and lists longer than the limit."""
    queryset = posts.filter(views__in=range(7), category__in=range(7), author__in=range(7))
    assert len(explain(queryset).tables["tests_post"]) == 49
    assert len(explain(queryset, limit=10).tables["tests_post"]) == 7
    found = explain(posts.filter(Q(*(Q(views=1, pk=key) for key in range(9)), _connector="OR")), 8)
    assert found.tables["tests_post"] == (conjunction({"views": "1"}),)


def _lists(count: int, size: int) -> list[Q]:
    names = ["views", "category", "author", "pk", "editor", "rating"]
    return [Q(**{f"{names[at % 6]}__in": range(at, at + size)}) for at in range(count)]


#: Trees that multiply out to astronomic numbers, and how many leaves they have.
LARGE: dict[str, tuple[Callable[[], Q], int]] = {
    "7 x 7 x 7": (lambda: Q(*_lists(3, 7)), 3),
    "not of four lists": (lambda: ~Q(*_lists(4, 20)), 4),
    "not of not of four lists": (
        lambda: ~Q(*(~part for part in _lists(4, 20)), _connector="OR"),
        4,
    ),
    "and of ors": (
        lambda: Q(*(one | other for one, other in pairwise(_lists(40, 20)))),
        78,
    ),
    "or of ands": (
        lambda: Q(*(one & other for one, other in pairwise(_lists(40, 20))), _connector="OR"),
        78,
    ),
    "of one key": (
        lambda: Q(*(Q(views__in=range(20), pk=at) | Q(category=at) for at in range(60))),
        180,
    ),
    "shared terms": (
        lambda: Q(
            *(
                Q(*(Q(views=1, **{name: at}) for at in range(60)), _connector="OR")
                for name in ("category", "author", "pk", "editor")
            )
        ),
        480,
    ),
    "ranges": (
        lambda: Q(
            *(Q(views__gt=at, pk__lt=at) | Q(rating__range=(at, at + 1000)) for at in range(60))
        ),
        180,
    ),
    "deep": (
        lambda: reduce(lambda tree, part: ~(tree & part), _lists(60, 20)),
        60,
    ),
    "exclusive": (lambda: reduce(lambda tree, part: tree ^ part, _lists(8, 20)), 8),
}


@pytest.mark.parametrize("name", LARGE)
def test_any_tree_is_read_in_bounded_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps grow with the leaves of a condition, never with their product."""
    make, leaves = LARGE[name]
    work = Work(monkeypatch)
    limit = 64
    found = explain(posts.filter(make()), limit)
    assert len(found.tables["tests_post"]) <= limit
    assert work.pairs <= 32 * limit**2 * (leaves + 4)


def test_long_lists_are_spelt_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of a hundred thousand values is too long after the sixty-fifth."""
    spelt: list[Any] = []
    text = values.text
    monkeypatch.setattr(values, "text", lambda *args, **kw: spelt.append(args) or text(*args, **kw))
    assert shown(explain(posts.filter(views__in=range(10**5)))) == {"post": "*"}
    assert len(spelt) == 65


@pytest.mark.parametrize(
    ("make", "table", "why"),
    [
        (lambda: posts.filter(title__contains="x"), "post", "title__contains: this lookup"),
        (lambda: posts.filter(title__icontains="x"), "post", "title__icontains: this lookup"),
        (lambda: posts.exclude(views=1), "post", "not views__exact: holds for all values but"),
        (lambda: posts.filter(rating__isnull=False), "post", "rating__isnull: holds for any"),
        (lambda: posts.filter(views=F("pk")), "post", "views__exact: compared with an expression"),
        (lambda: posts.filter(views__in=[1, F("pk")]), "post", "views__in: compared with an expr"),
        (lambda: posts.filter(title__lower="x"), "post", "title__lower__exact: not a plain column")
        if "lower" in Post._meta.get_field("title").get_lookups()
        else (lambda: posts.filter(day__month=1), "post", "day__month__exact: not a plain column"),
        (lambda: posts.filter(score=1.5), "post", "score__exact: the equality of a FloatField"),
        (lambda: posts.filter(rating=Decimal("1.555")), "post", "may compare this value in its"),
        (lambda: posts.filter(title="runes ᚠᚡ"), "post", "may compare this value in its own way"),
        (lambda: Document.objects.filter(data={}), "document", "equality of a JSONField"),
        (lambda: posts.filter(author__name__contains="x"), "author", "name__contains"),
        (lambda: posts.filter(category__in=Category.objects.all()), "post", "with a subquery"),
        (
            lambda: posts.exclude(Exists(Tag.objects.all())),
            "post",
            "not Exists: a subquery of its own",
        ),
        (lambda: posts.filter(Q(views=1) | Q(title__contains="x")), "post", "OR with a condition"),
        (lambda: posts.filter(~(Q(views=1) ^ Q(pk=2))), "post", "XOR"),
        (lambda: posts.filter(views__in=range(65)), "post", "more than 64 values of views"),
        (
            lambda: posts.filter(views__in=range(9), pk__in=range(9), category__in=range(9)),
            "post",
            "more than 64 combinations",
        ),
        (
            lambda: posts.filter(Q(*(Q(views=1, pk=n) for n in range(70)), _connector="OR")),
            "post",
            "more than 64 combinations: id is left out",
        ),
        (
            lambda: posts.values("author").annotate(n=Count("pk")).filter(n__gt=1),
            "post",
            "a condition on groups or windows",
        ),
    ],
)
def test_conditions_that_do_not_narrow_are_named(
    make: Callable[[], Any], table: str, why: str
) -> None:
    """Whoever asks learns of each condition that was not used: which, and why."""
    told = [reason for name, reason in explain(make()).widened if name == f"tests_{table}"]
    assert any(why in reason for reason in told), told


@pytest.mark.parametrize(
    "name",
    [
        "equal", "and", "or", "in", "null", "isnull", "not true", "xor", "text", "enum", "decimal",
        "day", "uuid", "composite keys", "key across", "carried forth", "many to many and more",
        "generic relation", "filtered relation, outer", "subquery of one",
    ],
)  # fmt: skip
def test_what_narrows_is_not_called_wide(name: str) -> None:
    """A query of equalities that were all used has nothing to tell."""
    (make,) = [make for known, make, _ in EXACT if known == name]
    assert explain(make()).widened == ()


def test_dependencies_are_a_pure_function_of_the_query() -> None:
    """Reading a query changes neither it nor the next answer."""
    query = posts.select_related("author").filter(tags=1).order_by("author__name").query
    compiler = query.get_compiler("default")
    sql, params = compiler.as_sql()
    before = (dict(query.alias_map), dict(query.alias_refcount))
    first = analyse(compiler, sql)
    assert analyse(compiler, sql) == first
    assert (dict(query.alias_map), dict(query.alias_refcount)) == before
    assert compiler.as_sql() == (sql, params)
    assert list(connections["default"].queries) == []
