"""Points that lie exactly on a primitive, evenly over the part of it that is asked for: what fits and simulations are tried on."""

from __future__ import annotations

import numpy as np

from .frame import Frame

__all__ = ["ideal_points"]


def ideal_points(
    name: str,  # of a primitive
    frame: Frame,
    count: int,
    rng: np.random.Generator,
    *,
    arc: float = 2 * np.pi,  # radians around the axis
    length: float = 1.0,  # of a line, cylinder or cone, about the frame's origin; side of a plane
    tube: float = 2 * np.pi,  # radians around a torus's tube, about its outer side
) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) points and (count, 3) directions in which noise moves them off the primitive (of a curve: one of them), world axes.

    Even in area (in length, on curves). Raises `ValueError` for a name that is not a primitive's.
    """
    turn = arc * (rng.random(count) - 0.5)
    cosine, sine, zero = np.cos(turn), np.sin(turn), np.zeros(count)
    along = length * (rng.random(count) - 0.5)
    s0, s1 = frame.sizes
    radial = np.stack([cosine, sine, zero], axis=1)
    if name == "line":
        local, normal = np.stack([zero, zero, along], axis=1), radial
    elif name == "plane":
        local = np.stack([along, length * (rng.random(count) - 0.5), zero], axis=1)
        normal = np.broadcast_to([0.0, 0.0, 1.0], local.shape)
    elif name in ("circle", "ring"):
        local, normal = s0 * radial, radial
    elif name == "cylinder":
        local, normal = s0 * radial + along[:, None] * [0.0, 0.0, 1.0], radial
    elif name == "sphere":
        height = 1 - 2 * rng.random(count)
        normal = np.sqrt(1 - height**2)[:, None] * radial + height[:, None] * [0.0, 0.0, 1.0]
        local = s0 * normal
    elif name == "cone":
        # area grows with the distance from the apex: draw that as the root of a uniform variable
        low, high = (s0 / np.sin(s1) - length / 2), (s0 / np.sin(s1) + length / 2)
        low, high = max(low, 0.0), max(high, 0.0)
        height = np.sqrt(low**2 + (high**2 - low**2) * rng.random(count))
        local = np.stack([*(height * np.tan(s1) * radial[:, :2].T), height - s0 / np.sin(s1)], axis=1)
        normal = np.cos(s1) * radial - np.sin(s1) * np.array([0.0, 0.0, 1.0])
    elif name == "torus":
        around = _tube_angles(s0, s1, count, tube, rng)
        normal = np.cos(around)[:, None] * radial + np.sin(around)[:, None] * [0.0, 0.0, 1.0]
        local = s0 * radial + s1 * normal
    else:
        raise ValueError(f"{name} is no primitive")
    return local @ frame.axes + frame.origin, normal @ frame.axes


def _tube_angles(major: float, minor: float, count: int, tube: float, rng: np.random.Generator) -> np.ndarray:
    """Angles around the tube with density (major + minor cos): by rejection."""
    out = np.zeros(0)
    while len(out) < count:
        angle = tube * (rng.random(2 * count) - 0.5)
        keep = rng.random(2 * count) * (major + minor) < major + minor * np.cos(angle)
        out = np.concatenate([out, angle[keep]])
    return out[:count]
