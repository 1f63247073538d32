"""Procedural surface patches that the auto-encoder of mesh primitives learns from: what fills a voxel of a street.

The released code does not say what the paper's decoder was trained on; these kinds are ours. All lengths are in half diagonals of the voxel, so
the voxel is the cube of half side 1 / sqrt(3) and a sphere around it has radius 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["KINDS", "Patches", "draw_patches"]

KINDS = ("plane", "crease", "corner", "cylinder", "ball", "foliage")
HALF_SIDE = 1 / math.sqrt(3)
POINTS = 256


class Patches(NamedTuple):
    """n patches."""

    full: np.ndarray
    """(n, 256, 3) float32 points all over the surface inside the voxel: what a decoded shape should cover."""
    seen: np.ndarray
    """(n, 256, 3) float32 what a scanner left of it: fewer points (repeated to the number), noisy, often from one side only."""


def draw_patches(count: int, generator: np.random.Generator) -> Patches:
    """`count` patches, kinds in turn, turned and shifted at random. The same generator state gives the same patches."""
    full, seen = np.empty((count, POINTS, 3), np.float32), np.empty((count, POINTS, 3), np.float32)
    done = 0
    while done < count:
        points = _MAKERS[KINDS[done % len(KINDS)]](generator)
        points = points[(np.abs(points) <= HALF_SIDE).all(1)]
        if len(points) < 48:
            continue
        full[done] = points[generator.integers(0, len(points), POINTS)]
        seen[done] = _scanned(full[done], generator)
        done += 1
    return Patches(full, seen)


def _scanned(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    kept = points
    if generator.random() < 0.4:  # one-sided: all beyond a plane is hidden
        way = _unit(generator)
        share = generator.uniform(0.3, 0.8)
        kept = points[np.argsort(points @ way)[: max(8, int(share * len(points)))]]
    few = int(np.exp(generator.uniform(math.log(6), math.log(POINTS))))
    kept = kept[generator.integers(0, len(kept), max(3, few))]
    kept = kept + generator.normal(0, generator.uniform(0, 0.03), kept.shape)
    return kept[np.arange(POINTS) % len(kept)]


def _unit(generator: np.random.Generator) -> np.ndarray:
    way = generator.normal(size=3)
    return way / np.linalg.norm(way)


def _axes(generator: np.random.Generator) -> np.ndarray:
    """(3, 3) random orthogonal rows; half of the time one is nearly upright, as in a street."""
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    if generator.random() < 0.5:
        angle = generator.uniform(0, 2 * math.pi)
        turn = np.array(
            [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]]
        )
        turn = turn[generator.permutation(3)] @ (np.eye(3) + generator.normal(0, 0.05, (3, 3)))
    return turn


def _middle(generator: np.random.Generator) -> np.ndarray:
    return generator.uniform(-0.4, 0.4, 3)


def _plane(generator: np.random.Generator) -> np.ndarray:
    axes = _axes(generator)
    flat = generator.uniform(-1.2, 1.2, (1200, 2))
    return _middle(generator) + flat @ axes[:2]


def _crease(generator: np.random.Generator) -> np.ndarray:
    axes = _axes(generator)
    angle = generator.uniform(0.35, 0.85) * math.pi
    along, out = generator.uniform(-1.2, 1.2, (1600, 1)), generator.uniform(0, 1.2, (1600, 1))
    other = math.cos(angle) * axes[1] + math.sin(angle) * axes[2]
    side = np.where(generator.random((1600, 1)) < 0.5, axes[1], other)
    return _middle(generator) + along * axes[0] + out * side


def _corner(generator: np.random.Generator) -> np.ndarray:
    axes = _axes(generator)
    flat = generator.uniform(0, 1.2, (2400, 2))
    which = generator.integers(0, 3, 2400)
    return _middle(generator) + flat[:, :1] * axes[which] + flat[:, 1:] * axes[(which + 1) % 3]


def _cylinder(generator: np.random.Generator) -> np.ndarray:
    axes = _axes(generator)
    radius, angle = generator.uniform(0.05, 0.7), generator.uniform(0, 2 * math.pi, (1600, 1))
    round_it = radius * (np.cos(angle) * axes[0] + np.sin(angle) * axes[1])
    return _middle(generator) + round_it + generator.uniform(-1.2, 1.2, (1600, 1)) * axes[2]


def _ball(generator: np.random.Generator) -> np.ndarray:
    ways = generator.normal(size=(1600, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    return _middle(generator) + ways * generator.uniform(0.15, 1.0, 3)


def _foliage(generator: np.random.Generator) -> np.ndarray:
    clumps = generator.uniform(-0.6, 0.6, (generator.integers(1, 7), 3))
    which = generator.integers(0, len(clumps), 1600)
    return clumps[which] + generator.normal(0, generator.uniform(0.08, 0.3), (1600, 3))


_MAKERS = {
    "plane": _plane,
    "crease": _crease,
    "corner": _corner,
    "cylinder": _cylinder,
    "ball": _ball,
    "foliage": _foliage,
}
