"""Rows with geometries become a GeoJSON FeatureCollection, kept while their fingerprint holds."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F, Value
from django.db.models.functions import Concat

from cacheops_lite import Fingerprinted, RowHash
from cacheops_lite.geojson import FeatureCollection, GeoJSONResponse, geometry_of

from .behind import execute
from .models import Station

pytestmark = pytest.mark.django_db(transaction=True)

POINT = {"type": "Point", "coordinates": [8.5, 47.4]}


class Geos:
    """Like a geometry of GeoDjango."""

    geojson = json.dumps(POINT)


class Shapely:
    """Like a shape of shapely."""

    __geo_interface__ = {"type": "Point", "coordinates": (8.5, 47.4)}


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(POINT), json.dumps(POINT).encode(), memoryview(json.dumps(POINT).encode()),
        dict(POINT), Geos(), Shapely(), {"type": "Feature", "geometry": POINT, "properties": {}},
    ],
)  # fmt: skip
def test_geometries(value: Any) -> None:
    """Text, bytes, dicts, and objects of the usual libraries are geometries."""
    assert json.loads(json.dumps(geometry_of(value))) == POINT


def test_no_geometry() -> None:
    """A row without a geometry is a feature without one, as the standard has it."""
    assert geometry_of(None) is None
    assert geometry_of('{"type": "GeometryCollection", "geometries": []}') == {
        "type": "GeometryCollection",
        "geometries": [],
    }


@pytest.mark.parametrize(
    "value",
    ["POINT (8 47)", "", 3, [8.5, 47.4], {"type": "Point"}, {"type": "Circle"}, "[1]", "x" * 99],
)
def test_what_is_no_geometry(value: Any) -> None:
    """Anything else is refused with what to do."""
    with pytest.raises(ValueError, match="AsGeoJSON"):
        geometry_of(value)


def test_collections_of_objects() -> None:
    """Attributes, annotations and methods of objects become properties."""
    Station.objects.create(name="a", height=400.0, outline=json.dumps(POINT))
    Station.objects.create(name="b", outline=None)
    rows = Station.objects.order_by("name").annotate(label=Concat("name", Value("!")))
    found = FeatureCollection("outline", ["label", "height"], id="pk")(rows)
    first, second = found["features"]
    assert found["type"] == "FeatureCollection"
    assert first == {
        "type": "Feature", "id": rows[0].pk, "geometry": POINT,
        "properties": {"label": "a!", "height": 400.0},
    }  # fmt: skip
    assert second["geometry"] is None
    everything = FeatureCollection("outline")(rows)["features"][0]["properties"]
    assert set(everything) == {"id", "name", "height", "changed", "label"}


def test_collections_of_mappings() -> None:
    """Rows of `values()` are taken too."""
    row = {"id": 7, "geometry": POINT, "name": "a"}
    assert FeatureCollection(id="id")([row])["features"] == [
        {"type": "Feature", "id": 7, "geometry": POINT, "properties": {"name": "a"}}
    ]
    with pytest.raises(TypeError, match="names of attributes"):
        FeatureCollection(properties="name")  # type: ignore[arg-type]


def test_responses() -> None:
    """The media type of the standard; dates and decimals are written as Django writes them."""
    row = {"geometry": None, "day": datetime.date(2024, 1, 2), "price": Decimal("1.50")}
    response = GeoJSONResponse(FeatureCollection()([row]))
    assert response.headers["Content-Type"] == "application/geo+json"
    (feature,) = json.loads(response.content)["features"]
    assert feature["properties"] == {"day": "2024-01-02", "price": "1.50"}


@pytest.mark.database
def test_kept_while_the_fingerprint_holds(django_assert_num_queries: Any) -> None:
    """Annotated geometries are serialized again when they change behind Django's back, and two
    forms of the same rows do not mix."""
    Station.objects.create(name="a", outline=json.dumps(POINT))
    rows = Station.objects.annotate(geometry=F("outline"))
    features = Fingerprinted(rows, every=0, serialize=FeatureCollection("geometry", ["name"]))
    heights = Fingerprinted(rows, every=0, serialize=FeatureCollection("geometry", ["height"]))
    cheap = Fingerprinted(
        rows, RowHash(Station, ["outline"], every=0), serialize=FeatureCollection("geometry", [])
    )
    (before,) = features.get()["features"]
    assert before["properties"] == {"name": "a"}
    assert heights.get()["features"][0]["properties"] == {"height": 0.0}
    assert cheap.get()["features"][0]["properties"] == {}
    with django_assert_num_queries(3):
        assert features.get()["features"] == [before]
        heights.get(), cheap.get()
    moved = json.dumps({"type": "Point", "coordinates": [1, 2]})
    execute(f"UPDATE tests_station SET outline = '{moved}'")
    for form in (features, heights, cheap):
        assert form.get()["features"][0]["geometry"]["coordinates"] == [1, 2]
