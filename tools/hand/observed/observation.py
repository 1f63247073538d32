"""What was seen of one hand or body, whatever file it came in."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fieldstone.core.errors import UserError

from ....render.cameras import Cameras
from ..fitting.scan import Scan

__all__ = ["UNITS", "Observation", "metres_per"]

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254}
"""Name of a unit -> metres."""


@dataclass(frozen=True)
class Observation:
    """b frames of one hand or body of one person, in metres and pixels. What the file did not hold is None."""

    where: str
    """The file, for messages."""
    side: str | None = None
    """"right" or "left" where the data says so."""
    joint_set: str | None = None
    """What the m keypoints are: a joint set of `fields.articulated.joint_sets`, or "joints" (the model's own)."""
    points: np.ndarray | None = None
    """(b, m, 3) metres, NaN where not seen."""
    pixels: np.ndarray | None = None
    """(b, c, m, 2), NaN where not seen."""
    confidence: np.ndarray | None = None
    """(b, m) of points, (b, c, m) of pixels, 0 to 1."""
    scans: list[Scan] | None = None
    """b scans or depth images."""
    masks: list[list[np.ndarray]] | None = None
    """b lists of c masks (h, w) bool."""
    cameras: Cameras | None = None
    """c cameras, still through all frames."""
    frames_per_second: float | None = None
    """None: the frames are single poses, not a motion."""
    photos: tuple[str, ...] = ()
    """A photo of each camera at the first frame, for overlays."""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        counts = {
            name: len(value)
            for name in ("points", "pixels", "scans", "masks")
            if (value := getattr(self, name)) is not None
        }
        if not counts:
            raise UserError(f"{self.where}: nothing to fit: no keypoints, scans, depth or masks found")
        if len(set(counts.values())) > 1:
            raise UserError(
                f"{self.where}: expected as many frames of each kind, found "
                + ", ".join(f"{n} of {name}" for name, n in counts.items())
            )

    def __len__(self) -> int:
        return next(
            len(value) for value in (self.points, self.pixels, self.scans, self.masks) if value is not None
        )

    def kinds(self) -> list[str]:
        """What there is, in words."""
        words = []
        if self.points is not None:
            words.append(f"{self.points.shape[1]} keypoints in space ({self.joint_set})")
        if self.pixels is not None:
            views = self.pixels.shape[1]
            words.append(
                f"{self.pixels.shape[2]} keypoints ({self.joint_set}) in {views} view{'s' * (views > 1)}"
            )
        if self.scans is not None:
            points = sum(len(scan.points) for scan in self.scans)
            words.append(f"{'scans' if self.scans[0].complete else 'depth'} of {points} points")
        if self.masks is not None:
            words.append(f"{len(self.masks[0])} masks")
        return words


def metres_per(unit: object, where: str) -> float:
    """Metres per `unit`. Raises UserError for a unit that is missing or unknown: guessing it would be off by 1000."""
    if unit is None:
        raise UserError(
            f"{where}: unit is missing; write one of {', '.join(UNITS)} into the file, or give --unit"
        )
    if unit not in UNITS:
        raise UserError(f"{where}: unit: expected one of {', '.join(UNITS)}, found {unit!r}")
    return UNITS[unit]
