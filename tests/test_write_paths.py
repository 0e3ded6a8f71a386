"""Every way to write, in one table: what it drops, what it must leave, and that nothing is stale."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, migrations, transaction
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import (
    BigAutoField,
    Case,
    CharField,
    Exists,
    F,
    OuterRef,
    ProtectedError,
    RestrictedError,
    Value,
    When,
)
from django.db.models.functions import Upper
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import Signal
from django.test import override_settings

from . import models as m
from .watching import Read, assert_dropped, assert_fresh, assert_hit, prime

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default"]),
    pytest.mark.database,
]


class World:
    """Rows of every kind, a few of each."""

    def __init__(self) -> None:
        self.a, self.b = (m.Author.objects.create(name=n) for n in ("Ann", "Bob"))
        self.c1, self.c2 = (m.Category.objects.create(title=t, slug=t) for t in ("one", "two"))
        self.t1, self.t2 = (m.Tag.objects.create(name=n) for n in ("red", "blue"))
        self.p1 = self.post("p1", self.c1, self.a)
        self.p2 = self.post("p2", self.c2, self.b)
        self.p1.tags.add(self.t1)
        self.p2.tags.add(self.t2)

    def post(self, title: str, category: m.Category, author: m.Author) -> m.Post:
        return m.Post.objects.create(title=title, category=category, author=author)

    # The reads that the cases name.
    def in_category(self, category: m.Category) -> Read:
        return Read(lambda: m.Post.objects.filter(category=category), label="in_category")

    def count_in(self, category: m.Category) -> Read:
        return Read(lambda: m.Post.objects.filter(category=category), "count")

    def one(self, obj: Any) -> Read:
        model, pk = type(obj), obj.pk
        return Read(lambda: model._base_manager.filter(pk=pk), "get", label="one")

    def titled(self, title: str) -> Read:
        return Read(lambda: m.Post.objects.filter(title=title), label="titled")

    def with_author(self, category: m.Category) -> Read:
        return Read(
            lambda: m.Post.objects.filter(category=category).select_related("author"),
            label="with_author",
        )

    def tags_of(self, post: m.Post) -> Read:
        return Read(lambda: post.tags.all(), label="tags_of")


Case_ = tuple[Callable[[World], list[Read]], Callable[[World], Any], Callable[[World], list[Read]]]

#: name -> (reads that must be dropped, the write, reads that must stay hits).
CASES: dict[str, Case_] = {}


def case(dropped: Any, kept: Any = lambda w: []) -> Callable[[Any], Any]:
    def register(write: Any) -> Any:
        CASES[write.__name__] = (dropped, write, kept)
        return write

    return register


def first(w: World) -> list[Read]:
    return [w.in_category(w.c1), w.one(w.p1), w.with_author(w.c1), w.count_in(w.c1)]


def second(w: World) -> list[Read]:
    return [w.in_category(w.c2), w.one(w.p2), w.with_author(w.c2), w.count_in(w.c2)]


def both(w: World) -> list[Read]:
    return [w.in_category(w.c1), w.in_category(w.c2), w.count_in(w.c1), w.one(w.p1)]


# -- instances ---------------------------------------------------------------------------------


@case(first, second)
def save_changed(w: World) -> None:
    w.p1.title = "new"
    w.p1.save()


@case(lambda w: [w.in_category(w.c1)], second)
def save_new(w: World) -> None:
    w.post("p3", w.c1, w.a)


@case(lambda w: [w.in_category(w.c1), w.in_category(w.c2), w.one(w.p1)], lambda w: [w.one(w.p2)])
def save_moved(w: World) -> None:
    w.p1.category = w.c2
    w.p1.save()


@case(first, second)
def save_update_fields(w: World) -> None:
    w.p1.title = "new"
    w.p1.save(update_fields=["title"])


@case(both, lambda w: [w.one(w.p2)])
def save_update_fields_moved(w: World) -> None:
    w.p1.category = w.c2
    w.p1.save(update_fields=["category"])


@case(lambda w: [w.in_category(w.c1)], second)
def save_force_insert(w: World) -> None:
    m.Post(title="p3", category=w.c1, author=w.a).save(force_insert=True)


@case(both, lambda w: [w.one(w.p2)])
def save_known_pk_never_loaded(w: World) -> None:
    m.Post(pk=w.p1.pk, title="raw", category=w.c2, author=w.a).save()


@case(lambda w: [w.in_category(w.c1)], lambda w: [*second(w), w.one(w.p1)])
def save_changed_pk(w: World) -> None:
    w.p1.pk = w.p1.pk + 1000
    w.p1.save()


@case(both, lambda w: [w.one(w.p2)])
def save_deferred(w: World) -> None:
    post = m.Post.objects.defer("text", "title").get(pk=w.p1.pk)
    post.category = w.c2
    post.save()


@case(first, second)
def save_only(w: World) -> None:
    post = m.Post.objects.only("title").get(pk=w.p1.pk)
    post.title = "only"
    post.save()


@case(
    lambda w: [*first(w), Read(lambda: m.Post.objects.filter(views=1))],
    lambda w: [*second(w), Read(lambda: m.Post.objects.filter(views=7))],
)
def save_expression(w: World) -> None:
    w.p1.views = F("views") + 1
    w.p1.save()


@case(
    lambda w: [w.titled("p1"), w.one(w.p1), w.titled("P1 !")],
    lambda w: [w.titled("p2"), w.one(w.p2)],
)
def save_expression_in_text(w: World) -> None:
    m.Post.objects.filter(pk=w.p1.pk).update(title=Upper("title"))
    m.Post.objects.filter(pk=w.p1.pk).update(title="p1 !")


@case(first, second)
def delete(w: World) -> None:
    w.p1.delete()


@case(lambda w: [w.in_category(w.c1), w.one(w.p1)], lambda w: second(w))
def changed_in_memory_then_deleted(w: World) -> None:
    w.p1.category = w.c2
    w.p1.delete()


@case(first, second)
def save_through_proxy(w: World) -> None:
    proxy = m.PostProxy.objects.get(pk=w.p1.pk)
    proxy.title = "proxied"
    proxy.save()


@case(
    lambda w: [Read(lambda: m.PostProxy.objects.filter(category=w.c1))],
    lambda w: [Read(lambda: m.PostProxy.objects.filter(category=w.c2))],
)
def save_base_of_proxy(w: World) -> None:
    w.p1.title = "base"
    w.p1.save()


@case(first, second)
def save_raw_as_fixtures_do(w: World) -> None:
    w.p1.title = "raw"
    w.p1.save_base(raw=True)


# -- multi-table inheritance -------------------------------------------------------------------


@case(
    lambda w: [
        Read(lambda: m.Place.objects.filter(city="x")),
        Read(lambda: m.Restaurant.objects.filter(city="x")),
    ],
    lambda w: [Read(lambda: m.Place.objects.filter(city="y"))],
)
def mti_child_saved(w: World) -> None:
    m.Pizzeria.objects.create(name="Luigi", city="x", stars=1, oven="wood")


def _pizzeria() -> m.Pizzeria:
    return m.Pizzeria.objects.get_or_create(name="Gino", defaults={"city": "g", "stars": 3})[0]


@case(
    lambda w: [
        Read(lambda p=_pizzeria(): m.Pizzeria.objects.filter(pk=p.pk)),
        Read(lambda p=_pizzeria(): m.Place.objects.filter(pk=p.pk), "get"),
    ],
    lambda w: [Read(lambda: m.Place.objects.filter(pk=-1))],
)
def mti_parent_saved(w: World) -> None:
    place = m.Place.objects.get(name="Gino")
    place.city = "elsewhere"
    place.save()


@case(
    lambda w: [
        Read(lambda p=_pizzeria(): m.Pizzeria.objects.filter(pk=p.pk)),
        Read(lambda p=_pizzeria(): m.Restaurant.objects.filter(stars=3)),
        Read(lambda p=_pizzeria(): m.Restaurant.objects.filter(stars=5)),
    ],
    lambda w: [Read(lambda: m.Restaurant.objects.filter(stars=4))],
)
def mti_update_of_parent_field(w: World) -> None:
    m.Pizzeria.objects.filter(name="Gino").update(stars=5)


@case(
    lambda w: [
        Read(lambda p=_pizzeria(): m.Place.objects.filter(city="g")),
        Read(lambda p=_pizzeria(): m.Pizzeria.objects.filter(pk=p.pk)),
    ],
    lambda w: [Read(lambda: m.Place.objects.filter(city="y"))],
)
def mti_child_deleted(w: World) -> None:
    m.Pizzeria.objects.get(name="Gino").delete()


# -- querysets ---------------------------------------------------------------------------------


@case(first, second)
def update_literal(w: World) -> None:
    m.Post.objects.filter(category=w.c1).update(title="u")


@case(both, lambda w: [w.one(w.p2)])
def update_moves(w: World) -> None:
    m.Post.objects.filter(pk=w.p1.pk).update(category=w.c2)


@case(
    lambda w: [*first(w), Read(lambda: m.Post.objects.filter(views=5))],
    lambda w: [*second(w), Read(lambda: m.Post.objects.filter(views=6))],
)
def update_expression(w: World) -> None:
    m.Post.objects.filter(category=w.c1).update(views=F("views") + 5)


@case(
    lambda w: [*first(w), Read(lambda: m.Post.objects.filter(views=9))],
    lambda w: [*second(w), Read(lambda: m.Post.objects.filter(views=8))],
)
def update_case_when(w: World) -> None:
    m.Post.objects.filter(category=w.c1).update(
        views=Case(When(title="p1", then=Value(9)), default=Value(8))
    )


@case(first, second)
def update_with_subquery_condition(w: World) -> None:
    names = m.Category.objects.filter(pk=w.c1.pk)
    m.Post.objects.filter(category__in=names).update(title="sub")


@case(first, second)
def update_through_relation(w: World) -> None:
    m.Post.objects.filter(category__slug="one").update(title="joined")


@case(first, second)
def update_exists_condition(w: World) -> None:
    m.Post.objects.filter(
        Exists(m.Category.objects.filter(pk=OuterRef("category_id"), slug="one"))
    ).update(title="exists")


@case(lambda w: [], both)
def update_matching_nothing(w: World) -> None:
    m.Post.objects.filter(title="nobody").update(title="x")


@case(lambda w: [w.in_category(w.c1), w.one(w.p1)], second)
def queryset_delete(w: World) -> None:
    m.Post.objects.filter(category=w.c1).delete()


@case(lambda w: [w.in_category(w.c1), w.one(w.c1)], lambda w: [*second(w), w.one(w.c2)])
def queryset_delete_cascading(w: World) -> None:
    m.Category.objects.filter(slug="one").delete()


@case(
    lambda w: [Read(lambda: m.Tag.objects.filter(name="red"))],
    lambda w: [Read(lambda: m.Tag.objects.filter(name="blue"))],
)
def raw_delete(w: World) -> None:
    m.Post.tags.through.objects.filter(tag=w.t1)._raw_delete("default")
    m.Tag.objects.filter(name="red")._raw_delete("default")


@case(lambda w: [w.in_category(w.c1)], lambda w: second(w))
def bulk_create(w: World) -> None:
    m.Post.objects.bulk_create([m.Post(title=f"b{i}", category=w.c1, author=w.a) for i in range(3)])


@case(
    lambda w: [Read(lambda: m.Category.objects.filter(slug="three"))],
    lambda w: [Read(lambda: m.Author.objects.filter(name="Ann"))],
)
def bulk_create_ignoring_conflicts(w: World) -> None:
    """Coarse if keys are cached: the database does not say which keys it gave."""
    m.Category.objects.bulk_create(
        [m.Category(title="x", slug="three"), m.Category(title="x", slug="one")],
        ignore_conflicts=True,
    )


@case(lambda w: [w.one(w.c1), Read(lambda: m.Category.objects.filter(title="one"))])
def bulk_create_updating_conflicts(w: World) -> None:
    """Coarse by nature: which rows were there before is decided inside the statement (A6)."""
    kwargs: dict[str, Any] = {"unique_fields": ["slug"]}
    if connection.vendor == "mysql":
        kwargs = {}
    m.Category.objects.bulk_create(
        [m.Category(title="changed", slug="one")],
        update_conflicts=True, update_fields=["title"], **kwargs,
    )  # fmt: skip


@case(both, lambda w: [w.one(w.p2)])
def bulk_update(w: World) -> None:
    w.p1.category = w.c2
    m.Post.objects.bulk_update([w.p1], ["category"])


@case(lambda w: [Read(lambda: m.Tag.objects.filter(name="green"))], lambda w: [w.one(w.t1)])
def get_or_create(w: World) -> None:
    m.Tag.objects.get_or_create(name="green")


@case(lambda w: [w.one(w.t1)], lambda w: [w.one(w.t2)])
def update_or_create(w: World) -> None:
    m.Tag.objects.update_or_create(name="red", defaults={"group": "warm"})


@case(first, second)
def select_for_update_flow(w: World) -> None:
    with transaction.atomic():
        post = m.Post.objects.select_for_update().get(pk=w.p1.pk)
        post.title = "locked"
        post.save()


# -- relations ---------------------------------------------------------------------------------


@case(both, lambda w: [w.one(w.p2)])
def reverse_add(w: World) -> None:
    w.c2.posts.add(w.p1)


@case(both, lambda w: [w.one(w.p2)])
def reverse_add_not_bulk(w: World) -> None:
    w.c2.posts.add(w.p1, bulk=False)


@case(
    lambda w: [Read(lambda: m.Post.objects.filter(editor=w.a)), w.one(w.p1)],
    lambda w: [Read(lambda: m.Post.objects.filter(editor=w.b)), w.one(w.p2)],
)
def reverse_set_remove_clear(w: World) -> None:
    w.a.edited.set([w.p1])
    w.a.edited.remove(w.p1)
    w.a.edited.set([w.p1], bulk=False)
    w.a.edited.clear()
    w.a.edited.add(w.p1)


@case(lambda w: [w.in_category(w.c1)], second)
def reverse_create(w: World) -> None:
    w.c1.posts.create(title="r", author=w.a)


@case(lambda w: [w.tags_of(w.p1)], lambda w: [w.tags_of(w.p2), w.one(w.p1)])
def m2m_add(w: World) -> None:
    w.p1.tags.add(w.t2)


@case(lambda w: [w.tags_of(w.p1)], lambda w: [w.tags_of(w.p2)])
def m2m_add_other_side(w: World) -> None:
    w.t2.posts.add(w.p1)


@case(lambda w: [w.tags_of(w.p1)], lambda w: [w.tags_of(w.p2)])
def m2m_remove(w: World) -> None:
    w.p1.tags.remove(w.t1)


@case(lambda w: [w.tags_of(w.p1)], lambda w: [w.tags_of(w.p2)])
def m2m_set(w: World) -> None:
    w.p1.tags.set([w.t2])


@case(lambda w: [w.tags_of(w.p1)], lambda w: [w.tags_of(w.p2)])
def m2m_clear(w: World) -> None:
    w.p1.tags.clear()


@case(lambda w: [w.tags_of(w.p1)], lambda w: [w.tags_of(w.p2)])
def m2m_clear_other_side(w: World) -> None:
    w.t1.posts.clear()


@case(lambda w: [w.tags_of(w.p1), w.one(w.t1)], lambda w: [w.tags_of(w.p2), w.one(w.t2)])
def m2m_target_changed(w: World) -> None:
    w.t1.name = "dark red"
    w.t1.save()


@case(lambda w: [w.with_author(w.c1)], lambda w: [w.with_author(w.c2), w.in_category(w.c1)])
def select_related_row_changed(w: World) -> None:
    w.a.name = "Anna"
    w.a.save()


def _group() -> tuple[m.Group, m.Person]:
    return (
        m.Group.objects.get_or_create(name="g")[0],
        m.Person.objects.get_or_create(name="p")[0],
    )


@case(
    lambda w: [
        Read(lambda g=_group()[0]: g.members.all()),
        Read(lambda: m.Membership.objects.filter(role="boss")),
    ],
    lambda w: [Read(lambda: m.Membership.objects.filter(role="cook"))],
)
def m2m_explicit_through(w: World) -> None:
    group, person = _group()
    group.members.add(person, through_defaults={"role": "boss"})


@case(lambda w: [Read(lambda p=_group()[1]: p.friends.all())], lambda w: [w.one(w.a)])
def m2m_symmetrical(w: World) -> None:
    m.Person.objects.create(name="q").friends.add(_group()[1])


@case(lambda w: [Read(lambda p=_group()[1]: p.followers.all())], lambda w: [w.one(w.a)])
def m2m_self_not_symmetrical(w: World) -> None:
    m.Person.objects.create(name="q").follows.add(_group()[1])


@case(
    lambda w: [Read(lambda: m.Author.objects.filter(pk=w.a.pk).select_related("profile"))],
    lambda w: [
        w.one(w.a),
        Read(lambda: m.Author.objects.filter(pk=w.b.pk).select_related("profile")),
    ],
)
def one_to_one_appears(w: World) -> None:
    m.Profile.objects.create(author=w.a, bio="x")


@case(
    lambda w: [
        Read(lambda: m.Comment.objects.filter(object_id=w.p1.pk)),
        Read(lambda: w.p1.comments.all()),
    ],
    lambda w: [Read(lambda: m.Comment.objects.filter(object_id=w.p2.pk + 1000))],
)
def generic_relation(w: World) -> None:
    ContentType.objects.clear_cache()
    w.p1.comments.create(text="hi")
    m.Comment.objects.create(target=w.p1, text="ho")


@case(
    lambda w: [Read(lambda: m.Comment.objects.filter(text="gone"))],
    lambda w: [Read(lambda: m.Comment.objects.filter(text="other"))],
)
def generic_relation_cascades(w: World) -> None:
    w.p1.comments.create(text="gone")
    w.p1.delete()


# -- other keys and values ---------------------------------------------------------------------


@case(
    lambda w: [Read(lambda: m.Token.objects.filter(label="a"))],
    lambda w: [Read(lambda: m.Token.objects.filter(label="b"))],
)
def uuid_key(w: World) -> None:
    token = m.Token.objects.create(label="a")
    m.TokenUse.objects.create(token=token)
    token.save()


@case(
    lambda w: [Read(lambda: m.Big.objects.filter(pk=2**60 + 1))],
    lambda w: [Read(lambda: m.Big.objects.filter(pk=2**60))],
)
def big_integer(w: World) -> None:
    m.Big.objects.create(pk=2**60 + 1, name="big")


@case(
    lambda w: [
        Read(lambda: m.OrderLine.objects.filter(order=1)),
        Read(lambda: m.OrderLine.objects.filter(pk=(1, 1))),
    ],
    lambda w: [Read(lambda: m.OrderLine.objects.filter(order=2))],
)
def composite_key(w: World) -> None:
    line = m.OrderLine.objects.create(order=1, line=1, product="x")
    line.product = "y"
    line.save()


@case(
    lambda w: [
        Read(lambda: m.Box.objects.filter(area=2)),
        Read(lambda: m.Box.objects.filter(width=1)),
    ],
    lambda w: [Read(lambda: m.Box.objects.filter(width=77))],
)
def generated_and_default_columns(w: World) -> None:
    m.Box.objects.create(name="Ab")


@case(
    lambda w: [
        Read(lambda: m.Box.objects.filter(area=30)),
        Read(lambda: m.Box.objects.filter(lower_name="zz")),
    ],
    lambda w: [Read(lambda: m.Box.objects.filter(area=31))],
)
def generated_column_updated(w: World) -> None:
    box = m.Box.objects.create(name="ZZ", width=5, height=5)
    box.height = 6
    box.save()


@case(
    lambda w: [Read(lambda: m.Price.objects.filter(amount=Decimal("1.50")))],
    lambda w: [Read(lambda: m.Price.objects.filter(name="z"))],
)
def custom_field(w: World) -> None:
    m.Price.objects.create(amount=Decimal("1.5"), labels=["a", "b"])


@case(
    lambda w: [Read(lambda: m.Document.objects.filter(name="d"))],
    lambda w: [Read(lambda: m.Document.objects.filter(name="e"))],
)
def json_values(w: World) -> None:
    m.Document.objects.create(name="d", data={"a": [1, {"b": None}]})


@case(
    lambda w: [
        Read(lambda: m.Note.everything.filter(deleted=True)),
        Read(lambda: m.Note.objects.all()),
    ],
    lambda w: [Read(lambda: m.Note.everything.filter(text="other"))],
)
def soft_delete(w: World) -> None:
    note = m.Note.objects.create(text="n")
    note.deleted = True
    note.save()
    note.text = "hidden"
    note.save()


@case(
    lambda w: [Read(lambda: m.Odd.items.filter(name="o"))],
    lambda w: [Read(lambda: m.Odd.items.filter(name="x"))],
)
def no_objects_manager(w: World) -> None:
    m.Odd.items.create(name="o")


@case(
    lambda w: [Read(lambda: m.Memo.objects.filter(note="n"))],
    lambda w: [Read(lambda: m.Memo.objects.filter(note="x"))],
)
def abstract_parent(w: World) -> None:
    m.Memo.objects.create(note="n")


@case(
    lambda w: [Read(lambda: m.ToyPart.objects.filter(toy="t1"))],
    lambda w: [Read(lambda: m.ToyPart.objects.filter(toy="t2"))],
)
def foreign_key_to_field(w: World) -> None:
    m.Toy.objects.create(code="t1").parts.create(name="wheel")


LONG_AGO, SOON = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)


def _stamped(model: Any = m.Stamped) -> Any:
    """A row that was saved long ago."""
    obj = model.objects.get_or_create(name="s", defaults={"saved": LONG_AGO})[0]
    model.objects.filter(pk=obj.pk).update(saved=LONG_AGO)
    return obj


def saved_moments(w: World) -> list[Read]:
    _stamped()
    return [
        Read(lambda: m.Stamped.objects.filter(saved=LONG_AGO)),
        Read(lambda: m.Stamped.objects.filter(saved__lt=datetime(2021, 1, 1, tzinfo=UTC))),
        Read(
            lambda: m.Stamped.objects.filter(saved__gte=datetime(2021, 1, 1, tzinfo=UTC)), "count"
        ),
    ]


@case(
    saved_moments,
    lambda w: [
        Read(lambda: m.Stamped.objects.filter(saved=SOON)),
        Read(lambda: m.Stamped.objects.filter(saved__gt=SOON)),
    ],
)
def auto_now(w: World) -> None:
    m.Stamped.objects.get(name="s").save()


@case(
    lambda w: [*saved_moments(w), Read(lambda: m.BareStamped.objects.filter(name="s"))],
    lambda w: [Read(lambda: m.BareStamped.objects.filter(name="other"))],
)
def unmanaged_and_its_twin(w: World) -> None:
    m.BareStamped.objects.filter(name="s").update(saved=datetime(2026, 1, 1, tzinfo=UTC))


@case(
    lambda w: [Read(lambda: m.BareStamped.objects.filter(name="new"))],
    lambda w: [Read(lambda: m.BareStamped.objects.filter(name="other"))],
)
def twin_of_an_unmanaged(w: World) -> None:
    m.Stamped.objects.create(name="new")


def _invoice(name: str) -> Any:
    customer = m.BigCustomer.objects.get_or_create(name=name)[0]
    return m.Invoice.objects.get_or_create(customer=customer)[0]


def invoices(name: str) -> list[Read]:
    pk = _invoice(name).pk
    return [
        Read(lambda: m.Invoice.objects.filter(pk=pk).select_related("customer")),
        Read(lambda: m.BigCustomer.objects.filter(invoice__pk=pk)),
    ]


@case(lambda w: invoices("swapped"), lambda w: invoices("other"))
def swapped_model(w: World) -> None:
    customer = m.BigCustomer.objects.get(name="swapped")
    customer.name = "renamed"
    customer.save()


# -- deletion rules ----------------------------------------------------------------------------


def _owned(model: Any) -> Any:
    m.Owner.objects.get_or_create(name="other")
    owner = m.Owner.objects.get_or_create(name="o")[0]
    return model.objects.get_or_create(owner=owner)[0]


def rule(model: Any) -> tuple[Any, Any]:
    return (
        lambda w: [Read(lambda o=_owned(model): model.objects.filter(owner=o.owner_id))],
        lambda w: [Read(lambda: model.objects.filter(pk=-1))],
    )


@case(*rule(m.Cascading))
def on_delete_cascade(w: World) -> None:
    m.CascadingDeeper.objects.create(cascading=_owned(m.Cascading))
    m.Owner.objects.get(name="o").delete()


@case(*rule(m.Nulling))
def on_delete_set_null(w: World) -> None:
    m.Owner.objects.get(name="o").delete()


@case(*rule(m.Defaulting))
def on_delete_set_default(w: World) -> None:
    m.Owner.objects.get(name="o").delete()


@case(*rule(m.Setting))
def on_delete_set_value(w: World) -> None:
    m.Owner.objects.create(name="last")
    m.Owner.objects.get(name="o").delete()


@case(
    lambda w: [],
    lambda w: [*rule(m.Protecting)[0](w), Read(lambda: m.Owner.objects.filter(name="o"))],
)
def on_delete_protect(w: World) -> None:
    with pytest.raises(ProtectedError):
        m.Owner.objects.get(name="o").delete()


@case(
    lambda w: [],
    lambda w: [*rule(m.Restricting)[0](w), Read(lambda: m.Owner.objects.filter(name="o"))],
)
def on_delete_restrict(w: World) -> None:
    with pytest.raises(RestrictedError):
        m.Owner.objects.get(name="o").delete()


@case(
    lambda w: [Read(lambda o=_owned(m.Ignoring): m.Ignoring.objects.filter(owner=o.owner_id))],
    lambda w: [w.one(w.a)],
)
def on_delete_do_nothing(w: World) -> None:
    """Coarse: what the database does for DO_NOTHING is not ours to know."""
    m.Owner.objects.get(name="o").delete()


if django.VERSION >= (6, 1):

    def reached(model: Any, top: Any = None) -> Read:
        """The rows that point at the one named "o", directly or over another."""
        m.Root.objects.get_or_create(pk=1, name="the default")
        root = m.Root.objects.get_or_create(pk=2, name="o")[0]
        owner = root if top is None else top.objects.get_or_create(owner=root)[0]
        pk = model.objects.get_or_create(owner=owner)[0].pk
        return Read(lambda: model.objects.filter(pk=pk))

    @case(
        lambda w: [
            reached(m.DbCascading),
            reached(m.DbCascadingDeeper, m.DbCascading),
            reached(m.DbNulling),
            *([] if connection.vendor == "mysql" else [reached(m.DbDefaulting)]),
        ],
        lambda w: [*both(w), Read(lambda: m.Root.objects.filter(name="x"))],
    )
    def on_delete_by_the_database(w: World) -> None:
        """Coarse in the tables that the rules reach: the database does not say which rows."""
        m.Root.objects.get(name="o").delete()


# -- SQL ---------------------------------------------------------------------------------------


def sql(statement: str, *params: Any) -> Callable[[World], None]:
    def write(w: World) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, params)

    return write


CASES["raw_update"] = (first, sql("UPDATE tests_post SET title = 'raw'"), lambda w: [w.one(w.a)])
CASES["raw_insert"] = (
    lambda w: [Read(lambda: m.Tag.objects.filter(name="raw"))],
    sql("INSERT INTO tests_tag (name, \"group\") VALUES ('raw', '')"),
    first,
)
CASES["raw_delete_sql"] = (
    lambda w: [w.tags_of(w.p1)], sql("DELETE FROM tests_post_tags"), lambda w: [w.one(w.p1)],
)  # fmt: skip
CASES["raw_comment_first"] = (
    first, sql("/* hm */ -- x\n UPDATE tests_post SET title = 'raw'"), lambda w: [w.one(w.a)],
)  # fmt: skip


@case(lambda w: [Read(lambda: m.Tag.objects.filter(name="many"))], first)
def raw_executemany(w: World) -> None:
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO tests_tag (name, {quote('group')}) VALUES (%s, '')", [("many",), ("x",)]
        )


#: Statements that only some databases have: name -> (databases, statement).
STATEMENTS = {
    "raw_replace": (
        ("sqlite", "mysql"),
        "REPLACE INTO tests_tag (id, name, {group}) VALUES (12345, 'new', '')",
    ),
    "raw_upsert": (
        ("sqlite", "postgresql"),
        "INSERT INTO tests_tag (id, name, {group}) SELECT id, name, '' FROM tests_tag WHERE true"
        " ON CONFLICT (id) DO UPDATE SET name = 'new'",
    ),
    "raw_upsert_of_mysql": (
        ("mysql",),
        "INSERT INTO tests_tag (id, name, {group}) SELECT id, name, '' FROM tests_tag AS given"
        " ON DUPLICATE KEY UPDATE name = 'new'",
    ),
    "raw_with_update": (
        ("sqlite", "postgresql"),
        "WITH chosen AS (SELECT 'new' AS name) UPDATE tests_tag SET name = (SELECT name FROM chosen)",
    ),
    "raw_update_inside_with": (
        ("postgresql",),
        "WITH changed AS (UPDATE tests_tag SET name = 'new' RETURNING id) SELECT * FROM changed",
    ),
    "raw_merge": (
        ("postgresql",),
        "MERGE INTO tests_tag USING (SELECT 'red' AS name) AS given ON tests_tag.name = given.name"
        " WHEN MATCHED THEN UPDATE SET name = 'new'",
    ),
    "raw_truncate": (("postgresql",), "TRUNCATE tests_tag CASCADE"),
    "raw_alter": (("sqlite", "postgresql", "mysql"), "ALTER TABLE tests_tag ADD COLUMN later int"),
}


def statement(name: str) -> Callable[[World], None]:
    databases, template = STATEMENTS[name]

    def write(w: World) -> None:
        if connection.vendor not in databases:
            pytest.skip(f"a statement of {', '.join(databases)}")
        quoted = template.format(group=connection.ops.quote_name("group"))
        with connection.cursor() as cursor:
            cursor.execute(quoted)
            if name == "raw_alter":
                cursor.execute("ALTER TABLE tests_tag DROP COLUMN later")
            if cursor.description:
                cursor.fetchall()

    return write


for _name in STATEMENTS:
    # TRUNCATE … CASCADE empties tables that it does not name, so nothing is spared.
    CASES[_name] = (
        lambda w: [w.one(w.t1), Read(lambda: m.Tag.objects.filter(name="new"))],
        statement(_name),
        (lambda w: []) if _name == "raw_truncate" else (lambda w: [w.one(w.p1), w.one(w.a)]),
    )


@case(lambda w: [*first(w), w.one(w.a)])
def raw_unknown_table(w: World) -> None:
    """A write that names nothing we know drops everything: a view or a trigger may be behind it."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE somewhere_else (x integer)")
        try:
            cursor.execute("INSERT INTO somewhere_else VALUES (1)")
        finally:
            cursor.execute("DROP TABLE somewhere_else")


