"""A run folder: everything a training leaves behind, as plain files with relative paths inside.

config.json              what was trained: versions, method, settings, data, seed, device, back ends
capture.json             the capture without its pixels: cameras, names, splits, extent (source frame)
checkpoint.safetensors   parameters, optimiser and generator states; the record in its header
metrics.jsonl            one line per logged step
previews/, report.html   pictures
colmap/                  structure from motion, when the capture was plain photos or a video
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json, atomic_write_text

__all__ = ["RUN_FORMAT", "Run"]

RUN_FORMAT = 1
"""Raised when the meaning of a run's files changes; a run of another format is refused."""

_REQUIRED = {"format": int, "method": str, "settings": dict, "data": dict, "seed": int, "device": str}


class Run:
    """A run folder on disk. `Run.open` reads one; `train_scene` returns one."""

    def __init__(self, folder: str | os.PathLike, config: dict) -> None:
        self.folder = Path(folder)
        self.config = config
        """config.json as plain data."""

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def config_path(self) -> Path:
        return self.folder / "config.json"

    @property
    def capture_path(self) -> Path:
        return self.folder / "capture.json"

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def report_path(self) -> Path:
        return self.folder / "report.html"

    @property
    def previews(self) -> Path:
        return self.folder / "previews"

    @staticmethod
    def exists(folder: str | os.PathLike) -> bool:
        """Whether `folder` holds a run."""
        return (Path(folder) / "config.json").is_file()

    @staticmethod
    def check_free(folder: str | os.PathLike) -> None:
        """`UserError` unless a new run may be written into `folder`: work is never overwritten."""
        folder = Path(folder)
        if Run.exists(folder):
            raise UserError(
                f"{folder}: already holds a run; go on with it by --resume, or choose another folder with "
                "--out"
            )
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; choose another folder with --out")
        if folder.is_dir() and any(not _unfinished(entry) for entry in folder.iterdir()):
            raise UserError(f"{folder}: is not empty and is no run; choose another folder with --out")

    @classmethod
    def create(cls, folder: str | os.PathLike, config: dict, capture: dict) -> Run:
        """Writes config.json and capture.json into a folder that is new, empty or an unfinished start."""
        cls.check_free(folder)
        run = cls(folder, {"format": RUN_FORMAT, **config})
        atomic_write_json(run.capture_path, capture)
        atomic_write_json(run.config_path, run.config)  # last: it makes the folder a run
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike) -> Run:
        """Reads a run; `UserError` when `folder` is none, is damaged, or comes from another version."""
        folder = Path(folder)
        path = folder / "config.json"
        if not folder.is_dir():
            raise UserError(f"{folder}: no such run folder")
        if not path.is_file():
            raise UserError(f"{folder}: is no run: it has no config.json (a run is what train-scene writes)")
        config = _read_json(path)
        if "format" not in config:
            raise UserError(f"{path}: not the config of a Fieldstone run: it has no 'format'")
        if config["format"] != RUN_FORMAT:
            raise UserError(
                f"{folder}: a run of format {config['format']!r} (Fieldstone {config.get('fieldstone')}), "
                f"and this version reads {RUN_FORMAT}; use the version that wrote it, or train again"
            )
        for key, kind in _REQUIRED.items():
            if not isinstance(config.get(key), kind):
                raise UserError(f"{path}: damaged: {key!r} is {config.get(key)!r}, wanted {kind.__name__}")
        return cls(folder, config)

    def discard(self) -> None:
        """Removes what a run that has no checkpoint yet has written; the folder too if nothing else is in
        it.
        """
        for path in (self.config_path, self.capture_path, self.metrics_path, self.folder / ".lock"):
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def save_config(self) -> None:
        """Writes `config` back, whole or not at all."""
        atomic_write_json(self.config_path, self.config)

    def metrics(self) -> list[dict]:
        """The logged lines, in step order; a line cut off by a kill is left out."""
        if not self.metrics_path.is_file():
            return []
        lines = []
        for line in self.metrics_path.read_text("utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                value = json.loads(line)
                if isinstance(value, dict) and isinstance(value.get("step"), int):
                    lines.append(value)
        return lines

    def truncate_metrics(self, step: int) -> None:
        """Drops the lines after `step`, so that a resumed run logs what an uninterrupted one would."""
        kept = [json.dumps(line) for line in self.metrics() if line["step"] <= step]
        if self.metrics_path.exists():
            atomic_write_text(self.metrics_path, "".join(line + "\n" for line in kept))

    def capture(self, data: str | os.PathLike | None = None):
        """The capture the run was trained on, opened; `data` says where it is if it moved."""
        from .capture_record import open_data

        return open_data(self.folder, self.config["data"], data)

    @property
    def kind(self) -> str:
        """What was learned: "scene", "image" or "video"."""
        return self.config.get("kind", "scene")

    def record(self) -> dict:
        """capture.json as plain data."""
        return _read_json(self.capture_path)

    @cached_property
    def cameras_only(self):
        """The capture as stored with the run: all but the pixels, which are read when first asked for."""
        if self.kind == "image":
            from ..images.picture import restore_picture

            return restore_picture(self.record(), self.folder, self.config["data"])
        if self.kind == "video":
            from ..video.clip import restore_clip

            return restore_clip(self.record(), self.folder, self.config["data"])
        from .capture_record import restore_capture

        return restore_capture(self.record(), self.capture, self.folder)

    def method(self, device: str | None = None):
        """The method, built from the stored capture and settings, with the checkpoint's state loaded."""
        from .checkpoint import load_checkpoint, select
        from .loop import METHOD_PREFIX

        tensors, _ = load_checkpoint(self.checkpoint_path)
        method = self.blank_method(device)
        try:
            method.load_state(select(tensors, METHOD_PREFIX))
        except (KeyError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.checkpoint_path}: does not fit the settings in config.json ({error})"
            ) from error
        return method

    def blank_method(self, device: str | None = None):
        """The method with its first values, before any training."""
        from .device import resolve_device
        from .methods import method_class

        return method_class(self.config["method"])(
            self.cameras_only,
            self.config["settings"],
            seed=self.config["seed"],
            device=resolve_device(device or self.config["device"], fall_back=device is None),
        )

    def scene(self):
        """The trained scene, a `SceneModel`; works without the photos. Loaded once, then kept."""
        return self._scene

    @cached_property
    def _scene(self):
        if "blocks" in self.config or "edited" in self.config:
            from ..blocks.scene import scene_of

            return scene_of(self)
        return self.method().scene()

    @contextlib.contextmanager
    def training_lock(self) -> Iterator[None]:
        """Held while a process trains this run, so that two do not write into it; a kill releases it."""
        try:
            import fcntl
        except ImportError:  # Windows: no lock, its open files cannot be replaced by a second process anyway
            yield
            return
        with open(self.folder / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self.folder}: another process is training this run; wait for it"
                ) from error
            for stale in _temporaries(self.folder):
                stale.unlink(missing_ok=True)
            yield


def _temporaries(folder: Path) -> list[Path]:
    """What atomic writers left behind when they were killed."""
    return [path for path in folder.glob(".*.tmp.*") if path.is_file()]


def _unfinished(entry: Path) -> bool:
    return entry.name in ("capture.json", "colmap", ".lock") or (
        entry.name[0] == "." and ".tmp" in entry.name
    )


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged: wanted a JSON object, found {type(value).__name__}")
    return value
