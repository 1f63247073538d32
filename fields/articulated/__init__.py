"""Articulated hands and bodies: MANO's and SMPL+H's family of models (Romero et al. 2017)."""

from __future__ import annotations

import importlib

_PUBLIC = {
    "ArticulatedModel": ".model",
    "Identity": ".model",
    "ModelData": ".model_data",
    "Posed": ".model",
    "read_model": ".model_file",
    "write_model": ".model_file",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
