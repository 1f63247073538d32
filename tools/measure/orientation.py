"""Parallelism, perpendicularity and angularity of a surface or axis against the first datum (ISO 1101)."""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

from .datum import DatumFrame, datum_frame
from .feature import Feature
from .finding import Finding, critical, spread
from .minimum_zone import expected_range

__all__ = ["angle_between", "nearest_direction", "orientation"]


def angle_between(feature: Feature, primary: Feature, angle_deg: float) -> float:
    """Angle in radians that the feature's direction (normal or axis) makes with the datum's when the two surfaces or axes stand at
    `angle_deg` to each other: a normal stands across its surface.
    """
    normals = (feature.kind == "plane") + (primary.kind == "plane")
    return np.radians(90 - angle_deg if normals == 1 else angle_deg)


def nearest_direction(direction: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """The unit vector at `angle` to `axis` (either sense) that lies nearest to `direction`."""
    if direction @ axis < 0:
        axis = -axis
    across = direction - (direction @ axis) * axis
    length = np.linalg.norm(across)
    across = np.zeros(3) if length < 1e-15 else across / length
    return np.cos(angle) * axis + np.sin(angle) * across


def orientation(
    feature: Feature,
    datums: list[Feature],
    angle_deg: float,  # 0: parallel, 90: perpendicular
    rng: np.random.Generator,
) -> Finding:
    """Width of the zone at the nominal angle: between two planes around a surface's points; a cylinder's (against an angle
    of 0 to the datum's direction) or two planes' around an axis where it was seen. Only the first datum's direction counts.
    """
    if not datums or datums[0].direction is None:
        raise UserError(
            f"orientation of {feature.name}: the first datum must have a direction (plane or axis)"
        )
    if feature.direction is None:
        raise UserError(f"orientation of {feature.name}: a {feature.kind} has none")
    angle = angle_between(feature, datums[0], angle_deg)
    if not 0 <= angle <= np.pi / 2 + 1e-12:
        raise UserError(f"orientation of {feature.name}: angle {angle_deg:g}: give 0 to 90 degrees")
    if not feature.is_axis:
        return _surface(feature, datums, angle, rng)
    length = feature.span[1] - feature.span[0]

    def value(feature: Feature, frame: DatumFrame | None) -> float:
        target = nearest_direction(feature.direction, frame.axes[2], angle)
        return length * float(np.linalg.norm(np.cross(feature.direction, target)))

    found = value(feature, datum_frame(datums))
    measured = np.degrees(np.arccos(min(1.0, abs(float(feature.direction @ datums[0].direction)))))
    return Finding(
        found,
        spread(value, feature, datums, found, rng),
        extras={"length": length, "angle_deg": float(measured)},
    )


def _surface(feature: Feature, datums: list[Feature], angle: float, rng: np.random.Generator) -> Finding:
    points = feature.points - feature.point
    kept = points

    def value(feature: Feature, frame: DatumFrame | None) -> float:
        axis = frame.axes[2]
        target = nearest_direction(feature.direction, axis, angle)
        width = float(np.ptp(kept @ target))
        if angle < 1e-9:
            return width
        # the zone may turn about the datum's direction: by little, as it started at the surface's own
        from scipy.optimize import minimize_scalar

        axis = axis if target @ axis >= 0 else -axis
        x = target - np.cos(angle) * axis
        x = x / np.linalg.norm(x)
        y = np.cross(axis, x)
        heights = kept @ np.stack([axis, x, y], axis=1)

        def turned(by: float) -> float:
            return float(
                np.ptp(
                    heights
                    @ np.array([np.cos(angle), np.sin(angle) * np.cos(by), np.sin(angle) * np.sin(by)])
                )
            )

        reach = 2 * width / max(float(np.ptp(heights[:, 2])), 1e-300)
        found = minimize_scalar(
            turned, bounds=(-reach, reach), method="bounded", options={"xatol": 1e-4 * reach}
        )
        return min(width, float(found.fun))

    frame = datum_frame(datums)
    whole = value(feature, frame)
    # the points on the border of the zone, and on that of the surface itself: others never become extremes
    kept = points[critical(points @ nearest_direction(feature.direction, frame.axes[2], angle))]
    by_datums = spread(value, feature, datums, value(feature, frame), rng)
    bias = min(feature.noise * expected_range(len(points)), whole)
    measured = np.degrees(np.arccos(min(1.0, abs(float(feature.direction @ datums[0].direction)))))
    u = float(np.hypot(by_datums, np.sqrt(2) * feature.noise))
    return Finding(whole, u, bias, extras={"noise": feature.noise, "angle_deg": float(measured)})
