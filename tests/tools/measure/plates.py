"""Plates with holes as clouds, for the tests of holes and matches: face, walls and noise by their definitions."""

from __future__ import annotations

import numpy as np

__all__ = ["bolt_holes", "plate", "pose_at_random"]


def bolt_holes(
    count: int, circle: float, radius: float, *, key_deg: float = 0.0
) -> list[tuple[float, float, float]]:
    """(x, y, radius) on a circle; the first moved along it by `key_deg`."""
    angle = 2 * np.pi * np.arange(count) / count
    angle[0] += np.deg2rad(key_deg)
    return [(circle * np.cos(a), circle * np.sin(a), radius) for a in angle]


def plate(
    rng: np.random.Generator,
    holes,  # (x, y, radius), or (x, y, radius, half_length, angle) for a slot along `angle`
    *,
    outer: float = 40.0,
    density: float = 12.0,
    sigma: float = 0.02,  # across the face
    blur: float = 0.06,  # along it
    depth: float = 0.0,  # of walls; 0: none
    step: tuple[float, float] | None = None,  # (radius, height) of a face beyond that radius
) -> np.ndarray:
    """(n, 3) points of a disc in z = 0, its holes cut out, with Gaussian noise; walls are sampled like the face."""
    count = rng.poisson(density * 4 * outer**2)
    xy = rng.uniform(-outer, outer, (count, 2))
    rho = np.hypot(*xy.T)
    keep = rho < outer
    walls = []
    for x, y, radius, *slot in holes:
        half, angle = slot if slot else (0.0, 0.0)
        c, s = np.cos(angle), np.sin(angle)
        along, across = c * (xy[:, 0] - x) + s * (xy[:, 1] - y), c * (xy[:, 1] - y) - s * (xy[:, 0] - x)
        keep &= np.hypot(along - np.clip(along, -half, half), across) > radius
        if depth and not slot:
            n = rng.poisson(density * 2 * np.pi * radius * depth)
            turn = rng.uniform(0, 2 * np.pi, n)
            walls.append(
                np.column_stack(
                    [x + radius * np.cos(turn), y + radius * np.sin(turn), -rng.uniform(0, depth, n)]
                )
            )
    face = np.column_stack([xy, np.zeros(count)])
    if step is not None:
        face[rho > step[0], 2] = step[1]
    points = np.concatenate([face[keep], *walls])
    return points + rng.normal(size=points.shape) * [blur, blur, sigma]


def pose_at_random(rng: np.random.Generator, shift: float = 50.0) -> np.ndarray:
    """(4, 4)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diagonal(r))
    pose = np.eye(4)
    pose[:3, :3] = q * np.linalg.det(q)
    pose[:3, 3] = shift * rng.normal(size=3)
    return pose
