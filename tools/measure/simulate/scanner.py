"""A stereo structured-light scanner: two cameras and a projector, and what goes wrong with them.

As a cloud: every left pixel's ray is cast, points seen by both cameras and lit by the projector are kept, and the position along the
ray gets the noise of phase matching,

    sigma_z = z^2 / (f b) sigma_disparity,   sigma_disparity = sqrt(2) sigma_phase / (d phase / d x),

scaled from `noise`, which is what a point facing the scanner at the working distance has. As images: see `fringes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from fieldstone.core.errors import UserError

from ..cloud import Cloud
from ..structured_light.calibration import Lens, StereoCalibration
from ..structured_light.geometry import rectification, undistorted
from ..structured_light.pattern import Pattern
from .caster_cpu import cast_rays, visible_from
from .part import Part, pose_from, rotation_about

__all__ = ["Flaws", "Projector", "Rig", "biased", "pixel_rays", "scan", "stereo_rig", "view_pose"]

_CHUNK = 1 << 19


@dataclass(frozen=True)
class Projector:
    """A pinhole that projects stripes: u = 1/2 + scale x / z in its own frame, 0 to 1 across the pattern."""

    position: np.ndarray
    """(3,) in the left camera's frame."""
    rotation: np.ndarray
    """(3, 3): projector direction = rotation @ direction."""
    scale: float

    def coordinate(self, points: np.ndarray) -> np.ndarray:  # (n, 3)
        """(n,) pattern coordinate u; outside [0, 1) where the pattern does not reach."""
        local = (points - self.position) @ self.rotation.T
        return 0.5 + self.scale * local[:, 0] / local[:, 2]


@dataclass(frozen=True)
class Flaws:
    """What the scanner does to a measurement. Lengths in mm; all zero: a perfect one."""

    noise: float = 0.0
    """Standard deviation along the line of sight, facing the scanner at the working distance."""
    blur: float = 0.0
    """Standard deviation of a point's lateral position, in left pixels: the lens and the pixel's footprint."""
    mixed: float = 0.0
    """Probability that a pixel whose footprint meets two depths gives a point between them."""
    steepest_deg: float = 80.0
    """Angle between normal and any of the three lines of sight beyond which a point is lost."""
    drop_out: float = 0.0
    """Part of the points that is lost in blotches (oil, dirt)."""
    clutter: float = 0.0
    """Part of the points that is replaced by ones anywhere along their ray."""
    ripple: float = 0.0
    """Amplitude of an error of depth that follows the fringes with `steps` periods each."""
    rotation_bias_deg: float = 0.0
    """The right camera has turned by this about y since it was calibrated."""
    scale_bias_ppm: float = 0.0
    """The baseline is longer than the calibration says."""


@dataclass(frozen=True)
class Rig:
    """A scanner at its place; the frame is the left camera's."""

    calibration: StereoCalibration
    projector: Projector
    pattern: Pattern
    distance: float
    """Working distance, mm."""
    flaws: Flaws = field(default_factory=Flaws)


def stereo_rig(
    *,
    width: int = 2048,
    height: int = 1536,
    distance: float = 600.0,  # mm, where the axes of both cameras meet
    baseline: float = 250.0,
    view: float = 280.0,  # mm, width of the field of view at that distance
    distortion: tuple[float, ...] = (-0.08, 0.12, 4e-4, -3e-4, -0.05),
    pattern: Pattern | None = None,
    flaws: Flaws | None = None,
) -> Rig:
    """A rig whose cameras converge on a point, the projector between them."""
    focal = width * math.hypot(distance, baseline / 2) / view
    half = math.degrees(math.atan2(baseline / 2, distance))
    matrix = np.array([[focal, 0, (width - 1) / 2 + 7.3], [0, focal, (height - 1) / 2 - 4.1], [0, 0, 1]])
    second = matrix + np.array([[3.1, 0, -11.2], [0, 2.4, 6.7], [0, 0, 0]]) * width / 2048
    coefficients = np.pad(np.array(distortion, float), (0, 12 - len(distortion)))
    # in a frame midway between the cameras, z towards the part
    left_turn, right_turn = rotation_about((0, 1, 0), -half), rotation_about((0, 1, 0), half)
    left_at, right_at = np.array([-baseline / 2, 0, 0]), np.array([baseline / 2, 0, 0])
    rotation = right_turn @ left_turn.T
    translation = right_turn @ (left_at - right_at)
    calibration = StereoCalibration(
        Lens(matrix, coefficients),
        Lens(second, coefficients * 0.9),
        rotation,
        translation,
        (width, height),
        "mm",
        "simulated",
    )
    middle = left_turn @ -left_at
    projector = Projector(middle, left_turn.T, distance / (view * 1.25))
    return Rig(
        calibration, projector, pattern or Pattern(), math.hypot(distance, baseline / 2), flaws or Flaws()
    )


