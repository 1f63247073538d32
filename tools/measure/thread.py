"""Screw threads: zone, axis, pitch, lead, hand, starts, start angle and diameters from a cloud, each with its uncertainty."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .result import Measurement
from .thread_axis import axis_frame
from .thread_fit import ThreadFit, find_thread
from .thread_scalars import DIAMETERS, reported_scalars, unseen_diameters

__all__ = ["fit_thread"]


def fit_thread(
    cloud: Cloud,
    *,
    pitch_range: tuple[float, float]
    | None = None,  # in the cloud's unit; None: from the spacing of the points
    starts: int | None = None,  # None: found
    internal: bool = False,  # a nut's thread: material outside
    datum: np.ndarray
    | None = None,  # (3,) world: start angle and axis point in the plane across the axis through it
    rng: np.random.Generator | None = None,
) -> Measurement:
    """Measures the thread of `cloud`; its zone is found, the rest of the part may be there.

    Parameters: pitch, lead, starts, hand ("right" or "left"), start_angle_deg, axis_point, axis_direction, major_diameter,
    minor_diameter, pitch_diameter. `axis_point` lies in the middle of the zone unless `datum` is given. `axis_direction` has its
    largest component positive. `start_angle_deg` is where the middle of the ridge passes the plane through `axis_point`,
    counter-clockwise seen against the direction, from the x axis made perpendicular to it (`axis_frame`), in [0, 360 / starts).

    Raises `NotMeasurable` where no helix stands out, `UserError` for arguments that make no sense.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    fit = find_thread(cloud.points, pitch_range=pitch_range, starts=starts, internal=internal, rng=rng)
    along = 0.5 * (fit.zone[0] + fit.zone[1])
    if datum is not None:
        datum = np.asarray(datum, np.float64).reshape(3) - cloud.origin
        along = float((datum - fit.surface.point) @ fit.surface.direction)
    surface = fit.surface
    values, covariance, names = reported_scalars(surface, fit.profile, along)
    warnings = [*cloud.warnings, *fit.warnings]
    if fit.profile is None and unseen_diameters(surface, cloud.points[fit.used], values):
        for name in DIAMETERS:
            values[name] = float("nan")
            covariance[names.index(name)] = covariance[:, names.index(name)] = np.nan
        warnings.append(
            "no diameters: the points leave gaps in the section that no section could be fitted across; "
            "look from further to the side, or give --pitch-range"
        )
    count = abs(surface.starts)
    point = surface.point + along * surface.direction
    parameters = {
        "pitch": surface.pitch,
        "lead": surface.lead,
        "starts": count,
        "hand": "right" if surface.starts > 0 else "left",
        "start_angle_deg": float(values["start_angle_deg"] % (360 / count)),
        "axis_point": (point + cloud.origin).tolist(),
        "axis_direction": surface.direction.tolist(),
        "major_diameter": values["major_diameter"],
        "minor_diameter": values["minor_diameter"],
        "pitch_diameter": values["pitch_diameter"],
    }
    return Measurement(
        kind="thread",
        unit=cloud.unit,
        parameters=parameters,
        covariance=covariance,
        covariance_names=names,
        rms=float((fit.profile or surface).sigma),
        n_used=int(fit.used.sum()),
        n_total=len(cloud),
        warnings=warnings,
        input=cloud.input_record(),
        extras=_extras(fit, along),
        inliers=fit.used,
    )


def _extras(fit: ThreadFit, along: float) -> dict:
    surface, profile = fit.surface, fit.profile
    frame = axis_frame(surface.direction)
    extras = {
        "method": "harmonic helical surface"
        if profile is None
        else "helical surface with trapezoidal section",
        "start_angle_from": frame[0].tolist(),
        "zone": [fit.zone[0] - along, fit.zone[1] - along],
        "engaged_length": fit.zone[1] - fit.zone[0],
        "turns": (fit.zone[1] - fit.zone[0]) / surface.lead,
        "coverage_deg": float(np.rad2deg(fit.coverage)),
        "vote": {
            "explained": fit.vote.explained,
            "ratio": fit.vote.ratio,
            "by_starts": {str(k): v for k, v in fit.vote.by_starts.items()},
        },
        "starts_evidence": fit.starts_evidence,
        "sigma": float((profile or surface).sigma),
    }
    if profile is not None:
        left, right = np.rad2deg(profile.flank_angles())
        extras["flank_angle_left_deg"], extras["flank_angle_right_deg"] = float(left), float(right)
        extras["thread_angle_deg"] = float(left + right)
        extras["root"] = "round" if profile.round_root else "flat"
        extras["internal"] = profile.internal
        deviation = np.rad2deg(np.sqrt(np.diagonal(profile.covariance)[7:9]) / (1 + profile.values[2:4] ** 2))
        extras["flank_angle_sd_deg"] = deviation.tolist()
    return extras
