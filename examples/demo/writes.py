"""The writes of the demo, and which results each of them must drop, and why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from .models import Country, Kind, Subdivision
from .reads import QUERIES, Read, read


class Write(NamedTuple):
    """A write: the table it changes, the results it drops, why it spares others of the table."""

    title: str
    run: Callable[[], None]
    table: str
    drops: dict[str, str]
    spares: str


def save() -> None:
    quebec = Subdivision.objects.get(code="CA-QC")
    quebec.name = "Quebec, la belle province"
    quebec.save()


def move() -> None:
    nunavut = Subdivision.objects.get(code="CA-NU")
    nunavut.kind_id = "Province"
    nunavut.save()


def update() -> None:
    brittany = Subdivision.objects.filter(parent="FR-BRE")
    brittany.update(name=Concat(F("name"), Value(" (Breizh)")))


def add() -> None:
    canada = Country.objects.get(code="CA")
    canada.kinds.add(Kind.objects.get(name="Canton"))


class ChangedMyMind(Exception):
    """Raised to roll back."""


read_inside: list[Read] = []


def roll_back() -> None:
    with suppress(ChangedMyMind), transaction.atomic():
        Subdivision.objects.filter(country="CA").update(name="nowhere")
        read_inside.append(read(QUERIES["Ontario"]))
        read_inside.append(read(QUERIES["currency of Japan"]))
        raise ChangedMyMind


WRITES = (
    Write(
        "2. One object is saved",
        save,
        "demo_subdivision",
        {
            "provinces of Canada": "row has country_id=ca & kind_id=province",
            "how many parts has Canada": "row has country_id=ca",
            "last name in Canada": "row has country_id=ca",
            "Quebec": "row has code=ca-qc",
        },
        "the row of Quebec does not meet it",
    ),
    Write(
        "3. One object moves: from the territories to the provinces",
        move,
        "demo_subdivision",
        {
            "provinces of Canada": "new row has country_id=ca & kind_id=province",
            "territories of Canada": "old row had country_id=ca & kind_id=territory",
            "how many parts has Canada": "old and new row have country_id=ca",
            "last name in Canada": "old and new row have country_id=ca",
        },
        "neither old nor new row meets it",
    ),
    Write(
        "4. Many rows change in one update()",
        update,
        "demo_subdivision",
        {"parts of Brittany": "updated rows have parent_id=fr-bre"},
        "none of the updated rows meets it",
    ),
    Write(
        "5. A many-to-many relation changes",
        add,
        "demo_country_kinds",
        {"countries with cantons": "new row of the m2m table has kind_id=canton"},
        "the new row does not meet it",
    ),
    Write(
        "6. A transaction is rolled back: nothing is dropped",
        roll_back,
        "demo_subdivision",
        {},
        "nothing was committed",
    ),
)
