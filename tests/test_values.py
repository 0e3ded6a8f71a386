"""Values are spelt as the database compares them: what it may call equal has one text."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import random
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import FieldError, ValidationError
from django.db import DatabaseError, connection, models, transaction
from django.test import override_settings
from django.test.utils import isolate_apps
from django.utils.functional import lazystr
from django.utils.timezone import get_fixed_timezone
from hypothesis import given
from hypothesis import strategies as st

from cacheops_lite.orm import unconverted, values
from cacheops_lite.orm.folding import fold, known_collation
from cacheops_lite.orm.values import NULL

from .models import (
    Attachment,
    Author,
    Box,
    City,
    Country,
    Document,
    OrderLine,
    Post,
    Price,
    Token,
    TokenUse,
    ToyPart,
)

UTC = dt.UTC
PARIS = get_fixed_timezone(60)
KEY = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Kind(enum.Enum):
    LIVE = "live"


class Number(models.IntegerChoices):
    ONE = 1


def field(model: type[models.Model], name: str) -> Any:
    return model._meta.get_field(name)


SAME: list[tuple[type[models.Model], str, list[Any]]] = [
    (Post, "views", [1, True, "1", 1.0, Decimal("1.00"), Number.ONE, " 1 "]),
    (Post, "published", [True, 1, "1", "True", "t"]),
    (Post, "published", [False, 0, "0", "False", "f"]),
    (
        Post,
        "title",
        ["Straße ", "strasse", "STRASSE  ", "stra\u00dfe", "strase", lazystr("straße")],
    ),
    (Post, "title", ["é", "E\u0301", "e", "ｅ", "E "]),
    (Post, "title", ["5", 5]),
    (Post, "title", ["", " ", "   "]),
    (Post, "status", ["live", Post.Status.LIVE, "LIVE"]),
    (Post, "rating", [Decimal("1.5"), Decimal("1.50"), "1.5", 1.5, Decimal("150E-2")]),
    (Post, "rating", [0, Decimal("-0.00"), Decimal("0E+3"), -0.0, "-0"]),
    (Post, "rating", [100, Decimal("1E2"), "100.00"]),
    (
        Post,
        "created",
        [
            dt.datetime(2024, 3, 1, 12, tzinfo=UTC),
            dt.datetime(2024, 3, 1, 13, tzinfo=PARIS),
            dt.datetime(2024, 3, 1, 12),
            "2024-03-01T12:00:00Z",
            "2024-03-01 13:00+01:00",
        ],
    ),
    (Post, "created", [dt.datetime(2024, 3, 1, tzinfo=UTC), dt.date(2024, 3, 1), "2024-03-01"]),
    (
        Post,
        "day",
        [dt.date(2024, 3, 1), "2024-03-01", dt.datetime(2024, 3, 1, 7), "2024-3-1"],
    ),
    (Post, "at", [dt.time(7, 30), "07:30", "07:30:00", dt.datetime(2024, 3, 1, 7, 30)]),
    (
        Post,
        "duration",
        [dt.timedelta(days=1), dt.timedelta(hours=24), "1 00:00:00", "24:00:00"],
    ),
    (Token, "id", [KEY, str(KEY), KEY.hex, str(KEY).upper(), KEY.int]),
    (TokenUse, "token", [KEY, KEY.hex, Token(id=KEY)]),
    (Post, "category", [3, "3"]),
    (City, "country", ["DE", "de", Country(code="DE")]),
    (ToyPart, "toy", ["x", "X"]),
    (Attachment, "ip", ["::1", "0:0:0:0:0:0:0:1", "::1/128"]),
    (Attachment, "ip", ["10.0.0.1", "::ffff:10.0.0.1", "::ffff:0a00:0001"]),
    (Attachment, "file", ["a.txt", "A.TXT"]),
    (Price, "amount", [Decimal("3.50"), "3.5"]),
    (Price, "labels", [["a", "b"], ("a", "b"), "a,b", "A,B"]),
    (Box, "area", [6, "6"]),
    (Box, "lower_name", ["ab", "AB"]),
]


@pytest.mark.parametrize(("model", "name", "same"), SAME)
def test_equal_values_have_one_text(model: type[models.Model], name: str, same: list[Any]) -> None:
    """However a value is written, it is spelt as the column would hold it."""
    column = field(model, name)
    if values.converts(column):
        prepared = map(column.get_prep_value, same)
        texts = {values.text(column, value, prepared=True) for value in prepared}
    else:
        texts = {values.text(column, value) for value in same}
    assert len(texts) == 1
    assert None not in texts


@pytest.mark.parametrize(
    ("model", "name", "different"),
    [
        (Post, "views", [1, 2, -1, None]),
        (Post, "published", [True, False, None]),
        (Post, "title", ["a", "b", "1", "null", "", None, "жук", "жар", "東京", "京都", "서울"]),
        (Post, "title", ["a-b", "a_b", "ab", "a b", "a.b", "a@b", "a+b"]),
        (Post, "rating", [Decimal("1.5"), Decimal("1.05"), Decimal("15"), -1.5, 0, None]),
        (Post, "created", [dt.datetime(2024, 3, 1, 12, tzinfo=zone) for zone in (UTC, PARIS)]),
        (Post, "created", [dt.datetime(2024, 3, 1, 12, 0, 0, at, UTC) for at in (0, 1)]),
        (Post, "day", [dt.date(2024, 3, 1), dt.date(2024, 1, 3), None]),
        (Post, "duration", [dt.timedelta(1), dt.timedelta(1, 0, 1), dt.timedelta(-1)]),
        (Token, "id", [KEY, uuid.UUID(int=1)]),
        (Attachment, "ip", ["10.0.0.1", "10.0.0.2", "::1"]),
    ],
)
def test_different_values_have_different_texts(
    model: type[models.Model], name: str, different: list[Any]
) -> None:
    """The spelling is not so coarse that it would be useless."""
    texts = [values.text(field(model, name), value) for value in different]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        (Post, "views", "1abc"),
        (Post, "views", float("nan")),
        (Post, "views", models.F("views") + 1),
        (Post, "published", "perhaps"),
        (Post, "rating", "NaN"),
        (Post, "rating", Decimal("Infinity")),
        (Post, "rating", Decimal("1.555")),  # rounded on its way into the column
        (Post, "rating", 10**9),
        (Post, "rating", "many"),
        (Post, "created", "soon"),
        (Post, "created", dt.datetime.max.replace(tzinfo=get_fixed_timezone(-600))),
        (Post, "day", object()),
        (Post, "at", dt.time(7, tzinfo=UTC)),
        (Post, "title", "\U0001d400"),  # some take it for A, others for an emoji
        (Post, "title", "runes ᚠᚡ"),
        (Post, "score", 1.0),
        (Post, "category", object()),
        (Token, "id", "no uuid"),
        (Attachment, "ip", "10.0.0.0/8"),
        (Attachment, "payload", b"x"),
        (Document, "data", {"a": 1}),
        (Price, "amount", Fraction(1, 3)),
    ],
)
def test_what_cannot_be_spelt_is_none_and_never_an_error(
    model: type[models.Model], name: str, value: Any
) -> None:
    """A value that the field does not accept, or that the database changes, is unknown."""
    assert values.text(field(model, name), value) is None


def test_null_has_a_text_that_no_value_has() -> None:
    """NULL is known and differs from the word and from the empty text."""
    assert values.text(field(Post, "title"), None) == NULL
    assert NULL not in {values.text(field(Post, "title"), text) for text in ("NULL", "null", "")}


def test_prepared_values_are_not_prepared_twice() -> None:
    """A lookup holds what get_prep_value() made of the user's value; no instance does."""
    amount = field(Price, "amount")
    assert values.text(amount, Decimal("3.50")) is None
    assert values.text(amount, 350, prepared=True) == "350"
    lookup = Price.objects.filter(amount=Decimal("3.50")).query.where.children[0]
    assert values.text(amount, lookup.rhs, prepared=True) == "350"


