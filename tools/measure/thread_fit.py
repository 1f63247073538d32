"""Finding a thread in an array of points: axis seeds, vote, core, zone, section; see docs/measuring_threads.md for the chain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fieldstone.core.errors import UserError

from .errors import NotMeasurable
from .thread_axis import axis_seeds, polish_axis, unroll
from .thread_profile import ThreadProfile, fit_thread_profile, start_profile
from .thread_surface import HelicalSurface, fit_helical_surface
from .thread_vote import Vote, best_window
from .thread_zone import threaded_zone

__all__ = ["ThreadFit", "find_thread"]

_SEARCH = 8000  # points that look for axis and vote
_FIRST = 40000  # points of the fits before the last
_CLEAR = 0.5  # share of the relief explained at which no further axis is tried
_FOUND = 0.2  # and below which there is no thread
_RATIO = 4.0  # peak over median cell, likewise
_OTHER_PROFILE = (
    1.1  # sigma of the outline over that of the free profile from which on the free one is reported
)


@dataclass(frozen=True)
class ThreadFit:
    """A thread in the coordinates of the points it was fitted to; angles in radians."""

    surface: HelicalSurface
    profile: ThreadProfile | None
    """None where no trapezoidal section fits."""
    vote: Vote
    zone: tuple[float, float]
    """z of its ends, along the axis from `surface.point`."""
    used: np.ndarray
    """(n,) bool."""
    coverage: float
    """Angle about the axis that was seen, 0 to 2 pi."""
    starts_evidence: float
    """Mean squared distance with the best other number of starts over that with the reported one; 1 is a coin toss."""
    warnings: tuple[str, ...]


def find_thread(
    points: np.ndarray,  # (n, 3)
    *,
    pitch_range: tuple[float, float] | None = None,
    starts: int | None = None,
    internal: bool = False,
    rng: np.random.Generator,
) -> ThreadFit:
    """`fit_thread` on a plain array."""
    points = np.asarray(points, np.float64)
    if len(points) < 100:
        raise NotMeasurable(
            f"a thread needs at least 100 points, there are {len(points)}: widen the region or scan closer"
        )
    if starts is not None and not 1 <= abs(starts) <= 8:
        raise UserError(f"starts {starts}: give 1 to 8")
    if pitch_range is not None and not 0 < pitch_range[0] < pitch_range[1]:
        raise UserError(f"pitch range {pitch_range}: the first must be above 0 and below the second")
    sample = points
    if len(points) > _SEARCH:
        sample = points[np.sort(rng.choice(len(points), _SEARCH, replace=False))]
    spacing = _spacing(points, rng)
    vote, surface = _search(sample, pitch_range, starts, spacing, rng)
    first = points
    if len(points) > _FIRST:
        first = points[np.sort(rng.choice(len(points), _FIRST, replace=False))]
    surface, evidence = _core_fit(first, surface, vote, starts)
    core = (-(vote.high - vote.low) / 2, (vote.high - vote.low) / 2)
    zone, inside = core, None
    for _ in range(4):
        low, high, inside = threaded_zone(first, surface, zone)
        surface = fit_helical_surface(first[inside], surface, harmonics=4)
        settled = abs(low - zone[0]) + abs(high - zone[1]) < 0.6 * surface.pitch
        zone = (low, high)
        if settled:
            break
    surface, profile = _final_fit(first[inside], surface, internal)
    if len(first) < len(points):
        low, high, inside = threaded_zone(points, surface, zone)
        zone = (low, high)
        if profile is not None:
            profile = fit_thread_profile(points[inside], profile, rounds=3)
            surface = _as_surface(profile, surface)
        else:
            surface = fit_helical_surface(points[inside], surface, harmonics=12, rounds=3)
    used = np.zeros(len(points), bool)
    used[np.flatnonzero(inside)] = (profile or surface).used
    theta, _, _ = unroll(points[used], surface.point, surface.direction)
    coverage = float(np.mean(np.bincount(((theta + np.pi) * 36 / np.pi).astype(int) % 72, minlength=72) > 0))
    fit = ThreadFit(surface, profile, vote, zone, used, coverage * 2 * np.pi, evidence, ())
    return replace(fit, warnings=tuple(_doubts(fit, spacing)))


def _spacing(points: np.ndarray, rng: np.random.Generator) -> float:
    """Median distance of a point to its nearest neighbour."""
    from scipy.spatial import cKDTree

    chosen = rng.choice(len(points), min(len(points), 1000), replace=False)
    return float(np.median(cKDTree(points).query(points[chosen], k=2)[0][:, 1]))


def _search(
    sample: np.ndarray,
    pitch_range: tuple[float, float] | None,
    starts: int | None,
    spacing: float,
    rng: np.random.Generator,
) -> tuple[Vote, HelicalSurface]:
    """The clearest vote over all likely axes, and the surface it starts."""
    best: tuple[Vote, np.ndarray, np.ndarray] | None = None
    for seed in axis_seeds(sample, rng):
        axis = polish_axis(sample, *seed)
        if axis is None:
            continue
        point, direction = axis
        direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
        theta, z, r = unroll(sample, point, direction)
        length = float(z.max() - z.min())
        allowed = pitch_range or (max(1.5 * spacing, length / 400), length / 2.5)
        vote = best_window(theta, z, r, allowed, max(4, abs(starts or 0)))
        if vote is not None and (best is None or vote.explained > best[0].explained):
            best = (vote, point, direction)
            if vote.explained > _CLEAR and vote.ratio > 2 * _RATIO:
                break
    if best is None or best[0].explained < _FOUND or best[0].ratio < _RATIO:
        said = "no axis was found across which sections are circles"
        if best is not None:
            said = (
                f"the best helix (pitch {best[0].pitch:.4g}) explains {100 * best[0].explained:.0f} % of the relief (needs "
                f"{100 * _FOUND:.0f} %) at peak/median {best[0].ratio:.1f} (needs {_RATIO:.0f})"
            )
        raise NotMeasurable(
            f"no thread found: {said}; cut the cloud to the thread (--box, --ball) or give --pitch-range"
        )
    vote, point, direction = best
    middle = point + 0.5 * (vote.low + vote.high) * direction
    return vote, HelicalSurface(middle, direction, 2 * np.pi / vote.pitch, vote.starts, np.zeros(7))


def _core_fit(
    points: np.ndarray, surface: HelicalSurface, vote: Vote, starts: int | None
) -> tuple[HelicalSurface, float]:
    """The fit on the window that won the vote, and by how much its number of starts beats the next.

    In a one-sided view a tilt of the axis looks much like one start more or less, so the votes of neighbouring numbers are close; only
    fits with a free axis tell them apart.
    """
    _, z, _ = unroll(points, surface.point, surface.direction)
    core = points[np.abs(z) <= (vote.high - vote.low) / 2]
    if starts is not None:
        rivals = [abs(starts), -abs(starts)]
    else:
        top = vote.by_starts[vote.starts]
        rivals = [s for s, share in vote.by_starts.items() if share > 0.2 * top or s == vote.starts]
        rivals += [s for s in (vote.starts - 1, vote.starts + 1) if s and s not in rivals]
    rivals.sort(key=lambda s: -vote.by_starts.get(s, 0.0))
    few = core[:: max(1, len(core) // 3000)]
    fits = []
    for rival in rivals:
        try:
            trial = fit_helical_surface(few, replace(surface, starts=rival), harmonics=3, tolerance=0.05)
        except np.linalg.LinAlgError:
            continue
        spread = float(np.minimum(np.abs(trial.distances(few)), 0.5 * vote.pitch).mean())
        relief = trial.amplitude() > 3 * np.finfo(float).eps and 0 < trial.pitch < 3 * vote.pitch
        if np.isfinite(spread) and relief:
            fits.append((spread, trial))
    if not fits:
        raise NotMeasurable(
            "no thread found: the helical surface does not converge; cut the cloud to the thread"
        )
    fits.sort(key=lambda item: item[0])
    best = fits[0][1]
    others = [spread for spread, trial in fits if trial.starts != best.starts]
    evidence = (others[0] / fits[0][0]) ** 2 if others else np.inf
    return fit_helical_surface(core, best, harmonics=4), float(evidence)


def _final_fit(
    points: np.ndarray, surface: HelicalSurface, internal: bool
) -> tuple[HelicalSurface, ThreadProfile | None]:
    """Outline with a flat and with a round root, whichever is nearer the points; else the free profile alone."""
    profile = None
    try:
        profile = fit_thread_profile(points, start_profile(surface, internal))
        crest, middle, root = profile.heights()
        depth = crest - root
        radius = max(0.25 * (profile.values[5] - root) + 0.05 * surface.pitch, 1e-3 * surface.pitch)
        values = profile.values.copy()
        values[5] = radius
        if root < middle < crest and profile.values[5] > _vee(profile) + 0.02 * depth:
            rounded = fit_thread_profile(points, replace(profile, round_root=True, values=values))
            if rounded.sigma < profile.sigma and rounded.used.sum() >= 0.995 * profile.used.sum():
                profile = rounded
        sound = (
            root < middle < crest and np.isfinite(profile.sigma) and len(points) * 0.8 < profile.used.sum()
        )
        if not sound:
            profile = None
    except np.linalg.LinAlgError:
        profile = None
    if profile is None or profile.sigma > surface.sigma:
        free = fit_helical_surface(points, surface, harmonics=12)
        if profile is None or profile.sigma > _OTHER_PROFILE * free.sigma:
            return free, None
    return _as_surface(profile, surface), profile


def _vee(profile: ThreadProfile) -> float:
    """Height at which the flanks would meet."""
    _, middle, left, right, _, _ = profile.values
    return middle - profile.surface.pitch / 2 / (left + right)


def _as_surface(profile: ThreadProfile, surface: HelicalSurface) -> HelicalSurface:
    """The profile's axis and frequency with the series of `surface`, for pictures and extents."""
    moved = profile.surface
    return replace(
        surface,
        point=moved.point,
        direction=moved.direction,
        frequency=moved.frequency,
        sigma=profile.sigma,
        covariance=profile.covariance[:5, :5],
        used=profile.used,
    )


def _doubts(fit: ThreadFit, spacing: float) -> list[str]:
    """What a reader of the result must know, with numbers."""
    surface, low, high = fit.surface, *fit.zone
    turns = (high - low) / surface.pitch
    doubts = []
    if turns < 3:
        doubts.append(
            f"only {turns:.1f} pitches are in view: pitch and axis lean on each other; show at least 3"
        )
    if fit.coverage < np.deg2rad(100):
        doubts.append(
            f"the thread is seen over {np.rad2deg(fit.coverage):.0f} degrees about its axis: diameters and axis lean on each other; "
            "add a view from another side"
        )
    if spacing > surface.pitch / 2:
        doubts.append(
            f"points are {spacing:.4g} apart, more than half the pitch {surface.pitch:.4g}: the pitch may be an alias; scan closer"
        )
    if fit.starts_evidence < 1.5:
        doubts.append(
            f"{abs(surface.starts)} starts, {'right' if surface.starts > 0 else 'left'} hand, fit hardly better than the next "
            f"(mean squared distance {fit.starts_evidence:.2f} times smaller); give --starts or a wider view"
        )
    if fit.profile is None:
        doubts.append(
            "no section with flat crest and straight flanks fits: diameters are the extremes and the median of a free profile"
        )
    return doubts
