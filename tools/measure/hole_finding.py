"""The holes of one face: empty regions, their rims, one blur for all of them, and the walls below."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .faces import Face
from .hole_edge import HoleEdge
from .hole_regions import EmptyRegion, Occupancy, empty_regions, occupancy
from .hole_rim import Rim, fit_rim
from .hole_wall import HoleWall, fit_wall

__all__ = ["FaceHoles", "FoundHole", "holes_of_face"]

_LONG = 0.15  # half length over radius from which on an outline is a slot's
_LEAST_WIDTH = 2.5  # cells of material needed around a rim
_WIDEST = 12.0  # cells of material used around a rim
_ON_FACE = 3.0  # sigma
_ABOVE = 4.0  # sigma from which on a point lies above the face
_FILLED = 0.2  # share of the face's density that makes a region a boss, or gives a hole a floor
_AGREE = 3.5  # standard deviations within which rim and wall are one circle
_BLUR_INFORMATION = 0.711  # per point along the edge and blur
_B_OVER_A = (
    0.5956355968424427 / 0.9031972855611727
)  # change of the radius per change of a given blur (`hole_edge`)


@dataclass(frozen=True)
class FoundHole:
    """A hole in its face's coordinates u, v."""

    kind: str
    """"hole" (round), "slot", "notch" (open to the outside), "boss" (material stands there), or "opening" (no outline could be fitted)."""
    centre: np.ndarray
    """(2,)"""
    radius: float
    """Of the bore where its wall was seen, else of the rim; half the width of a slot or notch."""
    covariance: np.ndarray | None
    """(3, 3) of centre and radius, of a slot (5, 5) with half_length and angle, all with a blur that is exactly known."""
    by_blur: float = 0.0
    """Change of the radius per change of the common blur."""
    half_length: float = 0.0
    angle: float = 0.0
    rim: Rim | None = None
    wall: HoleWall | None = None
    source: str = "rim"
    """"rim", "wall" or "rim and wall": what centre and radius come from."""
    floor: float | None = None
    """Height of a blind hole's floor, or of a boss's top."""
    n_used: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaceHoles:
    holes: list[FoundHole]
    blur: float
    """Of the rims they share; NaN where there is none."""
    blur_sd: float
    density: float
    """Points per area of face."""
    least_radius: float
    """Of a hole that would have been found."""
    used: np.ndarray
    """(n,) bool: points of the face."""
    warnings: list[str] = field(default_factory=list)


def holes_of_face(
    points: np.ndarray,  # (n, 3) in the cloud's coordinates
    face: Face,
    *,
    radii: tuple[float, float] | None = None,  # of the holes that are wanted
    walls: bool = True,
    unit: str = "",
) -> FaceHoles:
    """All holes of the face, in no order."""
    local = np.ascontiguousarray(face.local(points).T)
    u, v, height = local
    on_face = np.abs(height) <= _ON_FACE * face.sigma
    grid = occupancy(np.stack([u[on_face], v[on_face]], axis=1))
    regions = empty_regions(grid)
    least = 2.5 * grid.cell
    if radii is not None:
        regions = [r for r in regions if radii[0] * 0.8 <= r.radius <= radii[1] * 1.2]
    away = _distance_to_other_edges(grid)
    pieces, rooms = [], []
    for region in regions:
        room = _room(region, regions, grid, away)
        reach = region.radius + region.half_length + max(room, 2 * grid.cell) + 2 * grid.cell
        near = (np.abs(u - region.centre[0]) < reach) & (np.abs(v - region.centre[1]) < reach)
        pieces.append(local[:, near].T)
        rooms.append(room)
    rims = [_rim(piece, r, face.sigma, room, grid) for piece, r, room in zip(pieces, regions, rooms)]
    blur, blur_sd, shared = _common_blur(rims)
    for i, rim in enumerate(rims):
        if shared[i]:
            again = fit_rim(pieces[i], rim.edge, face.sigma, rooms[i], slot=rim.edge.is_slot, blur=blur)
            shared[i] = again.edge.converged
            rims[i] = again if again.edge.converged else rim
    holes, warnings = [], []
    for region, piece, rim, one in zip(regions, pieces, rims, shared):
        hole = _hole(region, piece, rim, face, grid, walls, unit)
        if radii is not None and not radii[0] <= hole.radius <= radii[1]:
            continue
        holes.append(hole if one else replace(hole, by_blur=0.0))
    return FaceHoles(holes, blur, blur_sd, grid.density, least, on_face, warnings)


