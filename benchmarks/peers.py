"""The hash encodings of other toolkits behind one small interface, for benchmarks/encode.py.

Neither package is a dependency; one that cannot be imported is reported as such. `requirements.txt` beside this
file names the versions. nerfstudio's encoding is asked for in the one process that also runs ours, so what its import
pulls in without using it is replaced: `viser.transforms`, which only its camera-path and scene-box code calls.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from fieldstone.fields import HashGrid

__all__ = ["Cases", "NotInstalled", "drjit_cases", "drjit_values", "nerfstudio_cases"]


class NotInstalled(Exception):
    """A peer that cannot be imported; the message says why."""


@dataclass(frozen=True)
class Cases:
    """The same three pieces of work for each toolkit. Each waits until its results are in memory."""

    name: str
    forward: Callable[[], object]
    forward_backward: Callable[[], object]
    """With the gradient of the table, from a zeroed or a fresh buffer, whichever the toolkit does."""
    with_positions: Callable[[], object]
    """The same and the gradient of the positions."""


def nerfstudio_cases(grid: HashGrid, positions: np.ndarray, gradient: np.ndarray) -> Cases:
    """nerfstudio's torch encoding with `grid`'s levels; its definition differs (no dense levels, no half-cell offset).

    `positions` (n, 3) in [0, 1] and `gradient` (n, levels * features), float32.
    """
    try:
        try:
            import viser.transforms  # noqa: F401
        except ImportError:
            sys.modules["viser"] = types.ModuleType("viser")
            sys.modules["viser.transforms"] = types.ModuleType("viser.transforms")
            sys.modules["viser"].transforms = sys.modules["viser.transforms"]
        from nerfstudio.field_components.encodings import HashEncoding
    except ImportError as error:
        raise NotInstalled(f"nerfstudio not installed ({error})") from error

    levels = grid.levels
    finest = levels.base_resolution * levels.per_level_scale ** (levels.levels - 1)
    encoding = HashEncoding(
        num_levels=levels.levels,
        min_res=levels.base_resolution,
        max_res=round(finest),
        log2_hashmap_size=levels.log2_table_size,
        features_per_level=levels.features,
        implementation="torch",
    )
    x, dy = torch.from_numpy(positions), torch.from_numpy(gradient)
    x_grad = x.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            encoding(x)

    def forward_backward() -> None:
        encoding.hash_table.grad = None
        encoding(x).backward(dy)

    def with_positions() -> None:
        encoding.hash_table.grad = x_grad.grad = None
        encoding(x_grad).backward(dy)

    name = f"nerfstudio {version('nerfstudio')} (torch)"
    return Cases(name, forward, forward_backward, with_positions)


def _drjit():
    """Dr.Jit on its LLVM back end, with the newest LLVM library of the system unless DRJIT_LIBLLVM_PATH names one."""
    if "DRJIT_LIBLLVM_PATH" not in os.environ:
        found = [
            p for root in ("/usr/lib/*-linux-gnu", "/usr/lib64") for p in glob.glob(f"{root}/libLLVM*.so*")
        ]
        found.sort(key=lambda path: [int(part) for part in re.findall(r"\d+", os.path.basename(path))])
        if found:
            os.environ["DRJIT_LIBLLVM_PATH"] = found[-1]
    try:
        import drjit
        import drjit.hashgrid
        import drjit.llvm.ad
    except ImportError as error:
        raise NotInstalled(f"Dr.Jit not installed ({error})") from error
    if not drjit.has_backend(drjit.JitBackend.LLVM):
        raise NotInstalled("Dr.Jit finds no LLVM library: install libllvm15 or set DRJIT_LIBLLVM_PATH")
    return drjit


def _drjit_encoding(drjit, grid: HashGrid):
    """Dr.Jit's encoding with `grid`'s levels and weights. It pads a level to F rows where tiny-cuda-nn pads to 8."""
    levels = grid.levels
    encoding = drjit.hashgrid.HashGridEncoding(
        drjit.llvm.ad.Float,
        levels.dims,
        n_levels=levels.levels,
        n_features_per_level=levels.features,
        hashmap_size=1 << levels.log2_table_size,
        base_resolution=levels.base_resolution,
        per_level_scale=levels.per_level_scale,
        torchngp_compat=True,
    )
    table = grid.table.detach().numpy().reshape(-1, levels.features)
    rows = np.empty((encoding.n_params // levels.features, levels.features), np.float32)
    for level in range(levels.levels):
        start, end = encoding.level_offset(level), encoding.level_offset(level + 1)
        ours = int(levels.offset[level])
        rows[start:end] = table[ours : ours + end - start]
    encoding.set_params(drjit.llvm.ad.Float(rows.reshape(-1)))
    drjit.eval(encoding.data)
    return encoding


def drjit_values(grid: HashGrid, positions: np.ndarray) -> np.ndarray:
    """What Dr.Jit's encoding gives at `positions` (n, 3) with `grid`'s weights, (n, levels * features)."""
    drjit = _drjit()
    encoding = _drjit_encoding(drjit, grid)
    points = drjit.llvm.ad.ArrayXf(np.ascontiguousarray(positions.T))
    return np.array(encoding(points).numpy()).T


def drjit_cases(grid: HashGrid, positions: np.ndarray, gradient: np.ndarray) -> Cases:
    """Dr.Jit's encoding on LLVM with `grid`'s levels and weights, tiny-cuda-nn's definition.

    Forward and backward are one evaluation, so that Dr.Jit may fuse them. Tracing in Python (about 3 ms) is included, as
    in any training loop of Dr.Jit's that is not frozen; compiled kernels come from its cache.
    """
    drjit = _drjit()
    encoding = _drjit_encoding(drjit, grid)
    arrays = drjit.llvm.ad.ArrayXf
    points, dy = arrays(np.ascontiguousarray(positions.T)), arrays(np.ascontiguousarray(gradient.T))
    drjit.eval(points, dy)

    def forward() -> None:
        with drjit.suspend_grad():
            drjit.eval(encoding(points))
            drjit.sync_thread()

    def backward(of_positions: bool) -> None:
        x = arrays(points)
        drjit.enable_grad(encoding.data)
        if of_positions:
            drjit.enable_grad(x)
        y = encoding(x)
        drjit.set_grad(y, dy)
        drjit.enqueue(drjit.ADMode.Backward, y)
        drjit.traverse(drjit.ADMode.Backward)
        drjit.eval(y, drjit.grad(encoding.data), *([drjit.grad(x)] if of_positions else []))
        drjit.sync_thread()
        drjit.disable_grad(encoding.data)

    name = f"Dr.Jit {drjit.__version__} (LLVM {'.'.join(map(str, drjit.detail.llvm_version()))})"
    return Cases(name, forward, lambda: backward(False), lambda: backward(True))
