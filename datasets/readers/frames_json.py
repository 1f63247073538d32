"""What the transforms*.json files share: loading, image look-up, lenses, axes.

Used by the Blender reader (one file per split) and by the instant-ngp / nerfstudio reader (one file).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..image_file import IMAGE_SUFFIXES, read_header
from ..reading import Lens

__all__ = ["find_file", "frame_name", "lens_of", "load_json", "opencv_pose", "transform_files"]

_MAX_BYTES = 256 << 20

_BLENDER_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])  # x right, y up, z back -> x right, y down, z forward
_MITSUBA_TO_OPENCV = np.diag([-1.0, -1.0, 1.0, 1.0])  # x left, y up, z forward

_SAME_AS_COEFFICIENTS = {"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}


def load_json(path: Path) -> object:
    """The JSON value in `path`; UserError for files over 256 MB or that are no JSON."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: {path.stat().st_size >> 20} MB of JSON; at most 256 MB are read")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({' '.join(str(error).split())[:200]})") from error


def transform_files(path: Path) -> dict[Path, dict]:
    """JSON files with a list `frames` of posed images: `path` itself, or those directly in the folder
    `path`."""
    if path.is_file():
        candidates = [path] if path.suffix.lower() == ".json" else []
    else:
        candidates = sorted(path.glob("*.json"))[:64]
    found = {}
    for file in candidates:
        try:
            value = load_json(file)
        except UserError:
            if file == path or file.stem.startswith("transforms"):
                raise
            continue
        frames = value.get("frames") if isinstance(value, dict) else None
        if isinstance(frames, list) and any(_posed(frame) for frame in frames[:16]):
            found[file] = value
    return found


def _posed(frame: object) -> bool:
    return isinstance(frame, dict) and ("transform_matrix" in frame or "transform_matrix_start" in frame)


def frame_name(frame: dict, number: int, file: Path) -> str:
    """`file_path` of a frame with forward slashes; UserError if it has none."""
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str) or not name or "\0" in name or len(name) > 4096:
        raise UserError(f"{file}: frame {number} has no usable file_path ({name!r:.80})")
    name = name.replace("\\", "/")
    return name[2:] if name.startswith("./") else name


def find_file(folder: Path, name: str) -> Path | None:
    """The image `name` relative to `folder`, trying the usual suffixes if it lacks one; None if there is
    none."""
    path = folder / name
    try:
        if path.is_file():
            return path
        for suffix in IMAGE_SUFFIXES:
            for spelled in (suffix, suffix.upper()):
                candidate = path.with_name(path.name + spelled)
                if candidate.is_file():
                    return candidate
    except (OSError, ValueError):  # a name too long or malformed for the file system
        return None
    return None


def opencv_pose(matrix: object, name: str, file: Path, mitsuba: bool = False) -> np.ndarray:
    """(4, 4) camera_to_world with OpenCV axes from a file's `transform_matrix` (3 or 4 rows, OpenGL axes)."""
    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{file}: frame {name}: transform_matrix is no matrix of numbers ({error})"
        ) from error
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
    if pose.shape != (4, 4):
        raise UserError(
            f"{file}: frame {name}: transform_matrix has shape {pose.shape}; it must be 4 x 4 or 3 x 4"
        )
    # Axes are flipped column by column, not by a product, so that a NaN stays where it is.
    return pose * np.diag(_MITSUBA_TO_OPENCV if mitsuba else _BLENDER_TO_OPENCV)


