"""The rim of a hole in a face, with the wall below it taken out of the account.

The face's points are those within a few sigma of its plane. Points of the wall just below the rim lie among them, at the edge, and look
like more material: the fitted rim is too small by the width of the strip they would cover, sigma times some tangent of the view, which at
a noise of 0.05 mm is tens of micrometres, and on one side only where the scanner looks in at a slant. How many there are is told by the
wall a little deeper, where no point of the face lies; the rim is moved outwards by what they add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .hole_edge import HoleEdge, fit_hole_edge
from .hole_regions import EmptyRegion

__all__ = ["Rim", "fit_rim"]

_ABOVE = 3.0  # sigma: points of the face up to here
_BELOW = 1.5  # and down to here, where a wall is seen
_SLICE = (4.0, 8.0)  # sigma below the face: where the wall's points are counted
_DOUBT = 0.3  # of the correction
_FEW = 4  # points in the slice that are not called a wall
_STEEPEST = 1.7  # widening of a countersink per depth: 120 degrees


@dataclass(frozen=True)
class Rim:
    edge: HoleEdge
    """Corrected for the wall; the covariance holds the correction's."""
    wall_shift: float
    """By how much the radius was corrected."""
    wall_points: int
    """In the slice that tells it."""
    sharp: bool = False
    """The edge is blurred by less than the gaps between its points."""


def fit_rim(
    points: np.ndarray,  # (n, 3) u, v, height: everything around the hole
    region: EmptyRegion | HoleEdge,
    sigma: float,  # of the heights
    width: float,  # of material around the outline that may be used
    *,
    cell: float = 0.0,  # of the grid the region was found on
    slot: bool = False,
    blur: float | None = None,
) -> Rim:
    """The maximum-likelihood outline of `points`' face around the region. See `hole_edge` for `blur`."""
    start = region
    if isinstance(region, EmptyRegion):
        start = HoleEdge(
            region.centre,
            region.radius if slot else float(np.sqrt(region.area / np.pi)),
            max(sigma, 0.2 * cell),
            half_length=region.half_length if slot else 0.0,
            angle=region.angle,
        )
    elif not slot:
        start = replace(region, half_length=0.0)
    height = points[:, 2]
    walled = _slice(points, start, sigma, cell).sum() > _FEW
    low = _BELOW if walled else _ABOVE
    face = points[(height > -low * sigma) & (height < _ABOVE * sigma), :2]
    edge = fit_hole_edge(face, start, width, blur=blur)
    for _ in range(2):  # from the region's rough radius the window may have cut the wrong ring
        if not edge.converged or abs(edge.radius - start.radius) < 0.2 * width:
            break
        start = replace(edge, blur=max(edge.blur, 0.1 * cell))
        edge = fit_hole_edge(face, start, width, blur=blur)
    sharp = blur is None and (not edge.converged or edge.blur < 0.5 / (edge.perimeter * edge.density))
    if sharp:
        edge = _sharp(face, start, width, 0.5 * sigma if walled else 0.0)
    if not edge.converged or not walled:
        return Rim(edge, 0.0, 0, sharp)
    return replace(_corrected(edge, points[_slice(points, edge, sigma, 0.0)], sigma), sharp=sharp)


def _sharp(face: np.ndarray, start: HoleEdge, width: float, least: float) -> HoleEdge:
    """The outline of an edge that is blurred by less than the gaps between its points, where the likelihood is not regular.

    It is fitted with the mean gap along the outline for a blur (or `least`, what a wall's own noise does), which is added to the
    uncertainty.
    """
    inside = int((start.distance(face) <= width).sum())
    window = start.radius + width
    area = np.pi * window**2 + 4 * start.half_length * window - start.area
    gap = max(area / max(inside, 1) / (2 * np.pi * start.radius + 4 * start.half_length), least)
    edge = fit_hole_edge(face, start, width, blur=gap)
    if not edge.converged:
        return edge
    return replace(edge, covariance=edge.covariance + gap**2 * np.eye(len(edge.covariance)), blur_sd=gap)


def _slice(points: np.ndarray, edge: HoleEdge, sigma: float, slack: float) -> np.ndarray:
    """(n,) bool: points of the wall between `_SLICE` below the face, near the outline or inwards of it as a countersink goes."""
    top, bottom = (part * sigma for part in _SLICE)
    low = (points[:, 2] < -top) & (points[:, 2] > -bottom)
    out = np.zeros(len(points), bool)
    d = edge.distance(points[low, :2])
    out[low] = (d > -_STEEPEST * bottom - 4 * edge.blur - slack) & (d < 4 * edge.blur + slack)
    return out


def _corrected(edge: HoleEdge, wall: np.ndarray, sigma: float) -> Rim:
    """The edge moved outwards by the strip of material that the wall's points pretend, least squares along the outline.

    A wall of one point per length of rim and depth puts into the face's band, by height h with noise sigma,
    int Phi(-h / sigma) dh = sigma (phi(c) + c Phi(c)) points, c being the band's lower end, 1.5. That takes the wall's points to be blurred
    sideways as the rim is; a third of the correction is added to the uncertainty for where they are not.
    """
    from scipy.special import ndtr

    normal = np.exp(-0.5 * _BELOW**2) / np.sqrt(2 * np.pi)
    weight = (normal + _BELOW * ndtr(_BELOW)) / (_SLICE[1] - _SLICE[0])
    rows = _outward(edge, wall[:, :2])
    outline, length = edge.outline()
    along = _outward(edge, outline + 1e-3 * edge.radius * _away(edge, outline))
    inverse = np.linalg.inv((along * length) @ along.T)
    shift = inverse @ rows.sum(axis=1) * weight / edge.density
    spread = (
        np.diag((_DOUBT * shift) ** 2) + inverse @ (rows @ rows.T) @ inverse * (weight / edge.density) ** 2
    )
    moved = {"centre": edge.centre + shift[:2], "radius": edge.radius + float(shift[2])}
    if edge.is_slot:
        moved |= {
            "half_length": max(edge.half_length + float(shift[3]), 0.0),
            "angle": edge.angle + float(shift[4]),
        }
    return Rim(replace(edge, **moved, covariance=edge.covariance + spread), float(shift[2]), len(wall))


def _outward(edge: HoleEdge, points: np.ndarray) -> np.ndarray:  # (m, 2)
    """(k, m): by how much the outline near each point moves outwards per unit of centre, radius, [half length, angle]."""
    return -edge.gradient(points)


def _away(edge: HoleEdge, points: np.ndarray) -> np.ndarray:
    direction = points - edge.centre
    return direction / np.maximum(np.linalg.norm(direction, axis=1), 1e-300)[:, None]
