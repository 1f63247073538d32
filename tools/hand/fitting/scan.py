"""Fitting to scans, point clouds and depth images: a start from many directions, then articulated closest points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from .closest import NearestOnMesh, beyond_opening, boundary_vertices
from .depth_view import DepthView
from .fit import Fit, Settings, extras_of, finish, problem_of
from .free_space import FreeSpace
from .misfit import Misfit
from .posing import Posing
from .priors import Smoothness
from .repose import Fingers
from .solver import solve
from .starts import surface_starts
from .state import State
from .surface import ModelToScan, ScanToModel
from .terms import Term

__all__ = ["Scan", "fit_scans", "surface_distance"]

_TRIED, _KEPT = 8, 3
"""Of the likeliest starts: how many get the first steps of a fit, and how many of these the whole fit."""
_ANOTHER = 0.008
"""Metres between two ends' points from which they are different poses."""
_LARGEST = 3.0
"""Metres: a larger scan is not in metres, or not of a person."""


@dataclass(frozen=True)
class Scan:
    """Points on the surface of one pose."""

    points: np.ndarray
    """(n, 3) metres."""
    normals: np.ndarray | None = None
    """(n, 3) unit."""
    signed: bool = True
    """Whether normals point outwards."""
    complete: bool = True
    """Seen from all sides: then the whole model must lie on it. False for depth images."""
    empty: Callable[[np.ndarray], np.ndarray] | None = None
    """Which of some points (m, 3) lie where the camera of a depth image saw through; None: not known."""
    origin: np.ndarray | None = None
    """(3,) the camera that saw it; None: several, or not known."""
    view: DepthView | None = None
    """The depth image, if it is one."""

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3 or len(self.points) < 50:
            raise UserError(f"scan: expected at least 50 points (n, 3), found {self.points.shape}")
        if not np.isfinite(self.points).all():
            raise UserError("scan: expected finite coordinates, found NaN or infinity")
        size = float(np.ptp(self.points, axis=0).max())
        if not 0.01 < size < _LARGEST:
            raise UserError(f"scan: expected metres, found a box of {size:.4g}; give its unit (--unit mm)")

    def thinned(self, count: int, rng: np.random.Generator) -> Scan:
        """At most `count` points, drawn at random."""
        if len(self.points) <= count:
            return self
        rows = np.sort(rng.choice(len(self.points), count, replace=False))
        return replace(
            self, points=self.points[rows], normals=None if self.normals is None else self.normals[rows]
        )


