"""Writes drawn by hypothesis: every way to change a row that Django and its cursors offer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.db import connection, models, transaction
from django.db.models import Case, Exists, F, OuterRef, Subquery, Value, When
from django.db.models.functions import Concat, Lower, Upper
from hypothesis import strategies as st

from . import drawn_reads
from . import models as m
from .drawn_reads import (
    BIGS,
    CODES,
    DAYS,
    KEYS,
    MOMENTS,
    MONEY,
    NUMBERS,
    SPANS,
    STATUS,
    TIMES,
    TRUTH,
    UUIDS,
    WORDS,
    conditions,
)  # fmt: skip

MAYBE_KEYS = [*KEYS, None]

#: model -> attribute -> values that may be assigned.
VALUES: dict[type[models.Model], dict[str, list[Any]]] = {
    m.Post: {
        "category_id": KEYS, "author_id": KEYS, "editor_id": MAYBE_KEYS, "title": WORDS,
        "text": WORDS, "published": TRUTH, "status": STATUS, "views": [0, 1, 2, "2", 1000, -1],
        "score": NUMBERS, "rating": [*MONEY, Decimal("1.495"), "1.5"], "created": MOMENTS, "day": DAYS, "at": TIMES,
        "duration": SPANS,
    },
    m.Author: {"name": WORDS, "email": ["", "a@b.cd"]},
    m.Category: {"title": WORDS, "slug": [*WORDS, "c", "d"], "parent_id": MAYBE_KEYS},
    m.Tag: {"name": WORDS, "group": WORDS},
    m.Profile: {"author_id": KEYS, "bio": WORDS},
    m.Comment: {"object_id": KEYS, "text": WORDS, "hidden": TRUTH},
    m.Place: {"name": WORDS, "city": WORDS},
    m.Restaurant: {"name": WORDS, "city": WORDS, "stars": [0, 1, 2]},
    m.Pizzeria: {"name": WORDS, "city": WORDS, "stars": [0, 1, 2], "oven": WORDS},
    m.Person: {"name": WORDS},
    m.Group: {"name": WORDS},
    m.Membership: {"group_id": KEYS, "person_id": KEYS, "role": WORDS},
    m.OrderLine: {"product": WORDS, "quantity": [0, 1, 2]},
    m.Box: {"width": [0, 1, 2], "height": [1, 2], "name": WORDS},
    m.Price: {"amount": MONEY, "labels": [["a"], ["a", "b"], None], "name": WORDS},
    m.Note: {"text": WORDS, "deleted": TRUTH},
    m.Token: {"label": WORDS},
    m.TokenUse: {"token_id": UUIDS, "count": [0, 1, 2]},
    m.Big: {"name": WORDS},
    m.Country: {"name": WORDS},
    m.City: {"country_id": CODES, "name": WORDS},
    m.Toy: {"code": WORDS},
    m.ToyPart: {"toy_id": WORDS, "name": WORDS},
    m.Document: {"data": [{"a": 1}, {"a": "b"}, {}, [1], None], "name": WORDS},
    m.Memo: {"created": MOMENTS, "note": WORDS, "text": WORDS},
    m.Owner: {"name": WORDS},
    m.Cascading: {"owner_id": KEYS, "name": WORDS},
    m.CascadingDeeper: {"cascading_id": KEYS},
    m.Nulling: {"owner_id": MAYBE_KEYS},
    m.Defaulting: {"owner_id": MAYBE_KEYS},
    m.Setting: {"owner_id": MAYBE_KEYS},
    m.Protecting: {"owner_id": KEYS},
    m.Restricting: {"owner_id": KEYS},
    m.Ignoring: {"owner_id": KEYS},
    m.Odd: {"name": WORDS},
    m.Attachment: {"ip": ["127.0.0.1", "::1", None], "flag": [True, False, None], "file": WORDS},
}  # fmt: skip
#: Keys of models whose keys are not small numbers.
ODD_KEYS: dict[type[models.Model], list[Any]] = {
    m.OrderLine: [(1, 1), (1, 2), (2, 1)], m.Token: UUIDS, m.Big: BIGS, m.Country: CODES,
}  # fmt: skip
MODELS = list(VALUES)
#: Some models are written more often: the reads look at them more.
LIKELY = [m.Post, m.Post, m.Post, m.Author, m.Tag, m.Category, m.Restaurant, *MODELS]


RAW_NAMES = ("raw_sql", "raw_many")


class Drawn:
    """One write: ``run()`` does it. Its repr is what a failing example prints."""

    def __init__(self, name: str, run: Callable[[], Any], args: str) -> None:
        self.name, self.run, self.args = name, run, args
        #: Whether it is SQL and no more: it never touches Django's transactions.
        self.raw = name in RAW_NAMES

    def __repr__(self) -> str:
        return f"<{self.name} {self.args}>"


class Wanted(Exception):
    """Raised on purpose, to leave a transaction."""


def wait(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call an async method from here."""

    async def call() -> Any:
        return await method(*args, **kwargs)

    return async_to_sync(call)()


