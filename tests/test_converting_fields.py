"""Fields of one's own: what is given, what is kept and what is shown are three things.

Conditions are met by what is kept, so that is what readers and writers have to spell, whatever
``get_prep_value()``, ``to_python()`` and ``from_db_value()`` make of it.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from cacheops_lite import cached_as, invalidate_obj, no_invalidation, on_change
from cacheops_lite.orm import values

from . import models as m
from .watching import Read, assert_dropped, assert_fresh, assert_hit, prime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

DAYS = [dt.date(2024, 5, day) for day in (1, 11, 21)]
#: Field -> three values of it.
FIELDS: dict[tuple[Any, str], list[Any]] = {
    (m.Secret, "token"): ["one", "two", "three"],
    (m.Secret, "word"): ["one", "two", "three"],
    (m.Secret, "number"): [1000, 2000, 3000],
    (m.Secret, "card"): ["one", "two", "thre"],  # two of them look alike
    (m.Secret, "day"): DAYS,
    (m.Price, "amount"): [Decimal(1), Decimal(20), Decimal("300.5")],
    (m.Price, "labels"): [["one"], ["two", "a"], []],
}
RANGES = [field for field in FIELDS if field[1] in ("number", "day", "amount")]


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with override_settings(CACHEOPS={"*.*": {"ops": "all", "timeout": 60}}):
        yield


def saved(obj: Any, name: str, value: Any) -> None:
    found = type(obj).objects.nocache().get(pk=obj.pk)
    setattr(found, name, value)
    found.save()


def saved_as_loaded(obj: Any, name: str, value: Any) -> None:
    """What was shown is given once more, to be kept otherwise."""
    type(obj).objects.nocache().get(pk=obj.pk).save()


def bulk_updated(obj: Any, name: str, value: Any) -> None:
    type(obj).objects.bulk_update([type(obj)(pk=obj.pk, **{name: value})], [name])


def updated_by_itself(obj: Any, name: str, value: Any) -> None:
    type(obj).objects.filter(**{name: getattr(obj, name)}).update(**{name: value})


def in_a_transaction(obj: Any, name: str, value: Any) -> None:
    with transaction.atomic():
        saved(obj, name, value)


def behind_and_announced(obj: Any, name: str, value: Any) -> None:
    with no_invalidation:
        type(obj).objects.filter(pk=obj.pk).update(**{name: value})
    invalidate_obj(obj)
    invalidate_obj(type(obj).objects.nocache().get(pk=obj.pk))


def loaded_and_announced(obj: Any, name: str, value: Any) -> None:
    found = type(obj).objects.nocache().get(pk=obj.pk)
    with no_invalidation:
        type(obj).objects.filter(pk=obj.pk).delete()
    invalidate_obj(found)


#: What is done to a row that has the first value of a field, given the second one.
CHANGES: dict[str, Callable[[Any, str, Any], Any]] = {
    "save": saved,
    "save as loaded": saved_as_loaded,
    "save in a transaction": in_a_transaction,
    "update": lambda obj, name, value: type(obj).objects.filter(pk=obj.pk).update(**{name: value}),
    "update by the value": updated_by_itself,
    "bulk_update": bulk_updated,
    "update_or_create": lambda obj, name, value: type(obj).objects.update_or_create(
        pk=obj.pk, defaults={name: value}
    ),
    "null": lambda obj, name, value: type(obj).objects.filter(pk=obj.pk).update(**{name: None}),
    "delete": lambda obj, name, value: type(obj).objects.nocache().get(pk=obj.pk).delete(),
    "delete by key": lambda obj, name, value: type(obj).objects.filter(pk=obj.pk).delete(),
    "delete by the value": lambda obj, name, value: (
        type(obj).objects.filter(**{name: getattr(obj, name)}).delete()
    ),
    "create": lambda obj, name, value: type(obj).objects.create(**{name: value}),
    "get_or_create": lambda obj, name, value: type(obj).objects.get_or_create(**{name: value}),
    "bulk_create": lambda obj, name, value: type(obj).objects.bulk_create(
        [type(obj)(**{name: value})]
    ),
    "bulk_create with conflicts": lambda obj, name, value: type(obj).objects.bulk_create(
        [type(obj)(**{name: value})], ignore_conflicts=True
    ),
    "no_invalidation, invalidate_obj": behind_and_announced,
    "the same, of what was loaded": loaded_and_announced,
}
#: Those that need not drop what depends on a third value: of these rows the keys are known.
EXACT = ["save", "save in a transaction", "update", "update by the value", "bulk_update", "null",
         "update_or_create", "delete", "delete by key", "delete by the value", "create",
         "get_or_create"]  # fmt: skip


def asked(model: Any, name: str, **conditions: Any) -> Read:
    named = {f"{name}__{lookup}": value for lookup, value in conditions.items()}
    return Read(lambda: model.objects.filter(**named).values_list("pk"), label=str(named))


def first(model: Any, name: str, value: Any) -> Any:
    return model.objects.create(**{name: value})


def fields_are(names: Any) -> Any:
    return pytest.mark.parametrize(("model", "name"), names, ids=[name for _, name in names])


@fields_are(FIELDS)
@pytest.mark.parametrize("change", CHANGES)
def test_equalities_are_dropped(model: Any, name: str, change: str) -> None:
    """A write drops what was asked of the row as it was, and of the row as it is."""
    given = FIELDS[model, name]
    obj = first(model, name, given[0])
    reads = [asked(model, name, exact=value) for value in given]
    reads.append(asked(model, name, **{"in": given[:2]}))
    reads.append(asked(model, name, isnull=True))
    prime(*reads)
    CHANGES[change](obj, name, given[1])
    for read in reads:
        assert_fresh(read, change)


@fields_are(RANGES)
@pytest.mark.parametrize("change", CHANGES)
def test_comparisons_are_dropped(model: Any, name: str, change: str) -> None:
    """Limits are those of what is kept, too."""
    given = FIELDS[model, name]
    obj = first(model, name, given[0])
    reads = [
        asked(model, name, **{lookup: value})
        for value in given for lookup in ("gt", "gte", "lt", "lte")
    ]  # fmt: skip
    reads.append(asked(model, name, range=sorted(given[:2])))
    prime(*reads)
    CHANGES[change](obj, name, given[1])
    for read in reads:
        assert_fresh(read, change)


@fields_are(FIELDS)
@pytest.mark.parametrize("change", EXACT)
def test_other_values_stay(model: Any, name: str, change: str) -> None:
    """What depends on another value of such a field is not dropped."""
    given = FIELDS[model, name]
    obj = first(model, name, given[0])
    other = asked(model, name, exact=given[2])
    prime(other)
    CHANGES[change](obj, name, given[1])
    assert_hit(other, change)


@fields_are(FIELDS)
def test_it_is_dropped_after_many_reads(model: Any, name: str) -> None:
    """Neither remembered steps nor filled templates spell otherwise."""
    given = FIELDS[model, name]
    for value in given:
        obj = first(model, name, value)
        read = asked(model, name, exact=value)
        prime(read)
        model.objects.filter(pk=obj.pk).delete()
        assert_dropped(read)


@fields_are(FIELDS)
def test_an_instance_does_not_say_what_is_kept(model: Any, name: str) -> None:
    """Nobody knows whether its value was given or shown: of that column nothing is known."""
    assert values.text(model._meta.get_field(name), FIELDS[model, name][0]) is None
    obj = first(model, name, FIELDS[model, name][0])
    read = asked(model, name, exact=FIELDS[model, name][2])
    prime(read)
    invalidate_obj(obj)
    assert_dropped(read)


def test_what_is_kept_of_a_type_that_the_column_does_not_have() -> None:
    """Only the database knows what becomes of bytes or of a moment in a column of texts or days."""
    token, day = m.Secret._meta.get_field("token"), m.Secret._meta.get_field("day")
    assert values.text(token, "a", prepared=True) == "a"
    assert values.text(token, b"a", prepared=True) is None
    assert values.text(token, 5, prepared=True) is None
    assert values.text(day, DAYS[0], prepared=True) == "2024-05-01"
    assert values.text(day, dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC), prepared=True) is None
    assert values.text(day, "2024-05-01", prepared=True) is None


def is_dear(price: m.Price) -> bool:
    return isinstance(price.amount, Decimal) and price.amount >= 100 and price.labels == ["one"]


def test_predicates_are_asked_about_what_is_shown() -> None:
    """Objects are what Django makes of the row, while their columns are spelt as they are kept."""
    dear = cached_as(on_change(m.Price, when=is_dear))(functools.partial(next, itertools.count()))
    cheap = m.Price.objects.create(amount=Decimal(5), labels=["one"])
    other = asked(m.Price, "amount", exact=Decimal(7))

    def dropped(price: Any, amount: int) -> bool:
        prime(other)
        before = dear()
        assert dear() == before
        m.Price.objects.filter(pk=price.pk).update(amount=Decimal(amount))
        assert_hit(other)
        return dear() != before

    dropped(cheap, 6)  # the first write after a new scheme came into use may be coarse
    assert [dropped(cheap, amount) for amount in (5, 100, 200, 3, 4)] == [
        False, True, True, True, False,
    ]  # fmt: skip


# --------------------------------------------------------------------------- keys and relations


def vaults() -> tuple[Any, Any]:
    """Two vaults, loaded, which have each other's keys as they are kept."""
    m.Vault.objects.create(id=7, code="a", name="a")
    m.Vault.objects.create(id=-7, code="b", name="b")
    for name in "ab":
        coin = m.Coin.objects.create(name=name)
        with connection.cursor() as cursor:  # as Django would not, which prepares twice
            cursor.execute(
                "UPDATE tests_coin SET vault_id = (SELECT id FROM tests_vault WHERE name = %s),"
                " place_id = (SELECT code FROM tests_vault WHERE name = %s) WHERE id = %s",
                [name, name, coin.pk],
            )
    one, two = m.Vault.objects.nocache().order_by("name")
    assert (one.pk, two.pk) == (-7, 7)
    return one, two


