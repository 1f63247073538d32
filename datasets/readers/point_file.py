"""Sparse points beside a capture, from a .ply file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["read_points"]

_MAX_BYTES = 2 << 30


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Points (m, 3) float32 and colours (m, 3) uint8 (None if it has none) of a .ply; UserError if damaged.

    Points that are not finite are left out.
    """
    import trimesh

    if path.stat().st_size > _MAX_BYTES:
        raise UserError(f"{path}: {path.stat().st_size >> 20} MB of points; at most 2 GB are read")
    try:
        loaded = trimesh.load(path, file_type="ply", process=False)
        points = np.asarray(loaded.vertices, np.float32).reshape(-1, 3)
        colours = getattr(loaded, "colors", None)
        if colours is None or len(colours) != len(points):
            visual = getattr(loaded, "visual", None)
            colours = (
                getattr(visual, "vertex_colors", None) if getattr(visual, "kind", None) == "vertex" else None
            )
    except Exception as error:  # the parser raises nearly anything on a damaged file
        raise UserError(
            f"{path}: not readable as .ply points ({' '.join(str(error).split())[:200]})"
        ) from error
    finite = np.isfinite(points).all(axis=1)
    if colours is None or len(colours) != len(points):
        return points[finite], None
    return points[finite], np.asarray(colours, np.uint8)[finite, :3]
