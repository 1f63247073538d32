"""Numbers as colours, for maps: two-sided about zero, or from dark to bright; and the strip that tells which is which."""

from __future__ import annotations

import numpy as np

from .svg import Drawing

__all__ = ["coloured", "nice_ceiling", "strip"]

_TWO_SIDED = (
    np.array(  # blue, pale grey, red: zero is pale, and both signs are told apart by the colour-blind
        [[20, 60, 150], [90, 150, 215], [232, 232, 228], [235, 140, 85], [165, 25, 35]], np.float64
    )
)
_ONE_SIDED = np.array(
    [[48, 18, 59], [65, 105, 225], [27, 184, 190], [110, 205, 90], [250, 220, 50]], np.float64
)


def coloured(values: np.ndarray, low: float, high: float, *, two_sided: bool = False) -> np.ndarray:
    """(..., 4) uint8 RGBA of `values`; NaN is transparent."""
    scale = _TWO_SIDED if two_sided else _ONE_SIDED
    share = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-300), 0, 1) * (len(scale) - 1)
    at = np.minimum(share.astype(int), len(scale) - 2)
    rgb = scale[at] + (share - at)[..., None] * (scale[at + 1] - scale[at])
    alpha = np.where(np.isfinite(values), 255, 0)
    return np.concatenate([rgb, alpha[..., None]], axis=-1).round().astype(np.uint8)


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if not value > 0:
        return 1e-12
    unit = 10.0 ** np.floor(np.log10(value))
    return float(next(s * unit for s in (1, 2, 5, 10) if s * unit >= value * (1 - 1e-9)))


def strip(low: float, high: float, label: str, *, two_sided: bool = False, width: int = 640) -> str:
    """Inline SVG of the colours from `low` to `high`."""
    drawing = Drawing(width, 92, (low, high), (0.0, 1.0), label, "")
    ramp = coloured(np.linspace(low, high, 256)[None], low, high, two_sided=two_sided)
    drawing.image(ramp, (low, high), (0.0, 1.0), smooth=True)
    return drawing.to_svg(y_ticks=False)
