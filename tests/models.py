"""One schema for all tests: every kind of model, relation and field that a query can meet."""

from __future__ import annotations

import datetime
import hashlib
import uuid
from decimal import Decimal
from typing import Any

import django
from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.fields.related import RelatedField
from django.db.models.functions import Lower


class Category(models.Model):
    title = models.CharField(max_length=100)
    slug = models.SlugField(unique=True)
    parent = models.ForeignKey(
        "self", on_delete=models.CASCADE, null=True, blank=True, related_name="children"
    )


class Tag(models.Model):
    name = models.CharField(max_length=50)
    group = models.CharField(max_length=20, default="", blank=True)

    class Meta:
        ordering = ["name"]


class Author(models.Model):
    name = models.CharField(max_length=100)
    email = models.EmailField(blank=True, default="")


class Profile(models.Model):
    author = models.OneToOneField(Author, on_delete=models.CASCADE)
    bio = models.TextField(blank=True, default="")


class Post(models.Model):
    class Status(models.TextChoices):
        DRAFT = "draft"
        REVIEW = "review"
        LIVE = "live"

    category = models.ForeignKey(Category, on_delete=models.CASCADE, related_name="posts")
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="posts")
    editor = models.ForeignKey(
        Author, on_delete=models.SET_NULL, null=True, blank=True, related_name="edited"
    )
    tags = models.ManyToManyField(Tag, related_name="posts", blank=True)
    title = models.CharField(max_length=100)
    text = models.TextField(blank=True, default="")
    published = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.DRAFT)
    views = models.IntegerField(default=0)
    score = models.FloatField(default=0.0)
    rating = models.DecimalField(max_digits=6, decimal_places=2, null=True, blank=True)
    created = models.DateTimeField(null=True, blank=True)
    day = models.DateField(null=True, blank=True)
    at = models.TimeField(null=True, blank=True)
    duration = models.DurationField(null=True, blank=True)
    comments = GenericRelation("Comment")


class PostProxy(Post):
    class Meta:
        proxy = True


class Comment(models.Model):
    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.PositiveIntegerField()
    target = GenericForeignKey()
    text = models.TextField(blank=True, default="")
    hidden = models.BooleanField(default=False)


# Multi-table inheritance, three deep.
class Place(models.Model):
    name = models.CharField(max_length=50)
    city = models.CharField(max_length=50, default="", blank=True)


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Pizzeria(Restaurant):
    oven = models.CharField(max_length=20, default="", blank=True)


# Abstract parent.
class Stamped(models.Model):
    created = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=50, default="", blank=True)

    class Meta:
        abstract = True


class Memo(Stamped):
    text = models.TextField(default="", blank=True)


# Keys of other kinds.
class Token(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    label = models.CharField(max_length=50, default="", blank=True)


class TokenUse(models.Model):
    token = models.ForeignKey(Token, on_delete=models.CASCADE, related_name="uses")
    count = models.IntegerField(default=0)


class Big(models.Model):
    id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=50, default="", blank=True)


class Country(models.Model):
    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=50, default="", blank=True)


class City(models.Model):
    country = models.ForeignKey(Country, on_delete=models.CASCADE, related_name="cities")
    name = models.CharField(max_length=50)


class OrderLine(models.Model):
    pk = models.CompositePrimaryKey("order", "line")
    order = models.IntegerField()
    line = models.IntegerField()
    product = models.CharField(max_length=50, default="", blank=True)
    quantity = models.IntegerField(default=1)


# Many-to-many with a model in between, and onto itself.
class Person(models.Model):
    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self", blank=True)
    follows = models.ManyToManyField(
        "self", symmetrical=False, related_name="followers", blank=True
    )


class Group(models.Model):
    name = models.CharField(max_length=50)
    members = models.ManyToManyField(Person, through="Membership", related_name="groups")


class Membership(models.Model):
    group = models.ForeignKey(Group, on_delete=models.CASCADE)
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    role = models.CharField(max_length=20, default="member")


# Managers.
class LivingManager(models.Manager):
    def get_queryset(self) -> models.QuerySet[Note]:
        return super().get_queryset().filter(deleted=False)


class Note(models.Model):
    """Soft-deleted rows are hidden by the default manager."""

    text = models.CharField(max_length=50)
    deleted = models.BooleanField(default=False)

    objects = LivingManager()
    everything = models.Manager()


class Odd(models.Model):
    """No manager is called ``objects``."""

    name = models.CharField(max_length=50)

    items = models.Manager()


