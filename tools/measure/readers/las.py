"""LAS and LAZ (ASPRS LAS 1.4), through laspy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.lazy import require

from .raw import MOST_POINTS, Raw

__all__ = ["read"]

_PROJECTED_LINEAR_UNIT, _METRE = 3076, 9001  # GeoTIFF key of the unit, and its code for metre


def read(path: Path) -> Raw:
    """Points with the file's scale and offset applied in float64, and colours where present.

    The unit is metres when the file's coordinate system says so, else not known. Raises `UserError`.
    """
    laspy = require("laspy", "measure", "LAS and LAZ files")
    try:
        with laspy.open(path) as file:
            if file.header.point_count > MOST_POINTS:
                raise UserError(
                    f"{path}: {file.header.point_count} points are more than the {MOST_POINTS} we read"
                )
            las = file.read()
    except UserError:
        raise
    except Exception as error:  # laspy and its decompressors each raise types of their own
        raise UserError(f"{path}: laspy cannot read it ({type(error).__name__}: {error})") from error
    scale, offset = np.asarray(las.header.scales), np.asarray(las.header.offsets)
    points = np.stack([np.asarray(las.X), np.asarray(las.Y), np.asarray(las.Z)], axis=1) * scale + offset
    colours = None
    if {"red", "green", "blue"} <= set(las.point_format.dimension_names):
        wide = np.stack([np.asarray(las[name]) for name in ("red", "green", "blue")], axis=1)
        colours = (wide >> 8 if wide.size and wide.max() > 255 else wide).astype(np.uint8)
    notes = (f"coordinates are quantised to {scale.max():g} by the file's scale",)
    return Raw(points=points, colours=colours, unit=_unit(las.header), notes=notes)


def _unit(header) -> str | None:
    for record in header.vlrs:
        keys = getattr(record, "geo_keys", None)
        for key in keys or []:
            if key.id == _PROJECTED_LINEAR_UNIT and key.value_offset == _METRE:
                return "m"
        text = getattr(record, "string", "")
        if 'UNIT["metre",1' in text.replace(" ", "") and "PROJCS" in text:
            return "m"
    return None
