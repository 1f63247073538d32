"""The bundled capture: pictures of the bundled scene, made on first use and kept in the user's cache folder.

Nothing is shipped. The folder is an ordinary capture in the layout of NeRF-synthetic (Blender):
straight-alpha PNGs, `transforms_train.json`, `transforms_test.json`. Beside them `ground_truth.json` says
what was made, and the SHA-256 of every file, by which a damaged or outdated folder is noticed and made
again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from fieldstone.core.files import atomic_write_json

from .scene import SyntheticScene

__all__ = ["bundled_capture", "bundled_folder", "user_cache_folder", "write_blender_capture"]

VERSION = 1
"""Raise it when the pictures change, so that folders made before are replaced."""
_RECORD = "ground_truth.json"
_LARGEST_RECORD = 1 << 20


def user_cache_folder() -> Path:
    """Where files that can be made again are kept: `FIELDSTONE_CACHE` if set, else the platform's custom."""
    chosen = os.environ.get("FIELDSTONE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fieldstone"
    if os.name == "nt":
        return (
            Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fieldstone" / "Cache"
        )
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fieldstone"


def bundled_capture(
    cache_folder: str | os.PathLike | None = None, *, size: int = 200, train: int = 60, test: int = 12
):
    """The bundled scene as a `datasets.Capture`, with the scene's true cube as its extent.

    `cache_folder` None is `user_cache_folder()`. Arguments are those of `bundled_folder`.
    """
    from .. import open as open_capture
    from ..extent import Extent

    scene = SyntheticScene()
    folder = bundled_folder(cache_folder, size=size, train=train, test=test)
    return dataclasses.replace(open_capture(folder), extent=Extent(scene.centre, scene.half_side, True))


def bundled_folder(
    cache_folder: str | os.PathLike | None = None, *, size: int = 200, train: int = 60, test: int = 12
) -> Path:
    """The folder of the bundled scene with `train` and `test` pictures of `size` x `size` pixels, made if
    need be.

    A second call only compares checksums. A folder that is damaged, or was made by another version, is
    replaced. Two processes may do this at once: each writes a folder of its own, and the one renamed last
    stays.
    """
    parent = (user_cache_folder() if cache_folder is None else Path(cache_folder)) / "synthetic"
    folder = parent / f"still-life-{size}px-{train}-{test}"
    if _is_whole(folder):
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}."))
    try:
        write_blender_capture(SyntheticScene(), made, size=size, counts={"train": train, "test": test})
        made.chmod(0o755)
        _put_in_place(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def write_blender_capture(scene: SyntheticScene, folder: Path, *, size: int, counts: dict[str, int]) -> None:
    """Renders the cameras of each split into `folder`; the same bytes each time on one machine."""
    import imageio.v3 as imageio

    files = []
    for split, count in counts.items():
        cameras = scene.cameras(split, count=count, size=size)
        (folder / split).mkdir(parents=True, exist_ok=True)
        frames = []
        for i in range(count):
            view = scene.render(cameras, i, geometry=False)
            pixels = np.concatenate([view["colour"], view["alpha"][..., None]], -1)
            name = f"{split}/r_{i:03d}"
            imageio.imwrite(folder / f"{name}.png", np.rint(pixels * 255).astype(np.uint8), compress_level=3)
            # Blender's cameras look along -z with y up.
            pose = cameras.camera_to_world[i].numpy() @ np.diag([1.0, -1.0, -1.0, 1.0])
            frames.append({"file_path": f"./{name}", "transform_matrix": pose.tolist()})
            files.append(f"{name}.png")
        focal = float(cameras.params[0, 0])
        record = {"camera_angle_x": 2 * math.atan(0.5 * size / focal), "frames": frames}
        atomic_write_json(folder / f"transforms_{split}.json", record)
        files.append(f"transforms_{split}.json")
    atomic_write_json(
        folder / _RECORD,
        {
            "made_by": "fieldstone synthetic scene",
            "version": VERSION,
            "unit": "metre",
            "to_source": scene.to_source.to_json(),
            "extent": {"centre": scene.centre.tolist(), "half_side": scene.half_side, "bounded": True},
            "sha256": {name: _checksum(folder / name) for name in files},
        },
    )


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds exactly what this version wrote; if not, for any reason, it is made again."""
    try:
        if (folder / _RECORD).stat().st_size > _LARGEST_RECORD:
            return False
        record = json.loads((folder / _RECORD).read_text("utf-8"))
        return record["version"] == VERSION and all(
            _checksum(folder / name) == checksum for name, checksum in record["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _put_in_place(made: Path, folder: Path) -> None:
    """Renames `made` to `folder`; what was there is set aside first: a full folder cannot be renamed over."""
    for _ in range(3):
        if folder.exists():
            aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
            try:
                folder.rename(aside / "old")
            except FileNotFoundError:  # another process was quicker
                pass
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        try:
            made.rename(folder)
            return
        except OSError:
            if _is_whole(folder):  # made by another process meanwhile
                return
    made.rename(folder)
