"""The hash grid of tiny-cuda-nn itself, through its Python package `tinycudann` (NVIDIA GPUs, built by the user).

Our table is handed over as the encoding's parameters, unchanged: the layouts are one. tinycudann pads the batch to a multiple of
256 points and cuts it again. It computes in float32 here; under `torch.autocast("cuda", torch.float16)` in float16, which is what it
prefers and is made for: table values, interpolation weights and gradients then carry 11 bits, and the table's gradient
is summed in half precision with a loss scale of 128. Output and gradients come back as float32 either way.

tiny-cuda-nn is built with --use_fast_math, so a level's scale may differ from ours in its last bit, and a point by
that much of a cell. Once differentiable here; for second derivatives use the "reference" back end.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.lazy import require

from . import hash_reference
from .levels import GridLevels

__all__ = ["configuration", "encode"]


def configuration(levels: GridLevels, interpolation: str = "linear") -> dict[str, object]:
    """What tiny-cuda-nn calls an encoding's config, plain data (its DOCUMENTATION.md, "Grid")."""
    return {
        "otype": "Grid",
        "type": "Hash",
        "n_levels": levels.levels,
        "n_features_per_level": levels.features,
        "log2_hashmap_size": levels.log2_table_size,
        "base_resolution": levels.base_resolution,
        "per_level_scale": float(levels.per_level_scale),
        "interpolation": interpolation.capitalize(),
    }


@lru_cache(maxsize=16)
def _encoding(levels: GridLevels, interpolation: str, dtype: torch.dtype, device: torch.device):
    """The tinycudann module of a configuration, without parameters of its own."""
    tinycudann = require("tinycudann", purpose="the tcnn back end of the hash grid")
    module = tinycudann.Encoding(levels.dims, configuration(levels, interpolation), dtype=dtype)
    if module.params.numel() != levels.parameters:
        raise UserError(
            f"hash grid: this build of tinycudann has {module.params.numel()} parameters for {levels}, "
            f"the definition {levels.parameters}; use backend='cuda'"
        )
    module.params.data = module.params.data.new_empty(0)  # ours take their place in every call
    return module


def encode(
    x: Tensor,  # (n, D) in [0, 1]
    table: Tensor,  # (P,) float32, tiny-cuda-nn's layout
    levels: GridLevels,
    interpolation: str = "linear",
) -> Tensor:  # (n, L * F) float32
    """Looks up and interpolates every level. Differentiable with respect to x and table.

    Raises `UserError` where tinycudann cannot be imported, or lays out the table otherwise.
    """
    if x.shape[0] == 0:  # tinycudann launches nothing for no points, and has no gradient to give
        return hash_reference.encode(x, table, levels, interpolation)
    half = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.float16
    with torch.cuda.device_of(x):
        module = _encoding(levels, interpolation, torch.float16 if half else torch.float32, x.device)
        return torch.func.functional_call(module, {"params": table}, (x,)).float()
