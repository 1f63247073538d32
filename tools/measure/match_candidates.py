"""Which feature of one part meets which of the other, when nobody says: all rolls that bring the patterns together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import NotMeasurable
from .match_roll import Pose2, least_squares_pose, offsets

__all__ = ["Candidate", "alike", "candidates"]

_NEAR = 0.3  # of the least distance between two features: farther apart they are no pair
_PART_OF_RADIUS = 0.5
_BASES = 4  # pairs of the fixed pattern that are tried
_FEWEST = 0.6  # share of the smaller pattern that must find a partner
_DISTINGUISHED = 1e-3  # significance at which one candidate is called better than another


@dataclass(frozen=True)
class Candidate:
    """A pose of the moving pattern on the fixed one, and its pairs."""

    pose: Pose2
    """Least squares, weighted by the pairs' variances."""
    moving: np.ndarray
    """(k,) indices of the features that have a partner."""
    fixed: np.ndarray
    """(k,) those of the partners."""
    rms: float
    """Of the offsets."""
    squares: float
    """Their sum of squares over the measurements' variances."""


def candidates(
    moving: np.ndarray,  # (m, 2) places
    fixed: np.ndarray,  # (n, 2)
    moving_variance: np.ndarray,  # (m,)
    fixed_variance: np.ndarray,  # (n,)
    unit: str = "",
    radius: float | None = None,  # of the features: two that lie farther apart than half of it are no pair
) -> list[Candidate]:
    """All distinct poses that pair most features, the best first: most pairs, then the least offsets.

    Every pair of moving features as far apart as one of a few pairs of fixed ones proposes a pose; features then pair with their nearest.
    Raises `NotMeasurable` where no pose pairs enough.
    """
    least = min(_least_distance(moving), _least_distance(fixed))
    reach = _NEAR * least if radius is None else min(_NEAR * least, _PART_OF_RADIUS * radius)
    found: dict[tuple, Candidate] = {}
    seen: set[bytes] = set()
    most = 0
    for i, j in _bases(fixed):
        span = fixed[j] - fixed[i]
        away = moving[None] - moving[:, None]
        fits = np.abs(np.hypot(*away.transpose(2, 0, 1)) - np.hypot(*span)) < reach
        np.fill_diagonal(fits, False)
        for k, other in np.argwhere(fits):
            pose = least_squares_pose(moving[[k, other]], fixed[[i, j]])
            first = _pairs(pose(moving), fixed, 2 * reach)
            if first.tobytes() in seen:
                continue
            seen.add(first.tobytes())
            if len(first) >= 2:
                pose = _fitted(moving, fixed, first, moving_variance, fixed_variance)
            pairs = None
            for _ in range(4):
                new = _pairs(pose(moving), fixed, reach)
                if pairs is not None and np.array_equal(new, pairs):
                    break
                pairs = new
                if len(pairs) < 2:
                    break
                pose = _fitted(moving, fixed, pairs, moving_variance, fixed_variance)
            most = max(most, len(pairs))
            key = tuple(map(tuple, pairs))
            if len(pairs) >= 2 and key not in found:
                found[key] = _candidate(pose, moving, fixed, pairs, moving_variance, fixed_variance)
    smaller = min(len(moving), len(fixed))
    if most < max(2, _FEWEST * smaller):
        raise NotMeasurable(
            f"no roll brings the patterns together: at best {most} of {smaller} features lie within {reach:.3g} {unit} of a partner "
            f"(patterns of {len(fixed)} and {len(moving)}, {_spread(fixed):.4g} and {_spread(moving):.4g} {unit} from their middles); check that "
            "the parts belong together, and whether the faces are to meet or to look the same way"
        )
    kept = [c for c in found.values() if len(c.moving) == most]
    return sorted(kept, key=lambda c: c.rms)


def alike(best: Candidate, other: Candidate) -> bool:
    """Whether the data do not tell the two apart: the ratio of their mean squares could be chance (F test at 0.1 %), measurement
    variance being the least that either can claim.
    """
    from scipy.stats import f

    freedom = max(2 * len(best.moving) - 3, 1)
    floor = max(best.squares / freedom, 1.0)
    return other.squares / freedom <= float(f.ppf(1 - _DISTINGUISHED, freedom, freedom)) * floor


def _bases(places: np.ndarray) -> list[tuple[int, int]]:
    """The pairs farthest apart, each with features the others lack, as far as possible."""
    apart = np.hypot(*(places[None] - places[:, None]).transpose(2, 0, 1))
    order = np.argsort(-apart, axis=None)
    pairs, used = [], set()
    for flat in order:
        i, j = divmod(int(flat), len(places))
        if i < j and not {i, j} & used:
            pairs.append((i, j))
            used |= {i, j}
    return pairs[:_BASES] or [(0, 1)]


def _pairs(moved: np.ndarray, fixed: np.ndarray, reach: float) -> np.ndarray:
    """(k, 2) of mutually nearest places within reach: index of the moved, of the fixed, by the first."""
    apart = np.hypot(*(moved[:, None] - fixed[None]).transpose(2, 0, 1))
    nearest, back = apart.argmin(axis=1), apart.argmin(axis=0)
    rows = np.arange(len(moved))
    good = (back[nearest] == rows) & (apart[rows, nearest] < reach)
    return np.stack([rows[good], nearest[good]], axis=1)


def _fitted(moving, fixed, pairs, moving_variance, fixed_variance) -> Pose2:
    variance = moving_variance[pairs[:, 0]] + fixed_variance[pairs[:, 1]]
    weights = 1 / np.maximum(variance, 1e-12 * max(variance.max(), 1e-300)) if variance.max() > 0 else None
    return least_squares_pose(moving[pairs[:, 0]], fixed[pairs[:, 1]], weights)


def _candidate(pose, moving, fixed, pairs, moving_variance, fixed_variance) -> Candidate:
    off = (offsets(pose, moving[pairs[:, 0]], fixed[pairs[:, 1]]) ** 2).sum(axis=1)
    variance = moving_variance[pairs[:, 0]] + fixed_variance[pairs[:, 1]]
    floor = (1e-9 * _spread(fixed)) ** 2
    return Candidate(
        pose=pose,
        moving=pairs[:, 0],
        fixed=pairs[:, 1],
        rms=float(np.sqrt(off.mean())),
        squares=float((off / np.maximum(variance, floor)).sum()),
    )


def _least_distance(places: np.ndarray) -> float:
    apart = np.hypot(*(places[None] - places[:, None]).transpose(2, 0, 1))
    return float(apart[~np.eye(len(places), dtype=bool)].min())


def _spread(places: np.ndarray) -> float:
    return float(np.hypot(*(places - places.mean(axis=0)).T).max())
