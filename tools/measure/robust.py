"""The robust start of a fit: MSAC with local optimisation on a subset, and the noise found on the way.

MSAC: Torr and Zisserman, CVIU 78 (2000) 138. Local optimisation: Chum, Matas and Kittler, DAGM 2003. Neighbour sampling:
Myatt et al. (NAPSAC), BMVC 2002. The pre-emptive scoring on a part of the subset is after Nister, ICCV 2003.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .distances_cpu import signed
from .errors import NotMeasurable
from .frame import Frame
from .least_squares import refine
from .minimal import Hypotheses, hypotheses
from .neighbours import local_noise, local_normals, neighbour_table
from .primitives import Primitive
from .sampling import even_subset
from .scale import CUT, mixture_sigma
from .scoring_cpu import msac_costs

__all__ = ["Start", "Subset", "robust_start"]

_SUBSET = 4096
_NEIGHBOURS = 16
_NOISE_SEEDS = 1024
_BATCH = 256
_CONFIDENCE = 0.9999
_MOST_HYPOTHESES = 8192
_PREEMPTIVE = 512  # points on which every hypothesis is scored
_FINALISTS = 5
_FLOOR = 1e-7  # of the extent: no sigma below this; single-precision coordinates are no more exact
_LOOSE = 2e-3  # of the extent: the second cut
_MOST_GROWTH = (
    20.0  # of sigma over the first guess, or up to _LOOSE of the extent: what is wider has another shape
)
_FIRST_CUT = 4.0  # sigma; the first guess of sigma is rough


@dataclass(frozen=True)
class Start:
    frame: Frame
    sigma: float
    """Of the noise, from the mixture with a uniform background (or as given)."""
    share: float
    """Of the points that belong to the primitive."""
    tried: int
    """Hypotheses scored."""


class Subset:
    """The points that hypotheses are drawn from and scored on, in random order, with normals when wanted."""

    def __init__(
        self,
        points: np.ndarray,
        normals: np.ndarray | None,
        want_normals: bool,
        rng: np.random.Generator,
        even: bool = True,  # thinned where the cloud is dense; not for curves, which outliers in a volume never are as dense as
    ):
        if even or len(points) <= _SUBSET:
            chosen = rng.permutation(even_subset(points, _SUBSET, rng))
        else:
            chosen = rng.choice(len(points), _SUBSET, replace=False)
        self.points = np.ascontiguousarray(points[chosen])
        self.columns = np.ascontiguousarray(self.points.T)
        self.extent = float(np.linalg.norm(self.points.max(axis=0) - self.points.min(axis=0)))
        # Without normals to find, a quarter of the neighbourhoods tells the noise as well.
        self.table, self.reach = neighbour_table(
            self.points, _NEIGHBOURS, None if want_normals else _NOISE_SEEDS
        )
        self.normals = None
        if want_normals:
            given = None if normals is None else normals[chosen]
            if given is not None and (np.abs(np.linalg.norm(given, axis=1) - 1) < 0.1).mean() > 0.95:
                self.normals = given
            else:
                self.normals = local_normals(self.points, self.table)

    def __len__(self) -> int:
        return len(self.points)

    def noise(self) -> float:
        """A first sigma: from the neighbourhoods, else a thousandth of the extent."""
        guess = local_noise(self.points, self.table, self.reach)
        return 1e-3 * self.extent if guess is None else guess

    def samples(self, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, size) indices of distinct points: half of them anywhere, half within a ball about the first.

        The ball's points are those of a random few among the nearest of a random pool, so its radius takes all scales.
        """
        n = len(self)
        picks = rng.integers(0, n, (count, size))
        near = count // 2
        if n > 4 * size:
            pool = rng.integers(0, n, (near, 64))
            away = self.points[pool] - self.points[picks[:near, 0]][:, None]
            order = np.argsort((away * away).sum(axis=2), axis=1)
            reach = np.maximum(size, (64 ** rng.random(near)).astype(np.int64))
            for column in range(1, size):
                rank = (rng.random(near) * reach).astype(np.int64)
                picks[:near, column] = pool[np.arange(near), order[np.arange(near), rank]]
        ordered = np.sort(picks, axis=1)
        return picks[(ordered[:, 1:] != ordered[:, :-1]).all(axis=1)]


def robust_start(
    primitive: Primitive,
    subset: Subset,
    rng: np.random.Generator,
    *,
    sigma: float | None = None,  # of the noise, where it is known
    axis: np.ndarray | None = None,  # (3,) given direction
    fixed: tuple[str, ...] = (),
    radius: float | None = None,
    min_share: float = 0.0,  # of the points; the search stops when one this large would have been found
) -> Start:
    """The best primitive in the subset. Raises `NotMeasurable` when no sample gives one.

    Hypotheses are judged at two cuts: a few sigma, and a fixed share of the extent, because on data without noise no minimal
    sample (least of all one with estimated normals) is as exact as the data are.
    """
    first = max(subset.noise() if sigma is None else sigma, _FLOOR * subset.extent)
    cuts = [_FIRST_CUT * first]
    if 3 * cuts[0] < _LOOSE * subset.extent:
        cuts.append(_LOOSE * subset.extent)
    levels, tried = _search(primitive, subset, rng, cuts, axis, radius, min_share)
    if not levels:
        raise NotMeasurable(
            f"{primitive.name}: none of {tried} samples of {primitive.sample} points gives one; the points may lie on a line, "
            "or be too few on curved surface: choose another region"
        )
    finalists = []
    for cut, (best, costs) in zip(cuts, levels):
        for h in _distinct(primitive, subset, best, costs, cut):
            frame = Frame.from_axis(best.origins[h], best.axes[h], best.sizes[h])
            frame, found, share = _optimised(primitive, subset, frame, cut, first, sigma, fixed)
            likelihood = _log_likelihood(primitive, subset, frame, found, share)
            finalists.append((likelihood, Start(frame, found, share, tried)))
    return max(finalists, key=lambda item: item[0])[1]


