"""What is reported of a thread, from what was fitted, with its covariance."""

from __future__ import annotations

import numpy as np

from .thread_axis import axis_frame, unroll
from .thread_profile import ThreadProfile
from .thread_surface import HelicalSurface, series_values

__all__ = ["DIAMETERS", "reported_scalars", "unseen_diameters"]

DIAMETERS = ("major_diameter", "minor_diameter", "pitch_diameter")


def reported_scalars(
    surface: HelicalSurface,
    profile: ThreadProfile | None,  # None: diameters from the free profile's extremes and median
    along: float,  # where on the axis, from `surface.point`, the axis point and the start angle are given
) -> tuple[dict[str, float], np.ndarray, list[str]]:
    """The diameters and the start angle (degrees, not wrapped), and the (12, 12) covariance of all scalars with their names."""
    frame = axis_frame(surface.direction)
    w, s = surface.frequency, surface.starts
    if profile is not None:
        shape, covariance = profile.values, profile.covariance
        steps = 1e-6 * np.array([1.0, surface.pitch, 1.0, 1.0, surface.pitch, surface.pitch])
        derive = profile.derived
    else:
        shape, covariance = surface.series, surface.covariance
        steps = np.full(len(shape), 1e-6 * surface.amplitude())

        def derive(values: np.ndarray, frequency: float) -> np.ndarray:
            return _free_profile(values, s)

    derived = derive(shape, w)
    slope = np.zeros((4, 1 + len(shape)))
    slope[:, 0] = (derive(shape, w * (1 + 1e-6)) - derive(shape, w * (1 - 1e-6))) / (2e-6 * w)
    for k, step in enumerate(steps):
        shift = np.zeros(len(shape))
        shift[k] = step
        slope[:, 1 + k] = (derive(shape + shift, w) - derive(shape - shift, w)) / (2 * step)
    to = np.zeros((12, len(covariance)))
    to[0, 4] = -2 * np.pi / w**2
    to[1] = to[0] * abs(s)
    to[2, 4:] = slope[3]
    to[2, 4] += along / s
    # the direction that angles count from turns with the axis: by -(e . a) / |e across a| for a tilt towards v, e being the
    # coordinate axis it is made from
    e = 1 if abs(frame[2][0]) > 0.9 else 0
    to[2, 3] += frame[2][e] / frame[0][e]
    to[2] *= 180 / np.pi
    to[3:6, :2] = frame[:2].T
    to[3:6, 2:4] = along * frame[:2].T
    to[6:9, 2:4] = frame[:2].T
    to[9:12, 4:] = slope[:3]
    values = {
        "start_angle_deg": float(np.rad2deg(derived[3] + w * along / s)),
        "major_diameter": float(derived[0]),
        "minor_diameter": float(derived[1]),
        "pitch_diameter": float(derived[2]),
    }
    names = ["pitch", "lead", "start_angle_deg"]
    names += [f"axis_point.{c}" for c in "xyz"] + [f"axis_direction.{c}" for c in "xyz"]
    names += ["major_diameter", "minor_diameter", "pitch_diameter"]
    return values, to @ covariance @ to.T, names


def unseen_diameters(
    surface: HelicalSurface,
    points: np.ndarray,  # (n, 3) those used
    values: dict[str, float],  # of `reported_scalars` without a profile
) -> bool:
    """Whether the extremes of a free profile lie where there are no points: a Fourier series swings freely across a gap."""
    radii = unroll(points, surface.point, surface.direction)[2]
    slack = 0.05 * float(np.ptp(radii)) + 3 * surface.sigma
    above, below = values["major_diameter"] / 2 - radii.max(), radii.min() - values["minor_diameter"] / 2
    return max(above, below) > slack


def _free_profile(series: np.ndarray, starts: int) -> np.ndarray:
    """(4,): largest and smallest diameter; the one above which half of the turn lies; and the angle of the ridge at z = 0.

    Ridge and groove are equally wide where half of a pitch is higher: at the median of f over the phase.
    """
    psi = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    value = series_values(series, psi)[0]
    middle = np.median(value)
    phase = np.angle(np.maximum(value - middle, 0) @ np.exp(1j * psi))
    return np.array([2 * value.max(), 2 * value.min(), 2 * middle, -phase / starts])
