"""The projected patterns: N-step phase shifting for where within a fringe, Gray code for which fringe.

A stripe pattern varies along the projector's columns only. With the projector coordinate u in [0, 1) and F = 2^bits fringes, image k
of the phase steps shows (1 + cos(2 pi F u - 2 pi k / N)) / 2; its wrapped phase is atan2(sum I_k sin(2 pi k / N), sum I_k cos(2 pi k / N))
(Creath 1988; Zuo et al., "Phase shifting algorithms for fringe projection profilometry", Opt. Lasers Eng. 109 (2018), section 3).
The Gray images number the fringes. With `complementary` one more bit is shown, which numbers the half fringes: the fringe number is
then taken from whichever of two codes has no edge near the wrapped phase, so no pixel is ever decoded at an edge of the code it uses
(Zhang et al., "Robust and efficient multi-frequency temporal phase unwrapping", and complementary Gray code, Sun et al. 2008).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Pattern", "binary_from_gray", "gray_from_binary"]

_MOST_STEPS, _MOST_BITS = 32, 12


@dataclass(frozen=True)
class Pattern:
    """Which images a capture consists of: first the phase steps, then the Gray bits, most significant first."""

    steps: int = 4
    """N phase steps, at least 3. From 4 on the noise of the images can be told from their differences."""
    bits: int = 5
    """Gray bits that number the 2^bits fringes."""
    complementary: bool = True
    """One more Gray image, which numbers half fringes."""
    inverse: bool = False
    """Each Gray image is followed by its inverse, and a bit is which of the two is brighter."""

    def __post_init__(self) -> None:
        if not 3 <= self.steps <= _MOST_STEPS:
            raise UserError(
                f"{self.steps} phase steps: at least 3 are needed, at most {_MOST_STEPS} supported"
            )
        if not 1 <= self.bits <= _MOST_BITS:
            raise UserError(f"{self.bits} Gray bits: give 1 to {_MOST_BITS}")

    @classmethod
    def of_count(
        cls, images: int, *, steps: int = 4, complementary: bool = True, inverse: bool = False
    ) -> Pattern:
        """The pattern that `images` images are. Raises `UserError` where no whole number of bits is left over."""
        gray = images - steps
        bits = gray // 2 if inverse else gray
        bits -= complementary
        if bits < 1 or (inverse and gray % 2):
            raise UserError(
                f"{images} images cannot be {steps} phase steps and a Gray code"
                f"{' with inverses' if inverse else ''}{' and a complementary bit' if complementary else ''}: "
                "state what was projected (--steps, --inverse, --no-complementary) or add the missing images"
            )
        return cls(steps, bits, complementary, inverse)

    @property
    def fringes(self) -> int:
        return 1 << self.bits

    @property
    def gray_bits(self) -> int:
        """Bits that are projected, the complementary one included."""
        return self.bits + self.complementary

    @property
    def images(self) -> int:
        return self.steps + self.gray_bits * (2 if self.inverse else 1)

    def phase_step(self, k: int) -> float:
        """The shift of phase image k, radians."""
        return 2 * math.pi * k / self.steps

    def intensities(
        self,
        u: np.ndarray,  # (...) projector coordinate in [0, 1)
        edge_sigma: float = 0.0,  # defocus of the projector: Gaussian, in units of u
    ) -> np.ndarray:
        """(images, ...) float64 in [0, 1]: what the projector shows at `u`, in the order of the files.

        Defocus rounds the edges of the Gray stripes and lowers the contrast of the fringes by exp(-(2 pi F sigma)^2 / 2).
        """
        u = np.asarray(u, np.float64)
        angle = 2 * math.pi * self.fringes * u
        contrast = math.exp(-0.5 * (2 * math.pi * self.fringes * edge_sigma) ** 2)
        out = np.empty((self.images, *u.shape))
        for k in range(self.steps):
            out[k] = 0.5 + 0.5 * contrast * np.cos(angle - self.phase_step(k))
        row = self.steps
        for bit in range(self.gray_bits):
            out[row] = _stripes(u, bit, edge_sigma)
            row += 1
            if self.inverse:
                out[row] = 1 - out[row - 1]
                row += 1
        return out


def gray_from_binary(value: np.ndarray | int) -> np.ndarray | int:
    """Reflected Gray code of a number: neighbours differ in one bit (Gray, US patent 2632058)."""
    return value ^ (value >> 1)


def binary_from_gray(code: np.ndarray | int, bits: int = 16) -> np.ndarray | int:
    """The number whose reflected Gray code is `code`, of at most `bits` bits."""
    shift = 1
    while shift < bits:
        code = code ^ (code >> shift)
        shift *= 2
    return code


def _stripes(u: np.ndarray, bit: int, sigma: float) -> np.ndarray:
    """Bit `bit` (0: most significant) of the Gray code of u. Its edges lie at odd multiples of 1 / 2^(bit + 1)."""
    cells = 1 << (bit + 1)
    if sigma <= 0:
        number = np.clip(np.floor(u * cells), 0, cells - 1).astype(np.int64)
        return (gray_from_binary(number) & 1).astype(np.float64)
    from scipy.special import erf

    value = np.zeros_like(u)
    for i in range(cells // 2):  # up at odd edges 1, 5, 9, ..., down at 3, 7, ...
        edge = (2 * i + 1) / cells
        value += (1 if i % 2 == 0 else -1) * 0.5 * (1 + erf((u - edge) / (sigma * math.sqrt(2))))
    return value