@pytest.mark.parametrize(
    ("model", "name", "usable"),
    [
        *((Post, name, True) for name in ("id", "title", "text", "published", "views", "rating")),
        *(
            (Post, name, True)
            for name in ("created", "day", "at", "duration", "category", "editor")
        ),
        *((Post, name, False) for name in ("score", "comments", "tags")),
        *((Box, name, True) for name in ("area", "lower_name", "width")),
        *((Price, name, True) for name in ("amount", "labels")),
        (Token, "id", True),
        (TokenUse, "token", True),
        (Document, "data", False),
        (Attachment, "payload", False),
        (OrderLine, "pk", False),
        (OrderLine, "line", True),
    ],
)
def test_fields_whose_equality_can_be_reproduced_are_usable(
    model: type[models.Model], name: str, usable: bool
) -> None:
    """Floats, JSON, bytes and what has no column of its own never make terms."""
    assert values.usable(field(model, name)) is usable


@isolate_apps("tests")
def test_fields_that_change_how_they_are_stored_are_not_usable() -> None:
    """A field from elsewhere that touches the SQL may compare in any way."""

    class Stored(models.CharField):
        def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
            return value

    class Typed(models.IntegerField):
        def db_type(self, connection: Any) -> str:
            return "interval"

    class Wide(models.DecimalField):
        pass

    class Thing(models.Model):
        stored = Stored(max_length=9)
        typed = Typed()
        wide = Wide(max_digits=30, decimal_places=20)
        german = models.CharField(max_length=9, db_collation="utf8mb4_german2_ci")
        binary = models.CharField(max_length=9, db_collation="utf8mb4_bin")

        class Meta:
            app_label = "tests"

    usable = {name: values.usable(field(Thing, name)) for name in ("stored", "typed", "wide")}
    assert usable == {"stored": False, "typed": False, "wide": False}
    assert not values.usable(field(Thing, "german"))
    assert values.usable(field(Thing, "binary"))


