"""A small real method for tests of the loop: it fits one picture with a coarse grid of colours, a millisecond
a step.

It has everything that makes exact resume hard: a table with sparse gradients, a dense group, and a random
generator. Tests load it as `--method tiny_method:TinyMethod`, with this folder on PYTHONPATH.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.tools.training.methods import ParameterGroup

DEFAULTS = {
    "backend": "auto",
    "precision": "auto",
    "cells": 16,
    "batch": 64,
    "sleep": 0.0,
    "poison": -1,
    "poison_loss": -1,
    "read": False,
}


class TinyMethod:
    name = "tiny"
    exports = frozenset({"views"})

    def __init__(self, capture, settings: dict, *, seed: int, device: str) -> None:
        unknown = set(settings) - set(DEFAULTS)
        if unknown:
            raise UserError(f"unknown setting {sorted(unknown)[0]!r}; there are {', '.join(DEFAULTS)}")
        self.capture, self.settings = capture, {**DEFAULTS, **settings}
        self.generator = torch.Generator().manual_seed(seed)
        cells = self.settings["cells"]
        self.table = (0.1 * torch.rand(cells * cells, 3, generator=self.generator)).requires_grad_()
        self.gain = torch.ones(3, requires_grad=True)

    def groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup("table", [self.table], 0.02, sparse=True),
            ParameterGroup("gain", [self.gain], 0.001),
        ]

    def before_step(self, step: int, progress: float) -> None:
        time.sleep(self.settings["sleep"])

    def batch(self, step: int):
        if self.settings["read"]:
            for frame in self.capture.splits["train"]:
                self.capture.images[int(frame)]
        where = torch.rand(self.settings["batch"], 2, generator=self.generator)
        truth = torch.stack([where[:, 0], where[:, 1], (7 * where[:, 0]).sin() ** 2], dim=1)
        return step, where, truth

    def loss(self, batch):
        step, where, truth = batch
        difference = self._colour(where) - truth
        loss = difference.square().mean()
        psnr = -10 * math.log10(float(loss.detach()))
        if step == self.settings["poison_loss"]:
            loss = loss * math.nan
        if step == self.settings["poison"]:
            # a finite loss whose gradient is not: sqrt at zero
            loss = loss + (self.gain.sum() * 0).sqrt()
        return loss, {"psnr": psnr, "rays": len(where), "samples": 2 * len(where)}

    def _colour(self, where: Tensor) -> Tensor:
        cells = self.settings["cells"]
        row, column = (where * cells).long().clamp(max=cells - 1).unbind(1)
        return self.table[row * cells + column] * self.gain

    def state(self) -> dict[str, Tensor]:
        return {"table": self.table, "gain": self.gain, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.table.copy_(state["table"])
            self.gain.copy_(state["gain"])
        self.generator.set_state(state["generator"])

    def scene(self) -> TinyScene:
        return TinyScene(self)


class TinyScene:
    """The picture, the same from everywhere, at the size of the camera asked for."""

    def __init__(self, method: TinyMethod) -> None:
        self.method = method

    @torch.no_grad()
    def render_view(self, cameras, index: int, *, background=None, normals=False) -> dict[str, Tensor]:
        width, height = (int(v) for v in cameras.sizes[index])
        rows, columns = np.mgrid[:height, :width]
        where = torch.tensor(
            np.stack([(rows.ravel() + 0.5) / height, (columns.ravel() + 0.5) / width], 1), dtype=torch.float32
        )
        colour = self.method._colour(where).reshape(height, width, 3).clamp(0, 1)
        ones = torch.ones(height, width)
        normals = torch.zeros(height, width, 3)
        normals[..., 2] = -1
        return {
            "colour": colour,
            "opacity": ones,
            "z_depth": 2 * ones,
            "z_depth_median": 2 * ones,
            "normals": normals,
        }