def _distance_to_other_edges(grid: Occupancy) -> np.ndarray:
    """(rows, columns) distance, in length, of each cell to the outside of the face."""
    from scipy import ndimage

    empty = ndimage.binary_erosion(~grid.filled, np.ones((3, 3), bool), border_value=1)
    labels, _ = ndimage.label(empty)
    return ndimage.distance_transform_edt(labels != labels[0, 0]) * grid.cell


def _room(region: EmptyRegion, regions: list[EmptyRegion], grid: Occupancy, away: np.ndarray) -> float:
    """Material around the region's outline up to the next outline, or the face's end; at most `_WIDEST` cells."""
    room = min(max(0.6 * region.radius, 6 * grid.cell), _WIDEST * grid.cell)
    c, s = np.cos(region.angle), np.sin(region.angle)
    for other in regions:
        if other is region:
            continue
        dx, dy = other.centre - region.centre
        along, across = c * dx + s * dy, c * dy - s * dx
        gap = np.hypot(along - np.clip(along, -region.half_length, region.half_length), across)
        room = min(room, gap - region.radius - other.radius - other.half_length - 0.5 * grid.cell)
    if not region.open_to_outside:
        edge = HoleEdge(region.centre, region.radius, 1.0, half_length=region.half_length, angle=region.angle)
        outline, _ = edge.outline()
        cells = np.clip(
            ((outline - grid.low) / grid.cell).astype(np.int64), 0, np.array(away.shape)[::-1] - 1
        )
        room = min(room, float(away[cells[:, 1], cells[:, 0]].min()) - 2 * grid.cell)
    return float(room)


def _rim(piece: np.ndarray, region: EmptyRegion, sigma: float, room: float, grid: Occupancy) -> Rim | None:
    if region.open_to_outside or room < _LEAST_WIDTH * grid.cell:
        return None
    if region.half_length > _LONG * region.radius:
        rim = fit_rim(piece, region, sigma, room, cell=grid.cell, slot=True)
        if rim.edge.converged:
            deviation = np.sqrt(rim.edge.covariance[3, 3])
            if rim.edge.half_length > max(4 * deviation, _LONG * rim.edge.radius):
                return rim
    rim = fit_rim(piece, region, sigma, room, cell=grid.cell)
    return rim if rim.edge.converged else None


def _common_blur(rims: list[Rim | None]) -> tuple[float, float, list[bool]]:
    """The blur that the rims share and its standard deviation; and which of them share it (none where it is too small to be known).

    A rim's own blur has the variance s / (0.711 length density) (`hole_edge`: c - b^2 / a), so rims are weighted by their points along
    the edge, not by their own estimates, which would favour small ones; those too sharp to have a blur count as zero. A rim that
    is off by 3.5 deviations keeps its own.
    """
    weight = np.array([0.0 if rim is None else rim.edge.perimeter * rim.edge.density for rim in rims])
    own = np.array([0.0 if rim is None or rim.sharp else rim.edge.blur for rim in rims])
    agree = weight > 0
    blur = deviation = float("nan")
    for _ in range(3):
        if not agree.any():
            break
        total = float(weight[agree].sum())
        blur = float(weight[agree] @ own[agree]) / total
        deviation = float(np.sqrt(blur / (_BLUR_INFORMATION * total)))
        spread = np.sqrt(blur / (_BLUR_INFORMATION * np.maximum(weight, 1e-300)))
        agree = (weight > 0) & (np.abs(own - blur) < 3.5 * spread)
    if not agree.any() or not deviation < 0.4 * blur:
        return float("nan"), float("nan"), [False] * len(rims)
    several = int(agree.sum()) > 1
    return blur, deviation, [bool(a) and several for a in agree]


