"""Profile of a surface: how far its points lie from the nominal one, in a datum frame (ISO 1660, symmetric zone)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.lazy import require

from .datum import DatumFrame, datum_frame
from .feature import Feature
from .finding import Finding, critical, spread
from .frame import Frame
from .minimum_zone import expected_range
from .primitives import PRIMITIVES
from .residuals_reference import residuals

__all__ = ["nominal_mesh", "nominal_surface", "profile"]


def nominal_surface(
    kind: str,  # "plane", "sphere", "cylinder", "cone"
    point: np.ndarray,  # (3,) in the datum frame
    direction: np.ndarray | None = None,
    radius: float = 0.0,
    half_angle_deg: float = 0.0,
) -> Callable[[np.ndarray], np.ndarray]:
    """Signed distance of (n, 3) datum coordinates to the nominal primitive. Raises `UserError` for another kind."""
    if kind not in ("plane", "sphere", "cylinder", "cone"):
        raise UserError(f"profile: nominal {kind!r}: plane, sphere, cylinder, cone or mesh")
    if kind != "plane" and not radius > 0:
        raise UserError(f"profile: the nominal {kind} needs a radius above 0")
    half = np.radians(half_angle_deg)
    size = radius * np.cos(half) if kind == "cone" else radius
    frame = Frame.from_axis(point, [0, 0, 1.0] if direction is None else direction, (size, half))
    return lambda points: residuals(PRIMITIVES[kind], points, frame)[:, 0]


def nominal_mesh(vertices: np.ndarray, faces: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Unsigned distance to a triangle mesh in the datum frame, through open3d (single precision: about 1e-7 of the size)."""
    open3d = require("open3d", "measure", "profile against a mesh")
    scene = open3d.t.geometry.RaycastingScene()
    centre = vertices.mean(axis=0)
    scene.add_triangles((vertices - centre).astype(np.float32), faces.astype(np.uint32))
    return lambda points: (
        scene.compute_distance((points - centre).astype(np.float32)).numpy().astype(np.float64)
    )


def profile(
    feature: Feature,
    datums: list[Feature],
    distance: Callable[[np.ndarray], np.ndarray],  # of (n, 3) datum coordinates to the nominal surface
    rng: np.random.Generator,
) -> Finding:
    """Twice the largest distance of the feature's points from the nominal surface."""
    frame = datum_frame(datums)
    d = distance(frame.local(feature.points))
    value = 2 * float(np.abs(d).max())
    kept = feature.points[critical(d)]

    def largest(_: Feature, frame: DatumFrame | None) -> float:
        return 2 * float(np.abs(distance(frame.local(kept))).max())

    by_datums = spread(largest, feature, datums, value, rng)
    bias = min(feature.noise * expected_range(len(d)), value)
    u = float(np.hypot(by_datums, 2 * feature.noise))
    return Finding(
        value,
        u,
        bias,
        extras={
            "noise": feature.noise,
            "mean": float(d.mean()),
            "lowest": float(d.min()),
            "highest": float(d.max()),
        },
    )
