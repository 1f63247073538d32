"""Circular and total run-out about a datum axis, radial and axial (ISO 1101)."""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

from .datum import DatumFrame, datum_frame
from .errors import NotMeasurable
from .feature import Feature
from .finding import Finding, critical, spread
from .minimum_zone import expected_range

__all__ = ["runout"]

_FEWEST = 20


def runout(
    feature: Feature,
    datums: list[Feature],
    rng: np.random.Generator,
    *,
    total: bool = False,
    count: int = 8,  # sections of a circular run-out
) -> Finding:
    """The full indicator movement while the part turns about the datum's z: of the radius over a cylinder, cone or circle, of the height over a
    plane. Circular: the largest within any of `count` sections; total: over all (a cone has only the circular one).
    """
    frame = datum_frame(datums)
    if frame.free & {"tx", "ty", "rx", "ry"}:
        raise UserError(f"run-out of {feature.name}: datums {list(frame.names)} give no axis to turn about")
    if feature.kind not in ("cylinder", "cone", "circle", "plane"):
        raise UserError(
            f"run-out of {feature.name}: it is a {feature.kind}; a cylinder, cone, circle or plane has one"
        )
    if total and feature.kind == "cone":
        raise UserError(f"total run-out of {feature.name}: a cone has only a circular one")
    axial = feature.kind == "plane"
    local = frame.local(feature.points)
    rho, z = np.hypot(local[:, 0], local[:, 1]), local[:, 2]
    across = rho if axial else z
    if total or feature.kind == "circle":
        member = np.zeros(len(local), np.int64)
    else:
        span = max(float(np.ptp(across)), 1e-300)
        member = np.minimum(((across - across.min()) / span * count).astype(np.int64), count - 1)
    slope = 0.0
    if feature.kind == "cone":  # within a section of some height, the cone's own growth is no run-out
        slope = np.tan(np.radians(feature.measurement["half_angle_deg"])) * np.sign(
            feature.direction @ frame.axes[2]
        )
    found, worst = None, 0
    for section in range(member.max() + 1):
        inside = member == section
        if inside.sum() < _FEWEST:
            continue
        value = float(np.ptp((z if axial else rho - slope * z)[inside]))
        if found is None or value > found:
            found, worst = value, section
    if found is None:
        raise NotMeasurable(
            f"run-out of {feature.name}: no section of {count} holds {_FEWEST} points ({len(local)} in all): choose fewer sections"
        )
    points = feature.points[member == worst]
    local = frame.local(points)
    kept = points[
        critical(local[:, 2] if axial else np.hypot(local[:, 0], local[:, 1]) - slope * local[:, 2])
    ]

    def movement(_: Feature, frame: DatumFrame | None) -> float:
        local = frame.local(kept)
        return float(
            np.ptp(local[:, 2] if axial else np.hypot(local[:, 0], local[:, 1]) - slope * local[:, 2])
        )

    by_datums = spread(movement, feature, datums, movement(feature, frame), rng)
    bias = min(feature.noise * expected_range(len(points)), found)
    u = float(np.hypot(by_datums, np.sqrt(2) * feature.noise))
    return Finding(
        found, u, bias, extras={"noise": feature.noise, "direction": "axial" if axial else "radial"}
    )
