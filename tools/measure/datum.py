"""Datum reference frames: up to three features in order of precedence fix a frame of six degrees of freedom (ISO 5459).

Planes give an orientation and one coordinate; axes (cylinder, cone, line) an orientation and two; centres (sphere, and a circle that is not the
first) a place. The first datum turns z to its normal or axis. A later one only fixes what is still free: its direction is projected across z to
become x (or, of an axis parallel to z, the way to it from the origin does), and the origin moves onto it. What no datum
fixes stays free and is named in `DatumFrame.free`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

from .feature import Feature

__all__ = ["DatumFrame", "datum_frame"]

_PARALLEL = 0.9  # cosine from which a direction counts as along z
_NEW = 0.3  # sine to the directions already fixed, from which a coordinate is a new one


@dataclass(frozen=True)
class DatumFrame:
    origin: np.ndarray
    """(3,) in the cloud's coordinates without its origin."""
    axes: np.ndarray
    """(3, 3): rows are x, y and z."""
    free: frozenset[str]
    """Of "tx", "ty", "tz" (places along the axes) and "rx", "ry", "rz" (turns about them)."""
    names: tuple[str, ...] = ()

    def local(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) cloud to (n, 3) datum coordinates."""
        return (points - self.origin) @ self.axes.T

    def turned(self, direction: np.ndarray) -> np.ndarray:
        """(3,) a direction in datum coordinates."""
        return self.axes @ direction


def datum_frame(features: Sequence[Feature]) -> DatumFrame:
    """The frame of one to three datum features. Raises `UserError` where one adds nothing to those before it."""
    names = tuple(f.name for f in features)
    if not 1 <= len(features) <= 3:
        raise UserError(f"{len(features)} datums {list(names)}: a frame has one to three")
    z = x = None
    fixed: list[np.ndarray] = []  # orthonormal directions in which the origin is known
    origin = np.array(features[0].point)

    def pin(direction: np.ndarray, point: np.ndarray) -> bool:
        """Moves the origin so that it agrees with `point` along what `direction` adds to the fixed ones."""
        nonlocal origin
        for known in fixed:
            direction = direction - (direction @ known) * known
        length = np.linalg.norm(direction)
        if length < _NEW:
            return False
        direction = direction / length
        origin = origin + ((point - origin) @ direction) * direction
        fixed.append(direction)
        return True

    def lead(point: np.ndarray, added: bool) -> tuple[np.ndarray | None, bool]:
        """The way from the origin to `point` across z, which becomes x; none where the point lies on z."""
        way = point - origin
        across = way - (way @ z) * z
        if np.linalg.norm(across) <= 1e-3 * np.linalg.norm(way):
            return None, added
        return across, True

    for number, feature in enumerate(features):
        added = False
        kind = "axis" if feature.is_axis or (feature.kind == "circle" and number == 0) else feature.kind
        kind = "point" if kind in ("sphere", "circle") else kind
        if z is None and feature.direction is not None:
            z, added = feature.direction, True
        elif z is None and number:  # a second centre: z leads to it
            z = feature.point - features[0].point
            z, added = z / np.linalg.norm(z), True
        if kind == "plane":
            along = abs(feature.direction @ z) > _PARALLEL
            if not along and x is None:
                x, added = feature.direction, True
            across = feature.direction if along else feature.direction - (feature.direction @ z) * z
            added |= pin(z if along else across / np.linalg.norm(across), feature.point)
        elif kind == "axis":
            slope = feature.direction @ z
            if abs(slope) > _PARALLEL:
                height = (origin - feature.point) @ z / slope if fixed else 0.0
                pierced = feature.point + height * feature.direction
                sides = _across(z)
                placed = [pin(side, pierced) for side in sides]
                added |= any(placed)
                if feature.kind == "circle" and number == 0:
                    pin(z, feature.point)
                if not any(placed) and x is None:
                    x, added = lead(pierced, added)
            else:
                if x is None:
                    x, added = feature.direction, True
                added |= pin(np.cross(z, feature.direction), feature.point)
        else:
            placed = [pin(side, feature.point) for side in (_across(z) if z is not None else np.eye(3))]
            if z is not None and not any(placed) and x is None:
                x, added = lead(feature.point, added)
            if number == 0 or not fixed:
                placed.append(pin(z, feature.point) if z is not None else True)
            added |= any(placed)
        if not added:
            raise UserError(
                f"datum {feature.name} ({feature.kind}) fixes nothing that {', '.join(names[:number])} left free: choose another"
            )
    free = set() if z is not None else {"rx", "ry"}
    z = np.array([0.0, 0.0, 1.0]) if z is None else z
    if x is None or np.linalg.norm(x - (x @ z) * z) < 1e-9:
        free.add("rz")
        x = np.eye(3)[np.argmin(np.abs(z))]
    x = x - (x @ z) * z
    x = x / np.linalg.norm(x)
    axes = np.stack([x, np.cross(z, x), z])
    for name, axis in zip(("tx", "ty", "tz"), axes):
        if sum((axis @ known) ** 2 for known in fixed) < 0.99:
            free.add(name)
    return DatumFrame(origin, axes, frozenset(free), names)


def _across(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x = x / np.linalg.norm(x)
    return x, np.cross(z, x)
