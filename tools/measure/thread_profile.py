"""The axial section of a thread: flat crest, two straight flanks, flat or rounded root (the shape of ISO 68-1).

Fitted to all points at once, together with axis and lead, by their distances from the outline; so the diameters' uncertainties hold
that of the axis, which dominates in one-sided views. Heights h are radii, or minus the radii for an internal thread, so that the
ridge of material is always up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .thread_axis import axis_frame, unroll
from .thread_surface import HelicalSurface, pose_derivatives

__all__ = ["ThreadProfile", "fit_thread_profile", "outline_distance", "start_profile"]

_CUT = 3.5
_CUT_SIGMA = 0.9975
_STEP = 1e-6


@dataclass(frozen=True)
class ThreadProfile:
    """A thread's section. `values` is phase0, pitch height, tan of left and right half angle, crest height, and root
    height (flat root) or root radius (round root)."""

    values: np.ndarray
    """(6,) float64."""
    internal: bool
    round_root: bool
    surface: HelicalSurface
    """Axis and frequency that were fitted along."""
    sigma: float = np.inf
    """Standard deviation of the used points' distances from the outline."""
    covariance: np.ndarray | None = None
    """(11, 11): the surface's five (shift u, v, tilt u, v, frequency), then `values`."""
    used: np.ndarray | None = None
    """(n,) bool."""

    def heights(self) -> tuple[float, float, float]:
        """Heights of crest, pitch line (where ridge and groove are equally wide) and root."""
        _, pitch_height, left, right, crest, last = self.values
        vee = pitch_height - self.surface.pitch / 2 / (left + right)
        if self.round_root:
            root = _fillet(self.surface.pitch, pitch_height, left, right, last)[1] - last
        else:
            root = max(last, vee)
        return float(crest), float(pitch_height), float(root)

    def diameters(self) -> np.ndarray:
        """(3,): major, minor and pitch diameter."""
        crest, middle, root = (2 * abs(h) for h in self.heights())
        return np.array([max(crest, root), min(crest, root), middle])

    def flank_angles(self) -> np.ndarray:
        """(2,) radians between each flank and the plane across the axis: facing -z (left) and +z (right)."""
        return np.arctan(self.values[2:4])

    def start_angle(self) -> float:
        """Angle of the ridge's middle about the axis at z = 0, radians in [0, 2 pi / starts)."""
        count = abs(self.surface.starts)
        return float(-self.values[0] / self.surface.starts % (2 * np.pi / count))

    def derived(self, values: np.ndarray, frequency: float) -> np.ndarray:
        """(4,): diameters and start angle (unwrapped) for other `values` and frequency; used to propagate covariance."""
        moved = replace(self, values=values, surface=replace(self.surface, frequency=frequency))
        return np.array([*moved.diameters(), -values[0] / self.surface.starts])


