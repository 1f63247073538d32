"""A capture without its pixels, kept with the run: it is rendered where the photos are not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = [
    "BUNDLED",
    "DeferredFrames",
    "data_record",
    "describe_capture",
    "moved_record",
    "open_data",
    "restore_capture",
]

BUNDLED = "bundled"
"""The name of the scene that comes with Fieldstone, in config.json and as a run's default name."""


def data_record(folder: Path, data: str | os.PathLike | None, downscale: float, holdout: int | None) -> dict:
    """What config.json says of the data: bundled, or a path relative to the run (absolute on another
    drive).
    """
    if data is None:
        return {"bundled": True, "downscale": downscale, "holdout": holdout}
    target, base = Path(data).resolve(), Path(folder).resolve()
    try:
        path = Path(os.path.relpath(target, base)).as_posix()
    except ValueError:  # Windows: there is no relative path between two drives
        path = str(target)
    return {"bundled": False, "path": path, "downscale": downscale, "holdout": holdout}


def moved_record(record: dict, base: Path, target: Path) -> dict:
    """The record of folder `base` as folder `target` has to have it."""
    if record.get("bundled") or "path" not in record:
        return record
    place = Path(os.path.normpath(Path(base).resolve() / str(record["path"])))
    return {**record, "path": data_record(target, place, 1, None)["path"]}


def open_data(folder: Path, record: dict, elsewhere: str | os.PathLike | None = None):
    """The capture of a run in `folder`; `elsewhere` replaces the recorded place of the data."""
    from ... import datasets

    if record.get("bundled") and elsewhere is None:
        from ...datasets.synthetic import bundled_capture

        return bundled_capture()
    path = Path(elsewhere) if elsewhere is not None else folder / str(record.get("path"))
    if elsewhere is None:
        path = Path(os.path.normpath(path))
        if not path.exists():
            raise UserError(f"{path}: the data of run {folder} is not there; say where it is now with --data")
    capture = datasets.open(
        path, downscale=record["downscale"], holdout=record["holdout"], workspace=Path(folder) / "colmap"
    )
    if "block" not in record:
        return capture
    from ...datasets.block import Block
    from ..blocks.plan import within

    return within(capture, Block.from_json(record["block"]))


def describe_capture(capture) -> dict:
    """Plain data that `restore_capture` turns back: all but images, masks, depths and points."""
    return {
        "name": capture.name,
        "format": capture.format,
        "names": list(capture.names),
        "splits": {name: np.asarray(index).tolist() for name, index in capture.splits.items()},
        "cameras": capture.cameras.to_json(),
        "extent": capture.extent.to_json(),
        "times": None if capture.times is None else np.asarray(capture.times, float).tolist(),
        "background": capture.background,
        "colour_space": capture.colour_space,
        "has_alpha": bool(capture.images.has_alpha),
        "masks": capture.masks is not None,
        "z_depths": capture.z_depths is not None,
        "notes": list(capture.notes),
    } | ({} if capture.block is None else {"block": capture.block.to_json()})


def restore_capture(record: dict, source: Callable[[], object], folder: Path):
    """A `Capture` from `describe_capture`'s record; when a frame is read, `source()` opens the real one."""
    from ...datasets.block import Block
    from ...datasets.capture import Capture, Extent
    from ...render.cameras import Cameras

    try:
        names = tuple(record["names"])

        def opened():
            capture = source()
            if tuple(capture.names) != names:
                raise UserError(
                    f"{capture.folder}: not the capture that run {folder} was trained on: its frames differ"
                )
            return capture

        times = record["times"]
        return Capture(
            name=record["name"],
            folder=Path(folder),
            format=record["format"],
            cameras=Cameras.from_json(record["cameras"]),
            images=DeferredFrames(len(names), opened, "images", bool(record["has_alpha"])),
            names=names,
            splits={name: np.array(index, np.int64) for name, index in record["splits"].items()},
            masks=DeferredFrames(len(names), opened, "masks") if record["masks"] else None,
            z_depths=DeferredFrames(len(names), opened, "z_depths") if record["z_depths"] else None,
            times=None if times is None else np.array(times, np.float32),
            background=record["background"],
            colour_space=record["colour_space"],
            extent=Extent.from_json(record["extent"]),
            notes=list(record["notes"]),
            block=Block.from_json(record["block"]) if "block" in record else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'capture.json'}: damaged ({error!r})") from error


class DeferredFrames:
    """The images, masks or depths of a capture that is opened when the first of them is read."""

    def __init__(self, count: int, source: Callable[[], object], attribute: str, has_alpha=False) -> None:
        self._count, self._source, self._attribute = count, source, attribute
        self.has_alpha = has_alpha
        self._frames = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        return self._open()[index]

    def uint8(self, index: int) -> np.ndarray:
        return self._open().uint8(index)

    def _open(self):
        if self._frames is None:
            self._frames = getattr(self._source(), self._attribute)
        return self._frames
