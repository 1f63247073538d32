"""Checkpoints: one safetensors file of plain tensors, with a JSON record in its header."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path

__all__ = [
    "CHECKPOINT_FORMAT",
    "load_checkpoint",
    "prefixed",
    "restore_generator",
    "save_checkpoint",
    "select",
]

CHECKPOINT_FORMAT = 1
"""Raised when the meaning of a stored record changes; a file of another format is refused."""

_RECORD = "fieldstone"


def save_checkpoint(path: str | os.PathLike, tensors: dict[str, Tensor], record: dict) -> None:
    """Replaces `path` by `tensors` (any shapes, copied to the CPU) and `record` (plain JSON data).

    The file is whole or absent: when writing fails (a full disk, a quota) a `UserError` says why and the
    previous checkpoint is still there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # save_file refuses tensors that share memory and those that are not contiguous
    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    seen: set[int] = set()
    for name, tensor in plain.items():
        if tensor.numel() and tensor.untyped_storage().data_ptr() in seen:
            plain[name] = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
    metadata = {_RECORD: json.dumps({"format": CHECKPOINT_FORMAT, **record}, allow_nan=False)}
    try:
        with atomic_path(path) as temporary:
            save_file(plain, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: the checkpoint cannot be written ({error}); the previous one is kept: "
            "free some space, then resume"
        ) from error


def load_checkpoint(path: str | os.PathLike, prefix: str = "") -> tuple[dict[str, Tensor], dict]:
    """The tensors (on the CPU) whose names begin with `prefix`, and the record; `UserError` when absent, damaged or of another format."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint here; the run has not saved one yet, train it with --resume")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            record = json.loads((file.metadata() or {}).get(_RECORD, "null"))
            # clones, because the file may be replaced while its pages are still mapped
            names = [name for name in file.keys() if name.startswith(prefix)]
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            f"{path}: the checkpoint is damaged ({error}); delete it to train the run from its start"
        ) from error
    if not isinstance(record, dict):
        raise UserError(
            f"{path}: a safetensors file that Fieldstone did not write: it has no training record"
        )
    if record.get("format") != CHECKPOINT_FORMAT:
        raise UserError(
            f"{path}: checkpoint format {record.get('format')!r}, and this version of Fieldstone reads "
            f"{CHECKPOINT_FORMAT}; use the version that wrote it"
        )
    return tensors, record


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, detached, under names that begin with `prefix`; `select` is the way back."""
    return {prefix + name: tensor.detach() for name, tensor in tensors.items()}


def select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Goes on with the random numbers of `state` (`Generator.get_state`), or, where it comes from another kind of device, whose states
    are of another make, with new ones that follow from it."""
    state = state.cpu()
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
    else:
        digest = hashlib.sha256(state.numpy().tobytes()).digest()
        generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _plain(tensor: Tensor) -> Tensor:
    return torch.as_tensor(tensor).detach().to("cpu").contiguous()
