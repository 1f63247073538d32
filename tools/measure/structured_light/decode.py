"""From two sets of fringe images and a calibration to a point cloud with the uncertainty of each point."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..cloud import Cloud
from ..errors import NotMeasurable
from ..result import Measurement
from .calibration import StereoCalibration, read_calibration
from .epipolar import row_error
from .image_set import ImageSet, read_stereo_images
from .matching import Match, match
from .pattern import Pattern
from .phase import PhaseMap, decode_phase

__all__ = ["Decoded", "decode"]

_ROW_WARNING, _ROW_LIMIT = (
    0.7,
    2.0,
)  # pixels: a good calibration has 0.1 to 0.3; from 2 on rows of other things are matched
_SATURATED_WARNING = 0.02  # of the lit pixels
_LEAST_LIT, _LEAST_MATCHED = 0.005, 0.02


@dataclass(frozen=True)
class Decoded:
    """A decoded capture."""

    cloud: Cloud
    """Organised like the left image, in the left camera's frame, with `sigma` along the line of sight."""
    measurement: Measurement
    """Kind "decode": counts, noise, ripple and row error; its JSON is the record of the capture."""
    left: PhaseMap
    right: PhaseMap
    match: Match


def decode(
    images: str
    | os.PathLike
    | tuple[np.ndarray, np.ndarray],  # folder with L and R, or both (n, h, w) stacks
    calibration: StereoCalibration | str | os.PathLike,  # or a file, or a folder of files
    *,
    unit: str | None = None,  # of the calibration's translation, where it does not say
    steps: int = 4,
    complementary: bool = True,
    inverse: bool = False,
    min_modulation: float | None = None,  # grey values; None: 5 times the noise
    edge_modulation: float = 0.5,  # 0 keeps pixels that only half cover the part
    min_neighbours: int = 3,
    z_range: tuple[float, float] | None = None,  # in the calibration's unit
    check: bool = True,  # that the calibration fits the images
) -> Decoded:
    """Decodes a capture: `steps` phase images, then Gray code, per camera.

    The sigma of a point is what the cameras' noise makes of it, along the left camera's ray; what the calibration does not know
    (its own uncertainty) shifts neighbouring points together and is not in it.

    Raises `UserError` for images or a calibration that cannot be used or do not fit each other, `NotMeasurable` where too little of
    the pattern is seen.
    """
    if isinstance(images, tuple):
        left_set, right_set = (ImageSet(np.asarray(side), ()) for side in images)
        where = "the images"
        folder = None
    else:
        left_set, right_set = read_stereo_images(images)
        where, folder = str(images), Path(images)
    if not isinstance(calibration, StereoCalibration):
        calibration = read_calibration(calibration, unit=unit)
    elif unit is not None and calibration.unit is None:
        from dataclasses import replace

        calibration = replace(calibration, unit=unit)
    pattern = Pattern.of_count(
        len(left_set.images), steps=steps, complementary=complementary, inverse=inverse
    )
    if len(right_set.images) != len(left_set.images):
        raise UserError(
            f"{where}: {len(left_set.images)} left and {len(right_set.images)} right images; they must be as many"
        )
    warnings = [f"left: {w}" for w in left_set.warnings] + [f"right: {w}" for w in right_set.warnings]
    phases = []
    for name, side in (("left", left_set), ("right", right_set)):
        try:
            phases.append(
                decode_phase(
                    side.images, pattern, min_modulation=min_modulation, edge_modulation=edge_modulation
                )
            )
        except UserError as error:
            raise type(error)(f"{where}, {name} camera: {error}") from error
        warnings += _exposure(where, name, phases[-1])
    left, right = phases
    rows = None
    if check:
        _same_size(left, calibration, where)
        rows = row_error(left, right, calibration)
        warnings += _judged(rows, where, calibration)
    found = match(left, right, calibration, min_neighbours=min_neighbours, z_range=z_range)
    counts = found.counts
    if counts["matched"] < _LEAST_MATCHED * max(counts["valid"], 1):
        raise NotMeasurable(
            f"{where}: of {counts['valid']} left pixels with a phase only {counts['matched']} meet the same phase in the right image: "
            "are left and right swapped, or is the calibration of another pair?"
        )
    cloud = _cloud(found, left, calibration, folder, warnings)
    return Decoded(
        cloud, _record(cloud, found, left, right, pattern, rows, calibration, warnings), left, right, found
    )


