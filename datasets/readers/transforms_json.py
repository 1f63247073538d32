"""instant-ngp and nerfstudio: one transforms.json with all frames.

Poses stay in the file's frame: `applied_transform` and `applied_scale` say how nerfstudio got from the
original reconstruction to that frame, so they change nothing here but a note (and the scale of depth files,
which are in the original unit). Frames are in the order of their names, as both trainers sort them.

- Extent: instant-ngp maps the world by `scale` (0.33) and `offset` (0.5) into its unit cube, or `aabb` onto
  it. With aabb_scale 1 nothing is outside, so that cube is the (bounded) extent. With a larger one the unit
  cube says little: the fox capture has aabb_scale 4 and all its cameras 2 to 4 half sides off the unit
  cube's centre, looking in. A contracted field wants subject and cameras inside its core, so the extent is
  then chosen from the cameras.
- Masks: nerfstudio's `mask_path` (non-zero = use), or instant-ngp's dynamic_mask_<image>.png (non-zero = do
  not).
- Depth: `depth_file_path` in units of `depth_unit_scale_factor` (nerfstudio's default: 1e-3, millimetres)
  times `applied_scale`; instant-ngp's `depth_path` in units of `integer_depth_scale`, read only if that is
  given. EXR depth is in source units unless the file gives a factor. All are z_depths.
- Points: `ply_file_path`, in the file's frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..extent import Extent
from ..reading import Frame, Reading, listed
from .frames_json import find_file, frame_name, lens_of, opencv_pose, transform_files
from .point_file import read_points

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "transforms.json"
LOOKED_FOR = "a .json file with a list of frames that have transform_matrix (instant-ngp, nerfstudio)"

_SPLIT_KEYS = {"train_filenames": "train", "val_filenames": "val", "test_filenames": "test"}
_IGNORED = ("rolling_shutter", "white_transparent", "black_transparent", "sharpen", "fisheye_crop_radius")


def _chosen_file(path: Path) -> tuple[Path, dict] | None:
    found = transform_files(path)
    named = [file for file in found if file.name.lower() == "transforms.json"]
    if named or len(found) == 1:
        file = (named or list(found))[0]
        return file, found[file]
    if found:
        names = listed([f.name for f in found], 5)
        raise UserError(f"{path}: several files list posed frames ({names}); name one of them")
    return None


def recognise(path: Path) -> str | None:
    """Why `path` (a folder or the .json itself) looks like this format, or None."""
    chosen = _chosen_file(path)
    return f"frames in {chosen[0].name}" if chosen else None


def read(path: Path, downscale: float = 1) -> Reading:
    """All frames whose image exists; the others are skipped with a note."""
    file, value = _chosen_file(path)
    folder = file.parent
    records = value["frames"]
    if isinstance(value.get("n_frames"), int):  # instant-ngp reads no more than this
        records = records[: max(value["n_frames"], 0)]
    named = sorted((frame_name(record, i, file), i) for i, record in enumerate(records))
    mitsuba = "normal_mts_args" in value or bool(value.get("from_mitsuba"))
    scale = _number(value, "applied_scale", 1.0, file)
    frames: list[Frame] = []
    missing: list[str] = []
    dynamic_masks = False
    for name, number in named:
        record = records[number]
        image = find_file(folder, name)
        if image is None:
            missing.append(name)
            continue
        matrix = record.get("transform_matrix", record.get("transform_matrix_start"))
        mask = _beside(record, "mask_path", folder, name, file)
        if mask is None:
            mask = find_file(image.parent, f"dynamic_mask_{image.stem}.png")
            dynamic_masks |= mask is not None
        depth, unit = _depth(record, value, folder, name, file, scale)
        time = record.get("time")
        frames.append(
            Frame(
                name=name,
                image=image,
                lens=lens_of(record, value, image, f"{file}: frame {name}"),
                camera_to_world=opencv_pose(matrix, name, file, mitsuba),
                mask=mask,
                z_depth=depth,
                z_depth_unit=unit,
                time=float(time) if isinstance(time, (int, float)) else None,
            )
        )
    if not frames:
        raise UserError(
            f"{file}: none of the {len(records)} images it names exists (looked for {listed(missing)})"
        )
    if dynamic_masks and any("mask_path" in records[number] for _, number in named):
        raise UserError(
            f"{file}: frames have both mask_path and dynamic_mask files, which mark opposite "
            "sides; keep one kind"
        )
    notes = _notes(value, file, missing)
    points, colours = _points(value, folder, file, notes)
    return Reading(
        name=path.resolve().name if path.is_dir() else folder.resolve().name,
        folder=folder,
        format=FORMAT,
        frames=frames,
        splits=_splits(value, [frame.name for frame in frames], missing, file),
        points=points,
        point_colours=colours,
        mask_marks_used=not dynamic_masks,
        extent=_extent(value, file, mitsuba),
        notes=notes,
    )


def _number(value: dict, key: str, default: float, file: Path) -> float:
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not np.isfinite(number):
        raise UserError(f"{file}: {key} is {number!r:.60}; it must be a finite number")
    return float(number)


def _beside(record: dict, key: str, folder: Path, name: str, file: Path) -> Path | None:
    given = record.get(key)
    if given is None:
        return None
    found = (
        find_file(folder, given.replace("\\", "/")) if isinstance(given, str) and "\0" not in given else None
    )
    if found is None:
        raise UserError(
            f"{file}: frame {name}: {key} {given!r:.200} does not exist; add it or remove the key"
        )
    return found


def _depth(
    record: dict, value: dict, folder: Path, name: str, file: Path, applied_scale: float
) -> tuple[Path | None, float]:
    path = _beside(record, "depth_file_path", folder, name, file)
    if path is not None:
        default = 1.0 if path.suffix.lower() == ".exr" else 1e-3
        return path, _number(value, "depth_unit_scale_factor", default, file) * applied_scale
    scale = _number(value, "integer_depth_scale", 0.0, file)
    path = _beside(record, "depth_path", folder, name, file) if scale > 0 else None
    return path, scale


def _notes(value: dict, file: Path, missing: list[str]) -> list[str]:
    notes = []
    if missing:
        notes.append(f"{len(missing)} frames of {file.name} name images that do not exist: {listed(missing)}")
    if "applied_transform" in value or "applied_scale" in value:
        notes.append(
            f"{file.name} says its poses were moved from the original reconstruction (applied_transform, "
            "applied_scale); results are in the file's frame"
        )
    ignored = [key for key in _IGNORED if value.get(key) not in (None, False, 0, [0, 0, 0], [0, 0, 0, 0])]
    if ignored:
        notes.append(f"not used from {file.name}: {', '.join(ignored)}")
    return notes


def _splits(value: dict, names: list[str], missing: list[str], file: Path) -> dict[str, list[int]] | None:
    given = {split: value[key] for key, split in _SPLIT_KEYS.items() if value.get(key)}
    if not given:
        return None
    if "train" not in given:
        raise UserError(
            f"{file}: {' and '.join(given)}_filenames without train_filenames; add them or remove both"
        )
    index = {name: i for i, name in enumerate(names)}
    splits = {}
    for split, listed_names in given.items():
        if not isinstance(listed_names, list):
            raise UserError(f"{file}: {split}_filenames is no list of file names")
        tidy = [str(name).replace("\\", "/").removeprefix("./") for name in listed_names]
        unknown = [name for name in tidy if name not in index and name not in missing]
        if unknown:
            raise UserError(f"{file}: {split}_filenames names {listed(unknown)}, which no frame has")
        splits[split] = sorted(index[name] for name in tidy if name in index)
    return splits


def _points(value: dict, folder: Path, file: Path, notes: list[str]):
    name = value.get("ply_file_path")
    if not name:
        return None, None
    path = find_file(folder, str(name).replace("\\", "/")) if "\0" not in str(name) else None
    if path is None:
        notes.append(f"ply_file_path {name!r:.200} of {file.name} does not exist; no points are read")
        return None, None
    return read_points(path)


def _extent(value: dict, file: Path, mitsuba: bool) -> Extent | None:
    if value.get("aabb_scale") is None or _number(value, "aabb_scale", 1.0, file) > 1:
        return None
    if value.get("aabb") is not None:
        try:
            low, high = np.array(value["aabb"], np.float64).reshape(2, 3)
        except (TypeError, ValueError) as error:
            raise UserError(f"{file}: aabb must be two corners of three numbers ({error})") from error
        centre, half_side = (low + high) / 2, float(np.abs(high - low).max()) / 2
    else:
        scale = _number(value, "scale", 0.66 if mitsuba else 0.33, file)
        given = value.get("offset", 0.25 * scale if mitsuba else 0.5)
        try:
            offset = np.broadcast_to(np.array(given, np.float64), 3)
        except (TypeError, ValueError) as error:
            raise UserError(f"{file}: offset {given!r:.60} must be one or three numbers") from error
        if not scale > 0:
            raise UserError(f"{file}: scale is {scale}; it must be positive")
        centre, half_side = (0.5 - offset) / scale, 0.5 / scale
    if not (np.isfinite(centre).all() and np.isfinite(half_side) and half_side > 0):
        raise UserError(f"{file}: aabb, scale and offset give no box of finite size")
    return Extent(centre, half_side, bounded=True)