def keys_of(model: Any) -> list[Any]:
    return ODD_KEYS.get(model, KEYS)


def make(model: Any, key: Any, values: dict[str, Any]) -> Any:
    """An instance that was never loaded; ``key`` None leaves the key to the database."""
    instance = model(**values)
    if isinstance(instance, m.Comment):
        instance.content_type = ContentType.objects.get_for_model(m.Post)
    if key is not None:
        instance.pk = key
        for parent in model._meta.get_parent_list():
            setattr(instance, parent._meta.pk.attname, key)
    return instance


def load(model: Any, key: Any) -> Any:
    return model._base_manager.nocache().filter(pk=key).first()


WRITES: dict[str, tuple[int, frozenset[Any], Callable[[], Any]]] = {}


def write(weight: int = 1, about: Sequence[Any] = ()) -> Callable[[Any], Any]:
    """Register a function ``(draw) -> (callable, arguments for it)``.

    ``about`` names the models that it may write, if it does not draw them.
    """

    def register(build: Any) -> Any:
        name = build.__name__

        @st.composite
        def strategy(draw: Any) -> Drawn:
            run, *args = build(draw)
            return Drawn(name, lambda: run(*args), ", ".join(map(_shown, args)))

        WRITES[name] = (weight, frozenset(about), strategy)
        return build

    return register


def _shown(argument: Any) -> str:
    if isinstance(argument, type):
        return argument.__name__
    if isinstance(argument, models.QuerySet):
        try:
            return str(argument.query)
        except Exception as error:
            return f"{argument.model.__name__} ({error!r})"
    return repr(argument)


@st.composite
def writes(draw: Any) -> Drawn:
    """Any write of this table that has to do with what the example is about."""
    wanted = frozenset(drawn_reads.focus.models)
    pool = [
        name
        for name, (weight, about, _) in WRITES.items()
        for _ in range(weight)
        if not about or about & wanted
    ]
    return draw(WRITES[draw(st.sampled_from(pool))][-1]())


def raw_writes() -> st.SearchStrategy[Drawn]:
    """Writes that never touch Django's transactions."""
    return st.one_of(*(WRITES[name][-1]() for name in RAW_NAMES))


def a_model(draw: Any, pool: Sequence[Any] = LIKELY) -> Any:
    return draw(st.sampled_from(drawn_reads.focus.of(pool)))


def a_key(draw: Any, model: Any) -> Any:
    return draw(st.sampled_from(keys_of(model)))


def some_values(draw: Any, model: Any, *, all_of_them: bool = False) -> dict[str, Any]:
    names = sorted(VALUES[model])
    if not all_of_them:
        names = drawn_reads.focus.attributes(model, names)
        names = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    return {name: draw(st.sampled_from(VALUES[model][name])) for name in names}


def a_queryset(draw: Any, model: Any, depth: int = 1) -> Any:
    return model._base_manager.filter(draw(conditions(model, depth)))


# -- instances ---------------------------------------------------------------------------------


@write(4)
def save_changed(draw: Any) -> Any:
    def run(model: Any, key: Any, values: dict[str, Any], how: str) -> None:
        instance = load(model, key)
        if instance is None:
            return
        for name, value in values.items():
            setattr(instance, name, value)
        if how == "update_fields":
            instance.save(update_fields=list(values))
        elif how == "raw":
            instance.save_base(raw=True)
        elif how == "async":
            wait(instance.asave)
        else:
            instance.save(force_update=how == "force_update")

    model = a_model(draw)
    hows = ["plain", "plain", "update_fields", "raw", "force_update", "async"]
    how = draw(st.sampled_from(hows))
    return run, model, a_key(draw, model), some_values(draw, model), how


