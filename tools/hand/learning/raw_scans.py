"""Raw scans with known truth: what a scanner would give of the synthetic hands, to register and to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ....fields.articulated.geometry import subdivide
from ....fields.articulated.model import ArticulatedModel
from ....fields.articulated.model_data import ModelData
from ....fields.articulated.procedural.coarsen import coarsen
from ....fields.articulated.procedural.hand import sample_hand_pose
from ..fitting.closest import boundary_vertices, vertex_normals
from .learn import Registered

__all__ = ["RawScan", "synthetic_scans", "write_scans"]


@dataclass(frozen=True)
class RawScan:
    """One scan in a topology of its own."""

    name: str
    """SUBJECT/POSE."""
    vertices: np.ndarray
    """(n, 3) metres."""
    faces: np.ndarray
    """(f, 3); (0, 3) of a point cloud."""


def synthetic_scans(
    data: ModelData,  # the true model: a right hand in MANO's layout
    *,
    subjects: int,
    poses: int,  # of each subject
    noise: float = 5e-4,  # standard deviation of each coordinate, metres
    detail: float = 1e-3,  # metres: amplitude of what each subject has beside the shape space
    holes: int = 2,  # of each scan, one of them at the wrist
    points: int = 5000,
    kinds: tuple[str, ...] = ("points", "mesh"),  # of each subject's poses in turn
    rng: np.random.Generator,
) -> tuple[list[RawScan], Registered]:
    """Scans, and the same hands without noise and holes in the model's topology.

    "points" are drawn evenly on the surface, a "mesh" has another triangulation (split in four, then coarsened). Each
    subject's rest surface is moved along its normals by three random waves some centimetres long: no registration gets by without
    leaving the model.
    """
    normals = vertex_normals(data.template, data.faces)
    scans, truth = [], []
    for subject in range(subjects):
        waves = rng.normal(0, 2 * np.pi / 0.06, (3, 3))
        phase = rng.uniform(0, 2 * np.pi, 3)
        bump = np.sin(data.template @ waves.T + phase).sum(1) * detail / np.sqrt(1.5)
        own = data.replace(template=data.template + bump[:, None] * normals)
        model = ArticulatedModel(own, dtype=torch.float64)
        shape = torch.from_numpy(rng.normal(size=data.shape_basis.shape[2]))
        for pose in range(poses):
            angles = torch.from_numpy(sample_hand_pose(rng, root=True))
            move = torch.from_numpy(rng.normal(0, 0.1, 3))
            vertices = model(shape, angles, move, pose_format="axis_angle").vertices.numpy().reshape(-1, 3)
            truth.append(vertices)
            name = f"subject{subject:02d}/pose{pose:02d}"
            scans.append(
                _scan(name, own, vertices, kinds[pose % len(kinds)] == "mesh", noise, holes, points, rng)
            )
    names = tuple(scan.name for scan in scans)
    posed = np.array(truth)
    return scans, Registered(posed, np.repeat(np.arange(subjects), poses), names, truth=posed)


def write_scans(scans: list[RawScan], folder: str | Path) -> None:
    """One .ply file a scan: what `hand learn` reads."""
    import trimesh

    for scan in scans:
        path = Path(folder) / f"{scan.name}.ply"
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(scan.faces):
            trimesh.Trimesh(scan.vertices, scan.faces, process=False).export(path)
        else:
            trimesh.PointCloud(scan.vertices).export(path)


def _scan(
    name: str,
    data: ModelData,
    vertices: np.ndarray,
    mesh: bool,
    noise: float,
    holes: int,
    points: int,
    rng: np.random.Generator,
) -> RawScan:
    """The surface `vertices` with `data.faces` in another triangulation or as points, with holes and noise."""
    if mesh:
        fine = subdivide(data.replace(template=vertices), rule="midpoint")
        places, faces = coarsen(fine.template, fine.faces, np.full(len(fine.template), 3.6e-3))
    else:
        places, faces = _drawn(vertices, data.faces, points, rng), np.zeros((0, 3), np.int64)
    centres = vertices[rng.integers(0, len(vertices), holes)]
    centres[:1] = vertices[rng.choice(boundary_vertices(data.faces), min(holes, 1))]
    radii = rng.uniform(0.006, 0.012, holes)
    apart = np.linalg.norm(places[:, None] - centres, axis=2)
    keep = (apart > radii).all(1)
    number = np.cumsum(keep) - 1
    faces = number[faces[keep[faces].all(1)]]
    return RawScan(name, places[keep] + rng.normal(0, noise, (int(keep.sum()), 3)), faces)


def _drawn(vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) points drawn evenly on a surface."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    face = rng.choice(len(faces), count, p=area / area.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u)[:, None], np.where(u + v > 1, 1 - v, v)[:, None]
    return a[face] + u * (b - a)[face] + v * (c - a)[face]
