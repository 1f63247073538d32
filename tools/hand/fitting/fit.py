"""Fitting a model to keypoints: priors, robust schedule, noise level, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from .contact import hand_capsules
from .initial import initial_state
from .keypoints import Keypoints
from .limits import hand_limits
from .observability import Observability, determined, observe
from .posing import Posing
from .priors import PosePrior, ShapePrior, Smoothness, pose_prior
from .solver import Extra, Problem, normal_equations, solve, total_cost
from .state import State
from .terms import Keypoints3d, Term

__all__ = [
    "Fit",
    "Settings",
    "anneal",
    "extras_of",
    "finish",
    "fit_keypoints",
    "priors_of",
    "problem_of",
    "settle_noise",
]


@dataclass(frozen=True)
class Settings:
    """What a fit assumes. Weights multiply the squares of a prior: 0 leaves it out."""

    sigma: float | None = None
    """Noise of the data, metres (pixels for 2D); None: estimated from what the model cannot explain."""
    robust: float = 3.5
    """c of Geman and McClure's cost at the end, in units of sigma; inf: plain least squares."""
    shapes: int | None = None
    """Shape directions that are looked for; None: all the model has, at most 10."""
    shape: np.ndarray | None = None
    """A known shape (s,): it stays as it is."""
    pose_weight: float = 1.0
    shape_weight: float = 1.0
    limit_weight: float = 1.0
    contact_weight: float = 1.0
    smooth_angle: float | None = None
    """Radians: standard deviation of the second difference of angles between frames; None: frames do not know each other."""
    smooth_translation: float = 0.002
    """Metres: the same for the translation."""
    components: int | None = None
    """Pose components to stay within; None: every axis-angle is free, the components are a prior only."""
    fixed: tuple[str, ...] = ()
    """Joints that keep their mean pose."""

    def shape_count(self, data: ModelData) -> int:
        """How many shape directions are used. Raises UserError where a known shape has more than the model."""
        available = data.shape_basis.shape[2]
        if self.shape is not None:
            if len(self.shape) > available:
                raise UserError(f"shape: expected at most {available} numbers, found {len(self.shape)}")
            return len(self.shape)
        return min(10 if self.shapes is None else self.shapes, available)


@dataclass(frozen=True)
class Fit:
    """One fitted model: the unknowns, how far the data is away, and how well they are determined."""

    state: State
    sigma: float
    """Noise that was given or found, in the data's unit."""
    distances: np.ndarray
    """(b, m) from each datum to where the model puts it, in the data's unit; NaN where there was none."""
    inliers: np.ndarray
    """(b, m) bool: data that the robust cost still believes (weight above 1/4)."""
    cost: float
    iterations: int
    observability: Observability
    notes: list[str] = field(default_factory=list)

    def report(self, unit: float = 1000.0, unit_name: str = "mm") -> list[str]:
        """What a person wants to know, a line each."""
        used = np.isfinite(self.distances)
        good = self.distances[used & self.inliers] * unit
        lines = [
            f"{len(self.state)} frame(s), {int(used.sum())} data, {int((used & ~self.inliers).sum())} taken for outliers",
            f"distance of the others: mean {good.mean():.3g}, median {np.median(good):.3g}, largest {good.max():.3g} {unit_name}"
            if good.size
            else "no data was believed",
            f"noise {self.sigma * unit:.3g} {unit_name}; {self.observability.effective:.1f} unknowns were determined by the data",
        ]
        unseen = _grouped(self.observability.unseen(0))
        lines.append(
            "not seen by the data"
            + (" (first frame): " if len(self.state) > 1 else ": ")
            + (", ".join(unseen) or "nothing")
        )
        return lines + self.notes


def _grouped(names: list[str]) -> list[str]:
    """ "index2 x", "index2 y" as "index2 xy"."""
    axes: dict[str, str] = {}
    for name in names:
        joint, _, axis = name.rpartition(" ")
        axes[joint or name] = axes.get(joint or name, "") + (axis if joint else "")
    return [f"{joint} {letters}".strip() for joint, letters in axes.items()]