@write(3)
def save_never_loaded(draw: Any) -> Any:
    def run(model: Any, key: Any, values: dict[str, Any], how: str) -> None:
        instance = make(model, key, values)
        instance.save(force_insert=how == "insert")

    model = a_model(draw)
    how = draw(st.sampled_from(["plain", "plain", "insert"]))
    return run, model, a_key(draw, model), some_values(draw, model, all_of_them=True), how


@write(2)
def create(draw: Any) -> Any:
    def run(model: Any, values: dict[str, Any], how: str) -> None:
        key = keys_of(model)[0] if model in ODD_KEYS else None
        if how == "acreate" and key is None and model is not m.Comment:
            wait(model._base_manager.acreate, **values)
        else:
            make(model, key, values).save()

    model = a_model(draw)
    return (
        run,
        model,
        some_values(draw, model, all_of_them=True),
        draw(st.sampled_from(["save", "acreate"])),
    )


@write(1, [m.Box])
def save_defaults(draw: Any) -> Any:
    """``db_default`` decides what is not given."""

    def run(name: str) -> None:
        m.Box(name=name).save()

    return run, draw(st.sampled_from(WORDS))


@write(1, [m.Post, m.Tag, m.Author, m.Big, m.Token, m.Country, m.OrderLine])
def save_changed_key(draw: Any) -> Any:
    def run(model: Any, key: Any, other: Any) -> None:
        instance = load(model, key)
        if instance is not None:
            instance.pk = other
            instance.save()

    model = a_model(draw, [m.Post, m.Tag, m.Author, m.Big, m.Token, m.Country, m.OrderLine])
    return run, model, a_key(draw, model), a_key(draw, model)


@write(1, [m.Post])
def save_deferred(draw: Any) -> Any:
    def run(key: Any, only: str, values: dict[str, Any]) -> None:
        post = m.Post.objects.nocache().only(only).filter(pk=key).first()
        if post is not None:
            for name, value in values.items():
                setattr(post, name, value)
            post.save()

    only = draw(st.sampled_from(["title", "views", "category"]))
    return run, a_key(draw, m.Post), only, some_values(draw, m.Post)


EXPRESSIONS: dict[str, Any] = {
    "views": F("views") + 1,
    "title": Upper("title"),
    "text": Concat("title", Value("!")),
    "published": Case(When(views__gt=0, then=Value(True)), default=Value(False)),
    "editor_id": F("author_id"),
    "rating": Value(Decimal("1.5")),
    "score": F("views") * 1.0,
    "day": F("created__date"),
}


@write(2, [m.Post])
def save_expression(draw: Any) -> Any:
    def run(key: Any, name: str) -> None:
        post = load(m.Post, key)
        if post is not None:
            setattr(post, name, EXPRESSIONS[name])
            post.save()

    names = sorted(set(EXPRESSIONS) - {"editor_id", "day"})
    return run, a_key(draw, m.Post), draw(st.sampled_from(names))


@write(1, [m.Post])
def save_through_proxy(draw: Any) -> Any:
    def run(key: Any, values: dict[str, Any], gone: bool) -> None:
        proxy = load(m.PostProxy, key)
        if proxy is None:
            return
        for name, value in values.items():
            setattr(proxy, name, value)
        if gone:
            proxy.delete()
        else:
            proxy.save()

    return run, a_key(draw, m.Post), some_values(draw, m.Post), draw(st.booleans())


@write(2)
def delete(draw: Any) -> Any:
    """Also of an object that was changed in memory or never loaded."""

    def run(model: Any, key: Any, values: dict[str, Any], loaded: bool) -> None:
        instance = load(model, key) if loaded else make(model, key, {})
        if instance is not None:
            for name, value in values.items():
                setattr(instance, name, value)
            instance.delete()

    model = a_model(draw)
    return run, model, a_key(draw, model), some_values(draw, model), draw(st.booleans())


@write(1, [m.Place])
def delete_keeping_parents(draw: Any) -> Any:
    def run(model: Any, key: Any) -> None:
        instance = load(model, key)
        if instance is not None:
            instance.delete(keep_parents=True)

    return run, draw(st.sampled_from([m.Restaurant, m.Pizzeria])), a_key(draw, m.Place)


@write(1, [m.Place])
def child_of_parent(draw: Any) -> Any:
    """A row of a child table for a parent row that is there already."""

    def run(key: Any, stars: int) -> None:
        place = load(m.Place, key)
        if place is not None:
            child = m.Restaurant(place_ptr=place, stars=stars)
            child.__dict__.update({"name": place.name, "city": place.city})
            child.save()

    return run, a_key(draw, m.Place), draw(st.sampled_from([0, 1, 2]))


