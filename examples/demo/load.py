"""pycountry's lists -> the demo's tables."""

from __future__ import annotations

import gettext
from collections.abc import Callable, Iterable
from pathlib import Path

import pycountry
from django.db import models, transaction

from .models import Country, CountryName, Currency, Kind, Language, Subdivision


def languages() -> Iterable[models.Model]:
    for item in pycountry.languages:
        yield Language(code=item.alpha_3, name=item.name, kind=item.type)


def kinds() -> Iterable[models.Model]:
    return [Kind(name=name) for name in sorted({item.type for item in pycountry.subdivisions})]


def countries() -> Iterable[models.Model]:
    return [Country(code=item.alpha_2, name=item.name) for item in pycountry.countries]


def subdivisions() -> Iterable[models.Model]:
    # Parents first, so that no row refers to one that is not there yet.
    for item in sorted(pycountry.subdivisions, key=lambda item: (depth(item), item.code)):
        yield Subdivision(
            code=item.code,
            name=item.name,
            country_id=item.country_code,
            kind_id=item.type,
            parent_id=item.parent_code,
        )


def country_kinds() -> Iterable[models.Model]:
    for country, kind in sorted({(i.country_code, i.type) for i in pycountry.subdivisions}):
        yield Country.kinds.through(country_id=country, kind_id=kind)


def currencies() -> Iterable[models.Model]:
    known = {item.alpha_2 for item in pycountry.countries}
    for item in pycountry.currencies:
        country = item.alpha_3[:2]
        yield Currency(
            code=item.alpha_3, name=item.name, country_id=country if country in known else None
        )


def names() -> Iterable[models.Model]:
    for folder in sorted(Path(pycountry.LOCALES_DIR).iterdir()):
        # Plain languages only ("de"), not their variants ("pt_BR").
        find = pycountry.languages.get
        language = find(alpha_2=folder.name) or find(alpha_3=folder.name)
        if language is None or not gettext.find("iso3166-1", pycountry.LOCALES_DIR, [folder.name]):
            continue
        catalog = gettext.translation("iso3166-1", pycountry.LOCALES_DIR, [folder.name])
        for country in pycountry.countries:
            name = catalog.gettext(country.name)
            if name != country.name:
                yield CountryName(
                    country_id=country.alpha_2, language_id=language.alpha_3, name=name
                )


#: In the order of their references.
SOURCES: dict[str, Callable[[], Iterable[models.Model]]] = {
    "languages": languages,
    "kinds of subdivision": kinds,
    "countries": countries,
    "subdivisions": subdivisions,
    "countries - kinds (m2m)": country_kinds,
    "currencies": currencies,
    "names of countries, translated": names,
}


def insert(objects: Iterable[models.Model]) -> int:
    """Insert objects of one model; return how many."""
    objects = list(objects)
    with transaction.atomic():
        type(objects[0])._default_manager.bulk_create(objects, batch_size=2000)
    return len(objects)


def depth(item: object) -> int:
    parent = getattr(item, "parent", None)
    return 0 if parent is None else 1 + depth(parent)
