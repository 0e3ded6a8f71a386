"""Random querysets over the test models, and random changes of their rows."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import Coalesce, Lower, RowNumber
from django.db.models.lookups import In

from .models import Author, Category, Comment, Pizzeria, Place, Post, Profile, Restaurant, Tag

Through = Post.tags.through
WORDS = ["a", "b", "ä"]
KEYS = [1, 2, 3]
NUMBERS = [0, 1, 2]
BOOLEANS = [False, True]
STATUS = ["draft", "live"]
MAYBE_KEYS = [None, *KEYS]
MAYBE_NUMBERS = [None, *NUMBERS]
MOMENTS = [
    datetime(2023, 12, 31, 23, 30, tzinfo=UTC),
    datetime(2024, 1, 1, 0, 30, tzinfo=UTC),
    datetime(2024, 7, 1, 12, 0, 0, 1, tzinfo=UTC),
]
DAYS = [date(2023, 12, 31), date(2024, 1, 1), date(2024, 7, 1)]

#: What may be asked of each model: lookup -> values.
LOOKUPS: dict[type[models.Model], dict[str, list[Any]]] = {
    Post: {
        "pk": KEYS,
        "pk__in": [[1], [1, 2], [], [2, 3], [None, 1]],
        "category": KEYS,
        "category__slug": WORDS,
        "category__parent": KEYS,
        "category__parent__slug": WORDS,
        "category__parent__isnull": BOOLEANS,
        "author__name": WORDS,
        "author__in": [[1], [1, 3], []],
        "author__profile__bio": WORDS,
        "author__profile__isnull": BOOLEANS,
        "editor": MAYBE_KEYS,
        "editor__name": [None, *WORDS],
        "editor__isnull": BOOLEANS,
        "editor__profile__bio": WORDS,
        "tags": KEYS,
        "tags__name": WORDS,
        "tags__in": [[1], [2, 3]],
        "tags__isnull": BOOLEANS,
        "comments__text": WORDS,
        "comments__isnull": BOOLEANS,
        "views": NUMBERS,
        "views__in": [[0], [0, 1], [1, 2]],
        "views__gt": [*NUMBERS, -(10**30)],
        "views__range": [(0, 1), (1, 2), (2, 0)],
        "views__lte": NUMBERS,
        "rating__gte": NUMBERS,
        "rating__lt": NUMBERS,
        "created__gt": MOMENTS,
        "created__lte": MOMENTS,
        "created__date": [moment.date() for moment in MOMENTS],
        "created__year": [2023, 2024],
        "created__year__gt": [2023, 2024],
        "day__range": [(DAYS[0], DAYS[1]), (DAYS[1], DAYS[2])],
        "day__year__lte": [2023, 2024],
        "category__parent__pk__gt": KEYS,
        "editor__pk__lt": KEYS,
        "title": WORDS,
        "title__iexact": WORDS,
        "published": BOOLEANS,
        "rating": MAYBE_NUMBERS,
        "rating__isnull": BOOLEANS,
        "status": STATUS,
        "views__exact": [F("pk"), F("author__pk"), F("tags__pk")],
    },
    Author: {
        "pk": KEYS,
        "name": WORDS,
        "name__in": [["a"], ["a", "b"]],
        "profile": KEYS,
        "profile__bio": WORDS,
        "profile__isnull": BOOLEANS,
        "posts": KEYS,
        "posts__published": BOOLEANS,
        "posts__isnull": BOOLEANS,
        "posts__category__slug": WORDS,
        "posts__tags__name": WORDS,
        "edited__views": NUMBERS,
        "edited__isnull": BOOLEANS,
    },
    Tag: {
        "pk": KEYS,
        "name": WORDS,
        "posts": KEYS,
        "posts__published": BOOLEANS,
        "posts__isnull": BOOLEANS,
        "posts__author__name": WORDS,
    },
    Category: {
        "pk": KEYS,
        "slug": WORDS,
        "parent": MAYBE_KEYS,
        "parent__slug": WORDS,
        "parent__parent__slug": WORDS,
        "children__slug": WORDS,
        "children__isnull": BOOLEANS,
        "posts__views": NUMBERS,
        "posts__editor__isnull": BOOLEANS,
    },
    Restaurant: {
        "pk": KEYS,
        "name": WORDS,
        "stars": NUMBERS,
        "pizzeria__oven": WORDS,
        "pizzeria__isnull": BOOLEANS,
    },
    Place: {"pk": KEYS, "name": WORDS, "restaurant__stars": NUMBERS, "restaurant": KEYS},
    Pizzeria: {"pk": KEYS, "name": WORDS, "stars": NUMBERS, "oven": WORDS},
}
RELATED: dict[type[models.Model], list[str]] = {
    Post: ["category", "category__parent", "author", "author__profile", "editor__profile"],
    Author: ["profile"],
    Category: ["parent", "parent__parent"],
    Restaurant: ["pizzeria"],
    Place: ["restaurant", "restaurant__pizzeria"],
}
COLUMNS: dict[type[models.Model], list[str]] = {
    Post: [
        *("pk", "title", "views", "category_id", "category__slug", "author_id", "author__name"),
        *("editor_id", "editor__name", "tags__name", "tags", "author__profile__bio"),
    ],
    Author: ["pk", "name", "posts__title", "profile__bio"],
    Category: ["pk", "slug", "parent__slug", "posts__title", "parent_id"],
    Tag: ["pk", "name", "posts", "posts__title", "posts__author__name"],
    Restaurant: ["pk", "name", "stars", "pizzeria__oven"],
    Place: ["pk", "name", "restaurant__stars"],
    Pizzeria: ["pk", "name", "stars"],
}
#: Lookups that need no join.
OWN = {"pk", "pk__in", "name", "name__in", "slug", "title", "title__iexact", "stars", "oven"} | {
    name
    for name in LOOKUPS[Post]
    if name.split("__")[0] in ("views", "rating", "created", "day", "published", "status")
}
#: path -> model whose key it holds.
INNER: dict[type[models.Model], dict[str, type[models.Model]]] = {
    Post: {"author_id": Author, "category_id": Category, "pk": Post, "editor_id": Author},
    Author: {"pk": Author, "profile__pk": Post},
    Tag: {"pk": Tag, "posts__author_id": Author},
    Category: {"parent_id": Category, "pk": Category},
    Restaurant: {"pk": Place},
    Place: {"pk": Restaurant},
    Pizzeria: {"pk": Place},
}
#: (inner model, its lookup, what it equals of the outer row, a column that may be NULL).
CORRELATED: dict[type[models.Model], list[tuple[type[models.Model], str, str, str]]] = {
    Post: [
        (Author, "pk", "author_id", "pk"),
        (Author, "pk", "editor_id", "pk"),
        (Comment, "object_id", "pk", "pk"),
        (Post, "category", "category_id", "editor_id"),
        (Tag, "posts", "pk", "pk"),
        (Category, "pk", "category__parent_id", "parent_id"),
    ],
    Author: [
        (Post, "author", "pk", "editor_id"),
        (Post, "editor", "pk", "editor_id"),
        (Profile, "author", "pk", "pk"),
    ],
    Category: [
        (Post, "category", "pk", "editor_id"),
        (Category, "parent", "pk", "parent_id"),
        (Category, "pk", "parent_id", "parent_id"),
    ],
}
MODELS = list(LOOKUPS)
#: model -> relation -> what its condition may look at.
FILTERED: dict[type[models.Model], dict[str, dict[str, list[Any]]]] = {
    Post: {
        "tags": {"tags__name": WORDS, "tags__pk": KEYS},
        "comments": {"comments__text": WORDS, "comments__isnull": BOOLEANS},
        "editor": {"editor__name": WORDS, "editor__email": WORDS, "views": NUMBERS},
        "author": {"author__name": WORDS, "title": WORDS},
    },
    Author: {
        "posts": {
            "posts__published": BOOLEANS,
            "posts__editor": MAYBE_KEYS,
            "posts__views__gt": NUMBERS,
            "name": WORDS,
        },
        "profile": {"profile__bio": WORDS},
    },
    Category: {
        "children": {"children__slug": WORDS, "slug": WORDS},
        "parent": {"parent__slug": WORDS, "parent__parent": MAYBE_KEYS},
    },
}


class Dice(random.Random):
    """A source of random conditions, querysets and changes."""

    def chance(self, probability: float = 0.5) -> bool:
        return self.random() < probability

    def condition(self, model: type[models.Model], depth: int = 3) -> Q:
        if model not in LOOKUPS:
            return Q(pk__in=self.choice([[1], [1, 2], KEYS]))
        how = self.random() if depth else 0
        if how < 0.45:
            name = self.choice(sorted(LOOKUPS[model]))
            if self.chance(0.25):  # across tables
                name = self.choice(
                    [one for one in sorted(LOOKUPS[model]) if one not in OWN] or [name]
                )
            return Q(**{name: self.choice(LOOKUPS[model][name])})
        if how < 0.55:
            return self.subquery(model, depth - 1)
        if how < 0.65:
            return ~self.condition(model, depth - 1)
        one, other = self.condition(model, depth - 1), self.condition(model, depth - 1)
        if how < 0.8:
            return one & other
        return one | other if how < 0.93 else one ^ other

    def correlated(self, model: type[models.Model], depth: int) -> Q:
        """A subquery about the outer row."""
        inner, lookup, path, nullable = self.choice(CORRELATED[model])
        queryset = inner._default_manager.filter(self.condition(inner, min(depth, 1)))
        queryset = queryset.filter(**{lookup: OuterRef(path)})
        kind = self.choice(["exists", "not exists", "in", "not in", "compared"])
        if kind in ("in", "not in"):
            condition = Q(pk__in=queryset.values(nullable))
            return condition if kind == "in" else ~condition
        if kind == "compared":
            return Q(In(F(path), queryset.values(nullable)))
        return Q(Exists(queryset) if kind == "exists" else ~Exists(queryset))

    def subquery(self, model: type[models.Model], depth: int) -> Q:
        if model in CORRELATED and self.chance():
            return self.correlated(model, depth)
        path = self.choice(sorted(INNER[model]))
        inner = INNER[model][path]
        queryset = inner._default_manager.filter(self.condition(inner, min(depth, 1)))
        kind = self.choice(["in", "in", "not in", "exists", "not exists", "exact", "nullable"])
        if kind == "in":
            return Q(**{f"{path}__in": queryset})
        if kind == "nullable" and inner is Author:
            posts = Post.objects.filter(self.condition(Post, min(depth, 1))).values("editor")
            return self.choice([Q(**{f"{path}__in": posts}), ~Q(**{f"{path}__in": posts})])
        if kind == "not in":
            return ~Q(**{f"{path}__in": queryset.values("pk")})
        if kind == "exact":
            return Q(**{path: Subquery(queryset.order_by("-pk").values("pk")[:1])})
        exists = Exists(queryset.filter(pk=OuterRef(path)))
        return Q(~exists if kind == "not exists" else exists)

    def queryset(self) -> Any:
        model = self.choice([*MODELS, Post, Post])
        queryset = model._default_manager.order_by()
        if self.chance(0.3):  # few rows, so that what is said of them is carried
            name = self.choice(["pk", *(name for name in INNER[model] if "__" not in name)])
            queryset = queryset.filter(**{name: self.choice(KEYS)})
        for _ in range(self.choice([0, 1, 1, 2])):
            condition = self.condition(model, self.choice([0, 1, 3]))
            queryset = (queryset.exclude if self.chance(0.3) else queryset.filter)(condition)
        shape = self.choice(
            "rows related related values values distinct count group window exists union"
            " filtered combine annotate counted".split()
        )
        shaped = getattr(self, f"_{shape}")(queryset, model)
        if shape in ("rows", "related", "values", "filtered", "distinct", "combine"):
            shaped = self._ordered(shaped, model, shape)
        return shaped

    def _rows(self, queryset: Any, model: type[models.Model]) -> Any:
        return queryset

    def _related(self, queryset: Any, model: type[models.Model]) -> Any:
        names = RELATED.get(model)
        return queryset.select_related(*self.sample(names, 1)) if names else queryset

    def _values(self, queryset: Any, model: type[models.Model]) -> Any:
        names = self.sample(COLUMNS[model], min(self.choice([1, 2, 3]), len(COLUMNS[model])))
        return queryset.values_list(*names)

    def _distinct(self, queryset: Any, model: type[models.Model]) -> Any:
        return self._values(queryset, model).distinct()

    def _count(self, queryset: Any, model: type[models.Model]) -> Any:
        """As ``QuerySet.count()`` and ``aggregate()`` build it when there is no subquery."""
        queryset.query.add_annotation(Count("*"), "n", select=True)
        queryset.query.clear_select_fields()
        queryset.query.default_cols = False
        return queryset

    def _group(self, queryset: Any, model: type[models.Model]) -> Any:
        name = self.choice(COLUMNS[model])
        queryset = queryset.values_list(name).annotate(n=Count("pk"), s=Sum("pk"))
        if self.chance():
            return queryset.filter(n__gt=1)
        if self.chance():
            return queryset.filter(Q(n__gt=1) | self.condition(model, 0))
        return queryset

    def _window(self, queryset: Any, model: type[models.Model]) -> Any:
        name = self.choice(COLUMNS[model])
        window = Window(RowNumber(), partition_by=name, order_by="pk")
        queryset = queryset.annotate(number=window)
        if self.chance():
            return queryset.filter(number=1)
        if self.chance():
            return queryset.filter(Q(number=1) | self.condition(model, 0))
        return queryset

    def _combine(self, queryset: Any, model: type[models.Model]) -> Any:
        """``a | b`` and ``a & b`` of querysets rewrite the joins of both."""
        other = model._default_manager.order_by().filter(self.condition(model, 1))
        return queryset | other if self.chance(0.7) else queryset & other

    def _annotate(self, queryset: Any, model: type[models.Model]) -> Any:
        path = self.choice(sorted(INNER[model]))
        inner = INNER[model][path]._default_manager.filter(self.condition(model=INNER[model][path]))
        inner = inner.filter(pk=OuterRef(path)).order_by("pk").values("pk")[:1]
        found = Coalesce(Subquery(inner), Value(0), output_field=models.BigIntegerField())
        if self.chance():
            found = Case(When(Exists(inner), then=Value(1)), default=Value(0))
        elif self.chance():
            found = In(
                F(path), INNER[model][path]._default_manager.filter(pk__in=inner).values("pk")
            )
        queryset = queryset.annotate(found=found)
        if self.chance():
            queryset = queryset.filter(Q(found=1) | self.condition(model, 0))
        return queryset

    def _counted(self, queryset: Any, model: type[models.Model]) -> Any:
        name = self.choice(COLUMNS[model])
        condition = self.condition(model, 1) if self.chance() else None
        queryset = queryset.annotate(n=Count(name, filter=condition))
        if self.chance():
            queryset = queryset.filter(Q(n=1) & self.condition(model, 0))
        return queryset

    def _exists(self, queryset: Any, model: type[models.Model]) -> Any:
        clone = queryset.all()
        clone.query = queryset.query.exists()
        return clone

    def _union(self, queryset: Any, model: type[models.Model]) -> Any:
        other = model._default_manager.order_by().filter(self.condition(model, 1))
        how = self.choice(["union", "intersection", "difference"])
        return getattr(queryset.values_list("pk"), how)(other.values_list("pk"))

    def _filtered(self, queryset: Any, model: type[models.Model]) -> Any:
        if model not in FILTERED:
            return queryset
        name = self.choice(sorted(FILTERED[model]))
        parts = [
            Q(**{lookup: self.choice(options)})
            for lookup, options in self.sample(sorted(FILTERED[model][name].items()), 1)
        ]
        if self.chance(0.3):
            parts.append(self.choice([~parts[0], Q(pk=self.choice(KEYS))]))
        condition = Q(*parts, _connector=self.choice(["AND", "OR"]))
        queryset = queryset.annotate(rel=FilteredRelation(name, condition=condition))
        how = self.choice(["filter", "values", "isnull", "related", "or"])
        if how == "or":
            return queryset.filter(Q(rel__pk=self.choice(KEYS)) | self.condition(model, 0))
        if how == "filter":
            return queryset.filter(rel__pk=self.choice(KEYS))
        if how == "isnull":
            return queryset.filter(rel__isnull=self.choice(BOOLEANS))
        if how == "related":
            return queryset.select_related("rel")
        return queryset.values_list("pk", "rel__pk")

    def _ordered(self, queryset: Any, model: type[models.Model], shape: str) -> Any:
        if self.chance(0.4):
            return queryset
        name = self.choice(COLUMNS[model])
        order = self.choice([F(name), Lower(F(name)), F(name).desc(), F("pk")])
        queryset = queryset.order_by(order, "pk")
        if self.chance():
            start = self.choice([0, 0, 1])
            queryset = queryset[start : start + self.choice([1, 2])]
        return queryset

    def row(self, model: type[models.Model]) -> dict[str, Any]:
        return {name: self.choice(options) for name, options in ROWS[model].items()}

    def steps(
        self, present: set[tuple[type[models.Model], int]], likely: list[type[models.Model]]
    ) -> list[Step]:
        """Rows to write, by key, mostly of the ``likely`` tables."""
        found: list[Step] = []
        for _ in range(self.choice([1, 1, 1, 2, 3])):
            model = self.choice(TABLES if self.chance(0.1) else likely or TABLES)
            key = self.choice(KEYS)
            if (model, key) not in present or self.chance(0.1):
                found.append((model, key, self.row(model)))
            elif self.chance(0.2):
                found.append((model, key, None))
            else:
                name = self.choice(sorted(ROWS[model]))
                found.append((model, key, {name: self.choice(ROWS[model][name])}))
        return found


#: (model, key, columns): None removes the row, columns of a present row change it.
Step = tuple[type[models.Model], int, "dict[str, Any] | None"]

ROWS: dict[type[models.Model], dict[str, list[Any]]] = {
    Author: {"name": WORDS},
    Category: {"title": WORDS, "parent_id": MAYBE_KEYS},
    Tag: {"name": WORDS},
    Profile: {"bio": WORDS, "author_id": KEYS},
    Post: {
        "category_id": KEYS,
        "author_id": KEYS,
        "editor_id": MAYBE_KEYS,
        "title": WORDS,
        "published": BOOLEANS,
        "views": NUMBERS,
        "rating": MAYBE_NUMBERS,
        "status": STATUS,
        "created": [None, *MOMENTS],
        "day": [None, *DAYS],
    },
    Through: {"post_id": KEYS, "tag_id": KEYS},
    Comment: {"object_id": KEYS, "text": WORDS, "hidden": BOOLEANS},
    Place: {"name": WORDS},
    Restaurant: {"stars": NUMBERS},
    Pizzeria: {"oven": WORDS},
}
TABLES = list(ROWS)


def write(model: type[models.Model], key: int, row: dict[str, Any] | None) -> None:
    """One row, straight into its own table: neither cascades nor parents are written along."""
    manager = model._base_manager
    if row is None:
        manager.filter(pk=key)._raw_delete(connection.alias)
        return
    table = connection.ops.quote_name(model._meta.db_table)
    if row.keys() < ROWS[model].keys() and row:
        columns = {model._meta.get_field(name): row[name] for name in row}
        sets = ", ".join(f"{connection.ops.quote_name(field.column)} = %s" for field in columns)
        sql = f"UPDATE OR IGNORE {table} SET {sets} WHERE {{}} = %s"
    else:
        manager.filter(pk=key)._raw_delete(connection.alias)
        instance = model(**row)
        instance.pk = key
        if isinstance(instance, Category):
            instance.slug = WORDS[key - 1]
        if isinstance(instance, Comment):
            # One of three rows belongs to no post.
            target = Author if key == KEYS[-1] else Post
            instance.content_type_id = ContentType.objects.get_for_model(target).pk
        columns = {
            field: field.pre_save(instance, True) for field in model._meta.local_concrete_fields
        }
        names = ", ".join(connection.ops.quote_name(field.column) for field in columns)
        marks = ", ".join(["%s"] * len(columns))
        sql = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})"
    params = [field.get_db_prep_save(value, connection) for field, value in columns.items()]
    if "UPDATE" in sql:
        sql = sql.format(connection.ops.quote_name(model._meta.pk.column))
        params.append(key)
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def snapshot() -> dict[tuple[type[models.Model], int], dict[str, Any]]:
    """Every row as (model, key) -> values of its own table's columns."""
    found: dict[tuple[type[models.Model], int], dict[str, Any]] = {}
    for model in TABLES:
        own = [field.attname for field in model._meta.local_concrete_fields]
        for row in model._base_manager.values(*own):
            found[model, row[model._meta.pk.attname]] = row
    return found
