"""Which model a command means: a file, or the name of one that comes with Fieldstone."""

from __future__ import annotations

from pathlib import Path

from fieldstone.core.errors import UserError

from ...fields.articulated.built_in import BUILT_IN, built_in
from ...fields.articulated.model_data import ModelData
from ...fields.articulated.model_file import read_model, read_npz

__all__ = ["BUILT_IN", "is_ours", "model_data"]


def model_data(name: str) -> ModelData:
    """The model of that built-in name, else of that file: ours, or a MANO or SMPL one (read through the safe reader)."""
    if name in BUILT_IN:
        return built_in(name)
    path = Path(name)
    if not path.exists():
        raise UserError(
            f"{name}: neither a file nor a model that comes with Fieldstone ({', '.join(BUILT_IN)})"
        )
    if is_ours(name):
        return read_model(path)
    from ...fields.articulated.mano_file import read_mano

    return read_mano(path).data


def is_ours(name: str) -> bool:
    """Whether `model_data` reads it as ours: a built-in name, an `.npz` in our format, or nothing at all (it then says so)."""
    path = Path(name)
    if name in BUILT_IN or not path.exists():
        return True
    return path.suffix == ".npz" and "format" in read_npz(path, keys=("format",))