@case(first, lambda w: [])
def flush_command(w: World) -> None:
    call_command("flush", interactive=False, verbosity=0)


# -- async twins -------------------------------------------------------------------------------


def awaiting(function: Callable[[World], Any]) -> Callable[[World], None]:
    """Run an async write the way async views do: the ORM works in a thread of its own."""

    def write(w: World) -> None:
        async_to_sync(function)(w)

    write.__name__ = function.__name__
    return write


@case(first, second)
@awaiting
async def async_save(w: World) -> None:
    w.p1.title = "async"
    await w.p1.asave()


@case(lambda w: [w.in_category(w.c1)], second)
@awaiting
async def async_create(w: World) -> None:
    await m.Post.objects.acreate(title="a", category=w.c1, author=w.a)


@case(first, second)
@awaiting
async def async_update(w: World) -> None:
    await m.Post.objects.filter(category=w.c1).aupdate(title="a")


@case(lambda w: [w.in_category(w.c1), w.one(w.p1)], second)
@awaiting
async def async_delete(w: World) -> None:
    await m.Post.objects.filter(category=w.c1).adelete()


@case(lambda w: [w.in_category(w.c1)], second)
@awaiting
async def async_bulk_create(w: World) -> None:
    await m.Post.objects.abulk_create([m.Post(title="a", category=w.c1, author=w.a)])


