"""Fusing rendered (or measured) views into a truncated signed distance field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras, Rays
from .blocks import BLOCK, Lattice, SparseBlocks
from .marching_cubes import march
from .tsdf_cpu import integrate_pinhole, integrate_points
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
        _integrate(picture, blocks, truncation, sums, colour_sums)
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


def _integrate(
    picture: _Picture,
    blocks: SparseBlocks,
    truncation: float,
    sums: np.ndarray,  # (b, BLOCK^3, 2)
    colour_sums: np.ndarray,  # (b, BLOCK^3, 4)
) -> None:
    """Adds one view to all blocks."""
    lattice, camera = blocks.lattice, picture.camera
    pose = camera.camera_to_world[0].cpu().double().numpy()
    rotation, centre = pose[:3, :3], pose[:3, 3]
    counts = np.minimum(np.array(lattice.shape) - blocks.coordinates * BLOCK, BLOCK)
    low = lattice.positions(blocks.coordinates * BLOCK)
    chosen = np.flatnonzero(_may_see(picture, low, low + (counts - 1) * lattice.voxel))
    images = (picture.distance, picture.opacity, picture.trust, picture.colour)
    if camera.lenses.all_pinhole:
        integrate_pinhole(
            chosen, (low - centre) @ rotation, lattice.voxel * rotation, counts, camera.lenses.table[0, :4].cpu().numpy(),
            *images, truncation, lattice.voxel, sums, colour_sums,
        )  # fmt: skip
        return
    for block in chosen:
        indices = blocks.point_indices(block)
        inside = np.flatnonzero((indices < lattice.shape).all(1))
        points = lattice.positions(indices[inside])
        pixels, _ = camera.project(torch.from_numpy(points), torch.zeros(1, dtype=torch.int64))
        reach = np.linalg.norm(points - centre, axis=1)
        integrate_points(
            inside, pixels.detach().cpu().numpy(), reach, *images, truncation, lattice.voxel, sums[block], colour_sums[block]
        )  # fmt: skip


def _may_see(picture: _Picture, low: np.ndarray, high: np.ndarray) -> np.ndarray:  # (b, 3) each
    """(b,) False where the ball round the box low..high lies outside the cone of all the picture's rays."""
    pose = picture.camera.camera_to_world[0].cpu().double().numpy()
    offset, radius = (low + high) / 2 - pose[:3, 3], np.linalg.norm(high - low, axis=1) / 2
    distance = np.linalg.norm(offset, axis=1)
    apart = np.maximum(distance, 1e-300)
    angle = np.arccos(np.clip(offset @ pose[:3, 2] / apart, -1, 1)) - np.arcsin(np.minimum(radius / apart, 1))
    return (distance <= radius) | (angle <= np.arccos(np.clip(picture.widest, -1, 1)) + 0.02)
