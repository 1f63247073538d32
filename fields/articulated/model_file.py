"""The plain `.npz` of an articulated model: named arrays of numbers and text, no pickles; docs/hands.md lists them."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path

from .model_data import ModelData

__all__ = ["FORMAT", "read_model", "read_npz", "write_model"]

FORMAT = "fieldstone-articulated-1"
MOST_BYTES = 2 << 30
"""Largest array, and largest sum of all arrays, that is read."""


def write_model(
    path: str | os.PathLike,
    data: ModelData,
    *,
    dtype: type = np.float64,
) -> None:
    """Writes the model; float64 keeps every bit. The file is the same for the same model (no dates inside)."""
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{path}: a model file ends in .npz, not in {path.suffix!r}")
    arrays: dict[str, np.ndarray] = {
        "format": np.array(FORMAT),
        "layout": np.array(data.layout),
        "side": np.array(data.side),
        "joint_names": np.array(data.joint_names),
        "info": np.array(json.dumps(data.info, sort_keys=True)),
    }
    for name, array in data.arrays().items():
        if array.dtype.kind == "f":
            array = array.astype(dtype)
        elif name in ("faces", "parents", "fingertips"):
            array = array.astype(np.int32)
        arrays[name] = array
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.array(array, order="C"), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(member, buffer.getvalue(), compresslevel=4)


def read_model(path: str | os.PathLike) -> ModelData:
    """Reads and checks what `write_model` wrote. Raises a `UserError` for anything else."""
    path = Path(path)
    arrays = read_npz(path)
    found = str(arrays.pop("format")) if "format" in arrays and arrays["format"].shape == () else None
    if found is None:
        raise UserError(
            f"{path}: not a model of ours (no 'format' inside); keys: {', '.join(sorted(arrays)[:12])}; "
            "for a MANO or SMPL file use: fieldstone hand convert FILE --out MODEL.npz"
        )
    if found != FORMAT:
        raise UserError(f"{path}: format: expected {FORMAT!r}, found {found!r}")
    texts = {}
    for key in ("layout", "side", "info"):
        value = arrays.pop(key, np.array({"layout": "custom", "side": "none", "info": "{}"}[key]))
        if value.dtype.kind != "U" or value.shape != ():
            raise UserError(f"{path}: {key}: expected one text, found type {value.dtype} {value.shape}")
        texts[key] = str(value)
    names = arrays.pop("joint_names", np.array([], "U1"))
    if names.dtype.kind != "U" or names.ndim != 1:
        raise UserError(
            f"{path}: joint_names: expected a list of texts, found type {names.dtype} {names.shape}"
        )
    try:
        info = json.loads(texts["info"])
        if not isinstance(info, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise UserError(f"{path}: info: expected a JSON object ({error})") from error
    return ModelData.checked(
        arrays, where=str(path), joint_names=tuple(names.tolist()), side=texts["side"], info=info
    )


def read_npz(
    path: str | os.PathLike,
    *,
    keys: tuple[str, ...] | None = None,
    most_bytes: int = MOST_BYTES,
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` (those in `keys` if given) with size and type known before they are read; objects are refused.

    Each member's header is looked at first: a small file that would unpack into something huge, or that holds a
    pickled object, is a `UserError` and nothing of it is read.
    """
    path = Path(path)
    try:
        file = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: not an .npz file ({error})") from error
    arrays, total = {}, 0
    with file:
        for member in file.infolist():
            name = member.filename.removesuffix(".npy")
            if keys is not None and name not in keys:
                continue
            if name == member.filename or name in arrays:
                raise UserError(f"{path}: {member.filename!r} is not an array of an .npz, or is there twice")
            try:
                with file.open(member) as stream:
                    version = np.lib.format.read_magic(stream)
                    header = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = header(stream)
                if dtype.hasobject:
                    raise UserError(
                        f"{path}: {name}: expected numbers or text, found an array of Python objects"
                    )
                size = dtype.itemsize * int(np.prod(shape, dtype=object)) if shape else dtype.itemsize
                total += size
                if total > most_bytes:
                    raise UserError(
                        f"{path}: {name}: expected at most {most_bytes} bytes in all, found an array of {shape} ({size} bytes)"
                    )
                with file.open(member) as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
            except (ValueError, zipfile.BadZipFile, EOFError, OSError, SyntaxError) as error:
                raise UserError(
                    f"{path}: {name}: not a readable array ({' '.join(str(error).split())[:200]})"
                ) from error
    return arrays
