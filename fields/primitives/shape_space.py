"""Codes to shapes and points to codes: the auto-encoder's two halves.

The paper's: codes of 8 numbers on the unit sphere, a decoder that moves the vertices of a sphere, a point encoder with a maximum over
points, both with four layers of 512 (Lu, Xu et al. 2023, section 3; sizes from the released code). Ours: two layers of 128, trained on patches that
are generated (`patches.py`), and a code for the sphere that is learned with the rest instead of being written into the program.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path

from .icosphere import template

__all__ = [
    "CODE",
    "PatchEncoder",
    "ShapeDecoder",
    "ShapeSpace",
    "bundled_shapes",
    "load_shapes",
    "save_shapes",
]

CODE = 8
HIDDEN = 128
BUNDLED = Path(__file__).parent / "data" / "shapes.npz"


class ShapeDecoder(nn.Module):
    """Codes (n, 8) of any length but 0 to vertices (n, 42, 3), in units of the voxel's half diagonal, about its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(CODE, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 42 * 3),
        )
        nn.init.zeros_(self.layers[-1].bias)
        self.register_buffer("sphere", template().vertices.clone(), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes are brought to unit length first, at every decode. Differentiable."""
        codes = nn.functional.normalize(codes, dim=-1, eps=1e-6)
        return self.sphere + self.layers(codes).unflatten(-1, (42, 3))


class PatchEncoder(nn.Module):
    """Points (n, m, 3) of each patch, in the decoder's frame, to unit codes (n, 8). The order of points does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * HIDDEN)
        )
        self.head = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CODE))

    def forward(
        self,
        points: Tensor,  # (n, m, 3)
        there: Tensor | None = None,  # (n, m) bool, at least one a row; None: all
    ) -> Tensor:
        features = self.points(points)
        if there is not None:
            features = features.masked_fill(~there[..., None], -torch.inf)
        return nn.functional.normalize(self.head(features.amax(1)), dim=-1, eps=1e-6)


class ShapeSpace(NamedTuple):
    """A trained auto-encoder; frozen where it comes from a file."""

    decoder: ShapeDecoder
    encoder: PatchEncoder
    sphere: Tensor
    """(8,) unit: the code that decodes to (nearly) the template."""


def save_shapes(path: str | os.PathLike, space: ShapeSpace) -> None:
    """Writes the weights as .npz, whole or not at all."""
    arrays = {"sphere": space.sphere.detach().numpy()}
    for name, module in (("decoder", space.decoder), ("encoder", space.encoder)):
        arrays |= {f"{name}.{key}": value.detach().numpy() for key, value in module.state_dict().items()}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{key: value.astype(np.float32) for key, value in arrays.items()})


def load_shapes(path: str | os.PathLike) -> ShapeSpace:
    """Inverse of `save_shapes`, frozen. Raises UserError for a file that is not one of ours."""
    space = ShapeSpace(ShapeDecoder(), PatchEncoder(), torch.zeros(CODE))
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: torch.from_numpy(stored[key].astype(np.float32)) for key in stored.files}
        if not all(torch.isfinite(value).all() for value in arrays.values()):
            raise ValueError("a weight is not finite")
        for name, module in (("decoder", space.decoder), ("encoder", space.encoder)):
            own = {key[len(name) + 1 :]: v for key, v in arrays.items() if key.startswith(f"{name}.")}
            module.load_state_dict(own)
            module.requires_grad_(False)
        sphere = arrays["sphere"].reshape(CODE)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: not a shape space of mesh primitives ({error}); train one anew") from error
    return space._replace(sphere=sphere)


@cache
def bundled_shapes() -> ShapeSpace:
    """The weights that come with Fieldstone: made by `python -m fieldstone.tools.training.primitive_shapes`."""
    return load_shapes(BUNDLED)
