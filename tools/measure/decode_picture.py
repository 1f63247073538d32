"""A decoded capture as pictures: distance, shaded relief and the uncertainty of each pixel."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .colour_map import coloured, strip
from .result import Measurement
from .svg import Drawing

__all__ = ["pictures"]

_WIDTH = 640


def pictures(measurement: Measurement, cloud: Cloud) -> dict[str, str]:
    """{title: inline SVG}, in the left camera's image; none for a cloud that is not organised."""
    if cloud.shape is None or cloud.pixels is None:
        return {}
    unit = measurement.unit or "no unit"
    out = {
        "Distance from the left camera": _picture(cloud, cloud.points[:, 2], f"z ({unit})"),
        "Relief, lit from above left": _relief(cloud),
    }
    if cloud.sigma is not None:
        out["Standard deviation of each point"] = _picture(
            cloud, cloud.sigma, f"sigma along the line of sight ({unit})", top=95
        )
    return out


def _image(cloud: Cloud, values: np.ndarray) -> np.ndarray:
    """(h, w) of `values` (n,), NaN where there is no point, reduced to about the picture's width by taking every k-th pixel."""
    image = np.full(cloud.shape[0] * cloud.shape[1], np.nan)
    image[cloud.pixels] = values
    step = max(1, -(-cloud.shape[1] // _WIDTH))
    return image.reshape(cloud.shape)[::step, ::step]


def _drawn(cloud: Cloud, rgba: np.ndarray) -> Drawing:
    h, w = cloud.shape
    drawing = Drawing(
        _WIDTH,
        int((_WIDTH - 72) * h / w) + 76,
        (0.0, float(w)),
        (-float(h), 0.0),
        "column (pixels)",
        "row (pixels)",
    )
    drawing.image(rgba, (0.0, float(w)), (-float(h), 0.0))
    return drawing


def _picture(cloud: Cloud, values: np.ndarray, label: str, top: float = 99) -> str:
    low, high = (float(v) for v in np.percentile(values, [1, top]))
    drawing = _drawn(cloud, coloured(_image(cloud, values), low, high))
    drawing.note(f"{len(values):,} of {cloud.shape[0] * cloud.shape[1]:,} pixels")
    return drawing.to_svg(y_ticks=False) + strip(low, high, label, width=_WIDTH)


def _relief(cloud: Cloud) -> str:
    x, y, z = (_image(cloud, cloud.points[:, i]) for i in range(3))
    p = np.stack([x, y, z], axis=-1)
    along, down = (np.roll(p, -2, axis) - np.roll(p, 2, axis) for axis in (1, 0))
    normal = np.cross(along, down)
    with np.errstate(invalid="ignore", divide="ignore"):
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal *= np.where(normal[..., 2:] > 0, -1, 1)
    light = np.array([-0.45, -0.55, -0.7])
    shade = np.clip(normal @ light / np.linalg.norm(light), 0, 1)
    grey = np.where(np.isfinite(shade), 40 + 205 * shade, 0)
    alpha = np.where(np.isfinite(shade), 255, 0)
    return _drawn(cloud, np.stack([grey, grey, grey, alpha], axis=-1).astype(np.uint8)).to_svg(y_ticks=False)
