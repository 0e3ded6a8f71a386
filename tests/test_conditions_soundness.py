"""No change of a row that changes a result escapes the dependencies of the query.

Random queries over random rows, compared with the database itself: the rows of the result are
loaded, the database goes from one consistent state to another, and if the result is another one
then some changed row, as it was or as it is, meets a dependency.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import EmptyResultSet
from django.db import connection, models, transaction
from django.db.models import Count, Exists, F, FilteredRelation, OuterRef, Q, Subquery, Sum, Window
from django.db.models.functions import Lower, RowNumber
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cacheops_lite.orm import values
from cacheops_lite.orm.conditions import Conditions, analyse

from .models import Author, Category, Comment, Pizzeria, Place, Post, Profile, Restaurant, Tag

pytestmark = pytest.mark.django_db

Through = Post.tags.through
WORDS = ["a", "b", "ä"]
words = st.sampled_from(WORDS)
keys = st.integers(1, 3)
numbers = st.integers(0, 2)
booleans = st.booleans()

#: What may be asked of each model: lookup -> values.
LOOKUPS: dict[type[models.Model], dict[str, st.SearchStrategy[Any]]] = {
    Post: {
        "pk": keys,
        "pk__in": st.lists(keys, max_size=3),
        "category": keys,
        "category__slug": words,
        "category__parent": keys,
        "category__parent__slug": words,
        "category__parent__isnull": booleans,
        "author__name": words,
        "author__in": st.lists(keys, max_size=2),
        "author__profile__bio": words,
        "author__profile__isnull": booleans,
        "editor": st.none() | keys,
        "editor__name": st.none() | words,
        "editor__isnull": booleans,
        "editor__profile__bio": words,
        "tags": keys,
        "tags__name": words,
        "tags__in": st.lists(keys, max_size=2),
        "tags__isnull": booleans,
        "comments__text": words,
        "comments__isnull": booleans,
        "views": numbers,
        "views__in": st.lists(numbers, max_size=3),
        "views__gt": numbers,
        "title": words,
        "title__iexact": words,
        "published": booleans,
        "rating": st.none() | numbers,
        "rating__isnull": booleans,
        "status": st.sampled_from(Post.Status.values),
    },
    Author: {
        "pk": keys,
        "name": words,
        "name__in": st.lists(words, max_size=2),
        "profile": keys,
        "profile__bio": words,
        "profile__isnull": booleans,
        "posts": keys,
        "posts__published": booleans,
        "posts__isnull": booleans,
        "posts__category__slug": words,
        "posts__tags__name": words,
        "edited__views": numbers,
        "edited__isnull": booleans,
    },
    Tag: {
        "pk": keys,
        "name": words,
        "posts": keys,
        "posts__published": booleans,
        "posts__isnull": booleans,
        "posts__author__name": words,
    },
    Category: {
        "pk": keys,
        "slug": words,
        "parent": st.none() | keys,
        "parent__slug": words,
        "children__slug": words,
        "children__isnull": booleans,
        "posts__views": numbers,
        "posts__editor__isnull": booleans,
    },
    Restaurant: {
        "pk": keys,
        "name": words,
        "stars": numbers,
        "pizzeria__oven": words,
        "pizzeria__isnull": booleans,
    },
    Place: {"pk": keys, "name": words, "restaurant__stars": numbers, "restaurant": keys},
    Pizzeria: {"pk": keys, "name": words, "stars": numbers, "oven": words},
}
RELATED: dict[type[models.Model], list[str]] = {
    Post: ["category", "category__parent", "author", "author__profile", "editor__profile"],
    Author: ["profile"],
    Category: ["parent", "parent__parent"],
    Tag: [],
    Restaurant: ["pizzeria"],
    Place: ["restaurant", "restaurant__pizzeria"],
    Pizzeria: [],
}
COLUMNS: dict[type[models.Model], list[str]] = {
    Post: ["pk", "title", "author__name", "editor__name", "tags__name", "category_id", "views"],
    Author: ["pk", "name", "posts__title", "profile__bio"],
    Category: ["pk", "parent__slug", "posts__title"],
    Tag: ["pk", "name", "posts", "posts__title", "posts__author__name"],
    Restaurant: ["pk", "name", "stars", "pizzeria__oven"],
    Place: ["pk", "restaurant__stars"],
    Pizzeria: ["pk", "name", "stars"],
}
MODELS = list(LOOKUPS)


@st.composite
def subqueries(draw: st.DrawFn, model: type[models.Model]) -> Any:
    """A condition on ``model`` that holds a query of its own."""
    path, inner = draw(
        st.sampled_from(
            {
                Post: [("author_id", Author), ("category_id", Category), ("pk", Post)],
                Author: [("pk", Author), ("profile__pk", Post)],
                Tag: [("pk", Tag), ("posts__author_id", Author)],
                Category: [("parent_id", Category), ("pk", Category)],
                Restaurant: [("pk", Place)],
                Place: [("pk", Restaurant)],
                Pizzeria: [("pk", Place)],
            }[model]
        )
    )
    queryset = inner._default_manager.filter(draw(conditions(inner, deep=False)))
    kind = draw(st.sampled_from(["in", "not in", "exists", "not exists", "exact"]))
    if kind == "in":
        return Q(**{f"{path}__in": queryset})
    if kind == "not in":
        return ~Q(**{f"{path}__in": queryset.values("pk")})
    if kind == "exact":
        return Q(**{path: Subquery(queryset.order_by("-pk").values("pk")[:1])})
    exists = Exists(queryset.filter(pk=OuterRef(path)))
    return Q(~exists if kind == "not exists" else exists)


def conditions(model: type[models.Model], *, deep: bool = True) -> st.SearchStrategy[Q]:
    leaf: st.SearchStrategy[Any] = st.sampled_from(sorted(LOOKUPS[model])).flatmap(
        lambda name: LOOKUPS[model][name].map(lambda value: Q(**{name: value}))
    )
    if deep:
        leaf = st.one_of(leaf, leaf, leaf, subqueries(model))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda two: two[0] & two[1]),
            st.tuples(inner, inner).map(lambda two: two[0] | two[1]),
            st.tuples(inner, inner).map(lambda two: two[0] ^ two[1]),
            inner.map(lambda one: ~one),
        ),
        max_leaves=4,
    )


@st.composite
def querysets(draw: st.DrawFn) -> Any:
    model = draw(st.sampled_from(MODELS))
    queryset = model._default_manager.order_by()
    for _ in range(draw(st.integers(0, 2))):
        condition = draw(conditions(model))
        queryset = queryset.exclude(condition) if draw(booleans) else queryset.filter(condition)
    shape = draw(
        st.sampled_from(
            ["rows", "related", "values", "distinct", "count", "group", "window", "exists", "union"]
            + ["filtered"] * (model in (Post, Author))
        )
    )
    if shape == "related" and RELATED[model]:
        names = draw(st.lists(st.sampled_from(RELATED[model]), min_size=1, max_size=2))
        queryset = queryset.select_related(*names)
    elif shape in ("values", "distinct"):
        names = draw(st.lists(st.sampled_from(COLUMNS[model]), min_size=1, max_size=3, unique=True))
        queryset = queryset.values_list(*names)
        if shape == "distinct":
            return queryset.distinct()
    elif shape == "count":
        queryset.query.add_annotation(Count("*"), "n", select=True)
        queryset.query.clear_select_fields()
        queryset.query.default_cols = False
        return queryset
    elif shape == "group":
        name = draw(st.sampled_from(COLUMNS[model]))
        queryset = queryset.values_list(name).annotate(n=Count("pk"), s=Sum("pk"))
        return queryset.filter(n__gt=1) if draw(booleans) else queryset
    elif shape == "window":
        name = draw(st.sampled_from(COLUMNS[model]))
        queryset = queryset.annotate(at=Window(RowNumber(), partition_by=name, order_by="pk"))
        return queryset.filter(at=1) if draw(booleans) else queryset
    elif shape == "exists":
        query = queryset.query.exists()
        clone = queryset.all()
        clone.query = query
        return clone
    elif shape == "union":
        other = model._default_manager.order_by().filter(draw(conditions(model)))
        how = draw(st.sampled_from(["union", "intersection", "difference"]))
        return getattr(queryset.values_list("pk"), how)(other.values_list("pk"))
    elif shape == "filtered":
        if model is Post:
            relation = FilteredRelation("tags", condition=Q(tags__name=draw(words)))
        else:
            relation = FilteredRelation("posts", condition=Q(posts__published=draw(booleans)))
        queryset = queryset.annotate(rel=relation)
        how = draw(st.sampled_from(["filter", "values", "isnull"]))
        if how == "filter":
            queryset = queryset.filter(rel__pk=draw(keys))
        elif how == "isnull":
            queryset = queryset.filter(rel__isnull=draw(booleans))
        else:
            queryset = queryset.values_list("pk", "rel__pk")
    if draw(booleans):
        name = draw(st.sampled_from(COLUMNS[model]))
        order = draw(st.sampled_from([F(name), Lower(F(name)), F(name).desc()]))
        queryset = queryset.order_by(order, "pk")
        if draw(booleans):
            start = draw(st.integers(0, 1))
            queryset = queryset[start : start + draw(st.integers(1, 2))]
    elif draw(booleans):
        queryset = queryset.order_by("pk")[: draw(st.integers(1, 2))]
    return queryset


def fields(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(strategies)


maybe_key = st.none() | keys
ROWS: dict[type[models.Model], st.SearchStrategy[dict[str, Any]]] = {
    Author: fields(name=words),
    Category: fields(title=words, parent_id=maybe_key),
    Tag: fields(name=words),
    Profile: fields(bio=words, author_id=keys),
    Post: fields(
        category_id=keys,
        author_id=keys,
        editor_id=maybe_key,
        title=words,
        published=booleans,
        views=numbers,
        rating=st.none() | numbers,
        status=st.sampled_from(Post.Status.values),
    ),
    Through: fields(post_id=keys, tag_id=keys),
    Comment: fields(object_id=keys, text=words),
    Place: fields(name=words),
    Restaurant: fields(stars=numbers),
    Pizzeria: fields(oven=words),
}
TABLES = list(ROWS)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[type[models.Model], int, dict[str, Any] | None]]:
    """Rows to write, by key; None removes the row."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        model = draw(st.sampled_from(TABLES))
        found.append((model, draw(keys), draw(st.none() | ROWS[model])))
    return found


