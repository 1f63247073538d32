"""The noise's standard deviation from residuals that hold outliers, or were cut at a threshold."""

from __future__ import annotations

import numpy as np

__all__ = ["CUT", "mixture_sigma", "truncation"]

CUT = 3.0
"""Residuals above CUT sigma are left out of a robust fit. Its estimates lose 1.5 % of efficiency to that (`truncation`)."""


def truncation(cut: float, dimensions: int) -> tuple[float, float]:
    """(share, shrink) of an isotropic Gaussian in `dimensions` cut at `cut` standard deviations.

    share: of the points that stay. shrink: by which the mean square of a component drops, share(d + 2) / share(d); in one
    dimension 1 - 2 c phi(c) / (2 Phi(c) - 1). A least-squares fit that repeats the cut until nothing changes is the M-estimator
    psi(r) = r 1(|r| < c), and by Stein's identity its covariance is sigma^2 (J^T J of the kept points)^-1 / shrink.
    """
    from scipy.special import gammainc

    if not np.isfinite(cut):
        return 1.0, 1.0
    share = float(gammainc(dimensions / 2, cut * cut / 2))
    return share, float(gammainc(dimensions / 2 + 1, cut * cut / 2)) / share


def mixture_sigma(
    residuals: np.ndarray,  # (n,) of a surface: signed or not; of a curve: lengths
    start: float,
    dimensions: int = 1,
    *,
    width: float = 0.0,  # over which the background reaches, if that is more than the largest residual
    floor: float = 0.0,
    ceiling: float = np.inf,
    rounds: int = 60,
) -> tuple[float, float]:
    """(sigma, share): the Gaussian about zero, and its share of the points, in a mixture with a uniform background.

    Expectation-maximisation from `start`. It widens when the residuals' bulk is wider than `start` and narrows when it is
    narrower, but does not cross a gap of some sigma: a step beside a face stays background.
    """
    r = np.abs(residuals)
    width = max(float(r.max(initial=0.0)), start, width)
    sigma, share = min(max(start, floor), ceiling), 0.5
    norm = (2 * np.pi) ** (dimensions / 2)
    # density of the uniform background over the same space: [-w, w], or the disc of radius w
    background = 1 / (2 * width) if dimensions == 1 else 1 / (np.pi * width**2)
    for _ in range(rounds):
        if sigma <= floor:
            return floor, float((r <= CUT * max(floor, 1e-300)).mean())
        gauss = share * np.exp(-0.5 * (r / sigma) ** 2) / (norm * sigma**dimensions)
        belongs = gauss / (gauss + (1 - share) * background + 1e-300)
        weight = belongs.sum()
        if weight < 1:
            return sigma, 0.0
        new = np.sqrt((belongs @ (r * r)) / (weight * dimensions))
        share = min(weight / len(r), 1 - 1e-9)
        done = abs(new - sigma) <= 1e-4 * sigma
        sigma = min(max(float(new), floor), ceiling)
        if done:
            break
    return sigma, float(share)