@case(both, lambda w: [w.one(w.p2)])
@awaiting
async def async_bulk_update(w: World) -> None:
    w.p1.category = w.c2
    await m.Post.objects.abulk_update([w.p1], ["category"])


@case(lambda w: [w.one(w.t1)], lambda w: [w.one(w.t2)])
@awaiting
async def async_update_or_create(w: World) -> None:
    await m.Tag.objects.aupdate_or_create(name="red", defaults={"group": "warm"})


@case(lambda w: [Read(lambda: m.Tag.objects.filter(name="green"))], lambda w: [w.one(w.t1)])
@awaiting
async def async_get_or_create(w: World) -> None:
    await m.Tag.objects.aget_or_create(name="green")


@case(lambda w: [w.tags_of(w.p1)], lambda w: [w.tags_of(w.p2)])
@awaiting
async def async_m2m(w: World) -> None:
    await w.p1.tags.aadd(w.t2)
    await w.p1.tags.aremove(w.t1)


@case(first, second)
@awaiting
async def async_instance_delete(w: World) -> None:
    await w.p1.adelete()


# -- fixtures and options ----------------------------------------------------------------------


@case(lambda w: [Read(lambda: m.Tag.objects.filter(name="fixture"))], first)
def loaddata(w: World) -> None:
    rows = [{"model": "tests.tag", "pk": 999, "fields": {"name": "fixture"}}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tags.json"
        path.write_text(json.dumps(rows))
        call_command("loaddata", str(path), verbosity=0)


@case(first, second)
def invalidated_update(w: World) -> None:
    m.Post.objects.filter(category=w.c1).invalidated_update(title="x")


@case(lambda w: [*first(w), w.in_category(w.c2)], lambda w: [w.one(w.a)])
def mass_update_by_table(w: World) -> None:
    """Coarse by choice: the profile says that mass updates drop the table's results."""
    profile = {"ops": "all", "timeout": 60, "mass": "table"}
    with override_settings(CACHEOPS={"tests.post": profile, "*.*": {"timeout": 60}}):
        m.Post.objects.filter(pk=w.p1.pk).update(title="x")


@case(lambda w: [w.one(w.a)], lambda w: [w.one(w.b), w.in_category(w.c1)])
def historical_model(w: World) -> None:
    """What a migration writes drops what it touched; its models know other fields than ours."""
    state = ProjectState()
    state.add_model(
        ModelState(
            "tests",
            "Author",
            [("id", BigAutoField(primary_key=True)), ("name", CharField(max_length=100))],
        )
    )
    old = state.apps.get_model("tests", "Author")
    old.objects.filter(pk=w.a.pk).update(name="migrated")
    assert not old.objects.filter(pk=w.a.pk).cache_explain().cacheable


@case(lambda w: [w.one(w.t1)], lambda w: [w.one(w.p1), w.one(w.a)])
def migration(w: World) -> None:
    """A migration reads what is there, stores nothing, and drops the tables it touches."""

    def rename(apps: Any, schema_editor: Any) -> None:
        tag = apps.get_model("tests", "Tag")
        for name in ("once", "twice"):
            tag.objects.filter(pk=w.t1.pk).update(name=name)
            for _ in range(2):
                assert [t.name for t in tag.objects.filter(pk=w.t1.pk).cache()] == [name]

    class Step(migrations.Migration):
        operations = [
            migrations.AddField("tag", "later", CharField(max_length=5, default="x")),
            migrations.RunPython(rename, migrations.RunPython.noop),
            migrations.RemoveField("tag", "later"),
        ]

    state = ProjectState()
    fields = [("id", BigAutoField(primary_key=True)), ("name", CharField(max_length=50)),
              ("group", CharField(max_length=20, default=""))]  # fmt: skip
    state.add_model(ModelState("tests", "Tag", fields))
    for operation in Step.operations:  # one at a time, as databases without DDL transactions do
        step = type("Step", (migrations.Migration,), {"operations": [operation]})("1", "tests")
        with connection.schema_editor() as editor:
            state = step.apply(state, editor)


# -- by hand -----------------------------------------------------------------------------------


@case(lambda w: [], both)
def rolled_back(w: World) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        w.p1.title = "never"
        w.p1.save()
        raise ZeroDivisionError


@case(lambda w: [w.one(w.a)], lambda w: [w.one(w.p1), w.in_category(w.c1)])
def savepoint_rolled_back(w: World) -> None:
    with transaction.atomic():
        w.a.name = "kept"
        w.a.save()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            w.p1.title = "never"
            w.p1.save()
            raise ZeroDivisionError


@case(first, second)
def manual_commit(w: World) -> None:
    transaction.set_autocommit(False)
    try:
        w.p1.title = "manual"
        w.p1.save()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)


