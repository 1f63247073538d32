"""From a pose in the plane to the pose in space with its covariance, the clearances, and the probability that all bolts enter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .match_candidates import Candidate
from .match_pattern import Pattern
from .match_roll import Pose2, offsets, pose_jacobian, roll_limits

__all__ = ["Assembly", "Clearances", "allowed_offsets", "assemble", "clearances"]


@dataclass(frozen=True)
class Assembly:
    """The moving part's pose in the fixed part's coordinates."""

    matrix: np.ndarray
    """(4, 4)"""
    rotation_vector_deg: np.ndarray
    translation: np.ndarray
    about: np.ndarray
    """(3,) the middle of the moving part's pattern in its own coordinates, about which a robot best turns."""
    translation_of_about: np.ndarray
    """(3,) by how much that point moves."""
    covariance: np.ndarray
    names: list[str]
    pose_covariance: np.ndarray
    """(3, 3) of shift and roll (radians)."""
    gap: tuple[float, float]
    """Least and most distance, before, of the moving part's features from the fixed face along its normal."""
    face_angle_deg: float
    """Between the faces, before."""
    bore_offset: float | None
    """Of the moved bore's centre from the fixed one's."""


@dataclass(frozen=True)
class Clearances:
    mismatch: np.ndarray
    """(k,) offset of each pair's centres."""
    clearance: np.ndarray | None
    """(k,) offset that is left until they touch; negative: they do not go together."""
    clearance_sd: np.ndarray | None
    minimum: float | None
    bottleneck: int | None
    """Index of the pair."""
    roll_play: np.ndarray | None
    """(2,) radians by which the roll may change, if the part may shift along; None where nothing fits."""
    probability: float | None
    largest_bolt: float | None
    """Diameter that goes through all pairs of holes."""
    bolt_diameter: float | None


def allowed_offsets(
    chosen: Candidate, a: Pattern, b: Pattern, bolt_diameter: float | None
) -> np.ndarray | None:
    """(k,) how far the centres of each pair may lie apart: a stud in a hole half the difference of their diameters; two holes with a
    loose bolt in both, their mean diameter less the bolt's. None where two holes have no bolt, or two studs meet.
    """
    ra, rb = a.radii[chosen.fixed], b.radii[chosen.moving]
    stud_a, stud_b = a.male[chosen.fixed], b.male[chosen.moving]
    if (stud_a & stud_b).any():
        return None
    through = ~stud_a & ~stud_b
    if through.any() and bolt_diameter is None:
        return None
    bolt = 0.0 if bolt_diameter is None else bolt_diameter
    return np.where(through, ra + rb - bolt, np.where(stud_a, rb - ra, ra - rb))