def _same_size(phases: PhaseMap, calibration: StereoCalibration, where: str) -> None:
    h, w = phases.phase.shape
    if calibration.size and calibration.size != (w, h):
        raise UserError(
            f"{where}: images are {w} x {h}, the calibration ({calibration.source or 'given'}) is for {calibration.size[0]} x "
            f"{calibration.size[1]}: give the calibration of this camera mode, or images that were not scaled or cropped"
        )


def _exposure(where: str, name: str, phases: PhaseMap) -> list[str]:
    counts = phases.counts
    lit = counts["total"] - counts["dark"]
    if counts["valid"] < _LEAST_LIT * counts["total"]:
        raise NotMeasurable(
            f"{where}, {name} camera: {100 * counts['valid'] / counts['total']:.2g} % of the pixels carry a usable phase "
            f"({counts['dark']} too dark, {counts['saturated']} saturated, {counts['code']} outside the code): "
            f"{'shorten' if counts['saturated'] > counts['dark'] else 'lengthen'} the exposure, or check the pattern"
        )
    notes = []
    if counts["saturated"] > _SATURATED_WARNING * max(lit, 1):
        notes.append(
            f"{name} camera: {100 * counts['saturated'] / lit:.1f} % of the lit pixels are saturated and were left out; "
            "shorten the exposure or take a second, darker set"
        )
    if not phases.noise.estimated:
        notes.append(f"{name} camera: too few lit pixels to measure the noise; 1 grey value was assumed")
    return notes


def _judged(rows, where: str, calibration: StereoCalibration) -> list[str]:
    if not rows.decided:
        return [
            f"whether the calibration fits the images was not checked: only {rows.features} features are seen by both cameras, {rows.needed} are needed"
        ]
    if rows.median > _ROW_LIMIT:
        raise UserError(
            f"{where}: the calibration ({calibration.source or 'given'}) does not fit: {rows.features} features that both cameras see lie "
            f"{rows.median:.1f} pixels apart across the rectified rows (median; a good calibration has under 0.5). "
            "Calibrate again, or give the calibration that was made with the cameras where they are"
        )
    if rows.median > _ROW_WARNING:
        return [
            f"the calibration fits poorly: features lie {rows.median:.2f} pixels (offset {rows.offset:+.2f}) apart across the rectified rows; "
            "calibrate again"
        ]
    return []


def _cloud(
    found: Match, left: PhaseMap, calibration: StereoCalibration, folder: Path | None, warnings: list[str]
) -> Cloud:
    shape = found.sigma.shape
    pixels = np.flatnonzero(np.isfinite(found.sigma.ravel()))
    grey = np.clip(left.mean.ravel()[pixels] * (255 / max(float(left.mean.max()), 1e-6)), 0, 255).astype(
        np.uint8
    )
    if calibration.unit is None:
        warnings.append(
            f"unit not known: the calibration's baseline is {calibration.baseline:.4g}; give --unit"
        )
    return Cloud(
        points=found.points.reshape(-1, 3)[pixels],
        origin=np.zeros(3),
        unit=calibration.unit,
        colours=np.repeat(grey[:, None], 3, axis=1),
        source=folder,
        warnings=tuple(warnings),
        shape=shape,
        pixels=pixels,
        sigma=found.sigma.ravel()[pixels],
        viewpoint=np.zeros(3),
    )


def _record(cloud, found, left, right, pattern, rows, calibration, warnings) -> Measurement:
    sides = {
        name: {
            "pixels": side.counts,
            "noise_floor": side.noise.floor,
            "noise_gain": side.noise.gain,
            "noise_estimated": side.noise.estimated,
            "harmonic": side.ripple,
            "median_phase_sigma": float(np.median(side.sigma[np.isfinite(side.phase)])),
        }
        for name, side in (("left", left), ("right", right))
    }
    parameters = {
        "points": len(cloud),
        "median_sigma": float(np.median(cloud.sigma)),
        "baseline": calibration.baseline,
        "row_error": None if rows is None or not rows.decided else rows.median,
        "row_offset": None if rows is None or not rows.decided else rows.offset,
        "independence": found.independence,
    }
    return Measurement(
        kind="decode",
        unit=cloud.unit,
        parameters=parameters,
        covariance=np.zeros((0, 0)),
        covariance_names=[],
        rms=float(np.sqrt(np.mean(cloud.sigma**2))),
        n_used=len(cloud),
        n_total=int(found.sigma.size),
        warnings=list(warnings),
        input=cloud.input_record(),
        extras={
            "pattern": {
                "steps": pattern.steps,
                "bits": pattern.bits,
                "complementary": pattern.complementary,
                "inverse": pattern.inverse,
            },
            "left": sides["left"],
            "right": sides["right"],
            "match": found.counts,
            "calibration": calibration.source,
        },
    )
