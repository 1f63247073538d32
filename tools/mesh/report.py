"""What a mesh is, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .clean import component_labels

if TYPE_CHECKING:
    import trimesh

__all__ = ["describe", "mesh_report"]

KEY = "fieldstone"
"""Where the report stands in `mesh.metadata`."""


def describe(vertices: np.ndarray, faces: np.ndarray) -> dict:
    """Plain data: faces, vertices, watertight, components, area, volume (None unless watertight), bounds,
    unit.

    Lengths are in the source unit. Watertight: every edge is used by exactly two faces, in opposite
    directions.
    """
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = len(vertices)
    forward = np.sort(ends[:, 0].astype(np.int64) * count + ends[:, 1])
    backward = np.sort(ends[:, 1].astype(np.int64) * count + ends[:, 0])
    watertight = bool(len(faces)) and bool((forward == backward).all() and (np.diff(forward) > 0).all())
    centre = vertices.mean(0)
    corners = (vertices - centre)[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    volume = float(np.einsum("ij,ij->", corners[:, 0], normal) / 6)
    return {
        "faces": len(faces),
        "vertices": count,
        "watertight": watertight,
        "components": int(component_labels(faces, count).max()) + 1,
        "area": float(np.linalg.norm(normal, axis=1).sum() / 2),
        "volume": volume if watertight else None,
        "bounds": [vertices.min(0).tolist(), vertices.max(0).tolist()],
        "unit": "source",
    }


def mesh_report(mesh: trimesh.Trimesh) -> list[str]:
    """Lines for a person, from a mesh that `export_mesh` made or any other."""
    facts = mesh.metadata.get(KEY) or describe(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    low, high = np.array(facts["bounds"])
    lines = [
        f"{facts['faces']:,} faces, {facts['vertices']:,} vertices, {facts['components']} component(s)",
        "watertight, volume {:.6g} cubic units".format(facts["volume"])
        if facts["watertight"]
        else "not watertight",
        f"bounds {np.round(low, 4).tolist()} to {np.round(high, 4).tolist()} in the source frame and unit",
    ]
    return lines + list(facts.get("notes", []))