@write(1, [m.Post, m.Tag, m.Author, m.Note, m.Restaurant])
def loaddata(draw: Any) -> Any:
    def run(model: Any, key: Any, values: dict[str, Any]) -> None:
        text = serializers.serialize("json", [make(model, key, values)])
        for item in serializers.deserialize("json", json.dumps(json.loads(text))):
            item.save()

    model = a_model(draw, [m.Post, m.Tag, m.Author, m.Note, m.Restaurant])
    return run, model, a_key(draw, model), some_values(draw, model, all_of_them=True)


# -- querysets ---------------------------------------------------------------------------------


@write(4)
def update(draw: Any) -> Any:
    def run(queryset: Any, values: dict[str, Any], how: str) -> None:
        if how == "async":
            wait(queryset.aupdate, **values)
        else:
            getattr(queryset, how)(**values)

    model = a_model(draw)
    how = draw(st.sampled_from(["update", "update", "update", "invalidated_update", "async"]))
    return run, a_queryset(draw, model), some_values(draw, model), how


@write(2, [m.Post])
def update_expression(draw: Any) -> Any:
    def run(queryset: Any, name: str) -> None:
        queryset.update(**{name: EXPRESSIONS[name]})

    return run, a_queryset(draw, m.Post), draw(st.sampled_from(sorted(EXPRESSIONS)))


@write(1, [m.Post])
def update_subquery(draw: Any) -> Any:
    def run(queryset: Any, how: str) -> None:
        author = m.Author.objects.filter(pk=OuterRef("author_id"))
        if how == "subquery":
            queryset.update(title=Subquery(author.values("name")[:1]))
        elif how == "exists":
            queryset.filter(Exists(author.filter(name="a"))).update(published=True)
        elif how == "in":
            queryset.filter(author__in=m.Author.objects.filter(name="a")).update(views=2)
        else:
            queryset.order_by("pk").update(views=F("pk"))

    return (
        run,
        a_queryset(draw, m.Post),
        draw(st.sampled_from(["subquery", "exists", "in", "ordered"])),
    )


@write(1, [m.Big, m.Tag, m.Note, m.Token, m.Odd])
def update_key(draw: Any) -> Any:
    def run(model: Any, key: Any, other: Any) -> None:
        model._base_manager.filter(pk=key).update(**{model._meta.pk.name: other})

    model = a_model(draw, [m.Big, m.Tag, m.Note, m.Token, m.Odd])
    return run, model, a_key(draw, model), a_key(draw, model)


@write(2)
def queryset_delete(draw: Any) -> Any:
    def run(queryset: Any, how: str) -> None:
        if how == "async":
            wait(queryset.adelete)
        elif how == "raw":
            queryset._raw_delete(connection.alias)
        else:
            queryset.delete()

    model = a_model(draw)
    hows = ["delete", "delete", "async"]
    if model in (m.Comment, m.Note, m.Odd, m.Memo, m.Box, m.OrderLine, m.Membership, m.Profile):
        hows += ["raw"]
    return run, a_queryset(draw, model), draw(st.sampled_from(hows))


@write(2)
def bulk_create(draw: Any) -> Any:
    def run(model: Any, rows: list[tuple[Any, dict[str, Any]]], how: str) -> None:
        objects = [make(model, key, values) for key, values in rows]
        options: dict[str, Any] = {}
        if how == "ignore":
            options = {"ignore_conflicts": True}
        elif how == "update":
            options = {"update_conflicts": True, "update_fields": sorted(VALUES[model])[:2]}
            if connection.vendor != "mysql":
                options["unique_fields"] = ["pk"]
        if how == "async":
            wait(model._base_manager.abulk_create, objects)
        else:
            model._base_manager.bulk_create(objects, **options)

    model = a_model(draw, [model for model in MODELS if not model._meta.parents])
    how = draw(st.sampled_from(["plain", "ignore", "update", "async"]))
    rows = []
    for key in draw(st.lists(st.sampled_from(keys_of(model)), min_size=1, max_size=3, unique=True)):
        auto = how in ("plain", "async") and model not in ODD_KEYS
        rows.append((None if auto else key, some_values(draw, model, all_of_them=True)))
    return run, model, rows, how


