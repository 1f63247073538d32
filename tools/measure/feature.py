"""A fitted feature as tolerances see it: its geometry, the points it was fitted to, and its uncertainty as draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .cloud import Cloud
from .neighbours import surface_noise
from .result import Measurement

__all__ = ["Feature", "feature_of"]

_PLACES, _DIRECTIONS = ("point", "centre", "axis_point"), ("normal", "direction", "axis_direction")
_CURVES = ("line", "circle")


@dataclass(frozen=True)
class Feature:
    """Coordinates are the cloud's, without its origin, which no tolerance depends on."""

    name: str
    kind: str
    """"plane", "line", "circle", "sphere", "cylinder" or "cone"."""
    point: np.ndarray
    """(3,): a point of the plane or axis, or the centre."""
    direction: np.ndarray | None
    """(3,) unit: normal or axis; None for a sphere."""
    radius: float | None
    span: tuple[float, float]
    """Where the points begin and end along the axis, from `point`; (0, 0) for plane, circle and sphere."""
    points: np.ndarray
    """(n, 3) float64: those the fit used."""
    noise: float
    """Standard deviation of a point across the surface."""
    covariance: np.ndarray
    """(7, 7) of point, direction, radius; singular where they are redundant."""
    measurement: Measurement

    @property
    def is_axis(self) -> bool:
        return self.kind in ("line", "cylinder", "cone")

    @property
    def ends(self) -> np.ndarray:
        """(2, 3): the ends of the axis where points were seen; (1, 3), the point itself, of a circle or sphere."""
        if not self.is_axis:
            return self.point[None]
        return self.point + np.array(self.span)[:, None] * self.direction

    def drawn(self, rng: np.random.Generator) -> Feature:
        """The feature as it may be: parameters moved by a draw from their covariance. The points stay."""
        values, vectors = np.linalg.eigh(self.covariance)
        move = vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(7))
        direction = self.direction
        if direction is not None:
            direction = direction + move[3:6]
            direction = direction / np.linalg.norm(direction)
        radius = None if self.radius is None else self.radius + move[6]
        return replace(self, point=self.point + move[:3], direction=direction, radius=radius)


def feature_of(
    name: str,
    measured: Measurement,  # of one of the primitive fits to `cloud`
    cloud: Cloud,
    rng: np.random.Generator,
    towards: np.ndarray | None = None,  # (3,): the side its direction points to
) -> Feature:
    """The feature of a fit. Noise is the cloud's own sigma, else what neighbouring points show, else the fit's."""
    indices, place, direction, radius = [], None, None, None
    for names in (_PLACES, _DIRECTIONS):
        own = next((n for n in names if n in measured.parameters), None)
        indices.append(measured.indices(own) if own else [])
        if names is _PLACES:
            place = measured[own] - cloud.origin
        elif own:
            direction = measured[own]
    radius = measured.parameters.get("radius")
    indices.append(measured.indices("radius"))
    at = [*range(3), *(range(3, 6) if indices[1] else ()), *((6,) if indices[2] else ())]
    rows = [i for group in indices for i in group]
    covariance = np.zeros((7, 7))
    covariance[np.ix_(at, at)] = measured.covariance[np.ix_(rows, rows)]
    points = cloud.points[measured.inliers]
    span = tuple(measured.extras.get("span", (0.0, 0.0)))
    if direction is not None and towards is not None and direction @ np.asarray(towards, np.float64) < 0:
        direction, span = -direction, (-span[1], -span[0])
        covariance[3:6] *= -1
        covariance[:, 3:6] *= -1
    noise = None
    if cloud.sigma is not None:
        noise = float(np.median(cloud.sigma[measured.inliers]))
    elif measured.kind not in _CURVES:
        noise = surface_noise(points, rng)
    noise = float(measured.extras["sigma"]) if noise is None else min(noise, float(measured.extras["sigma"]))
    return Feature(
        name,
        measured.kind,
        place,
        direction,
        radius,
        span,
        np.ascontiguousarray(points),
        noise,
        covariance,
        measured,
    )