def outline_distance(
    u: np.ndarray,  # (n,) along the axis from the ridge's middle, in [-pitch / 2, pitch / 2]
    h: np.ndarray,  # (n,)
    pitch: float,
    values: np.ndarray,  # (6,) as in ThreadProfile; the phase is not used
    round_root: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance from the outline, positive outside the material, and its derivatives by u and h; each (n,)."""
    _, middle, left, right, crest, last = values
    long_l, long_r = np.hypot(1, left), np.hypot(1, right)
    d_right = (u - pitch / 4 + (h - middle) * right) / long_r
    d_left = (-u - pitch / 4 + (h - middle) * left) / long_l
    flank_right = d_right >= d_left
    distance = np.where(flank_right, d_right, d_left)
    by_u = np.where(flank_right, 1 / long_r, -1 / long_l)
    by_h = np.where(flank_right, right / long_r, left / long_l)
    on_crest = h - crest > distance
    distance = np.where(on_crest, h - crest, distance)
    by_u = np.where(on_crest, 0.0, by_u)
    by_h = np.where(on_crest, 1.0, by_h)
    if not round_root:
        on_root = h - last < distance
        distance = np.where(on_root, h - last, distance)
        return distance, np.where(on_root, 0.0, by_u), np.where(on_root, 1.0, by_h)
    centre_u, centre_h = _fillet(pitch, middle, left, right, last)
    own = np.where(u >= centre_u - pitch / 2, u, u + pitch)  # the groove right of the ridge
    away_u, away_h = own - centre_u, h - centre_h
    # the sector between the two tangent points, in the directions -(1, right) and (1, -left)
    a = -left * away_u - away_h
    b = right * away_u - away_h
    length = np.hypot(away_u, away_h) + 1e-300
    on_root = (a > 0) & (b > 0) & ~on_crest
    distance = np.where(on_root, last - length, distance)
    return distance, np.where(on_root, -away_u / length, by_u), np.where(on_root, -away_h / length, by_h)


def start_profile(surface: HelicalSurface, internal: bool) -> ThreadProfile:
    """A first outline, read off the Fourier series at half height."""
    psi = np.linspace(0, 2 * np.pi, 721)[:-1]
    sign = -1.0 if internal else 1.0
    value, slope = surface.profile(psi)
    height, slope = sign * value, sign * slope * surface.frequency  # slope: dh / du
    low, high = np.percentile(height, [2, 98])
    middle = (low + high) / 2
    above = height > middle
    weights = np.where(above, height - middle, 0.0)
    phase = float(np.angle(weights @ np.exp(1j * psi)))
    share = float(above.mean())
    u = (psi - phase + np.pi) % (2 * np.pi) - np.pi
    steep = np.abs(height - middle) < 0.25 * (high - low)

    def tangent(side: np.ndarray) -> float:
        mean = np.abs(slope[side & steep]).mean() if (side & steep).any() else 1.7
        return float(np.clip(1 / max(mean, 1e-9), 0.05, 5))

    left, right = tangent(u < 0), tangent(u > 0)
    pitch_height = middle + (share - 0.5) * surface.pitch / (left + right)
    values = np.array([phase, pitch_height, left, right, high, low])
    return ThreadProfile(values=values, internal=internal, round_root=False, surface=surface)


def fit_thread_profile(
    points: np.ndarray,  # (n, 3)
    start: ThreadProfile,
    *,
    rounds: int = 12,
    tolerance: float = 1e-2,
) -> ThreadProfile:
    """Gauss-Newton on axis, frequency and section together.

    A sharp (V) root shows no flat: its height then has no influence and no variance of its own. Raises `numpy.linalg.LinAlgError`
    where the points do not determine the section.
    """
    profile = start
    depth = 0.1 * abs(start.values[4] - start.heights()[2])
    for step in range(rounds):
        distance = _distances(points, profile)[0]
        spread = 1.4826 * float(np.median(np.abs(distance)))
        for _ in range(3):
            kept = distance[np.abs(distance) <= _CUT * spread]
            spread = min(spread, float(np.sqrt((kept**2).mean())) / _CUT_SIGMA) if len(kept) else spread
        # a start that is off must not lose the crest as outliers: the cut closes in over the rounds
        used = np.abs(distance) <= max(_CUT * spread, depth * 0.5**step)
        matrix, right, squares = _normal_equations(points[used], profile)
        inverse, scale = _scaled_inverse(matrix)
        change = -scale * (inverse @ (scale * right))
        sigma = np.sqrt(squares / max(int(used.sum()) - len(change), 1)) / _CUT_SIGMA
        deviation = scale * np.sqrt(np.maximum(np.diagonal(inverse), 0)) * sigma + 1e-300
        profile = _moved(profile, change)
        settled = np.abs(change / deviation).max() < tolerance
        if step >= 2 and settled and depth * 0.5**step < _CUT * max(spread, 1e-300):
            break
    matrix, _, squares = _normal_equations(points[used], profile)
    inverse, scale = _scaled_inverse(matrix)
    sigma = float(np.sqrt(squares / max(int(used.sum()) - len(scale), 1))) / _CUT_SIGMA
    covariance = inverse * scale[:, None] * scale * sigma**2
    return replace(profile, sigma=sigma, covariance=covariance, used=used)


def _fillet(pitch: float, middle: float, left: float, right: float, radius: float) -> tuple[float, float]:
    """(u, h) of the centre of the circle that touches both flanks of the groove right of the ridge."""
    long_l, long_r = np.hypot(1, left), np.hypot(1, right)
    rise = (radius * (long_l + long_r) - pitch / 2) / (left + right)
    return pitch / 4 - rise * right + radius * long_r, middle + rise


def _section(points: np.ndarray, profile: ThreadProfile) -> tuple[np.ndarray, ...]:
    surface = profile.surface
    theta, z, r = unroll(points, surface.point, surface.direction)
    psi = surface.phase(theta, z) - profile.values[0]
    u = ((psi + np.pi) % (2 * np.pi) - np.pi) / surface.frequency
    return theta, z, r, u, (-r if profile.internal else r)


def _distances(points: np.ndarray, profile: ThreadProfile) -> tuple[np.ndarray, ...]:
    *_, u, h = _section(points, profile)
    return outline_distance(u, h, profile.surface.pitch, profile.values, profile.round_root)


def _normal_equations(points: np.ndarray, profile: ThreadProfile) -> tuple[np.ndarray, np.ndarray, float]:
    surface = profile.surface
    matrix, right, squares = np.zeros((11, 11)), np.zeros(11), 0.0
    for begin in range(0, len(points), 65536):
        theta, z, r, u, h = _section(points[begin : begin + 65536], profile)
        pitch, values = surface.pitch, profile.values
        distance, by_u, by_h = outline_distance(u, h, pitch, values, profile.round_root)
        d_r, d_theta, d_z = pose_derivatives(theta, z, r)
        jacobian = np.empty((11, len(r)))
        turn = d_z - surface.starts * d_theta / surface.frequency
        jacobian[:4] = by_u * turn + (-by_h if profile.internal else by_h) * d_r
        step = _STEP * pitch
        wider = outline_distance(u, h, pitch + step, values, profile.round_root)[0]
        narrower = outline_distance(u, h, pitch - step, values, profile.round_root)[0]
        by_pitch = (wider - narrower) / (2 * step)
        jacobian[4] = (by_u * (z - u) - by_pitch * pitch) / surface.frequency
        jacobian[5] = -by_u / surface.frequency
        for k in range(1, 6):
            step = _STEP * (1.0 if k in (2, 3) else pitch)
            shift = np.zeros(6)
            shift[k] = step
            ahead = outline_distance(u, h, pitch, values + shift, profile.round_root)[0]
            behind = outline_distance(u, h, pitch, values - shift, profile.round_root)[0]
            jacobian[5 + k] = (ahead - behind) / (2 * step)
        matrix += jacobian @ jacobian.T
        right += jacobian @ distance
        squares += distance @ distance
    return matrix, right, squares


def _scaled_inverse(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of the normal matrix with unit diagonal, and the scales; a parameter without influence gets no change."""
    diagonal = np.diagonal(matrix).copy()
    active = diagonal > 1e-12 * max(diagonal[5:].max(), 1e-300)
    scale = np.where(active, 1 / np.sqrt(np.where(active, diagonal, 1.0)), 0.0)
    scaled = matrix * scale[:, None] * scale
    inverse = np.zeros_like(scaled)
    inverse[np.ix_(active, active)] = np.linalg.inv(scaled[np.ix_(active, active)])
    return inverse, scale


def _moved(profile: ThreadProfile, change: np.ndarray) -> ThreadProfile:
    surface = profile.surface
    frame = axis_frame(surface.direction)
    direction = surface.direction + change[2] * frame[0] + change[3] * frame[1]
    pitch = surface.pitch
    limit = np.array([1.0, 0.1 * pitch, 0.2, 0.2, 0.1 * pitch, 0.1 * pitch])
    values = profile.values + np.clip(change[5:], -limit, limit)
    values[2:4] = np.clip(values[2:4], 0.01, 10.0)
    if profile.round_root:
        values[5] = np.clip(values[5], 1e-4 * pitch, pitch / 2)
    moved = replace(
        surface,
        point=surface.point + change[0] * frame[0] + change[1] * frame[1],
        direction=direction / np.linalg.norm(direction),
        frequency=surface.frequency + change[4],
    )
    return replace(profile, values=values, surface=moved)