@case(first, second)
def nested_atomic(w: World) -> None:
    with transaction.atomic(), transaction.atomic(), transaction.atomic(savepoint=False):
        w.p1.title = "nested"
        w.p1.save()


@case(first, second)
def signal_sent_by_hand(w: World) -> None:
    with connection.cursor() as cursor:
        raw = cursor.cursor  # behind Django's back
        raw.execute(f"UPDATE tests_post SET title = 'x' WHERE id = {w.p1.pk}")
    post_save.send(m.Post, instance=w.p1, created=False, using="default")
    post_delete.send(m.Comment, instance=m.Comment(object_id=1, text=""), using="default")


def behind(statement: str) -> None:
    """Run a statement that nobody but the database sees."""
    with connection.cursor() as cursor:
        cursor.cursor.execute(statement)


@pytest.fixture
def heard() -> Iterator[Callable[..., None]]:
    """Connects receivers for the test's time."""
    connected: list[tuple[Signal, Any]] = []

    def connect(signal: Signal, receiver: Callable[..., Any]) -> None:
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


def test_signal_sent_by_hand_while_something_is_deleted(heard: Callable[..., None]) -> None:
    """A handler that deletes something else behind Django's back, and says so, is believed."""
    one, other = (m.Author.objects.create(name=name) for name in "ab")
    gone = Read(lambda: m.Author.objects.filter(name="b"))
    prime(gone)

    def along(sender: Any, instance: Any, **kwargs: Any) -> None:
        if sender is m.Author and instance is one:
            behind(f"DELETE FROM tests_author WHERE id = {other.pk}")
            post_delete.send(m.Author, instance=other, using="default")

    heard(post_delete, along)
    one.delete()
    assert_dropped(gone)
    assert gone.cached() == []


