"""A batch of lenses of any models: pixels to camera-space directions and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .distortion import fold_radius
from .fisheye import (
    project_equirectangular,
    project_fisheye,
    project_fov,
    unproject_equirectangular,
    unproject_fisheye,
    unproject_fov,
)
from .models import EQUIRECTANGULAR, FISHEYE, FOV, PERSPECTIVE, PINHOLE, lens_kinds, lens_table
from .perspective import project_perspective, project_pinhole, unproject_perspective, unproject_pinhole

__all__ = ["Lenses"]

_PROJECT = {
    PINHOLE: project_pinhole,
    PERSPECTIVE: project_perspective,
    FISHEYE: project_fisheye,
    FOV: project_fov,
    EQUIRECTANGULAR: project_equirectangular,
}
_UNPROJECT = {
    PINHOLE: unproject_pinhole,
    PERSPECTIVE: unproject_perspective,
    FISHEYE: unproject_fisheye,
    FOV: unproject_fov,
    EQUIRECTANGULAR: unproject_equirectangular,
}
_ITERATIVE = {PERSPECTIVE, FISHEYE}


@dataclass(frozen=True, eq=False)
class Lenses:
    """n lenses rewritten into one table, so that pixels of different models are handled a kind at a time."""

    table: Tensor
    """(n, 16) float64, the columns of `models.LENS_COLUMNS`."""
    kinds: Tensor
    """(n,) int64: which closed form."""
    present: tuple[int, ...]
    """The distinct kinds, ascending."""
    fold: Tensor
    """(n,) float64: radius at which the distortion stops being one to one (`distortion.fold_radius`)."""

    @staticmethod
    def of(models: tuple[str, ...], params: Tensor, sizes: Tensor) -> Lenses:
        """From names (n), COLMAP parameters (n, 12) and sizes (n, 2). Differentiable with respect to
        `params`.
        """
        table = lens_table(models, params, sizes)
        kinds = lens_kinds(models, table)
        coefficients = table.detach()[:, 4:15].cpu().numpy()
        distinct, inverse = np.unique(coefficients, axis=0, return_inverse=True)
        folds = np.array([fold_radius(row) for row in distinct], np.float64)[inverse.reshape(-1)]
        device = table.device
        return Lenses(
            table,
            torch.tensor(kinds, dtype=torch.int64, device=device),
            tuple(sorted(set(kinds))),
            torch.as_tensor(folds, dtype=torch.float64, device=device),
        )

    @property
    def all_pinhole(self) -> bool:
        return self.present == (PINHOLE,)

    @property
    def closed_form(self) -> bool:
        """Whether no lens of the batch needs iterations to unproject."""
        return not _ITERATIVE & set(self.present)

    def project(
        self,
        points: Tensor,  # (m, 3) float64, camera space
        index: Tensor,  # (m,) or (1,) int64
    ) -> Tensor:  # (m, 2)
        """Pixels; NaN (with zero gradient) where a point has no image. Differentiable with respect to
        `points`.
        """

        def one_kind(kind: int, rows: Tensor | slice, index: Tensor) -> Tensor:
            pixels, valid = _PROJECT[kind](points[rows], *self._arguments(kind, index))
            return torch.where(valid[:, None], pixels, math.nan)

        return self._by_kind(one_kind, index, len(points), 2, points.device)

    @torch.no_grad()
    def unproject(
        self,
        pixels: Tensor,  # (m, 2) float64
        index: Tensor,  # (m,) or (1,) int64
    ) -> Tensor:  # (m, 3)
        """Unit directions; NaN where no direction has this image. Not differentiable."""

        def one_kind(kind: int, rows: Tensor | slice, index: Tensor) -> Tensor:
            return _UNPROJECT[kind](pixels[rows], *self._arguments(kind, index))

        return self._by_kind(one_kind, index, len(pixels), 3, pixels.device)

    def _arguments(self, kind: int, index: Tensor) -> tuple[Tensor, ...]:
        lens = self.table[index]
        return (lens, self.fold[index]) if kind in _ITERATIVE else (lens,)

    def _by_kind(
        self,
        one_kind: Callable[[int, Tensor | slice, Tensor], Tensor],
        index: Tensor,
        count: int,
        width: int,
        device: torch.device,
    ) -> Tensor:
        if len(self.present) == 1:
            return one_kind(self.present[0], slice(None), index)
        if len(index) == 1:
            return one_kind(int(self.kinds[index[0]]), slice(None), index)
        kinds = self.kinds[index]
        result = torch.full((count, width), math.nan, dtype=torch.float64, device=device)
        for kind in self.present:
            rows = torch.nonzero(kinds == kind)[:, 0]
            if len(rows):
                result = result.index_copy(0, rows, one_kind(kind, rows, index[rows]))
        return result