VAULT_READS: dict[str, Callable[[], Any]] = {
    "names": lambda: m.Vault.objects.filter(name="a").values_list("code"),
    "other names": lambda: m.Vault.objects.filter(name="b").values_list("code"),
    "keys": lambda: m.Vault.objects.filter(pk=7).values_list("name"),
    "other keys": lambda: m.Vault.objects.filter(pk=-7).values_list("name"),
    "codes": lambda: m.Vault.objects.filter(code="a").values_list("name"),
    "joined by key": lambda: m.Coin.objects.select_related("vault"),
    "joined by code": lambda: m.Coin.objects.select_related("place"),
    "over the key": lambda: m.Coin.objects.filter(vault__name="a").values_list("name"),
    "over the code": lambda: m.Coin.objects.filter(place__name="a").values_list("name"),
    "back": lambda: m.Vault.objects.filter(coin__name="a").values_list("name"),
    "a key of the other side": lambda: m.Coin.objects.filter(vault__id=7).values_list("name"),
    "a column": lambda: m.Coin.objects.filter(place="a").values_list("vault__name"),
}
VAULT_WRITES: dict[str, Callable[[Any], Any]] = {
    "update": lambda vault: m.Vault.objects.filter(code="a").update(name="z"),
    "update by key": lambda vault: m.Vault.objects.filter(pk=7).update(name="z"),
    "update of the key": lambda vault: m.Vault.objects.filter(name="a").update(code="z"),
    "update over a join": lambda vault: m.Vault.objects.filter(coin__name="a").update(name="z"),
    "update over both": lambda vault: m.Vault.objects.filter(
        coin__name="a", placed__name="a"
    ).update(name="z"),
    "save": lambda vault: setattr(vault, "name", "z") or vault.save(),
    "delete over a join": lambda vault: m.Vault.objects.filter(coin__name="a").delete(),
    "delete": lambda vault: vault.delete(),
    "create": lambda vault: m.Vault.objects.create(id=9, code="z", name="a"),
    "coin": lambda vault: m.Coin.objects.filter(vault__name="a").update(name="z"),
    "coin by code": lambda vault: m.Coin.objects.filter(place="a").update(name="z"),
    "coin elsewhere": lambda vault: m.Coin.objects.filter(name="a").update(vault=9, place="b"),
    "coin deleted": lambda vault: m.Coin.objects.filter(place__code="a").delete(),
    "invalidate_obj": lambda vault: invalidate_obj(vault),
}


@pytest.mark.parametrize("how", VAULT_WRITES)
def test_keys_that_are_kept_otherwise(how: str) -> None:
    """Writes reach the rows that they reach without a cache, and joins are fresh after it."""
    state = {}
    for enabled in (False, True):
        with connection.cursor() as cursor:  # Django would prepare the keys of what it collected
            cursor.execute("DELETE FROM tests_coin")
            cursor.execute("DELETE FROM tests_vault")
        vault, _ = vaults()
        reads = [Read(make, label=name) for name, make in VAULT_READS.items()]
        with override_settings(CACHEOPS_ENABLED=enabled):
            if enabled:
                prime(*reads)
            VAULT_WRITES[how](vault)
            if enabled:
                for read in reads:
                    assert_fresh(read, how)
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, code, name FROM tests_vault ORDER BY id")
            rows = cursor.fetchall()
            cursor.execute("SELECT vault_id, place_id, name FROM tests_coin ORDER BY id")
            state[enabled] = rows, cursor.fetchall()
    assert state[True] == state[False]