def test_signals_of_a_deletion_add_nothing_to_its_statements(heard: Callable[..., None]) -> None:
    """Who is told of each row that goes with another drops no more than these."""
    one, other = (m.Author.objects.create(name=name) for name in "ab")
    stays = Read(lambda: m.Author.objects.filter(name="b", email=""))
    prime(stays)
    seen: list[Any] = []
    heard(post_delete, lambda instance, **kwargs: seen.append(instance))
    m.Author.objects.filter(pk=one.pk).delete()
    assert len(seen) == 1 and m.Author.objects.get() == other
    assert_hit(stays)


@pytest.mark.parametrize("before", [False, True], ids=["after", "before and after"])
@pytest.mark.parametrize("listened", [False, True], ids=["", "listened"])
def test_relation_changed_by_hand_after_another(
    heard: Callable[..., None], listened: bool, before: bool
) -> None:
    """In a transaction that has changed the relation of other rows the signal counts all the same.

    What Django sends of its own changes adds nothing to them.
    """
    if listened:
        heard(m2m_changed, lambda **kwargs: None)
    w = World()
    table, tag = m.Post.tags.through._meta.db_table, m.Tag.objects.create(name="new")
    mine, others = (Read(lambda p=p: m.Tag.objects.filter(posts=p)) for p in (w.p1, w.p2))  # type: ignore[misc]
    prime(mine, others)
    with transaction.atomic():
        w.p1.tags.add(tag)
    assert_dropped(mine)
    assert_hit(others)
    prime(mine, others)
    about = {"instance": w.p2, "reverse": False, "model": m.Tag, "pk_set": {tag.pk}}
    with transaction.atomic():
        w.p1.tags.remove(tag)
        for action in ("pre_add", "post_add")[not before :]:
            if action == "post_add":
                behind(f"INSERT INTO {table} (post_id, tag_id) VALUES ({w.p2.pk}, {tag.pk})")
            m2m_changed.send(m.Post.tags.through, action=action, using="default", **about)
    assert_dropped(others)
    assert_fresh(others)
    assert len(others.cached()) == 2


@pytest.mark.parametrize("name", CASES)
def test_write(name: str) -> None:
    """After this write, what it touched is read anew and right, and the rest is still a hit."""
    dropped, write, kept = CASES[name]
    if connection.vendor == "mysql" and name == "raw_insert":
        write = sql("INSERT INTO tests_tag (name, `group`) VALUES ('raw', '')")
    world = World()
    gone, stays = dropped(world), kept(world)
    prime(*gone, *stays)
    write(world)
    for read in stays:
        assert_hit(read, f"after {name}")
    for read in gone:
        assert_dropped(read, f"after {name}")
    for read in (*gone, *stays):
        assert_fresh(read, f"after {name}")
