"""From what a reader found to a `Capture`: poses checked, images matched to their intrinsics, splits and
extent."""

from __future__ import annotations

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ..render.cameras import CAMERA_MODELS, Cameras
from .agreement import check_depths, check_points
from .capture import Capture
from .extent import Extent, extent_from_cameras
from .image_file import ImageHeader, read_header
from .images import Images, ImageSource, Masks, ZDepths
from .reading import Frame, Lens, Reading, listed
from .splits import divided

__all__ = ["assemble"]

_ROUNDING_PIXELS = 1.5  # an image_8 folder's sizes are rounded, so a shape may be off by this much
_POSE_ERROR = 1e-3


def assemble(reading: Reading, downscale: float = 1, holdout: int | None = None) -> Capture:
    """The capture of `reading` with images `downscale` times smaller. Reads image headers, not pixels.

    Each image is matched to the size its intrinsics are for. A different size of the same shape rescales
    the intrinsics (noted); another shape is a UserError. EXIF orientation: structure from motion and the
    trainers that set these formats read pixels as stored, so an image is turned only if its turned size
    fits the intrinsics and its stored size does not (noted).
    """
    if not downscale >= 1:
        raise UserError(f"downscale {downscale}: give 1 or more")
    frames = reading.frames
    if len(frames) < 2:
        raise UserError(
            f"{reading.folder}: {len(frames)} usable image{'s' * (len(frames) != 1)} "
            f"of format {reading.format}; at least 2 with poses are needed"
            + "".join(f"; {note}" for note in reading.notes)
        )
    for frame in frames:
        _check_pose(frame, reading)
    notes = list(reading.notes)
    headers = [read_header(frame.image) for frame in frames]
    upright = [_turned_to_fit(frame, header) for frame, header in zip(frames, headers)]
    _note_exif(frames, headers, upright, notes)
    cameras = _cameras(frames)
    sizes = np.array([_size(header, turned) for header, turned in zip(headers, upright)])
    cameras = _fitted(cameras, sizes, frames, notes)
    if downscale > reading.reduced:
        cameras = cameras.downscaled(downscale / reading.reduced)
    sizes = cameras.sizes.numpy()

    def source(path, i: int) -> ImageSource:
        return ImageSource(path, int(sizes[i, 0]), int(sizes[i, 1]), upright[i])

    if reading.points is not None:
        check_points(reading.points, cameras, reading.points_of or str(reading.folder))
    images = Images([source(frame.image, i) for i, frame in enumerate(frames)])
    masks = z_depths = None
    if any(frame.mask for frame in frames):
        for frame, header, turned in zip(frames, headers, upright):
            _check_mask(frame, header, turned)
        files = [source(frame.mask, i) if frame.mask else None for i, frame in enumerate(frames)]
        masks = Masks(files, sizes, reading.mask_marks_used)
    if any(frame.z_depth for frame in frames):
        files = [source(frame.z_depth, i) if frame.z_depth else None for i, frame in enumerate(frames)]
        z_depths = ZDepths(files, sizes, [frame.z_depth_unit for frame in frames])
    cut_out = images.has_alpha and _has_transparent(images, reading)
    splits = divided(len(frames), reading.splits, holdout, notes)
    if len(splits["train"]) == 0:
        raise UserError(f"{reading.folder}: no frame is left to train on; use another holdout than {holdout}")
    capture = Capture(
        name=reading.name,
        folder=reading.folder,
        format=reading.format,
        cameras=cameras,
        images=images,
        names=tuple(frame.name for frame in frames),
        splits=splits,
        masks=masks,
        z_depths=z_depths,
        times=_times(reading),
        points=reading.points,
        point_colours=reading.point_colours,
        point_labels=reading.point_labels,
        label_names=reading.label_names,
        labels=reading.labels,
        background=reading.background if images.has_alpha else None,
        colour_space="linear" if any(header.linear for header in headers) else "srgb",
        extent=_extent(reading, cameras, cut_out, notes),
        notes=notes,
    )
    check_depths(capture)
    return capture


def _check_pose(frame: Frame, reading: Reading) -> None:
    pose = frame.camera_to_world
    if not np.isfinite(pose).all():
        raise UserError(
            f"{reading.folder}: the pose of frame {frame.name} has a number that is not finite; remove it"
        )
    rotation = pose[:3, :3]
    error = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if error > _POSE_ERROR or np.linalg.det(rotation) < 0:
        raise UserError(
            f"{reading.folder}: the pose of frame {frame.name} is no rigid motion "
            f"(rotation off by {error:.3g}, determinant {np.linalg.det(rotation):.6g}); "
            "remove scale or reflection from it"
        )


def _turned_to_fit(frame: Frame, header: ImageHeader) -> bool:
    if header.orientation < 5 or not frame.lens.exact:
        return False
    stored, upright = (header.width, header.height), header.upright_size()
    return not _same_shape(stored, frame.lens) and _same_shape(upright, frame.lens)


def _same_shape(size: tuple[int, int], lens: Lens) -> bool:
    """Whether an image of `size` is the lens's image at another resolution, up to rounding of its sides."""
    scale = max(size[0] / lens.width, size[1] / lens.height)
    return all(
        abs(scale * a - b) <= _ROUNDING_PIXELS for a, b in ((lens.width, size[0]), (lens.height, size[1]))
    )


def _note_exif(
    frames: list[Frame], headers: list[ImageHeader], upright: list[bool], notes: list[str]
) -> None:
    turned = [frame.name for frame, used in zip(frames, upright) if used]
    kept = [f.name for f, h, used in zip(frames, headers, upright) if h.orientation != 1 and not used]
    if turned:
        notes.append(f"EXIF orientation applied, as the intrinsics fit the turned image: {listed(turned)}")
    if kept:
        notes.append(f"EXIF orientation ignored, as the intrinsics fit the pixels as stored: {listed(kept)}")


