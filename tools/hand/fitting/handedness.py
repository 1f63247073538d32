"""Left and right: a hand's keypoints and scans are told from their mirror image by how well fingers bend and palms fit.

A fit of mirrored data costs what a fit with the mirrored model would (all bases of a left model are mirrored ones), so one model suffices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ....fields.articulated.model_data import ModelData
from ....render.cameras import Cameras
from .fit import Settings, fit_keypoints
from .keypoints import Keypoints
from .pixels import pixel_term, triangulate
from .scan import Scan
from .starts import surface_starts

__all__ = ["Handedness", "handedness", "mirrored"]

_SIGMA = 0.004
"""Metres: noise that is assumed of both, so that their costs compare."""
_FRAMES = 4
_BENT = 8
"""Placements that are bent onto a scan and its mirror image."""
_CLEARLY = 12.0
"""Difference of costs (twice a log likelihood ratio) from which a frame is called mirrored."""


@dataclass(frozen=True)
class Handedness:
    """Costs of the data as given and mirrored, a frame; `wrong` where the mirrored hand explains it clearly better."""

    given: float
    mirrored: float
    wrong: bool

    def __str__(self) -> str:
        return f"misfit {self.given:.3g} as given, {self.mirrored:.3g} mirrored"


def mirrored(points: np.ndarray) -> np.ndarray:
    """(..., 3) with x negated."""
    return points * np.array([-1.0, 1.0, 1.0])


def handedness(
    data: ModelData,
    *,
    keypoints: Keypoints | None = None,
    points: np.ndarray | None = None,  # (b, m, 3)
    pixels: np.ndarray | None = None,  # (b, c, m, 2)
    cameras: Cameras | None = None,
    scans: list[Scan] | None = None,
    settings: Settings | None = None,
) -> Handedness | None:
    """Compares up to four frames with their mirror image; None where the data cannot tell (one view, masks, depth from one side, bodies)."""
    if data.layout != "mano":
        return None
    if points is None and pixels is not None and len(cameras) > 1:
        points = triangulate(pixel_term(cameras, keypoints.mixture, pixels))
    if points is not None:
        full = np.isfinite(points).all(-1).sum(1)
        chosen = np.argsort(-full, kind="stable")[:_FRAMES]
        chosen = chosen[full[chosen] >= 8]
        if not len(chosen):
            return None
        own = replace(settings or Settings(), sigma=_SIGMA, smooth_angle=None)
        costs = [
            fit_keypoints(data, keypoints, p[chosen], own).cost / len(chosen)
            for p in (points, mirrored(points))
        ]
        return Handedness(*costs, wrong=costs[0] - costs[1] > _CLEARLY)
    if scans and scans[0].complete:
        scores = [surface_starts(data, s, bent=_BENT)[0].score for s in (scans[0], _mirrored_scan(scans[0]))]
        return Handedness(*(1e3 * s for s in scores), wrong=scores[1] < 0.75 * scores[0])
    return None


def _mirrored_scan(scan: Scan) -> Scan:
    """The scan's mirror image."""
    return replace(
        scan, points=mirrored(scan.points), normals=None if scan.normals is None else mirrored(scan.normals)
    )
