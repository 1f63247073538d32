"""A simulated measurement written to a folder: cloud or fringe images, calibration, and the truth in the form of a report."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path

from ..cloud import Cloud
from ..result import write_json
from .fringes import Imaging, render_fringes
from .part import Part
from .scanner import Flaws, Rig, scan, stereo_rig, view_pose
from .surface import sample_surface

__all__ = ["WAYS", "write_images", "write_simulation"]

WAYS = ("scan", "surface", "images")
"""A scanner's cloud, points from all sides, or the scanner's images."""


def write_simulation(
    folder: str | os.PathLike,
    part: Part,  # in its own frame
    rng: np.random.Generator,
    *,
    way: str = "scan",
    unit: str = "mm",
    points: int = 100_000,  # of way "surface"
    noise: float = 0.05,  # mm; of way "images": the sensor's, times 20 (0.05 mm is its default)
    width: int = 2048,
    view: float = 340.0,  # mm
    tilt_deg: float = 15.0,
    azimuth_deg: float = 60.0,
    flaws: Flaws | None = None,
) -> dict[str, Path]:
    """Writes and returns the files by what they are: "cloud" or "images" and "calibration", and "truth".

    Scans and images are in the left camera's frame, and so is their truth; surface points in the part's own.
    """
    folder = Path(folder)
    if way not in WAYS:
        raise UserError(f"way {way!r}: give one of {', '.join(WAYS)}")
    if way == "surface":
        cloud, _ = sample_surface(part, points, rng, noise=noise)
        return {"cloud": _write_cloud(folder, part, cloud, unit), "truth": _write_truth(folder, part, unit)}
    rig = stereo_rig(
        width=width, height=width * 3 // 4, view=view, flaws=flaws or Flaws(noise=noise, blur=0.4)
    )
    placed = part.placed(view_pose(rig, tilt_deg=tilt_deg, azimuth_deg=azimuth_deg))
    if way == "scan":
        cloud, _ = scan(placed, rig, rng)
        return {"cloud": _write_cloud(folder, part, cloud, unit), "truth": _write_truth(folder, placed, unit)}
    scale = (noise / 0.05) ** 2
    imaging = Imaging(noise_floor=Imaging.noise_floor * scale, noise_gain=Imaging.noise_gain * scale)
    write_images(folder, *render_fringes(placed, rig, rng, imaging))
    return {
        "images": folder,
        "calibration": _write_rig(folder, rig, unit),
        "truth": _write_truth(folder, placed, unit),
    }


def write_images(folder: Path, left: np.ndarray, right: np.ndarray) -> None:
    """(n, h, w) stacks to folder/L and folder/R as 00.png, 01.png, ..."""
    import cv2

    for side, stack in (("L", left), ("R", right)):
        for i, image in enumerate(stack):
            with atomic_path(Path(folder) / side / f"{i:02d}.png") as temporary:
                if not cv2.imwrite(str(temporary), image):
                    raise UserError(f"{folder}: image {i} could not be written")


def _write_cloud(folder: Path, part: Part, cloud: Cloud, unit: str) -> Path:
    from ..io import write_ply

    path = folder / f"{part.name}.ply"
    write_ply(path, cloud.to_unit(unit))
    return path


def _write_truth(folder: Path, part: Part, unit: str) -> Path:
    path = folder / "truth.json"
    write_json(path, *part.truth(unit))
    return path


def _write_rig(folder: Path, rig: Rig, unit: str) -> Path:
    from ..structured_light.calibration import write_calibration

    path = folder / "calibration.yml"
    write_calibration(path, rig.calibration.to_unit(unit))
    return path
