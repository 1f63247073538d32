"""What the surfaces of the synthetic street look like: procedural colours, light and sky."""

from __future__ import annotations

import numpy as np

__all__ = ["MATERIALS", "shade_street", "sky_colour"]

MATERIALS = ("road", "pavement", "facade", "car", "pole", "trunk", "crown")
"""Semantic classes by number; the sky is 255."""
SUN = np.array([0.35, -0.55, 0.76]) / np.linalg.norm([0.35, -0.55, 0.76])


def _ripple(points: np.ndarray, scale: float) -> np.ndarray:
    """A smooth pattern in [-1, 1] without direction or period that the eye finds: sines along fixed oblique axes."""
    ways = (
        np.array([[1.0, 0.37, -0.61], [-0.53, 1.11, 0.29], [0.23, -0.71, 1.29], [1.31, 0.83, 0.77]]) / scale
    )
    phase = points @ ways.T + np.array([0.3, 1.7, 4.1, 2.6])
    return np.sin(phase + 1.3 * np.sin(0.5 * phase[:, [1, 2, 3, 0]])).mean(1)


def _line(value: np.ndarray, period: float, width: float) -> np.ndarray:
    """Whether value lies within width / 2 of a multiple of period."""
    return np.abs((value + period / 2) % period - period / 2) < width / 2


def shade_street(
    points: np.ndarray,  # (n, 3) on surfaces, metres
    normals: np.ndarray,  # (n, 3) unit, towards the viewer
    directions: np.ndarray,  # (n, 3) unit, looking along
    material: np.ndarray,  # (n,) index into MATERIALS
    tint: np.ndarray,  # (n, 3) colour of the object
) -> np.ndarray:
    """(n, 3) sRGB in [0, 1]: pattern, sun and sky light, and a highlight on cars and windows."""
    x, y, z = points.T
    colour = tint.copy()
    shine = np.zeros(len(points))
    for name in MATERIALS:
        rows = np.flatnonzero(material == MATERIALS.index(name))
        if not len(rows):
            continue
        p = points[rows]
        if name == "road":
            colour[rows] += 0.05 * _ripple(p, 0.5)[:, None] + 0.03 * _ripple(p, 0.12)[:, None]
            dashed = (np.abs(y[rows]) < 0.08) & (x[rows] % 6 < 3)
            edge = np.abs(np.abs(y[rows]) - 3.7) < 0.07
            colour[rows[dashed | edge]] = 0.85
        elif name == "pavement":
            joint = _line(x[rows], 0.8, 0.05) | _line(y[rows], 0.8, 0.05)
            colour[rows] += 0.04 * _ripple(p, 0.9)[:, None] - 0.18 * joint[:, None]
        elif name == "facade":
            along = np.where(np.abs(normals[rows, 0]) > 0.7, y[rows], x[rows])
            upright = np.abs(normals[rows, 2]) < 0.5
            window = upright & (along % 2.4 > 0.75) & (along % 2.4 < 1.95) & ((z[rows] - 0.7) % 3.0 < 1.5)
            frame = window & ~(
                (along % 2.4 > 0.85)
                & (along % 2.4 < 1.85)
                & (((z[rows] - 0.7) % 3.0) > 0.1)
                & (((z[rows] - 0.7) % 3.0) < 1.4)
            )
            course = upright & _line(z[rows], 0.5, 0.06)
            colour[rows] += 0.05 * _ripple(p, 0.7)[:, None] - 0.07 * course[:, None]
            colour[rows[window]] = np.array([0.20, 0.27, 0.36])
            colour[rows[frame]] = 0.88
            shine[rows[window & ~frame]] = 0.35
        elif name == "car":
            glass = (z[rows] > 0.95) & (z[rows] < 1.35) & (np.abs(normals[rows, 2]) < 0.5)
            colour[rows[glass]] = 0.12
            shine[rows] = 0.4
        elif name == "crown":
            colour[rows] *= 1 + 0.35 * _ripple(p, 0.22)[:, None] + 0.25 * _ripple(p, 0.07)[:, None]
        elif name == "trunk":
            colour[rows] += 0.06 * _ripple(p * [1, 1, 0.2], 0.06)[:, None]
    light = 0.5 + 0.5 * np.maximum(normals @ SUN, 0) + 0.1 * normals[:, 2]
    mirrored = directions - 2 * (directions * normals).sum(1, keepdims=True) * normals
    gloss = shine * np.maximum(mirrored @ SUN, 0) ** 12
    reflected = shine[:, None] * sky_colour(mirrored) * 0.35
    return np.clip(colour * light[:, None] + reflected + gloss[:, None], 0, 1)


def sky_colour(directions: np.ndarray) -> np.ndarray:  # (n, 3) unit -> (n, 3) sRGB
    """Blue upwards, pale at the horizon, soft clouds and a bright place at the sun."""
    up = np.clip(directions[:, 2], 0, 1)[:, None]
    blue = (1 - up**0.5) * np.array([0.86, 0.90, 0.95]) + up**0.5 * np.array([0.33, 0.54, 0.86])
    flat = directions / np.maximum(directions[:, 2:] + 0.3, 0.2)
    cloud = np.clip(_ripple(flat, 0.35) + 0.5 * _ripple(flat, 0.12) - 0.1, 0, 1)[:, None] * np.minimum(
        4 * up, 1
    )
    sun = np.maximum(directions @ SUN, 0)[:, None] ** 60
    return np.clip(blue + cloud * (0.95 - blue) + 0.5 * sun, 0, 1)
