"""Where outlines pass between neighbouring pixels: silhouette edges, and how far along they cross."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from .fragments import Fragments

__all__ = ["Crossings", "MeshEdges", "crossings", "mesh_edges", "visible_ends"]


class MeshEdges(NamedTuple):
    """The edges of a mesh: its topology, which stays when vertices move."""

    ends: Tensor
    """(e, 2) int64 vertices, the lower first."""
    faces: Tensor
    """(e, 2) int64; the second is -1 at a boundary. An edge of more than two faces is there once for each."""
    forward: Tensor
    """(e, 2) bool: whether the face goes round from the lower to the higher vertex."""


class Crossings(NamedTuple):
    """n places where the outline of a nearer surface passes between two pixels that touch."""

    inner: Tensor
    """(n,) int64 row-major pixel on the outline's inner side, which shows the nearer surface."""
    outer: Tensor
    """(n,) int64 its neighbour, which shows something farther away or nothing."""
    share: Tensor
    """(n,) in [0, 1]: how far from the inner pixel's centre to the outer's; differentiable with respect to vertices."""
    ends: Tensor
    """(n, 2) int64 the vertices of the outline's edge."""


def mesh_edges(faces: Tensor) -> MeshEdges:
    """Depends on the faces alone: compute it once for a mesh that moves. Corners that only coincide in space are different: weld them."""
    faces = faces.long()
    if not len(faces):
        none = faces.new_zeros(0, 2)
        return MeshEdges(none, none, none.bool())
    first, second = faces[:, [1, 2, 0]].reshape(-1), faces[:, [2, 0, 1]].reshape(-1)
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    count = int(high.max()) + 1
    key, order = (low * count + high).sort(stable=True)
    same = key[1:] == key[:-1]
    no = same.new_zeros(1)
    as_next, as_before = torch.cat([same, no]), torch.cat([no, same])
    pair = as_next & ~as_before
    pair &= ~torch.cat([as_next[1:], no])  # with its successor, and with no third
    second_of_pair = torch.cat([no, pair[:-1]])
    rows = torch.nonzero(~second_of_pair)[:, 0]
    paired = pair[rows]
    one = order[rows]
    other = torch.where(paired, order[(rows + 1).clamp_max(len(order) - 1)], one)
    forward = first < second
    return MeshEdges(
        torch.stack([low[one], high[one]], 1),
        torch.stack([one // 3, torch.where(paired, other // 3, -1)], 1),
        torch.stack([forward[one], forward[other]], 1),
    )


@torch.no_grad()
def _silhouette(vertices: Tensor, faces: Tensor, edges: MeshEdges, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of `edges` that visibility ends at, and for each whether its first face lies on the positive side of ends[0] x ends[1].

    At a fold both faces lie on one side of the edge as seen from the origin; a boundary has but one.
    """
    a, b, c = (vertices[faces[:, k].long()].double() - origin for k in range(3))
    volume = (a * torch.linalg.cross(b, c)).sum(1)
    # ends[0] x ends[1] . third corner has the sign of the face's volume if the face goes round that way
    one = (volume[edges.faces[:, 0]] > 0) == edges.forward[:, 0]
    other = (volume[edges.faces[:, 1].clamp_min(0)] > 0) == edges.forward[:, 1]
    rows = torch.nonzero((edges.faces[:, 1] < 0) | (one == other))[:, 0]
    return rows, one[rows]


def visible_ends(vertices: Tensor, ends: Tensor, found: Fragments) -> tuple[Tensor, Tensor]:
    """Pixels (n, 2) of both ends of edges; an end behind the camera is moved along its edge to just in front of it.

    NaN where an end has no image. Differentiable with respect to vertices.
    """
    camera = found.view.camera
    pose = camera.camera_to_world[0]
    points = vertices[ends]
    z = (points.detach().double() - pose[:3, 3]) @ pose[:3, 2]
    least = 1e-3 * z.amax(1, keepdim=True)
    if camera.models[0] != "EQUIRECTANGULAR" and not bool((z >= least).all()):
        run = z - z.flip(1)
        share = torch.where(z < least, (z - least) / torch.where(run == 0, 1, run), 0).clamp(0, 1)
        points = points + share[..., None].to(points.dtype) * (points.flip(1) - points)
    one = torch.zeros(1, dtype=torch.int64, device=ends.device)
    return camera.project(points[:, 0], one)[0], camera.project(points[:, 1], one)[0]


def _pairs(first: Tensor, second: Tensor, axis: int, sides: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Segments (s, 2) against the lines of pixel centres along `axis` (0: rows of the image): the segment, the pixel (column, row)
    before the crossing, and the pixel after it.

    Only segments steeper than 45 degrees to the lines: the others cross the lines of the other axis, and with both an outline's
    movement would count twice.
    """
    across = 1 - axis
    run, rise = (second - first)[:, axis].abs(), (second - first)[:, across].abs()
    steep = run < rise if axis == 0 else run <= rise
    low, high = (
        torch.minimum(first[:, across], second[:, across]),
        torch.maximum(first[:, across], second[:, across]),
    )
    begin = (low - 0.5).ceil().clamp(0, sides[across])
    end = ((high - 0.5).ceil() - 1).clamp(-1, sides[across] - 1)
    count = torch.where(steep, end - begin + 1, 0).clamp_min(0).nan_to_num(0).long()
    segment = torch.repeat_interleave(torch.arange(len(first), device=first.device), count)
    line = (
        torch.arange(len(segment), device=first.device)
        - (count.cumsum(0) - count)[segment]
        + begin.nan_to_num(0).long()[segment]
    )
    share = (line + 0.5 - first[segment, across]) / (second - first)[segment, across]
    place = first[segment, axis] + share * (second - first)[segment, axis]
    before = (place - 0.5).floor()
    kept = torch.nonzero((before >= 0) & (before < sides[axis] - 1))[:, 0]
    segment, line, before = segment[kept], line[kept], before[kept].long()
    pixels = [torch.stack([each, line] if axis == 0 else [line, each], 1) for each in (before, before + 1)]
    return segment, pixels[0], pixels[1]


def crossings(
    found: Fragments,  # of a frame; the first layer counts
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3)
    edges: MeshEdges | None = None,  # of `mesh_edges`, computed if None
) -> Crossings:
    """The silhouette edges between horizontally and vertically neighbouring pixels, at most one (the nearest) a pair.

    All edges of the mesh are looked at and followed from pixel to pixel, so that outlines are found however small the
    triangles are (Laine et al. 2020, section 3.6, look among the edges of the pixel's own face, which misses those). An edge counts where
    the pixel on its inner side shows something nearer than the other, and the other shows something behind the edge. Where exactly
    it crosses is computed between the rays of the two pixels, exactly without distortion and to first order in a pixel with.
    """
    if len(found.view.shape) != 2:
        raise UserError("outlines need a whole frame: fragments of pixels or rays have no neighbours")
    edges = mesh_edges(faces) if edges is None else edges
    height, width = found.view.shape
    origins, directions, z = found.view.rays
    origin = origins[0]
    if found.view.is_pinhole_frame:  # at z = 1 rays between two pixels are interpolated exactly
        directions = directions / z[:, None]
    with torch.no_grad():
        rows, positive = _silhouette(vertices, faces, edges, origin)
        ends = edges.ends[rows]
        projected = visible_ends(vertices.detach().double(), ends, found)
        parts = [_pairs(*projected, axis, (width, height)) for axis in range(2)]
        segment = torch.cat([part[0] for part in parts])
        before, after = (torch.cat([p[k][:, 1] * width + p[k][:, 0] for p in parts]) for k in (1, 2))
        slot = before * 2 + torch.cat([torch.full_like(part[0], axis) for axis, part in enumerate(parts)])
        p, q = (vertices.detach()[ends[segment, k]].double() - origin for k in range(2))
        plane = torch.linalg.cross(p, q)
        left, right = (plane * directions[before]).sum(1), (plane * directions[after]).sum(1)
        is_left = (left > 0) == positive[segment]  # on the side of the face, or faces, at the edge
        inner, outer = torch.where(is_left, before, after), torch.where(is_left, after, before)
        share = left / (left - right)
        at = torch.nn.functional.normalize(
            directions[before] + share[:, None] * (directions[after] - directions[before]), dim=1
        )
        along = torch.linalg.cross(at, q - p)
        distance = (torch.linalg.cross(p, q - p) * along).sum(1) / along.square().sum(1)
        seen = torch.where(found.mask[..., 0], found.distance[..., 0], torch.inf).reshape(-1).double()
        good = (left * right <= 0) & (seen[inner] < seen[outer]) & (distance > 0) & (distance <= seen[outer])
        kept = torch.nonzero(good)[:, 0]
        kept = kept[distance[kept].argsort(stable=True)]
        kept = kept[slot[kept].argsort(stable=True)]  # by pair, and the nearest first within
        fresh = torch.ones_like(kept, dtype=torch.bool)
        fresh[1:] = slot[kept[1:]] != slot[kept[:-1]]
        kept = kept[fresh]
        inner, outer, ends = inner[kept], outer[kept], ends[segment[kept]]
    p, q = (vertices[ends[:, k]].double() - origin for k in range(2))
    plane = torch.linalg.cross(p, q)
    start, end = (plane * directions[inner]).sum(1), (plane * directions[outer]).sum(1)
    return Crossings(inner, outer, (start / (start - end)).to(vertices.dtype), ends)