def fit_scans(
    data: ModelData,
    scans: list[Scan],
    settings: Settings | None = None,
    *,
    start: State | None = None,
    more: tuple[Term, ...] = (),
    count: int = 2500,
    rng: np.random.Generator,
) -> Fit:
    """One subject's scans, one per frame. `more` are further terms on the posing of all vertices (keypoints, pixels).

    Without `start` the likeliest of `surface_starts` are fitted, the best end is kept, and the notes say if another one is nearly as good. One depth image (a scan with a view) is
    judged by rendering: single fingers are searched for elsewhere, and the notes name those that it does not settle. Sigma follows the data: from 8 mm down to what is left.
    """
    settings = settings or Settings()
    whole, scans = scans, [scan.thinned(count, rng) for scan in scans]
    posing = Posing(data, None, settings.shape_count(data))
    vertices = len(data.template)
    if start is not None:
        starts = [start]
    elif len(scans) == 1:
        starts = [
            s.state
            for s in surface_starts(data, scans[0], settings.shape, shapes=posing.shape_count)[:_TRIED]
        ]
    else:  # each on its own first
        alone = replace(settings, smooth_angle=None)
        parts = [fit_scans(data, [scan], alone, count=count, rng=rng).state for scan in scans]
        starts = [
            State(
                parts[0].shape,
                *(np.concatenate([getattr(p, k) for p in parts]) for k in ("root", "angles", "translation")),
            )
        ]
    if settings.shape is not None:
        starts = [replace(one, shape=np.asarray(settings.shape, np.float64)) for one in starts]
    most = max(len(scan.points) for scan in scans)
    known = all(scan.normals is not None for scan in scans)
    forward = ScanToModel(
        targets=np.stack([_padded(scan.points, most) for scan in scans]),
        normals=np.stack([_padded(scan.normals, most) for scan in scans]) if known else None,
        signed=all(scan.signed for scan in scans),
        faces=data.faces,
        vertex_count=vertices,
    )
    terms: list[Term] = [forward, *more]
    back = None
    if all(scan.complete for scan in scans):
        back = ModelToScan(
            scans=[scan.points for scan in scans],
            normals=[scan.normals for scan in scans] if known else None,
            signed=forward.signed,
            faces=data.faces,
            vertex_count=vertices,
            chosen=np.arange(0, vertices, max(1, vertices // 800)),
        )
        terms.append(back)
    free = None
    if any(scan.empty is not None and scan.origin is not None for scan in scans):
        free = FreeSpace(scans=whole, vertex_count=vertices)
        terms.append(free)
    problem = problem_of(data, posing, terms, settings, extras_of(data, posing, settings))
    if settings.smooth_angle is not None and len(scans) > 2:
        problem.smoothness = Smoothness(settings.smooth_angle, settings.smooth_translation)

    surfaces = [term for term in (forward, back, free) if term is not None]

    def match(_: State, points: np.ndarray) -> None:
        for term in terms:
            term.match(points)

    last = 0.0015 if settings.sigma is None else settings.sigma
    # neighbouring points of a scan err together: their weight is that of about 400 independent ones
    share = min(1.0, 400 / most)

    def refined(state: State, stages: tuple[tuple[float, float, float, int], ...]) -> tuple[State, int]:
        iterations = 0
        for sigma, gate, slide, rounds in stages:
            for term in surfaces:
                term.sigma, term.scale = sigma / np.sqrt(share), settings.robust
                if term is not free:
                    term.gate, term.slide = gate, slide
            solved = solve(problem, state, iterations=rounds, tolerance=1e-5, before=match)
            state, iterations = solved.state, iterations + solved.iterations
        return state, iterations

    misfits = [Misfit(posing, scan) for scan in scans]

    def score(state: State) -> float:
        return float(np.mean([misfit(state.frames(slice(i, i + 1))) for i, misfit in enumerate(misfits)]))

    first, others = (0.008, 0.06, 1.0, 12), (
        (0.004, 0.03, 0.5, 12), (max(last, 0.002), 0.015, 0.2, 12), (last, 0.012, 0.05, 15),
    )  # fmt: skip

    def ranked(ends: list[tuple[State, int]]) -> list[tuple[float, State, int]]:
        return sorted(((score(end) if len(ends) > 1 else 0.0, end, n) for end, n in ends), key=lambda e: e[0])

    ends = ranked([refined(one, (first,)) for one in starts])
    ends = [end for end in ends if end[0] <= 2 * ends[0][0]][:_KEPT]
    ends = ranked([refined(end, others) for _, end, _ in ends])
    _, state, iterations = ends[0]
    fingers, notes = Fingers(data), []
    pictured = len(scans) == 1 and scans[0].view is not None
    if start is None and pictured:
        # what became clear only now: a finger that steps led astray
        _, better = fingers.searched(
            state, misfits[0], lambda one: refined(one, ((0.004, 0.03, 0.5, 4),))[0], sweeps=1, tried=1
        )
        if better is not state:
            again = refined(better, others)
            ends = ranked(
                [(state, iterations), (again[0], iterations + again[1]), *((s, n) for _, s, n in ends[1:])]
            )
            _, state, iterations = ends[0]
    if pictured and not more:
        notes = _undecided(fingers, state, misfits[0])
    match(state, posing(state.shape, state.rotations(), state.translation, jacobian=False).points)
    fit = finish(problem, state, forward, iterations)
    found = [surface_distance(data, posing, state, frame, scan) for frame, scan in enumerate(scans)]
    distances = np.stack([_padded(d[:, None], most)[:, 0] for d, _ in found])
    inliers = forward.confidence > 0
    left = distances[inliers]
    own = [distance[belongs] for distance, belongs in found]
    notes = [*_ambiguity(posing, ends), *notes]
    for frame, (near, (distance, belongs)) in enumerate(zip(own, found)):
        prefix = f"frame {frame}: " if len(own) > 1 else ""
        notes.append(
            f"{prefix}from scan to surface: mean {near.mean() * 1e3:.3g}, 95 % below {np.percentile(near, 95) * 1e3:.3g} mm"
            + (
                f"; {int((~belongs).sum())} of {len(distance)} points lie past the wrist"
                if not belongs.all()
                else ""
            )
        )
    return replace(
        fit,
        distances=distances,
        inliers=inliers,
        sigma=float(np.sqrt((left**2).mean())) if left.size else np.nan,
        notes=[*fit.notes, *notes],
    )


def _ambiguity(posing: Posing, ends: list[tuple[float, State, int]]) -> list[str]:
    """Says so where a clearly different end of a fit scores nearly as well as the best one."""
    places = [posing(s.shape, s.rotations(), s.translation, jacobian=False).points for _, s, _ in ends]
    best = ends[0][0]
    for (score, _, _), place in zip(ends[1:], places[1:]):
        apart = float(np.linalg.norm(place - places[0], axis=-1).mean())
        if apart > _ANOTHER and score < 1.25 * best + 2e-4:
            return [
                f"ambiguous: another pose, {apart * 1e3:.3g} mm away on average, fits nearly as well "
                f"(misfit {score * 1e3:.3g} mm, the best {best * 1e3:.3g}); keypoints beside it would settle it"
            ]
    return []


def _undecided(fingers: Fingers, state: State, misfit: Misfit) -> list[str]:
    """Says which fingers may be elsewhere without the surface being explained worse."""
    found = fingers.undecided(state, misfit)
    if not found:
        return []
    named = ", ".join(f"{finger} (tip up to {apart * 1e3:.0f} mm away)" for finger, apart in found.items())
    return [
        f"ambiguous: hidden from the data, and placed by what is usual: {named}; keypoints beside it would settle it"
    ]


def surface_distance(
    data: ModelData, posing: Posing, state: State, frame: int, scan: Scan
) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n,) from the scan's points to the model's surface, and which of them belong to the model: not past its open wrist."""
    one = state.frames(slice(frame, frame + 1))
    points = posing(one.shape, one.rotations(), one.translation, jacobian=False).points
    vertices = points[0, : len(data.template)]
    distance = NearestOnMesh(data.faces, len(vertices), around=6)(vertices, scan.points)[2]
    edge = boundary_vertices(data.faces) if data.layout == "mano" else np.zeros(0, np.int64)
    return distance, ~beyond_opening(vertices, edge, scan.points)


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate((rows, np.full((count - len(rows), rows.shape[1]), np.nan)))
