"""How far a mesh is from the true surface.

Two means, because each hides what the other shows: *accuracy*, from the mesh to the truth, sees floaters and
bumps; *completeness*, from the truth to the mesh, sees holes and missing parts. Both are taken over points
spread uniformly by area, so neither depends on how either surface is cut into triangles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldstone.core.errors import UserError

if TYPE_CHECKING:
    import trimesh

__all__ = ["MeshError", "distance_to_points", "mesh_error", "sample_mesh"]

_PROJECTED = 4
"""Nearest mesh samples whose triangles are measured exactly for one point."""


@dataclass(frozen=True)
class MeshError:
    """Distances in source units; percentages of `scene_size`, the side of the cube that holds the scene."""

    accuracy: float
    """Mean distance from the mesh to the true surface."""
    completeness: float
    """Mean distance from the true surface to the mesh."""
    accuracy_percent: float
    completeness_percent: float
    accuracy_worst: float
    """99th percentile of the distances behind `accuracy`."""
    completeness_worst: float
    """99th percentile of the distances behind `completeness`."""
    mean_percent: float
    """Mean of the two percentages: the one number to quote as the mesh error."""
    scene_size: float
    mesh_points: int
    """How many points on the mesh were measured."""
    true_points: int

    def to_json(self) -> dict:
        return asdict(self)


def mesh_error(
    mesh: trimesh.Trimesh,
    true_distance: Callable[[np.ndarray], np.ndarray],  # (n, 3) -> (n,), sign ignored
    true_points: np.ndarray,  # (m, 3) uniform by area over the true surface, or the part of it that counts
    scene_size: float,
    generator: np.random.Generator,
    *,
    samples: int = 50_000,
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> MeshError:
    """Mean distances between a mesh and the true surface, both ways. All in one frame and unit.

    `true_distance` is the distance of any point to the true surface (`distance_to_points` makes one from a
    dense cloud). `scene_size` is the side of the scene's cube (twice an `Extent`'s half side). `keep(points,
    normals)`, both (n, 3) -> (n,) bool, restricts the accuracy to mesh points for which it is True, e.g. to
    those some camera sees; without it all of the mesh counts, hidden inner walls too.

    Raises `UserError` for a mesh without area, no true points, or when `keep` leaves nothing.
    """
    true_points = np.asarray(true_points, np.float64)
    if true_points.ndim != 2 or true_points.shape[1:] != (3,) or not len(true_points):
        raise UserError(
            f"mesh_error: the true points must be (m, 3) with m at least 1, got {true_points.shape}"
        )
    if not scene_size > 0:
        raise UserError(f"mesh_error: the scene size must be positive, got {scene_size}")
    points, faces = sample_mesh(mesh, samples, generator)
    kept = points
    if keep is not None:
        kept = points[keep(points, mesh.face_normals[faces])]
        if not len(kept):
            raise UserError(
                f"mesh_error: none of {samples} points on the mesh is to be kept; is it in another frame?"
            )
    to_truth = np.abs(true_distance(kept))
    to_mesh = _distance_to_mesh(mesh, points, faces, true_points)
    accuracy, completeness = float(to_truth.mean()), float(to_mesh.mean())
    percent = 100.0 / scene_size
    return MeshError(
        accuracy=accuracy,
        completeness=completeness,
        accuracy_percent=accuracy * percent,
        completeness_percent=completeness * percent,
        accuracy_worst=float(np.quantile(to_truth, 0.99)),
        completeness_worst=float(np.quantile(to_mesh, 0.99)),
        mean_percent=(accuracy + completeness) / 2 * percent,
        scene_size=float(scene_size),
        mesh_points=len(kept),
        true_points=len(true_points),
    )


def distance_to_points(cloud: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A `true_distance` from points (m, 3) on the true surface; too large by at most their spacing."""
    from scipy.spatial import cKDTree

    tree = cKDTree(np.asarray(cloud, np.float64))
    return lambda points: tree.query(points)[0]


def sample_mesh(
    mesh: trimesh.Trimesh, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) spread uniformly by area over the mesh, and the face (count,) each lies on."""
    areas = np.asarray(mesh.area_faces, np.float64)
    total = float(areas.sum()) if len(areas) else 0.0
    if not (np.isfinite(total) and total > 0):
        raise UserError(f"a mesh of {len(areas)} faces and area {total:g} has no surface to sample")
    # Stratified: one point in each of `count` equal shares of the area, which halves the noise of a mean.
    share = (np.arange(count) + generator.random(count)) / count * total
    faces = np.minimum(np.searchsorted(np.cumsum(areas), share, side="right"), len(areas) - 1)
    corners = np.asarray(mesh.triangles, np.float64)[faces]
    u, v = generator.random((2, count, 1))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    return corners[:, 0] + u * (corners[:, 1] - corners[:, 0]) + v * (corners[:, 2] - corners[:, 0]), faces


def _distance_to_mesh(
    mesh: trimesh.Trimesh,
    samples: np.ndarray,  # (s, 3) on the mesh
    sample_faces: np.ndarray,  # (s,)
    points: np.ndarray,  # (m, 3)
) -> np.ndarray:
    """Distance (m,) of points to the mesh: exact to the triangles of the nearest samples, centroids and
    corners.

    An upper bound; it differs from the truth only where the nearest triangle has none of the nearest of
    these, which takes a long thin triangle. Far quicker and lighter than an exact search, which trimesh does
    with an r-tree.
    """
    from scipy.spatial import cKDTree
    from trimesh.triangles import closest_point

    triangles = np.asarray(mesh.triangles, np.float64)
    every = np.arange(len(triangles))
    seeds = np.concatenate([samples, triangles.mean(1), triangles.reshape(-1, 3)])
    seed_faces = np.concatenate([sample_faces, every, np.repeat(every, 3)])
    distance, nearest = cKDTree(seeds).query(points, k=min(_PROJECTED, len(seeds)))
    nearest = nearest.reshape(len(points), -1)
    best = distance.reshape(len(points), -1)[:, 0]
    for column in seed_faces[nearest].T:
        on_face = closest_point(triangles[column], points)
        best = np.fmin(best, np.linalg.norm(on_face - points, axis=1))
    return best
