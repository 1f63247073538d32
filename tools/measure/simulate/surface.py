"""Points spread evenly over all faces of a part, as if it could be seen from everywhere."""

from __future__ import annotations

import math

import numpy as np

from fieldstone.core.errors import UserError

from ..cloud import Cloud
from .caster_cpu import all_in_plane, disc_height, lobes, thread_excess
from .faces import DISC, FRUSTUM, RECTANGLE, Face, face_table
from .part import Part

__all__ = ["face_area", "sample_surface"]


def sample_surface(
    part: Part,
    count: int,
    rng: np.random.Generator,
    *,
    noise: float = 0.0,  # standard deviation along the normal
    outliers: float = 0.0,  # part of the points that is spread over the bounding box instead
) -> tuple[Cloud, np.ndarray]:
    """`count` points with normals, evenly by area, and the index in `part.faces` of each (-1: outlier)."""
    if count < 1:
        raise UserError(f"{count} points: give at least 1")
    areas = np.array([face_area(face) for face in part.faces])
    share = rng.multinomial(count, areas / areas.sum())
    points, normals, owner = [], [], []
    for i, (face, n) in enumerate(zip(part.faces, share)):
        if n:
            local, normal = _face_points(face, int(n), rng)
            turn = np.eye(3) if face.rotation is None else face.rotation
            points.append(local @ turn.T + np.asarray(face.origin, float))
            normals.append(normal @ turn.T)
            owner.append(np.full(n, i))
    points, normals, owner = np.concatenate(points), np.concatenate(normals), np.concatenate(owner)
    if noise > 0:
        points = points + normals * rng.normal(0, noise, (len(points), 1))
    if outliers > 0:
        stray = rng.random(len(points)) < outliers
        low, high = points.min(axis=0), points.max(axis=0)
        points[stray] = rng.uniform(low, high, (int(stray.sum()), 3))
        owner[stray] = -1
    order = rng.permutation(len(points))
    cloud = Cloud.from_points(points[order], part.unit, normals=normals[order])
    return cloud, owner[order]


def face_area(face: Face) -> float:
    """Area of the nominal face, cut-outs taken off; for threads as the profile's development."""
    p = face.parameters
    if face.kind == RECTANGLE:
        return 4 * p[0] * p[1]
    if face.kind == DISC:
        holes = sum(math.pi * c[4] ** 2 + 2 * c[4] * math.hypot(c[2] - c[0], c[3] - c[1]) for c in face.cuts)
        return math.pi * (p[1] ** 2 - p[0] ** 2) - holes
    if face.kind == FRUSTUM:
        mean = p[0] + p[1] * (p[2] + p[3]) / 2
        return 2 * p[5] * mean * (p[3] - p[2]) * math.hypot(1, p[1])
    flank = 2 * p[6] / math.sqrt(3)  # axial length of both flanks
    stretch = (p[1] - flank + 2 * flank) / p[
        1
    ]  # a 60-degree thread's flanks are twice as long as their axial length
    return 2 * math.pi * (p[0] - p[6] / 2) * (p[5] - p[4]) * stretch


def _face_points(face: Face, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points and unit normals in the face's frame, form error included."""
    table = face_table([face])
    row, p = table.rows[0], face.parameters
    if face.kind in (DISC, RECTANGLE):
        xy = _accepted(count, rng, lambda n: _plane_candidates(face, table, n, rng))
        z = np.zeros(count)
        if face.kind == DISC and face.form:
            z = np.array([disc_height(row, x, y) for x, y in xy])
        return np.column_stack([xy, z]), np.tile([0.0, 0.0, face.sign], (count, 1))
    if face.kind == FRUSTUM:

        def candidates(n: int) -> np.ndarray:
            angle = p[4] + rng.uniform(-p[5], p[5], n)
            z = rng.uniform(p[2], p[3], n)
            r = p[0] + p[1] * z
            keep = rng.random(n) * max(p[0] + p[1] * p[2], p[0] + p[1] * p[3]) < r
            return np.column_stack([angle, z])[keep]

        angle, z = _accepted(count, rng, candidates).T
        c, s = np.cos(angle), np.sin(angle)
        r = p[0] + p[1] * z
        if face.form:
            r = r + np.array([lobes(row, x, y) for x, y in zip(c, s)])
        normal = face.sign * np.column_stack([c, s, np.full(count, -p[1])]) / math.hypot(1, p[1])
        return np.column_stack([r * c, r * s, z]), normal
    return _thread_points(row, face, count, rng)


def _thread_points(
    row: np.ndarray, face: Face, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    radius, pitch, starts, start, low, high, depth = face.parameters

    def candidates(n: int) -> np.ndarray:
        angle = rng.uniform(-math.pi, math.pi, n)
        z = rng.uniform(low, high, n)
        r = radius - np.array(
            [thread_excess(row, radius * math.cos(a), radius * math.sin(a), h) for a, h in zip(angle, z)]
        )
        along = z - pitch * starts * (angle - start) / (2 * math.pi)
        along = np.abs((along + pitch / 2) % pitch - pitch / 2)
        on_flank = (along > pitch / 16) & (along < pitch / 16 + depth / math.sqrt(3))
        stretch = np.where(on_flank, 2.0, 1.0) * r / radius
        return np.column_stack([angle, z, r])[rng.random(n) * 2.0 < stretch]

    angle, z, r = _accepted(count, rng, candidates).T
    points = np.column_stack([r * np.cos(angle), r * np.sin(angle), z])
    step = 1e-5 * radius
    gradient = np.empty_like(points)
    for axis in range(3):
        shift = np.zeros(3)
        shift[axis] = step
        ahead = [thread_excess(row, *(q + shift)) for q in points]
        behind = [thread_excess(row, *(q - shift)) for q in points]
        gradient[:, axis] = np.subtract(ahead, behind)
    return points, gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def _plane_candidates(face: Face, table, n: int, rng: np.random.Generator) -> np.ndarray:
    p = face.parameters
    if face.kind == RECTANGLE:
        return np.column_stack([rng.uniform(-p[0], p[0], n), rng.uniform(-p[1], p[1], n)])
    angle = rng.uniform(-math.pi, math.pi, n)
    r = np.sqrt(rng.uniform(p[0] ** 2, p[1] ** 2, n))
    xy = np.column_stack([r * np.cos(angle), r * np.sin(angle)])
    if not face.cuts:
        return xy
    return xy[all_in_plane(table.rows[0], table.cuts, xy)]


def _accepted(count: int, rng: np.random.Generator, candidates) -> np.ndarray:
    """`count` rows from a generator of candidates that may give fewer than it is asked for."""
    found = candidates(int(1.2 * count) + 16)
    while len(found) < count:
        found = np.concatenate([found, candidates(count - len(found) + 64)])
    return found[:count]
