"""Camera paths in nerfstudio's JSON, as its viewer and its Blender and Unreal add-ons write them.

    {"camera_type": "perspective" | "fisheye" | "equirectangular", "render_width": w, "render_height": h,
    "seconds": s, "camera_path": [{"camera_to_world": 16 numbers row by row, OpenGL axes (x right, y up, z
    back), "fov": degrees of height, "aspect": w / h, "render_time": optional, 0 to 1}, ...]}

The focal length is h / (2 tan(fov / 2)) for perspective and for (equidistant) fisheye frames, as in
nerfstudio.

Frame: nerfstudio moves and scales every scene before training, and its paths are in that normalised frame.
The file does not say how; `dataparser_transforms.json` in the nerfstudio run's folder does. Give its content
as `transform` to come back to the source frame; without it the poses are taken to be in the source frame
already, which holds for paths that we wrote ourselves.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json
from fieldstone.core.similarity import Similarity

from .cameras import Cameras

__all__ = ["PathFile", "nerfstudio_similarity", "read_camera_path", "write_camera_path"]

_MODELS = {"perspective": "PINHOLE", "fisheye": "OPENCV_FISHEYE", "equirectangular": "EQUIRECTANGULAR"}
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV axes from OpenGL axes, and back
_LARGEST_MEGABYTES = 256
_DEFAULT_FPS = 24.0


@dataclass(frozen=True)
class PathFile:
    """A camera path read from a file."""

    cameras: Cameras
    """One a frame, in the source frame."""
    seconds: float
    """Length of the film."""
    times: np.ndarray | None
    """(n,) float32 scene time of each frame in [0, 1], where every frame has one."""
    notes: tuple[str, ...] = ()
    """One line for each thing in the file that was not used."""

    @property
    def fps(self) -> float:
        return len(self.cameras) / self.seconds


def nerfstudio_similarity(transform: dict) -> Similarity:
    """Source frame to nerfstudio's, out of `dataparser_transforms.json`: x -> scale * (transform @ [x, 1]).

    Raises UserError if it is not {"transform": 3x4 or 4x4 rigid, "scale": positive}.
    """
    try:
        matrix = np.array(transform["transform"], np.float64)
        scale = float(transform["scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"dataparser transform: it needs transform and scale ({type(error).__name__}: {error})"
        ) from error
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise UserError(f"dataparser transform: transform {matrix.shape} must be 3x4 finite numbers")
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise UserError(f"dataparser transform: not a rotation (determinant {np.linalg.det(rotation):.6g})")
    if not (scale > 0 and math.isfinite(scale)):
        raise UserError(f"dataparser transform: scale is {scale}; it must be positive")
    return Similarity(scale, rotation, scale * matrix[:3, 3])


def read_camera_path(
    path: str | os.PathLike,
    *,
    transform: dict | None = None,  # content of nerfstudio's dataparser_transforms.json
) -> PathFile:
    """Reads a path file. Raises UserError, naming the file and the frame, for anything malformed.

    `crop` boxes are not applied, and `aspect` gives way to the size of the image; the notes say so. Without
    `seconds` the film runs at the file's `fps`, or at 24.
    """
    path = Path(path)
    value = _parsed(path)
    width, height = (_side(path, value, key) for key in ("render_width", "render_height"))
    kind = value.get("camera_type", "perspective")
    if not isinstance(kind, str) or kind.lower() not in _MODELS:
        raise UserError(f"{path}: camera_type is {kind!r}; supported are {', '.join(_MODELS)}")
    kind = kind.lower()
    frames = value.get("camera_path")
    if not isinstance(frames, list) or not frames:
        raise UserError(f"{path}: camera_path holds no frames; export the path again with at least one")
    poses = np.stack([_pose(path, i, frame) for i, frame in enumerate(frames)])
    focals = np.array([_focal(path, i, frame, height, kind) for i, frame in enumerate(frames)])
    if transform is not None:
        poses = nerfstudio_similarity(transform).inverse().apply_to_poses(poses)
    params = np.zeros((len(frames), 12))
    if kind != "equirectangular":
        params[:, 0] = params[:, 1] = focals
        params[:, 2:4] = width / 2, height / 2
    try:
        cameras = Cameras((_MODELS[kind],) * len(frames), params, [[width, height]] * len(frames), poses)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return PathFile(cameras, _seconds(path, value, len(frames)), _times(path, frames), _notes(value, frames))


def write_camera_path(
    path: str | os.PathLike,
    cameras: Cameras,
    *,
    seconds: float | None = None,  # 24 frames a second if None
    times: np.ndarray | None = None,  # (n,) scene time of each frame
    transform: dict | None = None,  # as for read_camera_path: writes in nerfstudio's frame
) -> None:
    """Writes a file that `read_camera_path` and nerfstudio's `ns-render camera-path` read.

    Raises UserError where the format cannot say what the cameras are: sizes or models that differ,
    distortion, focal lengths that differ between the axes, a principal point off the middle.
    """
    if len(cameras) == 0:
        raise UserError(f"{path}: no cameras to write")
    kind = _common_type(path, cameras)
    width, height = cameras.size(0)
    poses = cameras.camera_to_world.detach().cpu().numpy()
    if transform is not None:
        poses = nerfstudio_similarity(transform).apply_to_poses(poses)
    poses = poses @ _OPENGL
    if kind == "equirectangular":
        fovs = np.full(len(cameras), 50.0)  # nerfstudio wants the key and ignores it
    else:
        fovs = np.degrees(2 * np.arctan(height / 2 / cameras.lenses.table[:, 1].detach().cpu().numpy()))
    frames = [
        {"camera_to_world": pose.reshape(-1).tolist(), "fov": float(fov), "aspect": width / height}
        for pose, fov in zip(poses, fovs, strict=True)
    ]
    if times is not None:
        for frame, time in zip(frames, times, strict=True):
            frame["render_time"] = float(time)
    seconds = len(cameras) / _DEFAULT_FPS if seconds is None else float(seconds)
    value = {
        "camera_type": kind,
        "render_width": width,
        "render_height": height,
        "fps": len(cameras) / seconds,
        "seconds": seconds,
        "camera_path": frames,
    }
    atomic_write_json(path, value)


def _parsed(path: Path) -> dict:
    try:
        megabytes = path.stat().st_size >> 20
        if megabytes > _LARGEST_MEGABYTES:
            raise UserError(f"{path}: {megabytes} MB is no camera path; at most {_LARGEST_MEGABYTES} MB")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: a camera path is a JSON object, this is a {type(value).__name__}")
    return value


def _number(value: object) -> float | None:
    """A finite number as float; None for anything else (true and false too)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _side(path: Path, value: dict, key: str) -> int:
    side = _number(value.get(key))
    if side is None or side != int(side) or not 1 <= side <= 1 << 16:
        raise UserError(f"{path}: {key} is {value.get(key)!r}; it must be a whole number, 1 to {1 << 16}")
    return int(side)


