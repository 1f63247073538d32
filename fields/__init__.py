"""What is learned: coordinates to density, colour, signed distance, signal."""

from __future__ import annotations

from fieldstone.core.lazy import public_names

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

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
