"""Edges that blend, so that a picture's loss moves outlines."""

from __future__ import annotations

from torch import Tensor

from fieldstone.core.errors import UserError

from .contour import MeshEdges, crossings
from .fragments import Fragments

__all__ = ["antialias"]


def antialias(
    colour: Tensor,  # (h, w, c) or (h, w)
    found: Fragments,  # of the frame; the first layer counts
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3)
    edges: MeshEdges | None = None,  # of `mesh_edges`: compute it once where the topology stays
) -> Tensor:  # like colour
    """Blends pixels across silhouettes by how much of them the nearer surface covers (Laine et al. 2020, section 3.6).

    Where the outline crosses the line between two pixel centres short of the middle, the nearer pixel takes that much of
    its neighbour's colour; beyond the middle, the farther one takes of the nearer's. Differentiable with respect to colour, and to
    the vertices of silhouette edges, which is where a silhouette's loss gets its gradient (`contour.crossings` finds them).
    """
    shape = found.view.shape
    if colour.shape[:2] != shape or colour.ndim not in (2, 3):
        raise UserError(
            f"antialias: colour of shape {tuple(colour.shape)} for a frame of {shape}; give (h, w, c) or (h, w)"
        )
    inner, outer, share, _ = crossings(found, vertices, faces, edges)
    flat = colour.reshape(shape[0] * shape[1], -1)
    difference = flat[inner] - flat[outer]
    share = share.to(flat.dtype)[:, None] - 0.5
    flat = flat.index_add(0, outer, share.clamp_min(0) * difference)
    flat = flat.index_add(0, inner, share.clamp_max(0) * difference)
    return flat.reshape(colour.shape)
