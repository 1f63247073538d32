"""Fusing rendered (or measured) views into a truncated signed distance field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import torch

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras, Rays
from .blocks import BLOCK, Lattice, SparseBlocks
from .marching_cubes import march
from .views import MeshableScene, spread

__all__ = ["Fusion", "fuse"]

# Voxels whose total weight is below this are unobserved (one clear sighting of a surface weighs about 1).
LEAST_WEIGHT = 0.02

# Weight of a sighting along a surface rather than across it: its depth changes much from pixel to pixel.
LEAST_TRUST = 0.05


@dataclass(frozen=True)
class Fusion:
    """Weighted means over all views; the order of the views does not matter."""

    blocks: SparseBlocks
    """Signed distance over truncation, in [-1, 1], positive in front of the surface; NaN where no view says
    anything.
    """
    weights: np.ndarray
    """(b, B, B, B) float32 total weight."""
    colours: np.ndarray
    """(b, B, B, B, 3) float32 sRGB in [0, 1], mean over sightings within the truncation; 0 where there were
    none.
    """
    truncation: float
    """Source units, along each ray."""
    views: int

    def surface(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Zero crossing as vertices (v, 3), faces (f, 3) and vertex colours (v, 3); cells with an unobserved
        corner give none.

        Raises UserError when there is no crossing.
        """
        found = march(self.blocks, 0.0, sign=-1)
        if not len(found.faces):
            raise UserError(
                f"no surface: the depths of {self.views} views cross no voxel of the mesh box; "
                "check the box and the cameras, or train longer"
            )
        share = found.share[:, None]
        first, second = self.blocks.at(found.first, self.colours), self.blocks.at(found.second, self.colours)
        dark = [
            ~side.any(1, keepdims=True) for side in (first, second)
        ]  # no colour was ever seen at that end
        share = np.where(dark[0], 1.0, np.where(dark[1], 0.0, share))
        return found.vertices, found.faces, np.clip(first * (1 - share) + second * share, 0, 1)


def fuse(
    source: MeshableScene | Sequence[dict],
    cameras: Cameras,
    box: np.ndarray,  # (2, 3) source frame
    resolution: int,
    truncation_voxels: float = 4.0,
    z_depth: str = "z_depth_median",
    most_views: int = 200,
    longest_side: int = 512,
    progress: Callable[[float], None] | None = None,
) -> Fusion:
    """Integrates views into a sparse voxel field over `box` with `resolution` cells along its longest side.

    `source` is a scene, of which at most `most_views` evenly chosen cameras are rendered with at most
    `longest_side` pixels, or a sequence of views, one per camera and of its size: dicts with `z_depth` (h, w;
    0 = nothing seen) and optionally "opacity" (h, w) and "colour" (h, w, 3).

    After Curless and Levoy (1996), with two differences to common tools. The signed distance of a voxel is
    measured *along its ray*: the ray distance at its pixel minus the voxel's distance to the camera, so
    oblique views and wide lenses are not stretched. And each voxel keeps the true sums of weight and weighted
    value, so the result is the mean over all views whatever their order. The weight of a sighting is the
    pixel's opacity times the cosine between ray and surface, falling to 0 from one voxel behind the surface
    to the truncation; what is hidden beyond it is not touched. Space in front, and rays that hit nothing
    (weight 1 - opacity, none right beside a silhouette), count as free and carve away what other views
    hallucinate.

    Only blocks within the truncation of a seen surface point are held, at 44 bytes a voxel; a picture takes
    19 bytes a pixel. Raises UserError for views that do not fit the cameras or that see nothing inside the
    box.
    """
    box = np.asarray(box, np.float64)
    lattice = Lattice.in_box(box, resolution)
    truncation = float(truncation_voxels) * lattice.voxel
    if not 1 <= truncation_voxels <= BLOCK / 2:
        raise UserError(f"truncation of {truncation_voxels} voxels: give 1 to {BLOCK // 2}")
    pictures = _collect(source, cameras, z_depth, most_views, longest_side, progress)
    held = _blocks_seen(pictures, lattice, truncation)
    if not held.any():
        raise UserError(
            f"no surface: none of {len(pictures)} views sees one inside the mesh box "
            f"{np.round(box[0], 4).tolist()} to {np.round(box[1], 4).tolist()}; check the box or train longer"
        )
    blocks = SparseBlocks.allocate(lattice, held, np.nan)
    count = len(blocks.coordinates)
    sums = np.zeros((count, BLOCK**3, 2), np.float32)  # weight, weighted distance
    colour_sums = np.zeros((count, BLOCK**3, 4), np.float32)  # weight, weighted rgb
    for done, picture in enumerate(pictures):
        for block in range(count):
            _integrate_block(picture, blocks, block, truncation, sums[block], colour_sums[block])
        if progress is not None:
            progress(0.5 + 0.5 * (done + 1) / len(pictures))
    weight = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(weight >= LEAST_WEIGHT, sums[..., 1] / weight, np.nan)
        colours = np.nan_to_num(colour_sums[..., 1:] / colour_sums[..., :1])
    blocks.values[:] = mean.reshape(blocks.values.shape)
    shape = blocks.values.shape
    return Fusion(blocks, weight.reshape(shape), colours.reshape(*shape, 3), truncation, len(pictures))


