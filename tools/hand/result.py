"""The file that `hand fit` writes and `hand export` and `hand render` read: a shape, poses and translations of one model."""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path

from ...fields.articulated.model_data import ModelData
from ...fields.articulated.model_file import read_npz
from .models import model_data

__all__ = ["RESULT_FORMAT", "HandResult", "Uncertainty", "open_result", "read_result", "write_result"]

RESULT_FORMAT = "fieldstone-hand-result-1"


@dataclass(frozen=True)
class Uncertainty:
    """How well each frame's numbers are known: see docs/hand_fitting.md for what that means and leaves out."""

    names: tuple[str, ...]
    """k: shape0, ..., then "<joint> x" (radians of a turn in the joint's own frame), ..., "translation z" (metres)."""
    standard_deviation: np.ndarray
    """(n, k)."""
    unseen: np.ndarray
    """(n, k): the share of the variance before any data that is left, 0 (well seen) to 1 (not seen)."""
    covariance: np.ndarray | None = None
    """(n, k, k) float32; left out where it would be larger than 64 MB."""


@dataclass
class HandResult:
    """n frames of one individual."""

    model: str
    """A model file (relative to the result's folder where it can be) or the name of one that comes with Fieldstone."""
    shape: np.ndarray
    """(s,)."""
    pose: np.ndarray
    """(n, j, 3) axis-angles of all joints, the mean pose included."""
    translation: np.ndarray
    """(n, 3) metres."""
    frames_per_second: float = 30.0
    model_sha256: str = ""
    """Of the model's arrays: another model of the same name is refused."""
    info: dict = field(default_factory=dict)
    """What else there is to say: errors, settings, unobserved degrees of freedom. Plain data."""
    uncertainty: Uncertainty | None = None
    """How well a fit determined it; None for poses that were not fitted."""


def write_result(path: str | os.PathLike, result: HandResult) -> None:
    """Writes the result as plain `.npz`, whole or not at all."""
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{path}: a result ends in .npz, not in {path.suffix!r}")
    model = result.model
    if Path(model).exists():
        model = os.path.relpath(Path(model).resolve(), path.parent.resolve())
    arrays = {
        "format": np.array(RESULT_FORMAT),
        "model": np.array(model),
        "model_sha256": np.array(result.model_sha256),
        "shape": np.asarray(result.shape, np.float64),
        "pose": np.asarray(result.pose, np.float64),
        "translation": np.asarray(result.translation, np.float64),
        "frames_per_second": np.array(float(result.frames_per_second)),
        "info": np.array(json.dumps(result.info)),
    }
    if result.uncertainty is not None:
        own = result.uncertainty
        arrays["uncertainty_names"] = np.array(own.names)
        arrays["standard_deviation"] = np.asarray(own.standard_deviation, np.float32)
        arrays["unseen"] = np.asarray(own.unseen, np.float32)
        if own.covariance is not None:
            arrays["covariance"] = np.asarray(own.covariance, np.float32)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue())


def read_result(path: str | os.PathLike) -> HandResult:
    """Reads what `write_result` wrote. Raises `UserError` for anything else."""
    path = Path(path)
    arrays = read_npz(path)

    def text(key: str, default: str | None = None) -> str:
        value = arrays.get(key, None if default is None else np.array(default))
        if value is None or value.dtype.kind != "U" or value.shape != ():
            raise UserError(
                f"{path}: {key}: expected one text, found {'nothing' if value is None else value.dtype}"
            )
        return str(value)

    if text("format") != RESULT_FORMAT:
        raise UserError(f"{path}: format: expected {RESULT_FORMAT!r}, found {text('format')!r}")
    found = {}
    for key, ndim in (("shape", 1), ("pose", 3), ("translation", 2)):
        value = arrays.get(key)
        if value is None or value.dtype.kind != "f" or value.ndim != ndim or not np.isfinite(value).all():
            what = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            raise UserError(f"{path}: {key}: expected {ndim} dimensions of finite numbers, found {what}")
        found[key] = value.astype(np.float64)
    if found["pose"].shape[2] != 3 or found["translation"].shape != (len(found["pose"]), 3):
        raise UserError(
            f"{path}: pose and translation: expected (n, j, 3) and (n, 3), found {found['pose'].shape} and "
            f"{found['translation'].shape}"
        )
    rate = arrays.get("frames_per_second", np.array(30.0))
    if rate.shape != () or not 0 < float(rate) < 1e6:
        raise UserError(f"{path}: frames_per_second: expected one number above 0, found {rate}")
    try:
        info = json.loads(text("info", "{}"))
    except ValueError as error:
        raise UserError(f"{path}: info: expected JSON ({error})") from error
    return HandResult(
        text("model"),
        found["shape"],
        found["pose"],
        found["translation"],
        float(rate),
        text("model_sha256", ""),
        info,
        _uncertainty(path, arrays, len(found["pose"])),
    )


def _uncertainty(path: Path, arrays: dict[str, np.ndarray], frames: int) -> Uncertainty | None:
    names = arrays.get("uncertainty_names")
    if names is None:
        return None
    if names.dtype.kind != "U" or names.ndim != 1:
        raise UserError(f"{path}: uncertainty_names: expected texts, found {names.dtype}{list(names.shape)}")
    k, parts = len(names), []
    for key, shape in (
        ("standard_deviation", (frames, k)),
        ("unseen", (frames, k)),
        ("covariance", (frames, k, k)),
    ):
        value = arrays.get(key)
        if value is None and key == "covariance":
            parts.append(None)
            continue
        if value is None or value.dtype.kind != "f" or value.shape != shape or not np.isfinite(value).all():
            what = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            raise UserError(f"{path}: {key}: expected {shape} of finite numbers, found {what}")
        parts.append(value)
    return Uncertainty(tuple(names.tolist()), *parts)


def open_result(path: str, model: str | None = None) -> tuple[ModelData, HandResult]:
    """A result with its model; a model file or name gives the model at rest. `model` overrules what the result names.

    Raises `UserError` where the model is not the one the result was made with, or has other sizes.
    """
    file = Path(path)
    if file.suffix == ".npz" and file.exists() and "pose" in read_npz(file, keys=("pose",)):
        result = read_result(file)
        name = model or result.model
        beside = file.parent / name
        data = model_data(str(beside) if model is None and beside.exists() else name)
        if result.model_sha256 and model is None and result.model_sha256 != data.sha256():
            raise UserError(
                f"{path}: the model {name} is not the one the result was made with (arrays sha256 {data.sha256()[:12]}, expected "
                f"{result.model_sha256[:12]}); give the right one with --model"
            )
        if result.pose.shape[1] != len(data.parents) or len(result.shape) > data.shape_basis.shape[2]:
            raise UserError(
                f"{path}: pose and shape: expected {len(data.parents)} joints and at most {data.shape_basis.shape[2]} shape numbers "
                f"(as {name} has), found {result.pose.shape[1]} and {len(result.shape)}"
            )
        return data, result
    data = model_data(model or path)
    rest = HandResult(
        model or path,
        np.zeros(data.shape_basis.shape[2]),
        np.zeros((1, len(data.parents), 3)),
        np.zeros((1, 3)),
    )
    return data, rest
