"""Point clouds with a unit, in float64, near their own origin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .bounds_cpu import bounds
from .clean import clean_rows
from .units import conversion, parse_unit, suggestion

__all__ = ["Cloud"]

_FAR = 100.0  # extents between a part and its frame's zero from which on an origin is subtracted


@dataclass(frozen=True)
class Cloud:
    """Points of a part, and what is known of them.

    World coordinates are `points + origin`. Fits work on `points` and add `origin` to what they report, so a part that lies
    kilometres from its frame's zero loses no digits.
    """

    points: np.ndarray
    """(n, 3) float64 in `unit`, minus `origin`; finite."""
    origin: np.ndarray
    """(3,) float64 in `unit`."""
    unit: str | None
    """"mm", "m", "um" or "inch"; None where nobody said, and then there are no verdicts."""
    normals: np.ndarray | None = None
    """(n, 3) float64, unit length."""
    colours: np.ndarray | None = None
    """(n, 3) uint8 sRGB."""
    source: Path | None = None
    """The file the points were read from."""
    sha256: str | None = None
    """Of that file."""
    warnings: tuple[str, ...] = ()
    """What was removed, assumed or doubtful, one line each."""
    shape: tuple[int, int] | None = None
    """(height, width) of an organised cloud; None for a plain list."""
    pixels: np.ndarray | None = None
    """(n,) int64: row * width + column of each point of an organised cloud (empty pixels have no point)."""
    sigma: np.ndarray | None = None
    """(n,) float64 in `unit`: standard deviation of each point, where the sensor says it."""
    viewpoint: np.ndarray | None = None
    """(3,) float64 in `unit`, minus `origin`: where the one sensor stood that saw all points; None where that is not known."""

    @classmethod
    def from_points(
        cls,
        points: np.ndarray,  # (n, 3) or organised (h, w, 3), in `unit`, world coordinates
        unit: str | None = None,
        *,
        normals: np.ndarray | None = None,  # of the same leading shape, any length
        colours: np.ndarray | None = None,  # uint8, or float in [0, 1]
        sigma: np.ndarray | None = None,  # (n,) or (h, w), in `unit`
        viewpoint: np.ndarray | None = None,  # (3,) of the sensor, in `unit`, world coordinates
        origin: np.ndarray | None = None,  # (3,) to subtract; None: the rounded centre if it is far away
        source: Path | None = None,
        sha256: str | None = None,
        warnings: tuple[str, ...] = (),
        drop_zeros: bool | None = None,  # points at exactly (0, 0, 0); None: only of organised clouds
        drop_duplicates: bool = False,
    ) -> Cloud:
        """A cloud from an array. Points that are not finite are removed and counted in `warnings`.

        Raises `UserError` when the array is not (n, 3) or (h, w, 3), or no usable point is left.
        """
        points = np.asarray(points)
        if points.ndim not in (2, 3) or points.shape[-1] != 3:
            raise UserError(
                f"points of shape {points.shape}: give (n, 3), or (h, w, 3) for an organised cloud"
            )
        if points.dtype.kind not in "fiu":
            raise UserError(f"points of type {points.dtype}: give numbers")
        shape = points.shape[:2] if points.ndim == 3 else None
        points = np.ascontiguousarray(points.reshape(-1, 3), dtype=np.float64)
        parts = {
            "normals": _rows(normals, len(points), 3, "normals"),
            "colours": _rows(colours, len(points), 3, "colours"),
            "sigma": _rows(sigma, len(points), 1, "sigma"),
        }
        if drop_zeros is None:
            drop_zeros = shape is not None
        keep, notes = clean_rows(points, zeros=drop_zeros, duplicates=drop_duplicates)
        if keep is not None:
            points = points[keep]
            parts = {name: part if part is None else part[keep] for name, part in parts.items()}
        if not len(points):
            raise UserError(f"{source or 'the array'}: no usable point ({'; '.join(notes) or 'it is empty'})")
        low, high, _ = bounds(points)
        if origin is None:
            centre, extent = (low + high) / 2, float((high - low).max())
            far = np.abs(centre).max() > _FAR * extent > 0
            origin = np.round(centre) if far else np.zeros(3)
        origin = np.asarray(origin, np.float64).reshape(3)
        if origin.any():
            points = points - origin
        unit = parse_unit(unit)
        notes = [*warnings, *notes]
        if unit is None:
            notes.append(f"unit not known: {suggestion(float((high - low).max()))}; give --unit")
        pixels = None
        if shape is not None:
            pixels = np.arange(shape[0] * shape[1]) if keep is None else np.flatnonzero(keep)
        return cls(
            points=points,
            origin=origin,
            unit=unit,
            normals=_unit_rows(parts["normals"]),
            colours=_bytes(parts["colours"]),
            source=source,
            sha256=sha256,
            warnings=tuple(notes),
            shape=shape,
            pixels=pixels,
            sigma=parts["sigma"],
            viewpoint=None if viewpoint is None else _place(viewpoint, "viewpoint") - origin,
        )

    def __len__(self) -> int:
        return len(self.points)

    @property
    def world_points(self) -> np.ndarray:
        """(n, 3) float64: `points + origin`."""
        return self.points + self.origin

    @property
    def extent(self) -> np.ndarray:
        """(3,) float64: the sides of the axis-parallel box around the points."""
        low, high, _ = bounds(self.points)
        return high - low

    def to_unit(self, unit: str) -> Cloud:
        """The same part in another unit; needs a known one to come from, else `UserError`."""
        unit = parse_unit(unit)
        if unit == self.unit:
            return self
        if self.unit is None:
            raise UserError(
                f"{self.source or 'the cloud'} has no unit to convert from: {suggestion(float(self.extent.max()))}"
            )
        factor = conversion(self.unit, unit)
        return replace(
            self,
            points=self.points * factor,
            origin=self.origin * factor,
            unit=unit,
            sigma=None if self.sigma is None else self.sigma * factor,
            viewpoint=None if self.viewpoint is None else self.viewpoint * factor,
        )

    def select(self, keep: np.ndarray) -> Cloud:  # (n,) bool, or indices
        """The cloud of some of the points, with everything else carried along."""
        fields = {
            name: None if value is None else value[keep]
            for name in ("normals", "colours", "pixels", "sigma")
            for value in [getattr(self, name)]
        }
        return replace(self, points=self.points[keep], **fields)

    def input_record(self) -> dict[str, str | None]:
        """{"path", "sha256"} as results record where their points come from."""
        return {"path": None if self.source is None else str(self.source), "sha256": self.sha256}


def _rows(values: np.ndarray | None, count: int, width: int, name: str) -> np.ndarray | None:
    if values is None:
        return None
    values = np.asarray(values)
    if values.size != count * width:
        raise UserError(f"{name} of shape {values.shape} do not fit {count} points")
    return values.reshape(count, width) if width > 1 else values.reshape(count).astype(np.float64)


def _place(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise UserError(f"{name} {values.tolist()}: give three finite numbers")
    return values


def _unit_rows(normals: np.ndarray | None) -> np.ndarray | None:
    if normals is None:
        return None
    normals = normals.astype(np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def _bytes(colours: np.ndarray | None) -> np.ndarray | None:
    if colours is None or colours.dtype == np.uint8:
        return colours
    return (np.clip(np.nan_to_num(colours.astype(np.float64)), 0, 1) * 255 + 0.5).astype(np.uint8)