@dataclass(frozen=True)
class _Picture:
    camera: Cameras  # one
    distance: np.ndarray  # (h, w) float32 along each pixel's ray, 0 = nothing
    opacity: np.ndarray  # (h, w) float32
    trust: np.ndarray  # (h, w) float32 in [0, 1], how well a depth holds over its pixel
    colour: np.ndarray  # (h, w, 3) uint8: a quarter of the memory, and what a mesh file holds
    widest: float  # cosine of the largest angle between a ray and the optical axis


def _collect(source, cameras, z_depth, most_views, longest_side, progress) -> list[_Picture]:
    if isinstance(source, Sequence):
        if len(source) != len(cameras):
            raise UserError(f"{len(source)} views for {len(cameras)} cameras: give one view per camera")
        return [_picture(view, cameras[i], z_depth, f"view {i}") for i, view in enumerate(source)]
    pictures = []
    chosen = spread(len(cameras), most_views)
    for done, index in enumerate(chosen):
        camera = cameras[int(index)]
        width, height = (int(v) for v in camera.sizes[0])
        scale = min(1.0, longest_side / max(width, height))
        camera = camera.resized(max(1, round(width * scale)), max(1, round(height * scale)))
        with torch.no_grad():
            pictures.append(_picture(source.render_view(camera, 0), camera, z_depth, f"view {index}"))
        if progress is not None:
            progress(0.5 * (done + 1) / len(chosen))
    return pictures