def _pose(path: Path, i: int, frame: object) -> np.ndarray:
    numbers = frame.get("camera_to_world") if isinstance(frame, dict) else None
    if isinstance(numbers, list) and len(numbers) == 4 and all(isinstance(row, list) for row in numbers):
        numbers = [number for row in numbers for number in row]
    if not isinstance(numbers, list) or len(numbers) != 16 or None in map(_number, numbers):
        raise UserError(f"{path}: frame {i}: camera_to_world must be 16 finite numbers")
    return np.array(numbers, np.float64).reshape(4, 4) @ _OPENGL


def _focal(path: Path, i: int, frame: dict, height: int, kind: str) -> float:
    if kind == "equirectangular":
        return 0.0
    fov = _number(frame.get("fov"))
    if fov is None or not 0 < fov < 180:
        raise UserError(f"{path}: frame {i}: fov is {frame.get('fov')!r}; it must be 0 to 180 degrees")
    return height / 2 / math.tan(math.radians(fov) / 2)


def _seconds(path: Path, value: dict, count: int) -> float:
    if "seconds" not in value:
        fps = _number(value.get("fps", _DEFAULT_FPS))
        if fps is None or fps <= 0:
            raise UserError(f"{path}: fps is {value['fps']!r}; it must be positive")
        return count / fps
    seconds = _number(value["seconds"])
    if seconds is None or seconds <= 0:
        raise UserError(f"{path}: seconds is {value['seconds']!r}; it must be positive")
    return seconds


def _times(path: Path, frames: list[dict]) -> np.ndarray | None:
    if not all("render_time" in frame for frame in frames):
        return None
    times = [_number(frame["render_time"]) for frame in frames]
    for i, time in enumerate(times):
        if time is None or not 0 <= time <= 1:
            found = frames[i]["render_time"]
            raise UserError(f"{path}: frame {i}: render_time is {found!r}; it must lie in [0, 1]")
    return np.array(times, np.float32)


def _notes(value: dict, frames: list[dict]) -> tuple[str, ...]:
    notes = []
    if value.get("crop") is not None:
        notes.append("the file's crop box is not applied")
    with_time = sum("render_time" in frame for frame in frames)
    if 0 < with_time < len(frames):
        notes.append(f"only {with_time} of {len(frames)} frames have a render_time, so none is used")
    return tuple(notes)


def _common_type(path: str | os.PathLike, cameras: Cameras) -> str:
    if bool((cameras.sizes != cameras.sizes[0]).any()):
        raise UserError(f"{path}: the cameras differ in size, a camera path has one; resize them first")
    lenses = cameras.lenses
    if cameras.models == ("EQUIRECTANGULAR",) * len(cameras):
        return "equirectangular"
    table = lenses.table.detach()
    middle = cameras.sizes.to(table) / 2
    for what, wrong in (
        ("lens distortion", (table[:, 4:] != 0).any(1)),
        ("different focal lengths along its axes", (table[:, 0] / table[:, 1] - 1).abs() > 1e-9),
        ("its principal point off the middle", (table[:, 2:4] - middle).abs().amax(1) > 1e-6),
    ):
        if bool(wrong.any()):
            i = int(torch.nonzero(wrong)[0])
            raise UserError(f"{path}: camera {i} has {what}, which a camera path file cannot say")
    if lenses.all_pinhole:
        return "perspective"
    if all(model.endswith("FISHEYE") for model in cameras.models):
        return "fisheye"
    mixed = ", ".join(sorted(set(cameras.models)))
    raise UserError(f"{path}: the cameras mix {mixed}; a camera path has one type")
