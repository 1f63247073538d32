"""Empty regions inside the convex hull of a face's points: where its holes are, roughly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["EmptyRegion", "Occupancy", "empty_regions", "occupancy"]

_POINTS_PER_CELL = 6.0  # a cell of material is empty with probability exp(-6)
_MOST_CELLS = 4096


@dataclass(frozen=True)
class Occupancy:
    """A grid over the face's plane; `filled` where points lie, and in single empty cells between them."""

    filled: np.ndarray
    """(rows, columns) bool."""
    low: np.ndarray
    """(2,) corner of the first cell."""
    cell: float
    density: float
    """Points per area of filled cells."""

    def centres(self, cells: np.ndarray) -> np.ndarray:  # (n, 2) row, column
        """(n, 2) u, v of cells' centres."""
        return self.low + (cells[:, ::-1] + 0.5) * self.cell


@dataclass(frozen=True)
class EmptyRegion:
    """A connected empty region."""

    cells: np.ndarray
    """(n, 2) row, column."""
    centre: np.ndarray
    """(2,)"""
    area: float
    radius: float
    """Of half the width, were it a circle or a slot."""
    half_length: float
    """Of the slot's segment; near 0 for a circle."""
    angle: float
    """Of the longer axis, radians."""
    open_to_outside: bool
    """Reaches the hull: a notch or an open slot, not a hole."""


def occupancy(points: np.ndarray, outside: float = 3.0) -> Occupancy:  # (n, 2); margin in cells
    """The grid whose filled cells hold six points on average.

    The area that the points cover is not known beforehand: a first grid over the bounding box gives it.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max())
    cell = span / np.clip(np.sqrt(len(points) / 16), 8, 512)
    for _ in range(3):
        index = ((points - low) / cell).astype(np.int64)
        columns = int(index[:, 0].max()) + 1
        counts = np.bincount(index[:, 1] * columns + index[:, 0])
        area = (counts > 0).sum() * cell**2
        cell = max(np.sqrt(_POINTS_PER_CELL * area / len(points)), span / _MOST_CELLS)
    low = low - (outside + 0.5) * cell
    index = ((points - low) / cell).astype(np.int64)
    shape = index.max(axis=0)[::-1] + 1 + int(outside)
    filled = np.zeros(shape, bool)
    filled[index[:, 1], index[:, 0]] = True
    return Occupancy(filled, low, float(cell), len(points) / area)


def empty_regions(grid: Occupancy, least_radius: float | None = None) -> list[EmptyRegion]:
    """Regions without points inside the hull of the points, wider than `least_radius` (None: two and a half cells), largest first.

    The filled cells are grown by one before empty ones are joined, so that a web thinned by chance keeps holes apart, and regions are
    grown back afterwards. Regions joined to the outside are returned with `open_to_outside` when they lie deep inside the hull.
    """
    from scipy import ndimage

    least = max(least_radius or 0.0, 2.5 * grid.cell)
    empty = ndimage.binary_erosion(~grid.filled, np.ones((3, 3), bool), border_value=1)
    labels, _ = ndimage.label(empty)
    outside = labels == labels[0, 0]
    regions = []
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        if label == labels[0, 0]:
            continue
        regions.append(_grown_back(labels[where] == label, where, grid, opened=False))
    hull = _hull_cells(grid)
    inner = ndimage.binary_erosion(hull, iterations=max(int(least / grid.cell), 1))
    notches, _ = ndimage.label(outside & inner)
    for label, where in enumerate(ndimage.find_objects(notches), start=1):
        regions.append(_grown_back(notches[where] == label, where, grid, opened=True))
    kept = [region for region in regions if region.radius >= least]
    return sorted(kept, key=lambda region: -region.area)


def _grown_back(
    mask: np.ndarray, where: tuple[slice, slice], grid: Occupancy, *, opened: bool
) -> EmptyRegion:
    """A region with the cells that the growing of filled ones took from its rim."""
    from scipy import ndimage

    padded = np.pad(mask, 1)
    top, left = where[0].start - 1, where[1].start - 1
    rows, columns = padded.shape
    around = np.ones((3, 3), bool)
    window = ~grid.filled[max(top, 0) : top + rows, max(left, 0) : left + columns]
    room = np.zeros_like(padded)
    room[max(-top, 0) : max(-top, 0) + window.shape[0], max(-left, 0) : max(-left, 0) + window.shape[1]] = (
        window
    )
    grown = padded if opened else ndimage.binary_dilation(padded, around) & room
    cells = np.argwhere(grown) + np.array([top, left])
    at = grid.centres(cells)
    centre = at.mean(axis=0)
    spread = np.cov((at - centre).T) + np.eye(2) * grid.cell**2 / 12 if len(at) > 1 else np.eye(2) * 1e-300
    values, vectors = np.linalg.eigh(spread)
    area = len(cells) * grid.cell**2 * (1 + 0.5 * grid.cell / np.sqrt(values[1] * 4))  # half-filled rim cells
    radius, half = _stadium(area, float(values[0]), float(values[1]))
    angle = float(np.arctan2(vectors[1, 1], vectors[0, 1]))
    return EmptyRegion(cells, centre, area, radius, half, angle, opened)


def _stadium(area: float, small: float, large: float) -> tuple[float, float]:
    """Radius and half length of the slot with this area and ratio of second moments."""
    ratio = np.sqrt(large / max(small, 1e-300))
    low, high = 0.0, 20.0
    for _ in range(40):  # bisection on half / radius
        middle = (low + high) / 2
        across = np.pi / 4 + 4 * middle / 3
        along = np.pi / 4 + 8 * middle / 3 + np.pi * middle**2 + 4 * middle**3 / 3
        low, high = (middle, high) if np.sqrt(along / across) < ratio else (low, middle)
    radius = float(np.sqrt(area / (np.pi + 4 * low)))
    return radius, low * radius


def _hull_cells(grid: Occupancy) -> np.ndarray:
    """(rows, columns) bool of the cells whose centre lies inside the convex hull of the filled ones."""
    from scipy.spatial import ConvexHull

    cells = np.argwhere(grid.filled)
    corners = cells[ConvexHull(cells).vertices].astype(np.float64)  # counter-clockwise in (row, column)
    corners = np.roll(corners, -int(np.argmin(corners[:, 0])), axis=0)
    turn = int(np.argmax(corners[:, 0]))
    rows = np.arange(int(corners[0, 0]), int(corners[turn, 0]) + 1)
    one, other = corners[: turn + 1], np.concatenate([corners[turn:], corners[:1]])[::-1]
    sides = np.sort([np.interp(rows, *one.T), np.interp(rows, *other.T)], axis=0)
    columns = np.arange(grid.filled.shape[1])
    inside = np.zeros_like(grid.filled)
    inside[rows] = (columns >= np.ceil(sides[0])[:, None]) & (columns <= np.floor(sides[1])[:, None])
    return inside