def _hole(
    region: EmptyRegion,
    piece: np.ndarray,
    rim: Rim | None,
    face: Face,
    grid: Occupancy,
    walls: bool,
    unit: str,
) -> FoundHole:
    if region.open_to_outside:
        note = f"open slot: about {2 * region.radius:.3g} {unit} wide, it reaches the face's outline; no circle is fitted"
        return FoundHole("notch", region.centre, region.radius, None, half_length=region.half_length, angle=region.angle, notes=(note,))  # fmt: skip
    if rim is None:
        note = (
            f"an opening about {2 * region.radius:.3g} {unit} wide, whose rim no circle or slot fits, or with less than "
            f"{_LEAST_WIDTH * grid.cell:.2g} {unit} of material around it: scan closer"
        )
        return FoundHole("opening", region.centre, region.radius, None, half_length=region.half_length, angle=region.angle, notes=(note,))  # fmt: skip
    edge = rim.edge
    deep = edge.distance(piece[:, :2]) < -max(0.25 * edge.radius, 4 * edge.blur)
    expected = 0.25 * edge.area * grid.density
    above = deep & (piece[:, 2] > _ABOVE * face.sigma)
    below = deep & (piece[:, 2] < -_ABOVE * face.sigma)
    common = {"half_length": edge.half_length, "angle": edge.angle, "rim": rim, "by_blur": _B_OVER_A}
    if above.sum() > _FILLED * expected:
        top = float(np.quantile(piece[above, 2], 0.99))
        mirrored = piece * np.array([1.0, 1.0, -1.0])
        note = (
            "material stands here: centre and radius are of the outline that it leaves free in the face, the scanner's shadow beside it "
            "included; measure what stands there itself, in a region around it"
        )
        hole = FoundHole("boss", edge.centre, edge.radius, edge.covariance, n_used=edge.n_used, floor=top, notes=(note,), **common)  # fmt: skip
        return _with_wall(hole, fit_wall(mirrored, edge, face.sigma), unit) if walls else hole
    floor = None
    if below.sum() > _FILLED * expected:
        middle = float(np.median(piece[below, 2]))
        if (np.abs(piece[below, 2] - middle) < 5 * face.sigma).mean() > 0.5:
            floor = middle
    kind = "slot" if edge.is_slot else "hole"
    hole = FoundHole(kind, edge.centre, edge.radius, edge.covariance, n_used=edge.n_used, floor=floor, **common)  # fmt: skip
    if kind == "hole" and walls:
        hole = _with_wall(hole, fit_wall(piece, edge, face.sigma), unit)
    return hole


def _with_wall(hole: FoundHole, wall: HoleWall, unit: str) -> FoundHole:
    """Rim and bore joined by their covariances where they agree; where they do not, the bore is the hole."""
    hole, bore, edge = replace(hole, wall=wall), wall.bore, hole.rim.edge
    if bore is None:
        if wall.countersink is None:
            return hole
        note = (
            f"countersunk, and too little of its bore is seen: radius {edge.radius:.4g} {unit} is the countersink's; "
            "look straight into the hole"
        )
        return replace(hole, notes=(*hole.notes, note))
    own = {"centre": bore.centre, "radius": bore.radius, "covariance": bore.covariance, "by_blur": 0.0, "source": "wall"}  # fmt: skip
    if wall.countersink is not None:
        return replace(hole, **own)
    one, two = edge.covariance[:3, :3], bore.covariance
    apart = np.array([*(edge.centre - bore.centre), edge.radius - bore.radius])
    if apart @ np.linalg.solve(one + two, apart) < _AGREE**2:
        gain = one @ np.linalg.inv(one + two)
        joint = np.array([*edge.centre, edge.radius]) - gain @ apart
        covariance = one - gain @ one
        return replace(
            hole,
            centre=joint[:2],
            radius=float(joint[2]),
            covariance=(covariance + covariance.T) / 2,
            by_blur=float((1 - gain[2, 2]) * hole.by_blur),
            source="rim and wall",
        )
    note = (
        f"rim and wall are not one circle: radius {edge.radius:.4g} and {bore.radius:.4g} {unit}, centres "
        f"{np.hypot(*apart[:2]):.2g} {unit} apart (a chamfer, a burr, or a slanted bore); the wall is taken"
    )
    return replace(hole, **own, notes=(*hole.notes, note))
