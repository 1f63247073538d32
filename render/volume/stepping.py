"""Step lattices along a ray.

A ray's samples lie on a lattice that is uniform in "step space" s: constant steps near the camera, steps that grow with distance
(a cone) further out, constant again at the largest step. t(s) and s(t) are closed forms, so empty space is left in one jump that
lands on the same lattice, and the samples of a ray do not depend on how rays were batched.
After Mueller et al. 2022, appendix E.1; the closed form with its three pieces is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Stepping"]


@dataclass(frozen=True)
class Stepping:
    """Steps of length `smallest` up to distance smallest/cone, then cone * t, then `largest`. Units of the field cube."""

    smallest: float
    """Length of a step near the camera (cube units)."""
    cone: float = 0.0
    """Growth: length of a step over its distance; 0 keeps every step at `smallest`."""
    largest: float = math.inf
    """Longest step."""

    def constants(self) -> tuple[float, float, float, float, float]:
        """(smallest, cone, t0, t1, largest): the cone acts for t0 < t < t1. What kernels take."""
        if self.smallest <= 0 or self.cone < 0 or self.largest < self.smallest:
            raise ValueError(f"need 0 < smallest <= largest and cone >= 0, got {self}")
        if self.cone == 0:
            return self.smallest, 0.0, math.inf, math.inf, self.largest
        return self.smallest, self.cone, self.smallest / self.cone, self.largest / self.cone, self.largest

    def to_steps(self, t: Tensor) -> Tensor:
        """s(t), monotone, s(0) = 0; any float dtype, elementwise."""
        smallest, cone, t0, t1, largest = self.constants()
        near = t.clamp(max=t0) / smallest
        if cone == 0:
            return near
        growth = math.log1p(cone)
        middle = torch.log(t.clamp(t0, t1) / t0) / growth
        far = (t - t1).clamp(min=0) / largest if math.isfinite(t1) else 0.0
        return near + middle + far

    def to_distance(self, s: Tensor) -> Tensor:
        """t(s), the inverse of `to_steps`."""
        smallest, cone, t0, t1, largest = self.constants()
        if cone == 0:
            return s * smallest
        growth = math.log1p(cone)
        s0 = t0 / smallest
        s1 = s0 + (math.log(t1 / t0) / growth if math.isfinite(t1) else math.inf)
        near = s.clamp(max=s0) * smallest
        middle = t0 * torch.expm1(growth * (s.clamp(s0, s1) - s0))
        far = (s - s1).clamp(min=0) * largest if math.isfinite(t1) else 0.0
        return near + middle + far
