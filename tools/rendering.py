"""A run's scene rendered along a camera path."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ..render.cameras import Cameras
from ..render.cameras.camera_path_json import read_camera_path
from ..render.cameras.paths import dataset_path, orbit, spiral
from .evaluation import split_indices
from .movie import check_target, movie
from .pictures import OUTPUTS, output_picture
from .training.run import Run

__all__ = ["PATHS", "PathViews", "at_time", "path_views", "render_path"]

PATHS = {"orbit": orbit, "spiral": spiral, "interpolate": dataset_path}
"""Paths made from the training cameras, by the name that `--path` takes; "dataset" and files come beside
them.
"""

_FRAMES = 120
_FPS = 30.0


class PathViews(NamedTuple):
    """What to render."""

    cameras: Cameras
    """One a frame, source frame."""
    names: tuple[str, ...] | None
    """Of the frames, where they have one."""
    fps: float
    """Frames a second that the path itself asks for."""


def path_views(
    run: Run,
    path: object,
    *,
    frames: int | None = None,
    split: str | None = None,
    width: int | None = None,
    height: int | None = None,
    downscale: float = 1,
    transform: str | os.PathLike | None = None,
) -> PathViews:
    """The cameras of `path`, as `render_views` takes it. `UserError` for a path that is none."""
    capture = run.cameras_only
    training = capture.cameras[capture.splits["train"]]
    names, fps = None, _FPS
    made = path
    if isinstance(path, str) and path in PATHS:
        made = PATHS[path](frames=_FRAMES if frames is None else frames)
    elif frames is not None:
        raise UserError(
            f"--frames {frames}: only the paths {', '.join(PATHS)} have a number of frames to choose"
        )
    if split is not None and path != "dataset":
        raise UserError(f"--split {split}: goes with --path dataset only")
    if hasattr(made, "cameras") and not isinstance(made, Cameras):
        size = _both_sides(training, width, height)
        # the cube of an unbounded capture has its middle between cameras and subject: no place to look at
        centre = capture.extent.centre if capture.extent.bounded else None
        cameras = made.cameras(training, extent_centre=centre, width=size[0], height=size[1])
    else:
        if isinstance(made, Cameras):
            cameras = made
        elif made == "dataset":
            _, indices = split_indices(capture, split)
            cameras, names = capture.cameras[indices], tuple(capture.names[i] for i in indices)
        elif isinstance(made, (str, os.PathLike)) and Path(made).suffix.lower() == ".json":
            read = read_camera_path(made, transform=None if transform is None else _transform(transform))
            cameras, fps = read.cameras, read.fps
        else:
            raise UserError(
                f"camera path {str(path)!r}: give {', '.join(PATHS)}, dataset, or a camera path file *.json"
            )
        if width is not None or height is not None:
            cameras = cameras.resized(*_both_sides(cameras, width, height))
    if downscale != 1:
        cameras = cameras.downscaled(downscale)
    return PathViews(cameras, names, fps)


def render_path(
    run: Run,
    path: object,
    out: Path,
    *,
    fps: float | None = None,
    output: str = "colour",
    background: str | None = None,
    motion: str | os.PathLike | None = None,
    time: float | None = None,
    on_frame: Callable[[int, int], None] | None = None,
    **options: object,
) -> None:
    """Renders `path_views(run, path, **options)` into `out`; see `api.render_views`."""
    check_target(out)
    if output not in OUTPUTS:
        raise UserError(f"unknown output {output!r}; there are {', '.join(OUTPUTS)}")
    views = path_views(run, path, **options)
    sizes = {tuple(size) for size in views.cameras.sizes.tolist()}
    if out.suffix and len(sizes) > 1:
        raise UserError(
            f"{out}: the views have {len(sizes)} sizes and a video has one; give --width and --height, "
            "or a folder as --out"
        )
    scene = run.scene()
    if motion is not None:
        if not hasattr(scene, "show_motion"):
            raise UserError(f"--motion {motion}: only a run of method hand can be shown in other poses")
        scene.show_motion(motion)
    moving = hasattr(scene, "time")
    at_time(scene, time)
    background = background or run.cameras_only.background
    near = far = None
    total = len(views.cameras)
    with movie(out, views.fps if fps is None else fps) as write:
        for index in range(total):
            if moving and time is None and views.names is None:
                scene.time = index / max(total - 1, 1)  # a made path goes once through the motion
            with torch.no_grad():
                view = scene.render_view(
                    views.cameras, index, background=background, normals=output == "normals"
                )
            if near is None:
                # one range for all frames, or the colours would flicker
                near, far = _z_range(view["z_depth"])
            name = None if views.names is None else _frame_name(index, views.names[index])
            write(output_picture(view, output, near, far), name)
            if on_frame is not None:
                on_frame(index + 1, total)


def at_time(scene, time: float | None) -> None:
    """Sets the moment that a moving scene shows; None: each frame of the capture its own. `UserError` for a still scene."""
    if hasattr(scene, "time"):
        if time is not None and not 0 <= time <= 1:
            raise UserError(f"--time {time:g}: must lie between 0 and 1")
        scene.time = time
    elif time is not None:
        raise UserError(f"--time {time:g}: the scene does not move; leave it out")


def _both_sides(cameras: Cameras, width: int | None, height: int | None) -> tuple[int | None, int | None]:
    """Both sides from one, in the proportions of the first camera; neither stays neither."""
    own_width, own_height = cameras.size(0)
    if width is not None and height is None:
        height = max(1, round(own_height * width / own_width))
    elif height is not None and width is None:
        width = max(1, round(own_width * height / own_height))
    return width, height


def _transform(path: str | os.PathLike) -> dict:
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: wanted nerfstudio's dataparser_transforms.json, a JSON object")
    return value


def _z_range(z_depth: torch.Tensor) -> tuple[float, float]:
    seen = z_depth[z_depth > 0].detach().cpu().numpy()
    if not len(seen):
        return 0.0, 1.0
    low, high = np.quantile(seen, (0.02, 0.98))
    return 0.9 * float(low), 1.1 * float(high)


def _frame_name(index: int, name: str) -> str:
    return f"{index:05d}_{Path(name).stem}"