def _picture(view: dict, camera: Cameras, key: str, name: str) -> _Picture:
    width, height = (int(v) for v in camera.sizes[0])
    if key not in view:
        raise UserError(f"{name} has no {key!r} (it has {', '.join(sorted(view))}); name the one to fuse")
    depth = torch.as_tensor(view[key]).detach().cpu().double()
    if tuple(depth.shape) != (height, width):
        raise UserError(
            f"{name}: {key} is {tuple(depth.shape)}, its camera is {(height, width)} (rows, columns)"
        )
    rays = camera.image_rays(0)
    per_distance = rays.z_per_distance.cpu().double().reshape(height, width)
    seen = (depth > 0) & torch.isfinite(depth) & (per_distance > 1e-6)
    distance = torch.where(seen, depth / per_distance.clamp_min(1e-6), torch.zeros_like(depth))
    opacity = torch.as_tensor(view.get("opacity", seen)).detach().cpu().float().clamp(0, 1)
    colour = torch.as_tensor(view.get("colour", torch.zeros(height, width, 3))).detach().cpu().float()
    return _Picture(
        camera,
        np.where((opacity >= 0.5).numpy(), distance.numpy(), 0).astype(np.float32),
        np.ascontiguousarray(opacity.numpy()),
        _trust(rays, distance.numpy()),
        (colour.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().numpy(),
        float(rays.z_per_distance.min()),
    )


def _trust(rays: Rays, distance: np.ndarray) -> np.ndarray:
    """(h, w) weight in [0, 1]: the cosine between a ray and the surface through its neighbours' points."""
    from scipy.ndimage import binary_dilation

    ahead = rays.directions.cpu().double().numpy().reshape(*distance.shape, 3)
    points = ahead * distance[..., None]
    if min(distance.shape) < 2:
        return np.ones(distance.shape, np.float32)
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    cosine = np.abs((normal * ahead).sum(-1)) / np.maximum(np.linalg.norm(normal, axis=-1), 1e-30)
    trust = np.maximum(np.nan_to_num(cosine), LEAST_TRUST)
    # A pixel past a silhouette is free only to within its own width: beside a surface it says nothing.
    nothing = distance <= 0
    return np.where(nothing, ~binary_dilation(~nothing, np.ones((3, 3), bool)), trust).astype(np.float32)


def _blocks_seen(pictures: list[_Picture], lattice: Lattice, truncation: float) -> np.ndarray:
    """(bx, by, bz) bool: blocks with a point within the truncation (as a box) of a seen surface point."""
    held = np.zeros(lattice.block_grid(), bool)
    for picture in pictures:
        rays = picture.camera.image_rays(0)
        distance = picture.distance.reshape(-1)
        hit = distance > 0
        points = rays.origins.cpu().double().numpy()[hit]
        points = points + distance[hit, None] * rays.directions.cpu().double().numpy()[hit]
        place = (points - lattice.origin) / lattice.voxel
        reach = truncation / lattice.voxel
        near = ((place > -reach) & (place < np.array(lattice.shape) - 1 + reach)).all(1)
        for corner in range(
            8
        ):  # the truncation is at most half a block, so corners of its cube reach every block in it
            shift = np.array([reach if corner >> axis & 1 else -reach for axis in range(3)])
            block = np.floor((place[near] + shift) / BLOCK).astype(int)
            held[tuple(np.clip(block, 0, np.array(held.shape) - 1).T)] = True
    return held


def _integrate_block(
    picture: _Picture,
    blocks: SparseBlocks,
    block: int,
    truncation: float,
    sums: np.ndarray,
    colour_sums: np.ndarray,
) -> None:
    indices = blocks.point_indices(block)
    inside = np.flatnonzero((indices < blocks.lattice.shape).all(1))
    points = blocks.lattice.positions(indices[inside])
    centre = picture.camera.camera_to_world[0, :3, 3].cpu().double().numpy()
    if not _may_see(picture, centre, points.min(0), points.max(0)):
        return
    pixels, _ = picture.camera.project(torch.from_numpy(points), torch.zeros(1, dtype=torch.int64))
    _integrate(
        inside,
        pixels.detach().cpu().numpy(),
        np.linalg.norm(points - centre, axis=1),
        picture.distance,
        picture.opacity,
        picture.trust,
        picture.colour,
        truncation,
        blocks.lattice.voxel,
        sums,
        colour_sums,
    )


def _may_see(picture: _Picture, centre: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    """False if the ball round the box low..high lies outside the cone of all the picture's rays."""
    offset, radius = (low + high) / 2 - centre, float(np.linalg.norm(high - low)) / 2
    distance = float(np.linalg.norm(offset))
    if distance <= radius:
        return True
    ahead = float(offset @ picture.camera.camera_to_world[0, :3, 2].cpu().double().numpy()) / distance
    angle = np.arccos(np.clip(ahead, -1, 1)) - np.arcsin(radius / distance)
    return angle <= np.arccos(np.clip(picture.widest, -1, 1)) + 0.02


@numba.njit(cache=True)
def _distance_at(distance, x, y, jump):
    """Ray distance at pixel position (x, y): bilinear over pixel centres, nearest where they differ by over
    `jump`.
    """
    height, width = distance.shape
    nearest = distance[min(int(y), height - 1), min(int(x), width - 1)]
    j0, i0 = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    if nearest <= 0 or j0 < 0 or i0 < 0 or j0 + 1 >= width or i0 + 1 >= height:
        return nearest
    a, b = distance[i0, j0], distance[i0, j0 + 1]
    c, d = distance[i0 + 1, j0], distance[i0 + 1, j0 + 1]
    low, high = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
    if low <= 0 or high - low > jump:
        return nearest
    u, v = x - 0.5 - j0, y - 0.5 - i0
    return (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v


@numba.njit(cache=True, parallel=True)
def _integrate(inside, pixels, reach, distance, opacity, trust, colour, truncation, voxel, sums, colour_sums):
    """Adds one view to the points `inside` one block; `reach` is each point's distance from the camera."""
    height, width = distance.shape
    for n in numba.prange(len(inside)):
        p = inside[n]
        x, y = pixels[n, 0], pixels[n, 1]
        if not (x >= 0 and y >= 0 and x < width and y < height):  # also when NaN: no image of this point
            continue
        row, column = min(int(y), height - 1), min(int(x), width - 1)
        solid = opacity[row, column]
        surface = _distance_at(distance, x, y, truncation)
        if surface <= 0:  # this ray hits nothing
            free = (1 - solid) * trust[row, column]
            sums[p, 0] += free
            sums[p, 1] += free
            continue
        signed = surface - reach[n]
        if signed <= -truncation:
            continue
        weight = solid * trust[row, column]
        if signed < -voxel and truncation > voxel:
            weight *= (truncation + signed) / (truncation - voxel)
        sums[p, 0] += weight
        sums[p, 1] += weight * min(1.0, signed / truncation)
        if signed < truncation:
            colour_sums[p, 0] += weight
            for c in range(3):
                colour_sums[p, c + 1] += weight * colour[row, column, c] / 255
