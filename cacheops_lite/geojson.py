"""Rows with geometries -> a GeoJSON FeatureCollection (RFC 7946).

GeoDjango is not needed here: a geometry is GeoJSON text or a dict, as the database function
``AsGeoJSON`` or a JSON column gives it, or an object with ``__geo_interface__`` or ``geojson``, as
GEOS, GDAL and shapely have. RFC 7946 wants longitude and latitude (WGS 84): transform others first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpResponse

__all__ = ["FeatureCollection", "GeoJSONResponse", "geometry_of"]

_TYPES: Final = {
    "Point": "coordinates",
    "MultiPoint": "coordinates",
    "LineString": "coordinates",
    "MultiLineString": "coordinates",
    "Polygon": "coordinates",
    "MultiPolygon": "coordinates",
    "GeometryCollection": "geometries",
}


@dataclass(frozen=True)
class FeatureCollection:
    """A serializer: ``FeatureCollection("outline", ["name"])(rows)`` gives a dict.

    ``geometry`` names the attribute, annotation or key of a row that holds its geometry, ``id`` the
    one that becomes the feature's id; ``properties`` are the others to take along (``None``: all
    that the row has). Rows are model instances or mappings.
    """

    geometry: str = "geometry"
    properties: tuple[str, ...] | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        names: Any = self.properties
        if isinstance(names, str):
            raise TypeError("properties are names of attributes, for example ['name', 'height'].")
        if names is not None:
            object.__setattr__(self, "properties", tuple(names))

    def __call__(self, rows: Iterable[Any]) -> dict[str, Any]:
        """The collection. Raises ``ValueError`` for what is no geometry."""
        return {"type": "FeatureCollection", "features": [self.feature(row) for row in rows]}

    def feature(self, row: Any) -> dict[str, Any]:
        """One row as a Feature."""
        names = self.properties if self.properties is not None else self._all(row)
        feature = {
            "type": "Feature",
            "geometry": geometry_of(_value(row, self.geometry)),
            "properties": {name: _value(row, name) for name in names},
        }
        if self.id is not None:
            feature["id"] = _value(row, self.id)
        return feature

    def _all(self, row: Any) -> list[str]:
        if isinstance(row, Mapping):
            names = list(row)
        else:
            names = [field.attname for field in row._meta.concrete_fields]
            names += [name for name in vars(row) if name not in names and name[0] != "_"]
        return [name for name in names if name not in (self.geometry, self.id)]


class GeoJSONResponse(HttpResponse):
    """A collection, or any other GeoJSON, as ``application/geo+json``."""

    def __init__(self, data: Any, **options: Any) -> None:
        options.setdefault("content_type", "application/geo+json")
        super().__init__(json.dumps(data, cls=DjangoJSONEncoder), **options)


def geometry_of(value: Any) -> dict[str, Any] | None:
    """A geometry as GeoJSON; ``None`` stays. Raises ``ValueError`` with what to do."""
    if value is None:
        return None
    found = value
    if hasattr(found, "__geo_interface__"):
        found = found.__geo_interface__
    elif not isinstance(found, str | bytes | bytearray | memoryview) and hasattr(found, "geojson"):
        found = found.geojson
    if isinstance(found, memoryview):
        found = bytes(found)
    if isinstance(found, str | bytes | bytearray):
        try:
            found = json.loads(found)
        except ValueError:
            raise _wrong(value) from None
    if isinstance(found, Mapping) and found.get("type") == "Feature":
        found = found.get("geometry")
    if not isinstance(found, Mapping):
        raise _wrong(value)
    member = _TYPES.get(str(found.get("type")))
    if member is None or member not in found:
        raise _wrong(value)
    return dict(found)


def _wrong(value: Any) -> ValueError:
    text = repr(value)
    return ValueError(
        f"{text if len(text) < 80 else text[:77] + '...'} is no GeoJSON geometry: annotate the "
        "rows with AsGeoJSON('…'), or name the attribute that holds one."
    )


def _value(row: Any, name: str) -> Any:
    return row[name] if isinstance(row, Mapping) else getattr(row, name)