# Values that the database makes, and values of other kinds.
class Box(models.Model):
    width = models.IntegerField(db_default=1)
    height = models.IntegerField(db_default=2)
    name = models.CharField(max_length=50, default="")
    area = models.GeneratedField(
        expression=models.F("width") * models.F("height"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    lower_name = models.GeneratedField(
        expression=Lower("name"),
        output_field=models.CharField(max_length=50),
        db_persist=True,
    )


class Document(models.Model):
    data = models.JSONField(default=dict, null=True, blank=True)
    name = models.CharField(max_length=50, default="", blank=True)


class Cents(models.IntegerField):
    """Decimal money in Python, whole cents in the database."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else Decimal(value) / 100

    def to_python(self, value: Any) -> Any:
        return None if value is None else Decimal(value)

    def get_prep_value(self, value: Any) -> Any:
        if value is None or hasattr(value, "resolve_expression"):
            return value
        return int(Decimal(value) * 100)


class Words(models.TextField):
    """A list of words in Python, joined by commas in the database."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else self.to_python(value)

    def to_python(self, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        return ",".join(value) if isinstance(value, (list, tuple)) else value


class Price(models.Model):
    amount = Cents(null=True, blank=True)
    labels = Words(null=True, blank=True)
    name = models.CharField(max_length=50, default="", blank=True)


class Hashed(models.CharField):
    """Kept as its hash, which nothing leads back from: found by the plain text."""

    def get_prep_value(self, value: Any) -> Any:
        return value and hashlib.sha256(str(value).encode()).hexdigest()[:20]


class Prefixed(models.CharField):
    """Every value that goes in is given one more letter."""

    def to_python(self, value: Any) -> Any:
        return value and f"p{value}"


class Negated(models.IntegerField):
    """Kept with the other sign, and shown as it is kept."""

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else -int(value)


class Masked(models.CharField):
    """Shows the end of what is kept."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value and f"****{value[-1:]}"


class Later(models.DateField):
    """Kept as the day after, and shown as it is kept."""

    def get_prep_value(self, value: Any) -> Any:
        return value and super().get_prep_value(value) + datetime.timedelta(days=1)


class Secret(models.Model):
    """What is shown of a row is not what finds it, nor what is kept."""

    token = Hashed(max_length=50, null=True)
    word = Prefixed(max_length=50, null=True)
    number = Negated(null=True)
    card = Masked(max_length=50, null=True)
    day = Later(null=True)
    note = models.CharField(max_length=50, default="", blank=True)


class Vault(models.Model):
    """Its own key, and another one that relations go by, are kept otherwise than shown."""

    id = Negated(primary_key=True)
    code = Hashed(max_length=50, unique=True)
    name = models.CharField(max_length=50, default="", blank=True)


class Coin(models.Model):
    """Points at a vault by both of its keys; plain Django gives it none that is there."""

    vault = models.ForeignKey(Vault, on_delete=models.CASCADE, null=True, db_constraint=False)
    place = models.ForeignKey(
        Vault, on_delete=models.CASCADE, null=True, db_constraint=False, to_field="code",
        related_name="placed",
    )  # fmt: skip
    name = models.CharField(max_length=50, default="", blank=True)


class Attachment(models.Model):
    file = models.FileField(upload_to="attachments", null=True, blank=True)
    ip = models.GenericIPAddressField(null=True, blank=True)
    payload = models.BinaryField(null=True, blank=True)
    flag = models.BooleanField(null=True, blank=True)


# What deleting a row does to those that point at it.
class Owner(models.Model):
    name = models.CharField(max_length=50)


def first_owner() -> int | None:
    owner = Owner.objects.order_by("pk").first()
    return owner.pk if owner else None


class Cascading(models.Model):
    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=50, default="", blank=True)


class CascadingDeeper(models.Model):
    cascading = models.ForeignKey(Cascading, on_delete=models.CASCADE, related_name="deeper")


class Nulling(models.Model):
    owner = models.ForeignKey(Owner, on_delete=models.SET_NULL, null=True, related_name="+")


class Defaulting(models.Model):
    owner = models.ForeignKey(
        Owner, on_delete=models.SET_DEFAULT, default=None, null=True, related_name="+"
    )


class Setting(models.Model):
    owner = models.ForeignKey(Owner, on_delete=models.SET(first_owner), null=True, related_name="+")


class Protecting(models.Model):
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="+")


class Restricting(models.Model):
    owner = models.ForeignKey(Owner, on_delete=models.RESTRICT, related_name="+")


class Ignoring(models.Model):
    owner = models.ForeignKey(
        Owner, on_delete=models.DO_NOTHING, db_constraint=False, related_name="ignoring"
    )


class Toy(models.Model):
    """Its key is another column than ``id``: relations by ``to_field``."""

    code = models.CharField(max_length=10, unique=True)


class ToyPart(models.Model):
    toy = models.ForeignKey(Toy, on_delete=models.CASCADE, to_field="code", related_name="parts")
    name = models.CharField(max_length=50, default="", blank=True)


class LivePost(models.Model):
    """Reads the database view ``tests_live_post``, which a test makes if it wants it."""

    title = models.CharField(max_length=100)

    class Meta:
        managed = False
        db_table = "tests_live_post"


class Stamped(models.Model):
    """The moment of the last save is a column; the statement, not the user, gives its value."""

    name = models.CharField(max_length=50)
    saved = models.DateTimeField(auto_now=True)


class BareStamped(models.Model):
    """The same table, which another program is said to own."""

    name = models.CharField(max_length=50)
    saved = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "tests_stamped"


class LoudStamped(models.Model):
    """The same table again, by a name that only some databases take for the same."""

    name = models.CharField(max_length=50)

    class Meta:
        managed = False
        db_table = "TESTS_STAMPED"


class Customer(models.Model):
    """Swapped by the setting for ``BigCustomer``: it has no table."""

    name = models.CharField(max_length=50)

    class Meta:
        swappable = "TESTS_CUSTOMER_MODEL"


class BigCustomer(models.Model):
    name = models.CharField(max_length=50)


class Invoice(models.Model):
    customer = models.ForeignKey(settings.TESTS_CUSTOMER_MODEL, on_delete=models.CASCADE)


if django.VERSION >= (6, 1):
    # What the database itself does when a row goes that others point at.
    class Root(models.Model):
        name = models.CharField(max_length=50)

    class DbCascading(models.Model):
        owner = models.ForeignKey(Root, on_delete=models.DB_CASCADE, related_name="+")

    class DbCascadingDeeper(models.Model):
        owner = models.ForeignKey(DbCascading, on_delete=models.DB_CASCADE, related_name="+")

    class DbNulling(models.Model):
        owner = models.ForeignKey(Root, on_delete=models.DB_SET_NULL, null=True, related_name="+")

    if getattr(settings, "TEST_DB", "") != "mysql":  # which has no such rule

        class DbDefaulting(models.Model):
            owner = models.ForeignKey(
                Root, on_delete=models.DB_SET_DEFAULT, db_default=1, null=True, related_name="+"
            )


class Station(models.Model):
    """Changes behind Django's back; knows when it was saved, and where it stands as GeoJSON."""

    name = models.CharField(max_length=50)
    height = models.FloatField(default=0.0)
    outline = models.TextField(null=True, blank=True)
    changed = models.DateTimeField(auto_now=True)


class Foreign(RelatedField):
    """A relation of another library's: no class of Django's relations, and it tells nothing."""

    many_to_one, many_to_many, one_to_many, one_to_one = True, False, False, False
    db_constraint = False

    def __init__(self, to: str, *, with_column: bool) -> None:
        self.told = {"to": to, "with_column": with_column}
        super().__init__(rel=models.ForeignObjectRel(self, to), null=True)

    def deconstruct(self) -> Any:
        name, path, _, _ = super().deconstruct()
        return name, path, [], self.told

    def get_attname_column(self) -> tuple[str, str | None]:
        return self.name, self.name if self.told["with_column"] else None

    def db_type(self, connection: Any) -> str | None:
        return "integer" if self.told["with_column"] else None

    def contribute_to_class(self, cls: Any, name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only=not self.told["with_column"])

    def contribute_to_related_class(self, cls: Any, related: Any) -> None:
        """Nothing is added there."""

    @property
    def foreign_related_fields(self) -> Any:
        raise FieldDoesNotExist(f"{self.name} refers to no field")


class Label(models.Model):
    name = models.CharField(max_length=50)


class Labelled(models.Model):
    """Its field has no column, so that no write of a label reaches it."""

    name = models.CharField(max_length=50)
    label = Foreign("tests.Label", with_column=False)


class Pointing(models.Model):
    """Its column may be any key of a label's."""

    name = models.CharField(max_length=50)
    label = Foreign("tests.Label", with_column=True)