def _number(value: object, key: str, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {key} is {value!r:.60}; it must be a number") from error
    if not math.isfinite(number):
        raise UserError(f"{where}: {key} is {number}; it must be finite")
    return number


def lens_of(frame: dict, shared: dict, image: Path, where: str) -> Lens:
    """The lens of one frame: keys of the frame win over those of the file.

    Focal length: `fl_x`, else `camera_angle_x` (radians), else `x_fov` (degrees), and the same for y, which
    defaults to x (instant-ngp: and the other way round). `cx`, `cy` default to the middle of the image,
    `w`, `h` to the image's stored size. Without `camera_model` the lens follows from the coefficients:
    none, OPENCV (k1 k2 p1 p2), FULL_OPENCV (k3 too), or with `is_fisheye` OPENCV_FISHEYE (k1-k4);
    nerfstudio's perspective k4 (a term in r^8) has no counterpart in COLMAP's models and is a UserError, as
    are its stereo, VR180, orthographic and FISHEYE624 cameras and instant-ngp's f-theta and equal-area
    lenses.
    """
    keys = {**shared, **{key: value for key, value in frame.items() if value is not None}}

    def number(key: str, default: float | None = None) -> float | None:
        return default if keys.get(key) is None else _number(keys[key], key, where)

    exact = keys.get("w") is not None and keys.get("h") is not None
    if exact:
        width, height = (round(number(key)) for key in ("w", "h"))
        if not (1 <= width <= 1 << 20 and 1 <= height <= 1 << 20):
            raise UserError(f"{where}: image size {width} x {height}; w and h must be 1 to 1048576 pixels")
    else:
        header = read_header(image)
        width, height = header.width, header.height

    model = _model(keys, where)
    if model == "EQUIRECTANGULAR":
        return Lens(model, (), width, height, exact)
    focal_x, focal_y = (_focal(number, axis, side) for axis, side in (("x", width), ("y", height)))
    if focal_x is None and focal_y is None:
        raise UserError(f"{where}: no focal length; needed: fl_x, camera_angle_x or x_fov")
    focal_x, focal_y = focal_x or focal_y, focal_y or focal_x
    base = (focal_x, focal_y, number("cx", width / 2), number("cy", height / 2))
    k = [number(f"k{i}", 0.0) for i in range(1, 7)]
    p = [number(f"p{i}", 0.0) for i in (1, 2)]
    if model == "OPENCV_FISHEYE":
        return Lens(model, (*base, *k[:4]), width, height, exact)
    if keys.get("camera_model") == "FULL_OPENCV":
        return Lens("FULL_OPENCV", (*base, k[0], k[1], *p, *k[2:]), width, height, exact)
    if k[3] != 0:
        raise UserError(
            f"{where}: k4 = {k[3]} on a perspective lens is not supported; undistort the images first"
        )
    if k[2] != 0:
        return Lens("FULL_OPENCV", (*base, k[0], k[1], *p, k[2], 0.0, 0.0, 0.0), width, height, exact)
    if any((k[0], k[1], *p)):
        return Lens("OPENCV", (*base, k[0], k[1], *p), width, height, exact)
    return Lens("PINHOLE", base, width, height, exact)


def _model(keys: dict, where: str) -> str:
    name = keys.get("camera_model")
    if name is not None and not isinstance(name, str):
        raise UserError(f"{where}: camera_model {name!r:.60} is not supported; it must be a name")
    for key, what in (
        ("ftheta_p0", "f-theta"),
        ("equirectangular", "equal-area (instant-ngp's equirectangular)"),
        ("orthographic", "orthographic"),
    ):
        if keys.get(key) not in (None, False):
            raise UserError(
                f"{where}: {what} lenses are not supported; resample the images to a perspective lens"
            )
    if name == "EQUIRECTANGULAR" or keys.get("latlong"):  # instant-ngp's word for the same
        return "EQUIRECTANGULAR"
    if name == "OPENCV_FISHEYE" or keys.get("is_fisheye"):
        return "OPENCV_FISHEYE"
    if name is None or name in _SAME_AS_COEFFICIENTS:
        return "PINHOLE"
    known = ", ".join(sorted(_SAME_AS_COEFFICIENTS | {"OPENCV_FISHEYE", "EQUIRECTANGULAR"}))
    raise UserError(f"{where}: camera_model {name!r:.60} is not supported; supported: {known}")


def _focal(number, axis: str, side: int) -> float | None:
    focal = number(f"fl_{axis}")
    if focal:
        return focal
    angle = number(f"camera_angle_{axis}")
    if not angle:
        degrees = number(f"{axis}_fov")
        angle = math.radians(degrees) if degrees else None
    return 0.5 * side / math.tan(0.5 * angle) if angle else None