def view_pose(
    rig: Rig,
    *,
    tilt_deg: float = 0.0,  # of the part's z axis away from the scanner
    azimuth_deg: float = 90.0,  # towards where, from right (0) to up (90)
    roll_deg: float = 0.0,  # of the part about its own axis
    shift: tuple[float, float, float] = (
        0.0,
        0.0,
        0.0,
    ),  # mm right, down, away, from where the cameras' axes meet
) -> np.ndarray:
    """(4, 4): part to left camera, so that the part's z axis looks at the scanner from the working distance."""
    towards = np.diag([1.0, -1.0, -1.0])  # z at the scanner, x to the right
    azimuth = math.radians(azimuth_deg)
    turn = rotation_about((math.sin(azimuth), math.cos(azimuth), 0.0), -tilt_deg) @ towards
    middle = rig.projector.rotation.T  # the projector looks along the middle of both cameras
    reach = math.sqrt(rig.distance**2 - float(rig.projector.position @ rig.projector.position))
    at = rig.projector.position + middle @ (np.array([0, 0, reach]) + shift)
    return pose_from(middle @ turn @ rotation_about((0, 0, 1), roll_deg), at)


def biased(calibration: StereoCalibration, flaws: Flaws) -> StereoCalibration:
    """What the scanner believes about itself: the true calibration without the changes since."""
    turn = rotation_about((0, 1, 0), -flaws.rotation_bias_deg)
    return replace(
        calibration,
        rotation=turn @ calibration.rotation,
        translation=turn @ calibration.translation / (1 + flaws.scale_bias_ppm * 1e-6),
    )


def pixel_rays(rig: Rig, pixels: np.ndarray, right: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and unit directions (n, 3), in the left camera's frame, of the rays through pixels (n, 2) of either camera."""
    c = rig.calibration
    slopes = undistorted(c, pixels, right)
    directions = np.column_stack([slopes, np.ones(len(slopes))])
    origin = np.zeros(3)
    if right:
        directions = directions @ c.rotation
        origin = -c.rotation.T @ c.translation
    return origin, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def scan(
    part: Part,  # in the left camera's frame, mm
    rig: Rig,
    rng: np.random.Generator,
) -> tuple[Cloud, np.ndarray]:
    """The cloud that the scanner delivers, organised like the left image, and the label number of each point (-1: clutter).

    Deterministic for a given generator. Raises `UserError` where the scanner sees nothing of the part.
    """
    if part.unit != "mm":
        raise UserError(f"the scanner works in mm, the part is in {part.unit}")
    width, height = rig.calibration.size
    flaws, table = rig.flaws, part.table()
    rows, columns = np.mgrid[:height, :width]
    pixels = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float64)
    parts = []
    for begin in range(0, len(pixels), _CHUNK):
        parts.append(_scan_chunk(table, rig, pixels[begin : begin + _CHUNK], begin, rng))
    z, direction, sigma, label, index = (np.concatenate(values) for values in zip(*parts))
    if not len(z):
        raise UserError(
            f"{part.name}: the scanner sees nothing of it; place it in front of the left camera, near z = {rig.distance:.0f} mm"
        )
    if flaws.drop_out > 0:
        keep = _blotches(index, (height, width), flaws.drop_out, rng)
        z, direction, sigma, label, index = (a[keep] for a in (z, direction, sigma, label, index))
    if flaws.clutter > 0:
        stray = rng.random(len(z)) < flaws.clutter
        low, high = z.min(), z.max()
        reach = 0.1 * rig.distance
        z[stray] = rng.uniform(low - reach, high + reach, int(stray.sum()))
        label = np.where(stray, -1, label)
    points = direction * (z / direction[:, 2])[:, None]
    cloud = Cloud(
        points=points,
        origin=np.zeros(3),
        unit="mm",
        shape=(height, width),
        pixels=index,
        sigma=sigma if flaws.noise > 0 else None,
        viewpoint=np.zeros(3),
    )
    return cloud, label