def _cameras(frames: list[Frame]) -> Cameras:
    params = np.zeros((len(frames), 12))
    for i, frame in enumerate(frames):
        model, values = frame.lens.model, frame.lens.params
        if model not in CAMERA_MODELS:
            raise UserError(f"{frame.name}: unknown camera model {model}; known: {', '.join(CAMERA_MODELS)}")
        if len(values) != CAMERA_MODELS[model] or not np.isfinite(values).all():
            raise UserError(
                f"{frame.name}: {model} takes {CAMERA_MODELS[model]} finite numbers, found {list(values)}"
            )
        params[i, : len(values)] = values
    return Cameras(
        tuple(frame.lens.model for frame in frames),
        torch.from_numpy(params),
        torch.tensor([[frame.lens.width, frame.lens.height] for frame in frames]),
        torch.from_numpy(np.stack([frame.camera_to_world for frame in frames]).astype(np.float64)),
    )


def _fitted(
    cameras: Cameras,
    sizes: np.ndarray,  # (n, 2) of the image files, turned where they are
    frames: list[Frame],
    notes: list[str],
) -> Cameras:
    differ = (cameras.sizes.numpy() != sizes).any(axis=1)
    if not differ.any():
        return cameras
    for i in np.flatnonzero(differ):
        lens = frames[i].lens
        if not _same_shape(tuple(sizes[i]), lens):
            raise UserError(
                f"{frames[i].image}: the image is {sizes[i, 0]} x {sizes[i, 1]} pixels, its intrinsics are "
                f"for {lens.width} x {lens.height}, another shape; use the images the poses were made from"
            )
    first = int(np.flatnonzero(differ)[0])
    lens = frames[first].lens
    notes.append(
        f"{differ.sum()} images differ in size from their intrinsics, which are rescaled: "
        f"{frames[first].name} is {sizes[first, 0]} x {sizes[first, 1]}, "
        f"its intrinsics are for {lens.width} x {lens.height}"
    )
    return cameras.resized(sizes[:, 0], sizes[:, 1])


def _size(header: ImageHeader, turned: bool) -> tuple[int, int]:
    return header.upright_size() if turned else (header.width, header.height)


def _check_mask(frame: Frame, image: ImageHeader, turned: bool) -> None:
    if frame.mask is None:
        return
    mask, wanted = _size(read_header(frame.mask), turned), _size(image, turned)
    # A reduced image folder often comes with the masks of the full images.
    if mask not in (wanted, (frame.lens.width, frame.lens.height)):
        raise UserError(
            f"{frame.mask}: the mask is {mask[0]} x {mask[1]} pixels, its image {wanted[0]} x {wanted[1]}; "
            "they must be the same size"
        )


def _has_transparent(images: Images, reading: Reading) -> bool:
    """Whether a few sampled frames have transparent pixels; UserError if they have nothing else."""
    sample = np.unique(np.linspace(0, len(images) - 1, 4).astype(int))
    alphas = [images.uint8(i)[..., 3] for i in sample]
    if all(alpha.max() == 0 for alpha in alphas):
        names = listed([reading.frames[i].name for i in sample], len(sample))
        raise UserError(
            f"{reading.folder}: the images are fully transparent (looked at {names}); "
            "render them again with their subject"
        )
    return any(alpha.min() < 255 for alpha in alphas)


def _times(reading: Reading) -> np.ndarray | None:
    times = [frame.time for frame in reading.frames]
    if all(time is None for time in times):
        return None
    for frame in reading.frames:
        if frame.time is None or not 0 <= frame.time <= 1:  # also refuses NaN
            raise UserError(
                f"{reading.folder}: frame {frame.name} has time {frame.time}; each needs one in [0, 1]"
            )
    return np.array(times, np.float32)


def _extent(reading: Reading, cameras: Cameras, cut_out: bool, notes: list[str]) -> Extent:
    if reading.extent is not None:
        if _seen(reading.extent, cameras):
            return reading.extent
        notes.append(
            f"most cameras do not look at the format's box (half side {reading.extent.half_side:.4g}); "
            "the extent is chosen from the cameras instead"
        )
    lenses, lens_of_frame = np.unique(cameras.lens_index().numpy(), return_inverse=True)
    tangents = np.array([_half_width(cameras, int(i)) for i in lenses])[lens_of_frame]
    return extent_from_cameras(
        cameras.camera_to_world.numpy(), tangents, reading.points, reading.near_far, cut_out
    )


def _half_width(cameras: Cameras, i: int) -> float:
    """Tangent of half the narrower field of view, at most 1 (90 degrees)."""
    width, height = cameras.size(i)
    edges = torch.tensor([[0, height / 2], [width, height / 2], [width / 2, 0], [width / 2, height]]).double()
    directions = cameras.unproject(edges, torch.tensor([i]))
    tangent = directions[:, :2].norm(dim=1) / directions[:, 2].clamp_min(1e-6)
    tangent = torch.nan_to_num(tangent, nan=1.0).clamp(max=1.0)
    return float(torch.minimum(tangent[:2].mean(), tangent[2:].mean()))


def _seen(extent: Extent, cameras: Cameras) -> bool:
    """Whether at least half of the optical axes pass through the cube, ahead of the camera."""
    origins, directions = cameras.positions.numpy(), cameras.forward.numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        a = (extent.centre - extent.half_side - origins) / directions
        b = (extent.centre + extent.half_side - origins) / directions
    enter, leave = np.nanmax(np.minimum(a, b), axis=1), np.nanmin(np.maximum(a, b), axis=1)
    return bool(np.mean((leave >= enter) & (leave > 0)) >= 0.5)