@write(2)
def bulk_update(draw: Any) -> Any:
    def run(model: Any, keys: list[Any], values: dict[str, Any], loaded: bool, size: Any) -> None:
        found = [load(model, key) if loaded else make(model, key, {}) for key in keys]
        objects = [instance for instance in found if instance is not None]
        for instance in objects:
            for name, value in values.items():
                setattr(instance, name, value)
        model._base_manager.bulk_update(objects, list(values), batch_size=size)

    model = a_model(draw)
    keys = draw(st.lists(st.sampled_from(keys_of(model)), min_size=1, max_size=3, unique=True))
    return (
        run,
        model,
        keys,
        some_values(draw, model),
        draw(st.booleans()),
        draw(st.sampled_from([None, 1])),
    )


@write(1, [m.Post])
def bulk_update_expression(draw: Any) -> Any:
    def run(key: Any, name: str) -> None:
        post = load(m.Post, key)
        if post is not None:
            setattr(post, name, EXPRESSIONS[name])
            m.Post.objects.bulk_update([post], [name.removesuffix("_id")])

    return run, a_key(draw, m.Post), draw(st.sampled_from(["views", "title", "score"]))


@write()
def get_or_create(draw: Any) -> Any:
    def run(model: Any, find: dict[str, Any], defaults: dict[str, Any], how: str) -> None:
        manager = model._base_manager
        if model is m.Comment or manager.filter(**find).count() > 1:
            return
        if how.startswith("a"):
            wait(getattr(manager, how), **find, defaults=defaults)
        else:
            getattr(manager, how)(**find, defaults=defaults)

    model = a_model(draw)
    hows = ["get_or_create", "update_or_create", "aget_or_create", "aupdate_or_create"]
    values = some_values(draw, model, all_of_them=True)
    find = {name: values.pop(name) for name in sorted(values)[-1:]}
    return run, model, find, values, draw(st.sampled_from(hows))


@write(1, [m.Post])
def select_for_update(draw: Any) -> Any:
    def run(key: Any, values: dict[str, Any]) -> None:
        with transaction.atomic():
            post = m.Post.objects.select_for_update().filter(pk=key).first()
            if post is not None:
                for name, value in values.items():
                    setattr(post, name, value)
                post.save()

    return run, a_key(draw, m.Post), some_values(draw, m.Post)


# -- relations ---------------------------------------------------------------------------------


@write(2, [m.Author, m.Category, m.Post])
def reverse_manager(draw: Any) -> Any:
    def run(owner: Any, name: str, key: Any, posts: list[int], how: str, bulk: bool) -> None:
        instance = load(owner, key)
        if instance is None:
            return
        manager = getattr(instance, name)
        found = list(m.Post.objects.nocache().filter(pk__in=posts))
        if how == "create":
            manager.create(title="a", **_needed(name))
        elif how == "clear":
            if hasattr(manager, "clear"):
                manager.clear(bulk=bulk)
        elif how == "remove":
            if hasattr(manager, "remove"):
                mine = [post for post in found if getattr(post, f"{_field(name)}_id") == key]
                manager.remove(*mine, bulk=bulk)
        elif how == "set":
            manager.set(found, bulk=bulk)
        else:
            manager.add(*found, bulk=bulk)

    owner, name = draw(
        st.sampled_from([(m.Author, "edited"), (m.Author, "posts"), (m.Category, "posts")])
    )
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    how = draw(st.sampled_from(["add", "set", "remove", "clear", "create"]))
    return run, owner, name, a_key(draw, owner), keys, how, draw(st.booleans())


def _field(name: str) -> str:
    return {"edited": "editor"}.get(name, "author")


def _needed(name: str) -> dict[str, int]:
    category, author = m.Category.objects.first(), m.Author.objects.first()
    needed = {"category_id": category and category.pk, "author_id": author and author.pk}
    return {key: value for key, value in needed.items() if value is not None}


M2M: list[tuple[Any, str, Any]] = [
    (m.Post, "tags", m.Tag), (m.Tag, "posts", m.Post), (m.Person, "friends", m.Person),
    (m.Person, "follows", m.Person), (m.Person, "followers", m.Person),
    (m.Group, "members", m.Person), (m.Person, "groups", m.Group),
]  # fmt: skip


