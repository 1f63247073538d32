"""A helical surface of any profile fitted to points by least squares.

Model: r = f(psi), psi = w z - s theta, with w = 2 pi / pitch and s the signed number of starts; f is a Fourier series whose
coefficients are linear and are solved along with the axis. No profile is assumed, so a worn, rounded or unusual thread does not bias
axis and lead. Residuals are to first order distances from the surface, (r - f) / |grad (r - f)|: on a 60-degree flank a radial
residual is twice the distance, and would be given four times its due weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .thread_axis import axis_frame, unroll

__all__ = ["HelicalSurface", "fit_helical_surface", "pose_derivatives", "series_values"]

_BLOCK = 65536
_CUT = 3.5  # robust standard deviations beyond which a point is not the thread's
_CUT_SIGMA = 0.9975  # standard deviation of a normal variable cut at 3.5, over its own


@dataclass(frozen=True)
class HelicalSurface:
    """A fitted helical surface."""

    point: np.ndarray
    """(3,) on the axis, where z is 0."""
    direction: np.ndarray
    """(3,) unit."""
    frequency: float
    """w = 2 pi / pitch, in radians per unit."""
    starts: int
    """Signed: negative is left-handed."""
    series: np.ndarray
    """(2 K + 1,): mean radius, then cosine and sine coefficients of each harmonic."""
    sigma: float = np.inf
    """Standard deviation of the used points' distances from the surface."""
    covariance: np.ndarray | None = None
    """(5 + 2 K + 1,) squared: shift along u and v at z = 0, tilt of the axis towards u and v, frequency, then the series."""
    used: np.ndarray | None = None
    """(n,) bool."""

    @property
    def pitch(self) -> float:
        return 2 * np.pi / self.frequency

    @property
    def lead(self) -> float:
        return self.pitch * abs(self.starts)

    def phase(self, theta: np.ndarray, z: np.ndarray) -> np.ndarray:
        """psi, (n,)."""
        return self.frequency * z - self.starts * theta

    def profile(self, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f(psi) and f'(psi), each (n,)."""
        return series_values(self.series, psi)

    def distances(self, points: np.ndarray) -> np.ndarray:  # (n, 3)
        """(n,) signed distances, positive outside, to first order."""
        theta, z, r = unroll(points, self.point, self.direction)
        value, slope = self.profile(self.phase(theta, z))
        return (r - value) / _gradient(slope, r, self.frequency, self.starts)

    def amplitude(self) -> float:
        """Root mean square of the relief f - mean."""
        return float(np.sqrt((self.series[1:] ** 2).sum() / 2))


def fit_helical_surface(
    points: np.ndarray,  # (n, 3)
    start: HelicalSurface,  # its series may be shorter or longer than asked for
    *,
    harmonics: int,
    rounds: int = 12,
    robust: bool = True,  # leave out points beyond 3.5 robust standard deviations
    tolerance: float = 1e-3,  # of a standard deviation of each parameter: when to stop
) -> HelicalSurface:
    """Gauss-Newton from `start`, which must know the phase to a fraction of a turn over the points.

    Raises `numpy.linalg.LinAlgError` where the points do not determine the surface.
    """
    surface = replace(start, series=_resized(start.series, harmonics))
    used = np.ones(len(points), bool)
    if not np.any(surface.series[1:]):
        surface = replace(surface, series=_first_series(points, surface, harmonics))
    for step in range(rounds):
        if robust:
            distance = surface.distances(points)
            spread = 1.4826 * float(np.median(np.abs(distance)))
            for _ in range(3):
                kept = distance[np.abs(distance) <= _CUT * spread]
                spread = min(spread, float(np.sqrt((kept**2).mean())) / _CUT_SIGMA) if len(kept) else spread
            used = np.abs(distance) <= _CUT * spread + 1e-300
        surface, relative = _step(points[used], surface)
        if relative < tolerance and step >= 2:
            break
    return _finish(points, used, surface, robust)


def pose_derivatives(
    theta: np.ndarray,  # (n,)
    z: np.ndarray,  # (n,)
    r: np.ndarray,  # (n,)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """d r, d theta and d z, each (4, n), by shift of the axis along u and v and its tilt towards u and v."""
    c, s = np.cos(theta), np.sin(theta)
    zero = np.zeros_like(r)
    d_r = np.stack([-c, -s, -z * c, -z * s])
    d_theta = np.stack([s / r, -c / r, z * s / r, -z * c / r])
    return d_r, d_theta, np.stack([zero, zero, r * c, r * s])


def series_values(series: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # (2 K + 1,), (n,)
    """A Fourier series and its derivative at psi, each (n,)."""
    basis, slope = _basis(psi, len(series) // 2)
    return series @ basis, series @ slope


def _first_series(points: np.ndarray, surface: HelicalSurface, harmonics: int) -> np.ndarray:
    """(2 K + 1,) least-squares series for the pose and lead of `surface`, from radial residuals clipped robustly."""
    theta, z, r = unroll(points, surface.point, surface.direction)
    basis, _ = _basis(surface.phase(theta, z), harmonics)
    middle = np.median(r)
    bound = 3 * 1.4826 * np.median(np.abs(r - middle)) + 1e-300
    keep = np.abs(r - middle) <= bound
    return np.linalg.lstsq(basis[:, keep].T, r[keep], rcond=None)[0]


def _resized(series: np.ndarray, harmonics: int) -> np.ndarray:
    size = 2 * harmonics + 1
    return np.concatenate([series[:size], np.zeros(max(size - len(series), 0))])


def _basis(psi: np.ndarray, harmonics: int) -> tuple[np.ndarray, np.ndarray]:
    """1, cos psi, sin psi, cos 2 psi, ... as (2 K + 1, n), and their derivatives."""
    basis = np.empty((2 * harmonics + 1, len(psi)))
    slope = np.empty_like(basis)
    basis[0], slope[0] = 1.0, 0.0
    turn = np.exp(1j * psi)
    power = np.ones_like(turn)
    for k in range(1, harmonics + 1):
        power = power * turn
        basis[2 * k - 1], basis[2 * k] = power.real, power.imag
        slope[2 * k - 1], slope[2 * k] = -k * power.imag, k * power.real
    return basis, slope


def _gradient(slope: np.ndarray, r: np.ndarray, frequency: float, starts: int) -> np.ndarray:
    return np.sqrt(1 + slope**2 * (frequency**2 + (starts / r) ** 2))


def _normal_equations(
    points: np.ndarray, surface: HelicalSurface
) -> tuple[np.ndarray, np.ndarray, float]:  # (m, m), (m,), sum of squares
    size = 5 + len(surface.series)
    matrix, right, squares = np.zeros((size, size)), np.zeros(size), 0.0
    for begin in range(0, len(points), _BLOCK):
        theta, z, r = unroll(points[begin : begin + _BLOCK], surface.point, surface.direction)
        basis, basis_slope = _basis(surface.phase(theta, z), len(surface.series) // 2)
        value, slope = surface.series @ basis, surface.series @ basis_slope
        weight = 1 / _gradient(slope, r, surface.frequency, surface.starts)
        d_r, d_theta, d_z = pose_derivatives(theta, z, r)
        jacobian = np.empty((size, len(r)))
        jacobian[:4] = d_r - slope * (surface.frequency * d_z - surface.starts * d_theta)
        jacobian[4] = -slope * z
        jacobian[5:] = -basis
        jacobian *= weight
        residual = (r - value) * weight
        matrix += jacobian @ jacobian.T
        right += jacobian @ residual
        squares += residual @ residual
    return matrix, right, squares


def _step(points: np.ndarray, surface: HelicalSurface) -> tuple[HelicalSurface, float]:
    """One Gauss-Newton step, and the largest change over its own standard deviation."""
    matrix, right, squares = _normal_equations(points, surface)
    scale = 1 / np.sqrt(np.maximum(np.diagonal(matrix), 1e-300))
    scaled = matrix * scale[:, None] * scale
    inverse = np.linalg.inv(scaled + 1e-12 * np.eye(len(scale)))
    change = -scale * (inverse @ (scale * right))
    sigma = np.sqrt(squares / max(len(points) - len(scale), 1))
    deviation = scale * np.sqrt(np.maximum(np.diagonal(inverse), 0)) * sigma + 1e-300
    frame = axis_frame(surface.direction)
    limit = min(1.0, 0.1 / max(float(np.hypot(*change[2:4])), 1e-300))  # radians of tilt in one step
    change = change * limit
    direction = surface.direction + change[2] * frame[0] + change[3] * frame[1]
    moved = replace(
        surface,
        point=surface.point + change[0] * frame[0] + change[1] * frame[1],
        direction=direction / np.linalg.norm(direction),
        frequency=surface.frequency + change[4],
        series=surface.series + change[5:],
        sigma=float(sigma),
    )
    return moved, float(np.abs(change / deviation).max())


def _finish(points: np.ndarray, used: np.ndarray, surface: HelicalSurface, robust: bool) -> HelicalSurface:
    matrix, _, squares = _normal_equations(points[used], surface)
    degrees = max(int(used.sum()) - len(matrix), 1)
    sigma = float(np.sqrt(squares / degrees)) / (_CUT_SIGMA if robust else 1.0)
    scale = 1 / np.sqrt(np.maximum(np.diagonal(matrix), 1e-300))
    covariance = np.linalg.inv(matrix * scale[:, None] * scale) * scale[:, None] * scale * sigma**2
    return replace(surface, sigma=sigma, covariance=covariance, used=used)