def priors_of(data: ModelData, settings: Settings) -> tuple[PosePrior, np.ndarray | None]:
    """The pose prior, and the matrix of free frame steps (None: all)."""
    prior = pose_prior(data, weight=settings.pose_weight)
    joints = len(data.parents)
    q = 3 * joints + 3
    unknown = [name for name in settings.fixed if name not in data.joint_names]
    if unknown:
        raise UserError(f"fixed: no joint {unknown[0]!r}; the model has {', '.join(data.joint_names)}")
    if settings.components is not None:
        available = len(data.pose_components)
        if not 0 < settings.components <= available:
            raise UserError(
                f"components: expected 1 to {available} (what the model has), found {settings.components}"
            )
        basis = np.linalg.qr(data.pose_components[: settings.components].T)[0]
        free = np.zeros((q, 6 + settings.components))
        free[:3, :3] = free[-3:, -3:] = np.eye(3)
        free[3:-3, 3:-3] = basis
        return prior, free
    if settings.fixed:
        still = [data.joint_names.index(name) for name in settings.fixed]
        keep = [i for i in range(q) if i >= 3 * joints or i // 3 not in still]
        return prior, np.eye(q)[:, keep]
    return prior, None


def extras_of(data: ModelData, posing: Posing, settings: Settings) -> list[Extra]:
    """Joint limits and capsules, as far as the model has fingers and the settings want them."""
    extras: list[Extra] = []
    if settings.limit_weight > 0 and (limits := hand_limits(data, settings.limit_weight)) is not None:
        extras.append(limits)
    if (
        settings.contact_weight > 0
        and (capsules := hand_capsules(data, posing, settings.contact_weight)) is not None
    ):
        extras.append(capsules)
    return extras


def problem_of(
    data: ModelData, posing: Posing, terms: list[Term], settings: Settings, extras: list[Extra]
) -> Problem:
    """Terms with the priors that the settings ask for; smoothness is left to the caller, who knows when frames are placed."""
    prior, free = priors_of(data, settings)
    return Problem(
        posing, terms, prior, ShapePrior(settings.shape_weight), None, extras, free, settings.shape is None
    )


def anneal(
    problem: Problem, state: State, scales: tuple[float, ...], iterations: int = 12, **more: object
) -> State:
    """Solves with an ever tighter robust cost (graduated non-convexity): outliers let go one after the other."""
    for scale in scales:
        for term in problem.terms:
            term.scale = scale
        state = solve(problem, state, iterations=iterations, tolerance=1e-4, **more).state
    return state


def settle_noise(
    problem: Problem, state: State, terms: list[Term], smallest: float, rounds: int = 10
) -> State:
    """Alternates between the fit and the noise level sigma of `terms` (one for all).

    sigma^2 = sum w |r|^2 / (N - gamma) / kappa, where gamma is how many unknowns the data determine: the fixed point of the evidence (MacKay
    1992, equation 4.10; "Bayesian interpolation"). Without gamma a model with as many unknowns as data would explain the noise; kappa makes up
    for what the robust weights take from the tails of normal noise.
    """
    for _ in range(rounds):
        state = solve(problem, state, iterations=15, tolerance=1e-6).state
        points = problem.posing(state.shape, state.rotations(), state.translation, jacobian=False).points
        squares = count = data = 0.0
        for term in terms:
            moments = term.moments()
            residuals = term.linearise(points, None, None).residuals
            weights = term.weights(residuals)[0]
            squares += float((weights[..., None] * residuals**2).sum()) * term.sigma**2 / moments.variance
            count += float(weights.sum()) * residuals.shape[-1]
            data += float(weights.sum()) * residuals.shape[-1] / moments.weight
        freedom = count * max(1 - determined(problem, state) / data, 0.1)
        sigma = max(float(np.sqrt(squares / max(freedom, 1e-9))), smallest)
        before = terms[0].sigma
        for term in terms:
            term.sigma = sigma
        if abs(sigma - before) < 0.05 * before:
            break
    return state


def fit_keypoints(
    data: ModelData,
    keypoints: Keypoints,
    targets: np.ndarray,  # (b, m, 3) metres, NaN where not seen
    settings: Settings | None = None,
    *,
    confidence: np.ndarray | None = None,  # (b, m)
) -> Fit:
    """3D keypoints of one subject, one or many frames. Raises UserError for keypoints that are too few.

    A closed-form start, then Levenberg-Marquardt under a tightening robust cost, then the noise level. Single frames are started from the mean
    pose as well, and the better end is kept.
    """
    settings = settings or Settings()
    targets = np.asarray(targets, np.float64)
    count = len(keypoints.mixture)
    if targets.ndim != 3 or targets.shape[1:] != (count, 3):
        raise UserError(f"keypoints: expected (frames, {count}, 3), found {targets.shape}")
    if np.isfinite(targets).all(-1).sum(1).min(initial=count) < 3 and settings.smooth_angle is None:
        frame = int(np.isfinite(targets).all(-1).sum(1).argmin())
        raise UserError(f"keypoints: expected at least 3 that are seen, found fewer in frame {frame}")
    posing = Posing(data, keypoints.vertices, settings.shape_count(data))
    term = Keypoints3d(
        sigma=0.005 if settings.sigma is None else settings.sigma,
        targets=targets,
        mixture=keypoints.mixture,
        confidence=np.ones(targets.shape[:2]) if confidence is None else np.asarray(confidence, np.float64),
    )
    problem = problem_of(data, posing, [term], settings, extras_of(data, posing, settings))
    prior, free = problem.pose, problem.free
    starts = [initial_state(posing, keypoints, targets, prior.mean)]
    if settings.components is not None:  # the closed form bends freely; stay on the plane of the components
        starts[0] = replace(starts[0], angles=_onto(free, starts[0].angles, prior.mean))
    if len(targets) <= 8:
        mean = np.tile(prior.mean.reshape(1, -1, 3), (len(targets), 1, 1))
        starts.append(replace(starts[0], angles=mean))
    ends = []
    for start in starts:
        if settings.shape is not None:
            start = replace(start, shape=np.asarray(settings.shape, np.float64))
        term.sigma = 0.005 if settings.sigma is None else settings.sigma
        end = anneal(problem, start, _schedule(term.sigma, settings.robust))
        ends.append((total_cost(problem, end), end))
    state = min(ends, key=lambda end: end[0])[1]
    if settings.smooth_angle is not None and len(state) > 2:
        problem.smoothness = Smoothness(settings.smooth_angle, settings.smooth_translation)
    if settings.sigma is None:
        state = settle_noise(problem, state, [term], smallest=1e-6)
        if len(state) <= 8:  # what was let go while the noise was thought larger gets another chance
            # and nothing within 5 mm is called an outlier: rejecting a datum must not be cheaper than an unusual pose
            last = max(settings.robust, 0.005 / term.sigma)
            again = anneal(problem, state, _schedule(term.sigma, last))
            term.scale = last
            state = min((state, again), key=lambda end: total_cost(problem, end))
    solved = solve(problem, state, iterations=40)
    return finish(problem, solved.state, term, solved.iterations)


def finish(problem: Problem, state: State, term: Term, iterations: int) -> Fit:
    """Collects what is said about a fit."""
    points = problem.posing(state.shape, state.rotations(), state.translation, jacobian=False).points
    residuals = term.linearise(points, None, None).residuals
    seen = term.confidence > 0
    distances = np.where(seen, np.linalg.norm(residuals, axis=-1) * term.sigma, np.nan)
    weights = term.weights(residuals)[0] / np.maximum(term.confidence, 1e-12)
    return Fit(
        state,
        term.sigma,
        distances,
        seen & (weights > 0.25),
        normal_equations(problem, state).cost,
        iterations,
        observe(problem, state),
    )


def _schedule(sigma: float, last: float) -> tuple[float, ...]:
    """From a cost that believes everything within 10 cm down to `last`."""
    if np.isinf(last):
        return (last,)
    scales, scale = [], max(0.1 / sigma, last)
    while scale > 1.5 * last:
        scales.append(scale)
        scale /= 2.5
    return (*scales, last)


def _onto(free: np.ndarray, angles: np.ndarray, mean: np.ndarray) -> np.ndarray:
    basis = free[3:-3, 3:-3]
    flat = angles.reshape(len(angles), -1) - mean
    return (mean + flat @ basis @ basis.T).reshape(angles.shape)