@write(4, [m.Post, m.Tag, m.Person, m.Group])
def many_to_many(draw: Any) -> Any:
    def run(owner: Any, name: str, key: Any, target: Any, keys: list[int], how: str) -> None:
        instance = load(owner, key)
        if instance is None:
            return
        manager = getattr(instance, name)
        through: dict[str, Any] = {"through_defaults": {"role": "b"}} if "Group" in (
            owner.__name__, target.__name__
        ) else {}  # fmt: skip
        present = list(target._base_manager.filter(pk__in=keys).values_list("pk", flat=True))
        if how == "add":
            manager.add(*present, **through)
        elif how == "set":
            manager.set(present, **through)
        elif how == "aset":
            wait(manager.aset, present, **through)
        elif how == "clear":
            manager.clear()
        elif how == "set and clear":
            manager.set(present, clear=True, **through)
        elif how == "create":
            manager.create(
                **{"title" if target is m.Post else "name": "a"},
                **(_needed("") if target is m.Post else {}),
                **through,
            )
        else:
            manager.remove(*keys)

    owner, name, target = draw(st.sampled_from([*M2M, *M2M[:2]]))
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    how = draw(
        st.sampled_from(["add", "add", "remove", "set", "clear", "set and clear", "create", "aset"])
    )
    return run, owner, name, a_key(draw, owner), target, keys, how


@write(2, [m.Post, m.Tag])
def through_rows(draw: Any) -> Any:
    """The rows of an automatic ``through`` model, written directly."""

    def run(post: int, tag: int, how: str) -> None:
        rows = m.Post.tags.through.objects
        if how == "create":
            rows.create(post_id=post, tag_id=tag)
        elif how == "move":
            rows.filter(post_id=post).update(tag_id=tag)
        elif how == "bulk":
            rows.bulk_create([rows.model(post_id=post, tag_id=tag)], ignore_conflicts=True)
        else:
            rows.filter(tag_id=tag).delete()

    how = draw(st.sampled_from(["create", "bulk", "move", "delete"]))
    return run, a_key(draw, m.Post), a_key(draw, m.Tag), how


@write(1, [m.Profile])
def one_to_one(draw: Any) -> Any:
    def run(author: int, other: int, bio: str) -> None:
        profile = m.Profile.objects.nocache().filter(author_id=author).first()
        profile = profile or m.Profile()
        profile.author_id, profile.bio = other, bio
        profile.save()

    return run, a_key(draw, m.Author), a_key(draw, m.Author), draw(st.sampled_from(WORDS))


@write(1, [m.Comment])
def generic_relation(draw: Any) -> Any:
    def run(key: int, other: int, text: str, how: str) -> None:
        post = load(m.Post, key)
        if post is None:
            return
        comments = m.Comment.objects.nocache().filter(object_id=other)
        if how == "create":
            post.comments.create(text=text)
        elif how == "add":
            post.comments.add(*comments)
        elif how == "set":
            post.comments.set(list(comments))
        elif how == "clear":
            post.comments.clear()
        elif how == "update":
            post.comments.update(text=text)
        else:
            for comment in comments[:1]:
                comment.target = post
                comment.save()

    how = draw(st.sampled_from(["create", "add", "set", "clear", "update", "target"]))
    return run, a_key(draw, m.Post), a_key(draw, m.Post), draw(st.sampled_from(WORDS)), how


# -- SQL ---------------------------------------------------------------------------------------


def execute(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.replace("[", _quotes()[0]).replace("]", _quotes()[1]), params)


def _quotes() -> tuple[str, str]:
    quoted = connection.ops.quote_name("x")
    return quoted[0], quoted[-1]


