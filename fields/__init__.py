"""What is learned: coordinates to density, colour, signed distance, signal."""

from __future__ import annotations

import importlib

_PUBLIC = {
    "GridLevels": ".encodings.levels",
    "HashGrid": ".encodings.hash_grid",
    "frequency_encoding": ".encodings.frequency",
    "RandomFourier": ".encodings.random_fourier",
    "integrated_encoding": ".encodings.integrated",
    "spherical_harmonics": ".encodings.spherical_harmonics",
    "Mlp": ".mlp.mlp",
    "CamMlp": ".modulation",
    "CoordinateModulation": ".modulation",
    "RadianceField": ".radiance",
    "RadianceSettings": ".radiance",
    "GridAdam": ".optim.adam",
    "learning_rate_factor": ".optim.schedule",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
