"""Does a calibration fit the images? Features seen by both cameras must lie on the same row of the rectified frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calibration import StereoCalibration
from .geometry import rectification, undistorted
from .phase import PhaseMap

__all__ = ["RowError", "row_error"]

_FEATURES = 1500


@dataclass(frozen=True)
class RowError:
    """How far apart across the rows both cameras see the same features, in pixels."""

    median: float
    """Of the absolute differences; NaN where fewer than `needed` features were found in both."""
    offset: float
    """Median of the signed differences: a pair that was knocked, not a noisy one."""
    features: int
    needed: int = 12

    @property
    def decided(self) -> bool:
        return self.features >= self.needed


def row_error(left: PhaseMap, right: PhaseMap, calibration: StereoCalibration) -> RowError:
    """Matches ORB features (Rublee et al. 2011) of the mean images. The phase vouches for a match, as both cameras see the same
    fringe there, whatever the calibration says.
    """
    import cv2

    detector = cv2.ORB_create(_FEATURES)
    found = []
    for side in (left, right):
        top = float(np.percentile(side.mean[::4, ::4], 99)) or 1.0
        grey = np.clip(side.mean * (255 / top), 0, 255).astype(np.uint8)
        lit = (side.modulation > 0.1 * float(np.percentile(side.modulation[::4, ::4], 95))).astype(np.uint8)
        keypoints, descriptors = detector.detectAndCompute(grey, lit)
        places = np.array([k.pt for k in keypoints], np.float64).reshape(-1, 2)
        found.append((places, descriptors))
    (at_left, words_left), (at_right, words_right) = found
    if words_left is None or words_right is None:
        return RowError(float("nan"), float("nan"), 0)
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words_left, words_right)
    if not pairs:
        return RowError(float("nan"), float("nan"), 0)
    at_left = at_left[[m.queryIdx for m in pairs]]
    at_right = at_right[[m.trainIdx for m in pairs]]
    difference = _phase_at(left, at_left) - _phase_at(right, at_right)
    slope = np.nanmedian(np.abs(np.diff(right.phase[::8], axis=1)))
    same = np.abs(difference) < 4 * slope
    if same.sum() < RowError(0, 0, 0).needed:
        return RowError(float("nan"), float("nan"), int(same.sum()))
    rows = []
    frame = rectification(calibration)
    for places, is_right, turn in ((at_left, False, frame.left), (at_right, True, frame.right)):
        slopes = undistorted(calibration, places[same], is_right)
        direction = np.column_stack([slopes, np.ones(len(slopes))]) @ turn.T
        rows.append(direction[:, 1] / direction[:, 2])
    error = (rows[0] - rows[1]) * calibration.left.matrix[1, 1]
    return RowError(float(np.median(np.abs(error))), float(np.median(error)), int(same.sum()))


def _phase_at(side: PhaseMap, places: np.ndarray) -> np.ndarray:
    h, w = side.phase.shape
    column = np.clip(np.rint(places[:, 0]).astype(int), 0, w - 1)
    row = np.clip(np.rint(places[:, 1]).astype(int), 0, h - 1)
    return side.phase[row, column]