RAW: dict[str, Any] = {
    "update": lambda key, word: execute("UPDATE [tests_post] SET title = %s WHERE id = %s", word, key),
    "update all": lambda key, word: execute("update tests_post set views = views + 1"),
    "insert": lambda key, word: execute(
        "INSERT INTO tests_tag (name, [group]) VALUES (%s, '')", word
    ),
    "insert select": lambda key, word: execute(
        "INSERT INTO tests_tag (name, [group]) SELECT name, '' FROM tests_author"
    ),
    "delete": lambda key, word: execute("DELETE FROM tests_post_tags WHERE post_id = %s", key),
    "comment": lambda key, word: execute("/* x */ UPDATE tests_author SET name = %s", word),
    "join": lambda key, word: execute(
        "UPDATE tests_restaurant SET stars = 2 WHERE place_ptr_id IN "
        "(SELECT id FROM tests_place WHERE name = %s)", word
    ),
}  # fmt: skip
RAW_OF: dict[str, dict[str, Any]] = {
    "sqlite": {
        "replace": lambda key, word: execute(
            "REPLACE INTO tests_tag (id, name, [group]) VALUES (%s, %s, '')", key, word
        ),
        "with": lambda key, word: execute(
            "WITH x AS (SELECT %s AS id) UPDATE tests_author SET name = %s "
            "WHERE id IN (SELECT id FROM x)", key, word
        ),
        "upsert": lambda key, word: execute(
            "INSERT INTO tests_tag (id, name, [group]) VALUES (%s, %s, '') "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name", key, word
        ),
    },
    "postgresql": {
        "with": lambda key, word: execute(
            "WITH x AS (UPDATE tests_author SET name = %s WHERE id = %s RETURNING id) "
            "SELECT * FROM x", word, key
        ),
        "upsert": lambda key, word: execute(
            "INSERT INTO tests_tag (id, name, [group]) VALUES (%s, %s, '') "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name", key, word
        ),
        "merge": lambda key, word: execute(
            "MERGE INTO tests_tag t USING (SELECT %s::bigint AS id) s ON t.id = s.id "
            "WHEN MATCHED THEN UPDATE SET name = %s", key, word
        ),
        "truncate": lambda key, word: execute("TRUNCATE tests_post_tags"),
        "truncate cascade": lambda key, word: execute("TRUNCATE tests_tag CASCADE"),
        "do": lambda key, word: execute("DO $$ BEGIN UPDATE tests_author SET name = 'a'; END $$"),
        "two": lambda key, word: execute("SELECT 1; UPDATE tests_author SET name = 'b'"),
        "explain": lambda key, word: execute(
            "EXPLAIN (ANALYZE, COSTS OFF) UPDATE tests_author SET name = %s", word
        ),
    },
    "mysql": {
        "replace": lambda key, word: execute(
            "REPLACE INTO tests_memo (id, note, text) VALUES (%s, %s, '')", key, word
        ),
        "upsert": lambda key, word: execute(
            "INSERT INTO tests_tag (id, name, [group]) VALUES (%s, %s, '') "
            "ON DUPLICATE KEY UPDATE name = %s", key, word, word
        ),
        "join update": lambda key, word: execute(
            "UPDATE tests_post p JOIN tests_author a ON p.author_id = a.id SET p.title = a.name"
        ),
    },
}  # fmt: skip


@write(2, [m.Post, m.Tag, m.Author, m.Restaurant])
def raw_sql(draw: Any) -> Any:
    def run(name: str, key: int, word: str) -> None:
        statements = RAW | RAW_OF[connection.vendor]
        # Truncating commits in MySQL and so is not among these.
        names = sorted(statements)
        statements[name if name in statements else names[len(name) % len(names)]](key, word)

    names = sorted({*RAW, *(name for some in RAW_OF.values() for name in some)})
    return (
        run,
        draw(st.sampled_from(names)),
        draw(st.sampled_from(KEYS)),
        draw(st.sampled_from(WORDS)),
    )


@write(1, [m.Author])
def raw_many(draw: Any) -> Any:
    def run(keys: list[int], word: str) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE tests_author SET name = %s WHERE id = %s", [(word, key) for key in keys]
            )

    return (
        run,
        draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2)),
        draw(st.sampled_from(WORDS)),
    )


@write(1, [m.Author, m.Tag, m.Box, m.Country])
def lowered(draw: Any) -> Any:
    """A function of the database in every row."""

    def run(queryset: Any) -> None:
        queryset.update(name=Lower("name"))

    return run, a_queryset(draw, a_model(draw, [m.Author, m.Tag, m.Box, m.Country]))


# -- inside of one step ------------------------------------------------------------------------


@st.composite
def nested(draw: Any) -> Drawn:
    """Some writes in savepoints, each kept or rolled back, as one step."""
    parts = draw(
        st.lists(
            st.tuples(writes(), st.sampled_from(["keep", "roll back", "plain"])),
            min_size=1, max_size=3,
        )
    )  # fmt: skip

    def run() -> None:
        with transaction.atomic():
            for part, how in parts:
                try:
                    with transaction.atomic(savepoint=how != "plain"):
                        part.run()
                        if how == "roll back":
                            raise Wanted
                except Wanted:
                    pass

    return Drawn("nested", run, repr(parts))
