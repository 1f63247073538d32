"""The models that come with Fieldstone, by name. None of them is MANO or SMPL, nor made from them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fieldstone.core.errors import UserError

from .mirror import mirror_model
from .model_data import ModelData
from .model_file import read_model

__all__ = ["BUILT_IN", "built_in"]

BUILT_IN = ("hand", "hand-left", "body", "anatomical-hand", "anatomical-hand-left", "anatomical-body")
"""hand and body are procedural (`procedural.build` makes their files); anatomical ones are built from CC0 assets on first use."""

_DATA = Path(__file__).resolve().parent / "data"


@lru_cache(maxsize=4)
def built_in(name: str) -> ModelData:
    """The named model. Raises `UserError` for an unknown name, or where the extra `bodies` is not installed."""
    if name not in BUILT_IN:
        raise UserError(f"unknown model {name!r}; there are {', '.join(BUILT_IN)}")
    if name.endswith("-left"):
        return mirror_model(built_in(name.removesuffix("-left")))
    if name.startswith("anatomical"):
        from .anatomical import anatomical_model

        return anatomical_model(name.removeprefix("anatomical-"))
    return read_model(_DATA / f"{name}.npz")