def test_models_that_share_a_table_must_spell_a_column_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What one model writes, another reads: a column of two kinds is not usable."""
    with isolate_apps("tests"):

        class Loose(models.Model):
            name = models.IntegerField()
            email = models.TextField()

            class Meta:
                app_label = "tests"
                db_table = "tests_author"

    every = apps.get_models(include_auto_created=True, include_swapped=True)
    monkeypatch.setattr(apps, "get_models", lambda **kwargs: [*every, Loose])
    try:
        assert not values.usable(field(Author, "name"))
        assert values.usable(field(Author, "email"))
    finally:
        monkeypatch.undo()
    assert values.usable(field(Author, "name"))


def test_moments_are_not_usable_where_local_time_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a zone of its own a connection stores an hour of autumn twice the same."""
    from django.db import connections

    monkeypatch.setitem(connections.settings["default"], "TIME_ZONE", "Europe/Paris")
    assert not values.usable(field(Post, "created"))
    assert values.usable(field(Post, "day"))


def test_without_time_zones_moments_are_spelt_as_they_are() -> None:
    """USE_TZ=False: naive moments are what is stored; of others nobody knows."""
    created = field(Post, "created")
    with override_settings(USE_TZ=False):
        assert values.text(created, dt.datetime(2024, 3, 1, 12)) == "2024-03-01 12:00:00"
        assert values.text(created, dt.datetime(2024, 3, 1, 12, tzinfo=UTC)) is None


def test_naive_moments_are_in_the_default_zone() -> None:
    """As Django itself reads them."""
    with override_settings(TIME_ZONE="Europe/Paris"):
        text = values.text(field(Post, "created"), dt.datetime(2024, 3, 1, 12))
    assert text == "2024-03-01 11:00:00"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("utf8mb4_general_ci", True),
        ("utf8mb4_0900_ai_ci", True),
        ("utf8mb4_unicode_520_ci", True),
        ("utf8mb4_uca1400_nopad_as_cs", True),
        ("utf8mb3_bin", True),
        ("NOCASE", True),
        ("C", True),
        ("en-x-icu", True),
        ("de_DE.utf8", True),
        ("utf8mb4_german2_ci", False),
        ("utf8mb4_da_0900_ai_ci", False),
        ("latin1_swedish_ci", False),
        ("case_insensitive", False),
    ],
)
def test_only_collations_that_were_checked_are_known(name: str, known: bool) -> None:
    """Rules of one language may call anything equal: in Swedish ü is y."""
    assert known_collation(name) is known


@given(st.text(), st.text())
def test_folding_goes_letter_by_letter(one: str, other: str) -> None:
    """Texts made of equal parts are spelt alike, so equal weights give equal spellings."""
    left, right, both = (fold(f"{text}|") for text in (one, other, one + other))
    if both is None:
        assert left is None or right is None
    else:
        assert left is not None
        assert right is not None
        assert fold(left[:-1] + right) == both


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    """A spelling is the spelling of itself."""
    once = fold(text)
    assert once is None or fold(once) == once


# --------------------------------------------------------------- the databases themselves

CANDIDATES: list[tuple[type[models.Model], str, list[Any]]] = [
    *SAME,
    (Post, "title", ["a", "A", "á", "b", "1", "01", "1.0", "ae", "æ", "ss", "ß", "ẞ", "s", ""]),
    (
        Post,
        "title",
        ["ı", "i", "İ", "I", "ﬁ", "fi", "Ω", "ω", "ς", "σ", "a\t", "a", "\u00a0a", "a "],
    ),
    (
        Post,
        "text",
        ["だ", "た", "タ", "ﾀ", "ł", "l", "é", "e\u0301", "🙂", "🙃", "½", "1⁄2", "１", "1"],
    ),
    (Post, "rating", ["1.005", "1.01", "1.00", "0.1", 0.1, 0.30000000000000004, "0.30", "1e-1"]),
    (Post, "views", [0, False, -0.0, 2**31 - 1, "0", "-0"]),
    (
        Post,
        "created",
        [dt.datetime(2024, 3, 1, 12, 0, 0, us, UTC) for us in (0, 1, 499999, 999999)],
    ),
    (Post, "at", [dt.time(0), dt.time(0, 0, 0, 1), "00:00", dt.time(23, 59, 59, 999999)]),
    (Post, "duration", [dt.timedelta(0), dt.timedelta(days=30), dt.timedelta(days=-1, hours=24)]),
    (Price, "labels", [["a"], "a", [], "", ["a", ""], "a,"]),
]


