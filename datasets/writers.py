"""Captures written in the layouts the readers read, from arrays.

Images are uint8 (h, w, 3 or 4), straight alpha, written as PNG if the name ends in .png, else as Pillow's
format for that suffix. Existing files of the same name are replaced, each atomically.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path, atomic_write_bytes, atomic_write_json, atomic_write_text

from ..render.cameras import CAMERA_MODELS, COLMAP_MODEL_IDS, PARAMETER_NAMES, Cameras

__all__ = ["write_blender", "write_colmap", "write_image", "write_transforms_json"]

_OPENCV_TO_BLENDER = np.array([1.0, -1.0, -1.0, 1.0])


def write_image(path: str | Path, pixels: np.ndarray) -> None:
    """Writes (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8, or (h, w) uint16, in the format of the
    suffix."""
    from PIL import Image

    pixels = np.ascontiguousarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 and not (pixels.dtype == np.uint16 and pixels.ndim == 2):
        raise ValueError(f"need uint8 pixels, or one channel of uint16; got {pixels.dtype} {pixels.shape}")
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def write_blender(
    folder: str | Path,
    images: Sequence[np.ndarray],  # n of (h, w, 3 or 4) uint8
    cameras: Cameras,  # n, pinhole with square pixels and centred principal point, all of one width and focal
    splits: Mapping[str, Sequence[int]],  # "train", "val", "test" -> frame indices
    *,
    times: Sequence[float] | None = None,  # (n,) in [0, 1]
) -> None:
    """NeRF-synthetic's layout: transforms_<split>.json and <split>/r_<k>.png, k counting within the split.

    UserError if the cameras are not what the format can say.
    """
    folder = Path(folder)
    angle = _camera_angle(cameras)
    poses = cameras.camera_to_world.cpu().numpy() * _OPENCV_TO_BLENDER
    for split, indices in splits.items():
        frames = []
        for k, i in enumerate(int(i) for i in indices):
            write_image(folder / split / f"r_{k}.png", images[i])
            frame = {"file_path": f"./{split}/r_{k}", "transform_matrix": poses[i].tolist()}
            frames.append(frame if times is None else {**frame, "time": float(times[i])})
        atomic_write_json(folder / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": frames})


def _camera_angle(cameras: Cameras) -> float:
    for i in range(len(cameras)):
        names = dict(zip(PARAMETER_NAMES[cameras.models[i]], cameras.params[i].tolist()))
        width, height = cameras.size(i)
        fx, fy = names.get("fx", names.get("f", 0.0)), names.get("fy", names.get("f", 0.0))
        middle = (names.get("cx"), names.get("cy")) == (width / 2, height / 2)
        angle = 2 * math.atan(width / (2 * fx)) if fx > 0 else 0.0
        if cameras.models[i] not in ("PINHOLE", "SIMPLE_PINHOLE") or fx != fy or not middle:
            raise UserError(f"camera {i}: the Blender layout has only centred pinholes with square pixels")
        if i == 0:
            first = angle
        elif abs(angle - first) > 1e-12:
            raise UserError(f"camera {i}: the Blender layout has one field of view for all images")
    return first


def write_transforms_json(
    folder: str | Path,
    cameras: Cameras,  # n
    names: Sequence[str],  # n paths relative to `folder`
    *,
    images: Sequence[np.ndarray] | None = None,  # n uint8, written to their names
    masks: Sequence[np.ndarray] | None = None,  # n (h, w) bool, True = use
    z_depths: Sequence[np.ndarray] | None = None,  # n (h, w) source units, 0 = unknown; stored as float32
    points: np.ndarray | None = None,  # (m, 3)
    point_colours: np.ndarray | None = None,  # (m, 3) uint8
    splits: Mapping[str, Sequence[int]] | None = None,
    times: Sequence[float] | None = None,
    extra: Mapping[str, object] | None = None,  # further keys of the file, e.g. {"aabb_scale": 4}
) -> None:
    """nerfstudio's layout: transforms.json with intrinsics in every frame, masks/, depths/ and points.ply
    beside it.

    Writes every model but FOV and those with thin prism or two-focal FISHEYE terms, for which it raises
    UserError.
    """
    folder = Path(folder)
    poses = cameras.camera_to_world.cpu().numpy() * _OPENCV_TO_BLENDER
    frames = []
    for i, name in enumerate(names):
        frame = {"file_path": name, "transform_matrix": poses[i].tolist(), **_lens_keys(cameras, i)}
        stem = Path(name).with_suffix("").as_posix().replace("/", "_")
        if images is not None:
            write_image(folder / name, images[i])
        if masks is not None:
            frame["mask_path"] = f"masks/{stem}.png"
            write_image(folder / frame["mask_path"], np.asarray(masks[i], bool).astype(np.uint8) * 255)
        if z_depths is not None:
            frame["depth_file_path"] = f"depths/{stem}.npy"
            with atomic_path(folder / frame["depth_file_path"]) as temporary:
                np.save(temporary, np.asarray(z_depths[i], np.float32), allow_pickle=False)
        if times is not None:
            frame["time"] = float(times[i])
        frames.append(frame)
    value: dict[str, object] = {}
    if z_depths is not None:
        value["depth_unit_scale_factor"] = 1.0
    if points is not None:
        value["ply_file_path"] = "points.ply"
        _write_ply(folder / "points.ply", points, point_colours)
    for split, indices in (splits or {}).items():
        value[f"{split}_filenames"] = [names[int(i)] for i in indices]
    atomic_write_json(folder / "transforms.json", {**value, **(extra or {}), "frames": frames})


def _lens_keys(cameras: Cameras, i: int) -> dict[str, object]:
    model = cameras.models[i]
    width, height = cameras.size(i)
    known = dict(zip(PARAMETER_NAMES[model], cameras.params[i].tolist()))
    size = {"w": width, "h": height}
    if model == "EQUIRECTANGULAR":
        return {"camera_model": model, **size}
    focal = {"fl_x": known.get("fx", known.get("f")), "fl_y": known.get("fy", known.get("f"))}
    rest = {key: value for key, value in known.items() if key not in ("f", "fx", "fy")}
    if model in ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_FISHEYE", "FISHEYE"):
        written = "OPENCV_FISHEYE"
    elif model in ("SIMPLE_PINHOLE", "PINHOLE", "FULL_OPENCV"):
        written = model
    elif model in ("SIMPLE_RADIAL", "RADIAL", "OPENCV"):
        written = "OPENCV"
    else:
        raise UserError(f"camera {i}: transforms.json has no lens {model}; write a COLMAP model instead")
    return {"camera_model": written, **size, **focal, **rest}


def _write_ply(path: Path, points: np.ndarray, colours: np.ndarray | None) -> None:
    count = len(points)
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    if colours is not None:
        fields += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    table = np.zeros(count, fields)
    for axis, name in enumerate("xyz"):
        table[name] = np.asarray(points)[:, axis]
    for channel, name in enumerate(("red", "green", "blue")[: 3 * (colours is not None)]):
        table[name] = np.asarray(colours)[:, channel]
    lines = [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *lines, "end_header", ""]
    atomic_write_bytes(path, "\n".join(header).encode() + table.tobytes())


def write_colmap(
    folder: str | Path,
    cameras: Cameras,  # n
    names: Sequence[str],  # n, relative to folder/images
    points: np.ndarray | None = None,  # (m, 3)
    point_colours: np.ndarray | None = None,  # (m, 3) uint8; grey if None
    *,
    images: Sequence[np.ndarray] | None = None,  # n uint8, written to folder/images/<name>
    binary: bool = True,
) -> None:
    """A COLMAP project: the model in sparse/0 (without observations or tracks) and the images beside it.

    Equal lenses share a camera. Text files hold the shortest digits that give back the same float64.
    """
    folder = Path(folder)
    model = folder / "sparse" / "0"
    if images is not None:
        for name, pixels in zip(names, images, strict=True):
            write_image(folder / "images" / name, pixels)
    lens_index = cameras.lens_index().tolist()
    lenses = [
        (i + 1, cameras.models[i], *cameras.size(i), _colmap_params(cameras, i))
        for i in sorted(set(lens_index))
    ]
    views = []
    for i, (name, pose) in enumerate(zip(names, cameras.camera_to_world.cpu().numpy(), strict=True)):
        if not name or "\0" in name or "\n" in name:
            raise UserError(f"image {i}: {name!r} cannot be an image name in a COLMAP model")
        rotation = pose[:3, :3].T
        views.append((i + 1, _quaternion(rotation), -rotation @ pose[:3, 3], lens_index[i] + 1, name))
    points = np.zeros((0, 3)) if points is None else np.asarray(points, np.float64)
    colours = (
        np.full(points.shape, 128, np.uint8) if point_colours is None else np.asarray(point_colours, np.uint8)
    )
    write = _write_binary if binary else _write_text
    write(model, lenses, views, points, colours)


def _colmap_params(cameras: Cameras, i: int) -> list[float]:
    if cameras.models[i] == "EQUIRECTANGULAR":
        return [float(side) for side in cameras.size(i)]
    return cameras.params[i, : CAMERA_MODELS[cameras.models[i]]].tolist()


def _write_binary(model: Path, lenses: list, views: list, points: np.ndarray, colours: np.ndarray) -> None:
    numbers = {name: number for number, name in COLMAP_MODEL_IDS.items()}
    data = struct.pack("<Q", len(lenses))
    for identity, name, width, height, params in lenses:
        data += struct.pack(f"<IiQQ{len(params)}d", identity, numbers[name], width, height, *params)
    atomic_write_bytes(model / "cameras.bin", data)
    parts = [struct.pack("<Q", len(views))]
    for identity, quaternion, translation, lens, name in views:
        parts.append(
            struct.pack("<I7dI", identity, *quaternion, *translation, lens) + name.encode() + b"\0" + bytes(8)
        )
    atomic_write_bytes(model / "images.bin", b"".join(parts))
    parts = [struct.pack("<Q", len(points))]
    for k, (point, colour) in enumerate(zip(points, colours)):
        parts.append(struct.pack("<Q3d3BdQ", k + 1, *point, *colour, 0.0, 0))
    atomic_write_bytes(model / "points3D.bin", b"".join(parts))


def _write_text(model: Path, lenses: list, views: list, points: np.ndarray, colours: np.ndarray) -> None:
    def line(*values: object) -> str:
        return (
            " ".join(repr(float(v)) if isinstance(v, (float, np.floating)) else str(v) for v in values) + "\n"
        )

    rows = [line(identity, name, width, height, *params) for identity, name, width, height, params in lenses]
    atomic_write_text(model / "cameras.txt", "# id model width height params\n" + "".join(rows))
    rows = [line(identity, *q, *t, lens, name) + "\n" for identity, q, t, lens, name in views]
    atomic_write_text(
        model / "images.txt", "# id qw qx qy qz tx ty tz camera name, then observations\n" + "".join(rows)
    )
    rows = [
        line(k + 1, *p, *(int(c) for c in colour), 0.0) for k, (p, colour) in enumerate(zip(points, colours))
    ]
    atomic_write_text(model / "points3D.txt", "# id x y z r g b error track\n" + "".join(rows))


def _quaternion(rotation: np.ndarray) -> np.ndarray:  # (3, 3) -> (4,) w x y z
    """By the largest of the four components, which keeps every case well conditioned (Shepperd 1978)."""
    r = rotation
    squares = np.array([r.trace(), *(2 * np.diag(r) - r.trace())])
    largest = int(np.argmax(squares))
    if largest == 0:
        q = np.array([1 + r.trace(), r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    else:
        i = largest - 1
        j, k = (i + 1) % 3, (i + 2) % 3
        q = np.zeros(4)
        q[0] = r[k, j] - r[j, k]
        q[1 + i] = 1 + r[i, i] - r[j, j] - r[k, k]
        q[1 + j] = r[j, i] + r[i, j]
        q[1 + k] = r[k, i] + r[i, k]
    return q / np.linalg.norm(q)
