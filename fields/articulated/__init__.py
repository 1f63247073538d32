"""Articulated hands and bodies: MANO's and SMPL+H's family of models (Romero et al. 2017)."""

from __future__ import annotations

from fieldstone.core.lazy import public_names

_PUBLIC = {
    "ArticulatedModel": ".model",
    "Identity": ".model",
    "ModelData": ".model_data",
    "Posed": ".model",
    "read_model": ".model_file",
    "write_model": ".model_file",
}

__all__ = list(_PUBLIC)

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