@pytest.mark.database
@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
@pytest.mark.parametrize(("model", "name", "candidates"), CANDIDATES)
def test_what_the_database_calls_equal_has_one_text(
    model: type[models.Model], name: str, candidates: list[Any]
) -> None:
    """Asked of every pair: stored one way and looked up the other."""
    if model in (TokenUse, City, ToyPart, Box) or name in ("category", "file"):
        pytest.skip("needs other rows, and compares as its target does")
    column = field(model, name)
    found = 0
    for stored in candidates:
        try:
            with transaction.atomic():
                instance = model(**_needed(model), **{name: stored})
                instance.save()
                query = model._base_manager.filter(pk=instance.pk).values_list(name).query
                unconverted.select(query)
                ((loaded,),) = query.get_compiler("default").results_iter()
        except (DatabaseError, ValidationError, AttributeError, TypeError, ValueError):
            continue
        spelt = {values.text(column, loaded, prepared=True)}
        if (text := values.text(column, stored)) is not None:
            spelt.add(text)
        assert len(spelt) == 1, (stored, loaded)
        for asked in candidates:
            try:
                queryset = model._base_manager.filter(pk=instance.pk, **{name: asked})
                matches = queryset.exists()
            except (
                DatabaseError,
                FieldError,
                ValidationError,
                AttributeError,
                TypeError,
                ValueError,
            ):
                continue
            if matches:
                found += 1
                children = queryset.query.where.children
                lookup = next(child for child in children if child.lhs.target == column)
                assert values.text(column, lookup.rhs, prepared=True) in (None, *spelt)
        instance.delete()
    assert found >= len(candidates) // 2


def _needed(model: type[models.Model]) -> dict[str, Any]:
    if model is not Post:
        return {}
    author = Author.objects.get_or_create(name="x")[0]
    category = apps.get_model("tests", "Category").objects.get_or_create(slug="x", title="x")[0]
    return {"author": author, "category": category}


COLLATIONS = {
    "mysql": [
        "utf8mb4_general_ci",
        "utf8mb4_unicode_ci",
        "utf8mb4_unicode_520_ci",
        "utf8mb4_uca1400_ai_ci",
        "utf8mb4_0900_ai_ci",
        "utf8mb4_bin",
        "utf8mb4_general_nopad_ci",
        "utf8mb4_unicode_nopad_ci",
        "utf8mb4_uca1400_nopad_as_cs",
        "utf8mb4_nopad_bin",
    ],
    "sqlite": ["NOCASE", "RTRIM", "BINARY"],
    "postgresql": ["C", "en-x-icu", "und-x-icu"],
}
ALPHABET = [
    *"aAáÁäÅbBsSßẞſ0Iıİiøđðłæœþ１½ﬁｅé -_.,😀🙂",
    *("e\u0301", "\u00a0", "\u200d", "\u3000", "ss", "ae", "oe", "\t"),
    *"Ωωςσᾳαιжґгйиダたタぁあー한ᄒ京京אךכع١कกเລსⴑ",
]


@pytest.mark.database
@pytest.mark.django_db
def test_collations_call_nothing_equal_that_is_spelt_differently() -> None:
    """Random texts from tricky letters, compared by the collations that the server has."""
    dice = random.Random(7)
    texts = [*ALPHABET, *("".join(dice.choices(ALPHABET, k=2)) for _ in range(120))]
    pairs = [
        (one, other)
        for one, other in itertools.combinations(dict.fromkeys(texts), 2)
        if fold(one) != fold(other) and fold(one) is not None and fold(other) is not None
    ]
    pairs = dice.sample(pairs, 2000)
    tried = []
    for collation in COLLATIONS[connection.vendor]:
        name = connection.ops.quote_name(collation)
        with connection.cursor() as cursor:
            try:
                with transaction.atomic():
                    cursor.execute(f"SELECT 'a' = 'a' COLLATE {name}")
            except DatabaseError:
                continue
            for at in range(0, len(pairs), 250):
                chunk = pairs[at : at + 250]
                sql = ", ".join([f"%s = %s COLLATE {name}"] * len(chunk))
                cursor.execute(f"SELECT {sql}", [text for pair in chunk for text in pair])
                equal = [pair for pair, same in zip(chunk, cursor.fetchone(), strict=True) if same]
                assert equal == [], collation
            tried.append(collation)
    assert tried
