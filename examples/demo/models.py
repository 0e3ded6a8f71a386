"""Countries and what they consist of, by the ISO lists 3166, 639 and 4217."""

from __future__ import annotations

from django.db import models


class Language(models.Model):
    code = models.CharField(max_length=3, primary_key=True)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=1)  # living, extinct, ancient, historical, constructed


class Kind(models.Model):
    """What a part of a country is called: Province, State, Parish, …"""

    name = models.CharField(max_length=60, primary_key=True)


class Country(models.Model):
    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=100)
    kinds = models.ManyToManyField(Kind, related_name="countries")


class Subdivision(models.Model):
    code = models.CharField(max_length=6, primary_key=True)
    name = models.CharField(max_length=150)
    country = models.ForeignKey(Country, models.CASCADE, related_name="subdivisions")
    kind = models.ForeignKey(Kind, models.PROTECT)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="parts")


class Currency(models.Model):
    code = models.CharField(max_length=3, primary_key=True)
    name = models.CharField(max_length=100)
    # ISO 4217 codes begin with the code of their country, if they have one.
    country = models.ForeignKey(Country, models.CASCADE, null=True, related_name="currencies")


class CountryName(models.Model):
    """The name of a country in a language."""

    country = models.ForeignKey(Country, models.CASCADE, related_name="names")
    language = models.ForeignKey(Language, models.CASCADE)
    name = models.CharField(max_length=150)