def snapshot() -> dict[tuple[str, int], dict[str, Any]]:
    """Every row as (table, key) -> attribute values."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for model in TABLES:
        own = [field.attname for field in model._meta.local_concrete_fields]
        key = model._meta.pk.attname
        for row in model._base_manager.values(*own):
            found[model._meta.db_table, row[key]] = row
    return found


def write(model: type[models.Model], key: int, row: dict[str, Any] | None) -> None:
    """One row, straight into its table: no cascade and no parent is written along."""
    table = connection.ops.quote_name(model._meta.db_table)
    pk = connection.ops.quote_name(model._meta.pk.column)
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {pk} = %s", [key])
        if row is None:
            return
        instance = model(**row)
        instance.pk = key
        if model is Category:
            instance.slug = WORDS[key - 1]
        if model is Comment:
            instance.content_type_id = ContentType.objects.get_for_model(Post).pk
        own = model._meta.local_concrete_fields
        names = ", ".join(connection.ops.quote_name(field.column) for field in own)
        marks = ", ".join(["%s"] * len(own))
        sql = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})"
        cursor.execute(
            sql, [field.get_db_prep_save(field.pre_save(instance, True), connection) for field in own]
        )


def consistent() -> bool:
    with connection.cursor() as cursor:
        return not cursor.execute("PRAGMA foreign_key_check").fetchall()


def spell(model: type[models.Model], row: dict[str, Any] | None) -> dict[str, str | None] | None:
    if row is None:
        return None
    return {
        field.column: values.text(field, row[field.attname])
        for field in model._meta.local_concrete_fields
        if values.usable(field)
    }


def load(queryset: Any) -> tuple[list[Any], Conditions | None]:
    compiler = queryset.query.clone().get_compiler("default")
    try:
        sql, _ = compiler.as_sql()
    except EmptyResultSet:
        return [], None
    found = analyse(compiler, sql)
    again = queryset.query.clone().get_compiler("default")
    rows = [tuple(row) for row in again.results_iter()]
    return (rows if queryset.query.is_sliced else sorted(rows, key=repr)), found


def dependencies(rows: list[Any], found: Conditions) -> Iterator[tuple[str, dict[str, str]]]:
    for table, options in found.tables.items():
        for option in options:
            yield table, dict(option)
    for dynamic in found.dynamic:
        for row in rows:
            if row[dynamic.index] is not None:
                spelt = values.text(dynamic.field, row[dynamic.index])
                yield dynamic.table, {} if spelt is None else {dynamic.column: spelt}


START = [
    *((Author, key, {"name": WORDS[key - 1]}) for key in (1, 2, 3)),
    *((Category, key, {"title": "x", "parent_id": None}) for key in (1, 2, 3)),
    *((Tag, key, {"name": WORDS[key - 1]}) for key in (1, 2, 3)),
    *((Place, key, {"name": WORDS[key - 1]}) for key in (1, 2, 3)),
]
posts = st.lists(st.tuples(st.just(Post), keys, ROWS[Post]), max_size=3)
others = st.lists(
    st.one_of(
        *(
            st.tuples(st.just(model), keys, ROWS[model])
            for model in (Through, Through, Profile, Comment, Restaurant, Pizzeria, Category)
        )
    ),
    max_size=6,
)


@pytest.mark.skipif("connection.vendor != 'sqlite'")
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
@given(queryset=querysets(), posts=posts, others=others, steps=steps())
def test_a_change_that_changes_a_result_meets_a_dependency(
    queryset: Any, posts: Any, others: Any, steps: Any
) -> None:
    """For any query and any change between two consistent states of the database."""
    with transaction.atomic():
        for step in (*START, *posts, *others):
            write(*step)
        if not consistent():
            transaction.set_rollback(True)
            return
        try:
            before = snapshot()
            rows, found = load(queryset)
            for step in steps:
                write(*step)
            after, valid = snapshot(), consistent()
            later, _ = load(queryset)
        finally:
            transaction.set_rollback(True)
    if rows == later or not valid:
        return
    assert found is not None, "a query without SQL changed its result"
    assert found.reason == ""
    models_by_table = {model._meta.db_table: model for model in TABLES}
    wanted = list(dependencies(rows, found))
    for (table, key), model in (
        ((table, key), models_by_table[table]) for table, key in before.keys() | after.keys()
    ):
        old, new = before.get((table, key)), after.get((table, key))
        if old == new:
            continue
        for row in (spell(model, old), spell(model, new)):
            for dependency, terms in wanted:
                if (
                    row is not None
                    and dependency == table
                    and all(row.get(column) in (None, text) for column, text in terms.items())
                ):
                    return
    raise AssertionError(
        f"{queryset.query}\n{found}\nbefore {rows}\nafter {later}\n"
        f"{ {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys() if before.get(key) != after.get(key)} }"
    )