def _scan_chunk(table, rig: Rig, pixels: np.ndarray, begin: int, rng: np.random.Generator):
    flaws, c = rig.flaws, rig.calibration
    looked = pixels + rng.normal(0, flaws.blur, pixels.shape) if flaws.blur > 0 else pixels
    origin, directions = pixel_rays(rig, looked)
    distance, face, normal = cast_rays(table, origin, directions)
    hit = np.flatnonzero(face >= 0)
    points, normals, face = directions[hit] * distance[hit, None], normal[hit], face[hit]
    limit = math.cos(math.radians(flaws.steepest_deg))
    facing = [visible_from(table, points, normals, np.zeros(3))]
    facing.append(visible_from(table, points, normals, -c.rotation.T @ c.translation))
    facing.append(visible_from(table, points, normals, rig.projector.position))
    u = rig.projector.coordinate(points)
    good = np.all([f > limit for f in facing], axis=0) & (u >= 0) & (u < 1)
    hit, points, face, u = hit[good], points[good], face[good], u[good]
    projector_facing = facing[2][good]
    if flaws.mixed > 0:
        points = _mix(table, rig, pixels[hit], points, rng)
    nominal = directions[hit] if looked is pixels else pixel_rays(rig, pixels[hit])[1]
    z = points[:, 2].copy()
    # noise of disparity grows where little light falls, and acts along the ray with z^2
    to_projector = np.linalg.norm(points - rig.projector.position, axis=1)
    light = projector_facing * (rig.distance / to_projector) ** 2
    sigma = flaws.noise * (z / rig.distance) ** 2 / np.maximum(light, 0.05)
    range_error = rng.normal(0, 1, len(z)) * sigma if flaws.noise > 0 else 0.0
    if flaws.ripple > 0:
        turns = rig.pattern.fringes * rig.pattern.steps * u
        range_error = range_error + flaws.ripple * np.sin(2 * np.pi * turns)
    if flaws.rotation_bias_deg or flaws.scale_bias_ppm:
        z = _believed_z(c, biased(c, flaws), nominal, points)
    z = z + range_error * nominal[:, 2]
    label = table.label_of(face)
    return z, nominal, sigma, label, hit + begin


def _mix(table, rig: Rig, pixels, points, rng) -> np.ndarray:
    """Points of pixels whose footprint meets two depths, moved between them with probability `mixed`."""
    other = pixels + rng.uniform(-0.5, 0.5, pixels.shape)
    origin, directions = pixel_rays(rig, other)
    distance, face, _ = cast_rays(table, origin, directions)
    second = np.where(np.isfinite(distance), distance * directions[:, 2], points[:, 2])
    two = (face >= 0) & (np.abs(second - points[:, 2]) > 0.5) & (rng.random(len(points)) < rig.flaws.mixed)
    share = rng.random(len(points))
    z = np.where(two, share * second + (1 - share) * points[:, 2], points[:, 2])
    return points * (z / points[:, 2])[:, None]


def _believed_z(
    true: StereoCalibration, believed: StereoCalibration, directions: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """z along the left rays that a scanner finds which triangulates with the believed calibration."""
    frame = rectification(believed)
    left = directions @ frame.left.T
    seen = (points @ true.rotation.T + true.translation) @ frame.right.T
    disparity = left[:, 0] / left[:, 2] - seen[:, 0] / seen[:, 2]
    along = frame.baseline / disparity / left[:, 2]  # rectified z over that of the unit direction
    return along * directions[:, 2]


def _blotches(index: np.ndarray, shape: tuple[int, int], part: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) bool, False in smooth random blotches that cover `part` of the points."""
    from scipy.ndimage import gaussian_filter, zoom

    h, w = shape
    coarse = gaussian_filter(rng.normal(size=(h // 8 + 2, w // 8 + 2)), 2.5)
    field = zoom(coarse, 8, order=1)[:h, :w].ravel()[index]
    return field > np.quantile(field, part)