def assemble(pose: Pose2, chosen: Candidate, a: Pattern, b: Pattern, centring: str) -> Assembly:
    """`b` has the normal that `a`'s face must have after contact."""
    pose_covariance = _pose_covariance(pose, chosen, a, b, centring)

    def placed(
        deviation: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:  # (9,): planes of a and b, shift and roll
        point_a, axes_a = _deviated(a, deviation[:3])
        point_b, axes_b = _deviated(b, deviation[3:6])
        moved = Pose2(pose.roll + deviation[8], pose.shift + deviation[6:8])
        c, s = np.cos(moved.roll), np.sin(moved.roll)
        rotation = axes_a.T @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ axes_b
        return rotation, point_a + moved.shift @ axes_a[:2] - rotation @ point_b

    rotation, translation = placed(np.zeros(9))
    base = np.zeros((9, 9))
    base[:3, :3], base[3:6, 3:6], base[6:, 6:] = a.plane_covariance, b.plane_covariance, pose_covariance
    jacobian = np.zeros((7, 9))
    for k in range(9):
        step = np.zeros(9)
        step[k] = 1e-6
        (r1, t1), (r0, t0) = placed(step), placed(-step)
        jacobian[:3, k] = (t1 - t0) / 2e-6
        jacobian[3:6, k] = np.degrees(_rotation_vector(r1, rotation) - _rotation_vector(r0, rotation)) / 2e-6
    jacobian[6, 8] = np.degrees(1.0)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    normal = a.axes[2]
    features = b.point + b.places @ b.axes[:2]
    heights = (features - a.point) @ normal
    bore_offset = None
    if a.bore is not None and b.bore is not None:
        bore_offset = float(np.hypot(*(pose(b.bore[None])[0] - a.bore)))
    return Assembly(
        matrix=matrix,
        rotation_vector_deg=np.degrees(_rotation_vector(rotation)),
        translation=translation,
        about=b.point,
        translation_of_about=rotation @ b.point + translation - b.point,
        covariance=jacobian @ base @ jacobian.T,
        names=[f"{name}.{axis}" for name in ("translation", "rotation_vector_deg") for axis in "xyz"]
        + ["roll_deg"],
        pose_covariance=pose_covariance,
        gap=(float(heights.min()), float(heights.max())),
        face_angle_deg=float(np.degrees(np.arccos(np.clip(normal @ b.axes[2], -1, 1)))),
        bore_offset=bore_offset,
    )


def _deviated(pattern: Pattern, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Point and axes after the plane rose by deviation[0] and its normal tilted by the others along x and y."""
    from scipy.spatial.transform import Rotation

    x, y, n = pattern.axes
    # turning about y tips the normal towards x
    tilt = Rotation.from_rotvec(deviation[1] * y - deviation[2] * x).as_matrix()
    return pattern.point + deviation[0] * n, pattern.axes @ tilt.T


def _rotation_vector(rotation: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """(3,) radians; near half a turn, where two vectors mean almost the same, the one near the reference's."""
    from scipy.spatial.transform import Rotation

    vector = Rotation.from_matrix(rotation).as_rotvec()
    if reference is None:
        return vector
    near = _rotation_vector(reference)
    if vector @ near < 0 and np.linalg.norm(vector) > 3:
        vector = vector - 2 * np.pi * vector / np.linalg.norm(vector)
    return vector


def _pose_covariance(pose: Pose2, chosen: Candidate, a: Pattern, b: Pattern, centring: str) -> np.ndarray:
    """(3, 3) of shift and roll as the weighted least squares' linear function of all centres.

    A minimax pose is reported with this too: it hangs on three or four centres only, so its own is up to about twice as wide.
    """
    moving = b.places[chosen.moving]
    spread, variance = _pair_covariance(pose, chosen, a, b)
    jacobian = pose_jacobian(pose, moving)
    weights = np.repeat(1 / np.maximum(variance, 1e-18), 2)
    if centring == "bore":
        lever = (jacobian[:, 2] + _bore_turn(pose, b, len(moving))) * weights
        gain = lever / (lever @ (jacobian[:, 2] + _bore_turn(pose, b, len(moving))))
        roll = float(gain @ spread @ gain)
        c, s = np.cos(pose.roll), np.sin(pose.roll)
        turn = np.array([[c, -s], [s, c]])
        bores = a.bore_covariance + turn @ b.bore_covariance @ turn.T
        arm = turn @ b.bore
        by_roll = np.array([arm[1], -arm[0]])
        out = np.zeros((3, 3))
        out[:2, :2] = bores + roll * np.outer(by_roll, by_roll)
        out[:2, 2] = out[2, :2] = roll * by_roll
        out[2, 2] = roll
        return out
    inverse = np.linalg.inv((jacobian.T * weights) @ jacobian)
    gain = inverse @ (jacobian.T * weights)
    return gain @ spread @ gain.T


def _bore_turn(pose: Pose2, b: Pattern, n: int) -> np.ndarray:
    """(2 n,) what the shift does when the roll grows and the bore stays."""
    c, s = np.cos(pose.roll), np.sin(pose.roll)
    arm = np.array([[c, -s], [s, c]]) @ b.bore
    return np.tile([arm[1], -arm[0]], n)


def _pair_covariance(pose: Pose2, chosen: Candidate, a: Pattern, b: Pattern) -> tuple[np.ndarray, np.ndarray]:
    """(2 k, 2 k) of the offsets of the pairs by both parts' centres, and (k,) the mean variance of each."""

    def rows(indices: np.ndarray) -> np.ndarray:
        return np.stack([2 * indices, 2 * indices + 1], axis=1).ravel()

    of_a = a.place_covariance()[np.ix_(rows(chosen.fixed), rows(chosen.fixed))]
    of_b = b.place_covariance()[np.ix_(rows(chosen.moving), rows(chosen.moving))]
    c, s = np.cos(pose.roll), np.sin(pose.roll)
    turn = np.kron(np.eye(len(chosen.moving)), np.array([[c, -s], [s, c]]))
    spread = of_a + turn @ of_b @ turn.T
    return spread, np.diagonal(spread).reshape(-1, 2).mean(axis=1)


def clearances(
    pose: Pose2,
    chosen: Candidate,
    a: Pattern,
    b: Pattern,
    assembly: Assembly,
    bolt_diameter: float | None,
    trials: int,
    robot_sigma: tuple[float, float],
    rng: np.random.Generator,
) -> Clearances:
    """Clearances at the pose, and how often they are all positive if the centres and radii are what the measurements may have missed.

    The pose stays as computed: it is the parts that differ from their measurements, and the robot from its command. Nothing but the
    measurements is known of the parts, so the probability is a little low for parts that keep close to a nominal.
    """
    moving, fixed = b.places[chosen.moving], a.places[chosen.fixed]
    off = offsets(pose, moving, fixed)
    mismatch = np.hypot(*off.T)
    male = a.male[chosen.fixed] | b.male[chosen.moving]
    largest = None
    if not male.any():
        largest = float((a.radii[chosen.fixed] + b.radii[chosen.moving] - mismatch).min())
    allowed = allowed_offsets(chosen, a, b, bolt_diameter)
    if allowed is None:
        return Clearances(mismatch, None, None, None, None, None, None, largest, bolt_diameter)
    k, sign_a = len(moving), np.where(a.male[chosen.fixed], -1.0, 1.0)
    sign_b = np.where(b.male[chosen.moving], -1.0, 1.0)
    n, m = len(a), len(b)
    draw_a = _drawn(a.covariance, trials, rng)
    draw_b = _drawn(b.covariance, trials, rng)
    c, s = np.cos(pose.roll), np.sin(pose.roll)
    turn = np.array([[c, -s], [s, c]])
    shift_a = draw_a[:, : 2 * n].reshape(trials, n, 2)[:, chosen.fixed]
    shift_b = draw_b[:, : 2 * m].reshape(trials, m, 2)[:, chosen.moving] @ turn.T
    robot = robot_sigma[0] * rng.normal(size=(trials, 1, 2))
    rolled = np.deg2rad(robot_sigma[1]) * rng.normal(size=(trials, 1, 1))
    jacobian = pose_jacobian(pose, moving).reshape(k, 2, 3)[:, :, 2]
    moved = off + shift_b - shift_a + robot + rolled * jacobian
    grown = sign_a * draw_a[:, 2 * n + chosen.fixed] + sign_b * draw_b[:, 2 * m + chosen.moving]
    left = allowed + grown - np.hypot(moved[..., 0], moved[..., 1])
    clearance = allowed - mismatch
    play = roll_limits(pose, moving, fixed, allowed)
    return Clearances(
        mismatch=mismatch,
        clearance=clearance,
        clearance_sd=left.std(axis=0),
        minimum=float(clearance.min()),
        bottleneck=int(np.argmin(clearance)),
        roll_play=None if play is None else np.array(play),
        probability=float((left.min(axis=1) >= 0).mean()),
        largest_bolt=largest,
        bolt_diameter=bolt_diameter,
    )


def _drawn(covariance: np.ndarray, trials: int, rng: np.random.Generator) -> np.ndarray:
    """(trials, k) of a Gaussian that may be singular."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return rng.normal(size=(trials, len(covariance))) @ root.T
