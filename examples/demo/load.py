"""pycountry's lists -> the demo's tables."""

from __future__ import annotations

import gettext
from collections.abc import Iterable, Iterator
from pathlib import Path

import pycountry
from django.db import models, transaction

from .models import Country, CountryName, Currency, Kind, Language, Subdivision


def load() -> Iterator[tuple[str, int]]:
    """Fill the empty tables, each in one transaction; yield (what, number of rows) as it goes."""
    yield "languages", insert(
        Language(code=item.alpha_3, name=item.name, kind=item.type) for item in pycountry.languages
    )
    yield "kinds of subdivision", insert(
        Kind(name=name) for name in sorted({item.type for item in pycountry.subdivisions})
    )
    yield "countries", insert(
        Country(code=item.alpha_2, name=item.name) for item in pycountry.countries
    )
    # Parents first, so that no row refers to one that is not there yet.
    ordered = sorted(pycountry.subdivisions, key=lambda item: (depth(item), item.code))
    yield "subdivisions", insert(
        Subdivision(
            code=item.code,
            name=item.name,
            country_id=item.country_code,
            kind_id=item.type,
            parent_id=item.parent_code,
        )
        for item in ordered
    )
    uses = sorted({(item.country_code, item.type) for item in pycountry.subdivisions})
    yield "country - kind (m2m)", insert(
        Country.kinds.through(country_id=country, kind_id=kind) for country, kind in uses
    )
    known = {item.alpha_2 for item in pycountry.countries}
    yield "currencies", insert(
        Currency(
            code=item.alpha_3,
            name=item.name,
            country_id=item.alpha_3[:2] if item.alpha_3[:2] in known else None,
        )
        for item in pycountry.currencies
    )
    yield "country names, translated", insert(translations())


def insert(objects: Iterable[models.Model]) -> int:
    """Insert objects of one model; return how many."""
    objects = list(objects)
    with transaction.atomic():
        type(objects[0])._default_manager.bulk_create(objects, batch_size=2000)
    return len(objects)


def depth(item: object) -> int:
    parent = getattr(item, "parent", None)
    return 0 if parent is None else 1 + depth(parent)


def translations() -> Iterator[CountryName]:
    for folder in sorted(Path(pycountry.LOCALES_DIR).iterdir()):
        # Plain languages only ("de"), not their variants ("pt_BR").
        language = pycountry.languages.get(alpha_2=folder.name) or pycountry.languages.get(
            alpha_3=folder.name
        )
        if language is None or not gettext.find("iso3166-1", pycountry.LOCALES_DIR, [folder.name]):
            continue
        catalog = gettext.translation("iso3166-1", pycountry.LOCALES_DIR, [folder.name])
        for country in pycountry.countries:
            translated = catalog.gettext(country.name)
            if translated != country.name:
                yield CountryName(
                    country_id=country.alpha_2, language_id=language.alpha_3, name=translated
                )
