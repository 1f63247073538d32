"""The curve under which light without an upper bound is learned and compared.

mu-law (Kalantari and Ramamoorthi 2017, "Deep high dynamic range imaging", equation 8, mu = 5000): T(x) = log(1 + mu x) / log(1 + mu)
with x = radiance / peak. A squared error of T is the loss, so that dark parts count as an eye counts them; its PSNR is "psnr_mu".
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["MU", "compress", "expand"]

MU = 5000.0


def compress(radiance: np.ndarray, peak: float) -> np.ndarray:
    """Radiance of at least 0, any shape, to values that are 1 at the peak; float32."""
    return (np.log1p(MU / peak * np.maximum(radiance, 0)) / math.log1p(MU)).astype(np.float32)


def expand(value: np.ndarray, peak: float) -> np.ndarray:
    """The inverse of `compress`; float32."""
    return (np.expm1(np.asarray(value, np.float64) * math.log1p(MU)) * (peak / MU)).astype(np.float32)