def _optimised(
    primitive: Primitive,
    subset: Subset,
    frame: Frame,
    cut: float,
    first: float,
    sigma: float | None,
    fixed: tuple[str, ...],
) -> tuple[Frame, float, float]:
    """(frame, sigma, share) after fits to the subset's points within a shrinking cut, and within CUT sigma."""
    scale = subset.extent

    def refined(frame: Frame, cut: float) -> Frame:
        return refine(
            primitive, subset.points, frame, cut=cut, fixed=fixed, iterations=6, tolerance=1e-6, scale=scale
        ).frame

    for widen in (2.0, 1.0):
        frame = refined(frame, widen * cut)
    if sigma is not None:
        while cut > 2 * CUT * sigma:
            cut = max(cut / 3, CUT * sigma)
            frame = refined(frame, cut)
    found, share = max(first, cut / _FIRST_CUT), 0.0
    for _ in range(3):
        residuals = signed(primitive, subset.points, frame)
        if sigma is None:
            widest = max(_MOST_GROWTH * first, _LOOSE * scale)
            found, share = mixture_sigma(
                residuals, found, primitive.dimensions, width=scale / 2, floor=_FLOOR * scale, ceiling=widest
            )
        else:
            found, share = sigma, float((np.abs(residuals) <= CUT * sigma).mean())
        frame = refined(frame, CUT * found)
    return frame, found, share


def _search(
    primitive: Primitive, subset: Subset, rng, cuts: list[float], axis, radius, min_share: float
) -> tuple[list[tuple[Hypotheses, np.ndarray]], int]:
    """For each cut the best hypotheses with their costs, best first; stops by the usual count for the best share so far."""
    n = len(subset)
    size = primitive.sample
    if axis is not None:
        size = 3 if primitive.name in ("cylinder", "ring", "circle") else 1
    part = np.ascontiguousarray(subset.columns[:, :_PREEMPTIVE])
    kept: list[list[tuple[Hypotheses, np.ndarray]]] = [[] for _ in cuts]
    tried, needed = 0, _BATCH
    while tried < min(needed, _MOST_HYPOTHESES):
        picks = subset.samples(size, _BATCH, rng) if size > 1 else rng.integers(0, n, (_BATCH, 1))
        tried += _BATCH
        normals = None if subset.normals is None else subset.normals[picks]
        found = _sane(subset, hypotheses(primitive, subset.points[picks], normals, axis))
        if not len(found.origins):
            continue
        if radius is not None:
            found.sizes[:, 0] = radius
        best = 0.0
        for cut, own in zip(cuts, kept):
            chosen = found
            if n > 2 * _PREEMPTIVE:
                quick = np.argsort(msac_costs(primitive, part, found, cut))[:32]
                chosen = Hypotheses(*(p[quick] for p in found))
            costs = msac_costs(primitive, subset.columns, chosen, cut)
            order = np.argsort(costs)[:16]
            own.append((Hypotheses(*(p[order] for p in chosen)), costs[order]))
            best = max(best, 1 - min(c[0] for _, c in own) / (n * cut * cut))
        share = max(best, min_share, 1e-3)
        # noise spoils about half of the all-inlier samples, hence the factor 4 beside the usual count
        needed = 4 * np.log(1 - _CONFIDENCE) / np.log1p(-min(share**size, 1 - 1e-9))
    if not kept[0]:
        return [], tried
    levels = []
    for own in kept:
        costs = np.concatenate([c for _, c in own])
        order = np.argsort(costs)
        levels.append(
            (Hypotheses(*(np.concatenate(parts)[order] for parts in zip(*(h for h, _ in own)))), costs[order])
        )
    return levels, tried


def _sane(subset: Subset, found: Hypotheses) -> Hypotheses:
    """Those no more than some extents large and away: a sphere of any size looks like a plane from close enough."""
    far = np.linalg.norm(found.origins - subset.points[0], axis=1)
    sane = (np.abs(found.sizes).max(axis=1) < 10 * subset.extent) & (far < 20 * subset.extent)
    return Hypotheses(*(part[sane] for part in found))


def _distinct(primitive, subset, found: Hypotheses, costs: np.ndarray, cut: float) -> list[int]:
    """Up to `_FINALISTS` hypotheses by cost, each holding points that no better one holds."""
    part = subset.points[:1024]
    chosen, covered = [], np.zeros(len(part), bool)
    for h in range(min(len(costs), 64)):
        frame = Frame.from_axis(found.origins[h], found.axes[h], found.sizes[h])
        close = np.abs(signed(primitive, part, frame)) <= cut
        if not chosen or (close & ~covered).sum() > 0.2 * close.sum() or len(chosen) < 2:
            chosen.append(h)
            covered |= close
            if len(chosen) == _FINALISTS:
                break
    return chosen


def _log_likelihood(primitive, subset, frame, sigma: float, share: float) -> float:
    """Of the subset under the mixture of the primitive's Gaussian and a uniform background over the extent."""
    r = signed(primitive, subset.points, frame)
    d = primitive.dimensions
    inside = share * np.exp(-0.5 * (r / sigma) ** 2) / ((2 * np.pi) ** (d / 2) * sigma**d)
    return float(np.log(inside + (1 - min(share, 1 - 1e-9)) / subset.extent**d + 1e-300).sum())
