"""Fitting to masks: the outline of the rasterised model against the outline of each mask.

Every round the model is rasterised (`render.rasterise.fragments` says which face and where on it); pixels at the edge of what is covered are points of
the model's outline. They are drawn onto the mask's outline through its distance field, and each outline pixel of the mask draws the nearest
point of the model's outline. Both are ordinary residuals of points on the surface, so Gauss-Newton with the analytic Jacobian does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from ....render.cameras import Cameras
from ....render.rasterise import fragments
from .fit import Fit, Settings, extras_of, finish, problem_of
from .posing import Posing
from .scan import Scan, fit_scans
from .solver import solve
from .starts import surface_starts
from .state import State
from .terms import Linearised, Term

__all__ = ["Silhouettes", "fit_silhouettes", "overlap", "visual_hull"]

_PLACED, _TRIED, _FITTED = 16, 6, 3
"""Placements in the hull that are bent onto it, how many of them are tried on the outlines, and how many fitted to the end."""
_HOPELESS = 0.06
"""Overlap behind the best one's from which a start is not fitted to the end."""


@dataclass
class Silhouettes(Term):
    """Masks of one frame from c cameras. Sigma is in pixels."""

    masks: list[np.ndarray] = None
    """c masks (h, w) bool."""
    cameras: Cameras = None
    faces: np.ndarray = None
    vertex_count: int = 0
    gate: float = 40.0
    """Pixels beyond which outlines have nothing to do with each other."""
    most: int = 400
    """Outline points a view, in each direction."""

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.cameras):
            raise UserError(
                f"silhouettes: {len(self.masks)} masks for {len(self.cameras)} cameras; give one each"
            )
        self._fields, self._edges = [], []
        for view, mask in enumerate(self.masks):
            width, height = self.cameras.size(view)
            if mask.shape != (height, width):
                raise UserError(
                    f"silhouettes: mask {view}: expected {(height, width)}, its camera's size, found {mask.shape}"
                )
            if not mask.any() or mask.all():
                raise UserError(
                    f"silhouettes: mask {view} is {'empty' if not mask.any() else 'full'}: no outline to fit"
                )
            # distance in pixels to the outline, which runs half way between the last pixel inside and the first one outside
            outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
            self._fields.append(np.where(mask, 0.5 - inside, outside - 0.5))
            self._edges.append(_edge_pixels(mask))
        self._matched = None

    def match(self, points: np.ndarray) -> None:
        """Rasterises the model and pairs outlines anew."""
        vertices = points[0, : self.vertex_count]
        corner, weights, view_of, target, normal = [], [], [], [], []
        for view in range(len(self.cameras)):
            found = fragments(
                torch.from_numpy(vertices.astype(np.float32)),
                torch.from_numpy(self.faces),
                self.cameras[view],
            )
            face = found.face[..., 0].numpy()
            covered = face >= 0
            edge = _edge_pixels(covered)
            edge = edge[:: max(1, len(edge) // self.most)]
            if not len(edge):
                continue
            row, column = edge[:, 1].astype(int), edge[:, 0].astype(int)
            own = self.faces[face[row, column]], found.barycentric[row, column, 0].numpy().astype(np.float64)
            outward = _outward(covered)[row, column]
            # the model's outline onto the mask's: along the distance field's slope
            slope = _sampled_slope(self._fields[view], edge)
            distance = ndimage.map_coordinates(
                self._fields[view], (edge[:, 1] - 0.5, edge[:, 0] - 0.5), order=1, mode="nearest"
            )
            near = (np.abs(distance + 0.5) < self.gate) & ((slope * outward).sum(1) > 0.2)
            corner.append(own[0][near])
            weights.append(own[1][near])
            # the point seen at an edge pixel lies half a pixel inside the model's outline; so does its goal
            target.append((edge - (distance + 0.5)[:, None] * slope)[near])
            normal.append(slope[near])
            view_of.append(np.full(int(near.sum()), view))
            # the mask's outline onto the model's
            goal = self._edges[view]
            goal = goal[:: max(1, len(goal) // self.most)]
            direction = _outward(self.masks[view])[goal[:, 1].astype(int), goal[:, 0].astype(int)]
            distance, nearest = cKDTree(edge).query(goal)
            near = (distance < self.gate) & ((direction * outward[nearest]).sum(1) > 0.2)
            corner.append(own[0][nearest[near]])
            weights.append(own[1][nearest[near]])
            target.append(goal[near])
            normal.append(direction[near])
            view_of.append(np.full(int(near.sum()), view))
        if not corner:
            raise UserError(
                "silhouettes: the model is outside every picture; give a start nearer to what is seen"
            )
        self._matched = tuple(np.concatenate(part) for part in (corner, weights, view_of, target, normal))
        self.confidence = np.ones((1, len(self._matched[0])))

    def linearise(
        self, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> Linearised:
        corner, weights, view, target, normal = self._matched

        def on_surface(part: np.ndarray) -> np.ndarray:
            return (weights.reshape(*weights.shape, *(1,) * (part.ndim - 2)) * part[0, corner]).sum(1)

        surface = on_surface(points)
        pixels = self._project(surface, view)
        residuals = ((pixels - target) * normal).sum(1)
        good = np.isfinite(residuals)
        residuals = np.where(good, residuals, 0.0)[None, :, None] / self.sigma
        if by_frame is None:
            return Linearised(residuals)
        # the lens's derivative by central differences: any lens, 1e-5 m is 1e-2 pixels or less
        step = 1e-5
        slope = np.stack(
            [
                (self._project(surface + step * axis, view) - self._project(surface - step * axis, view))
                / (2 * step)
                for axis in np.eye(3)
            ],
            -1,
        )
        row = np.einsum("mi,mij->mj", normal, slope) * good[:, None] / self.sigma
        row = np.nan_to_num(row)

        def through(part: np.ndarray) -> np.ndarray:
            return np.einsum("mc,mck->mk", row, on_surface(part))[None, :, None]

        return Linearised(residuals, through(by_shape), through(by_frame))

    def _project(self, points: np.ndarray, view: np.ndarray) -> np.ndarray:
        return self.cameras.project(torch.from_numpy(points), torch.from_numpy(view))[0].numpy()


def fit_silhouettes(
    data: ModelData,
    masks: list[np.ndarray],  # c masks (h, w) bool
    cameras: Cameras,
    settings: Settings | None = None,
    *,
    start: State | None = None,
    more: tuple[Term, ...] = (),
    rng: np.random.Generator,
) -> Fit:
    """One frame from the masks of c cameras. Without `start` the model is first laid into the masks' visual hull.

    Distances in the result are pixels between outlines.
    """
    settings = settings or Settings()
    posing = Posing(data, None, settings.shape_count(data))
    starts = [start] if start is not None else _starts_in_hull(posing, masks, cameras, settings, rng)
    if settings.shape is not None:
        starts = [replace(one, shape=np.asarray(settings.shape, np.float64)) for one in starts]
    term = Silhouettes(masks=masks, cameras=cameras, faces=data.faces, vertex_count=len(data.template))
    terms: list[Term] = [term, *more]
    problem = problem_of(data, posing, terms, settings, extras_of(data, posing, settings))

    def match(_: State, points: np.ndarray) -> None:
        for each in terms:
            each.match(points)

    if len(starts) > 1:
        # hulls look alike from palm and back: a few steps to the outlines each, then those that overlap best
        term.sigma, term.scale = 8.0, settings.robust
        tried = [solve(problem, one, iterations=8, tolerance=1e-3, before=match).state for one in starts[1:]]
        shares = [overlap(data, posing, one, masks, cameras) for one in (starts[0], *tried)]
        best = np.argsort(shares)[::-1][:_FITTED]
        starts = [(starts[0], *tried)[i] for i in best if shares[i] > shares[best[0]] - _HOPELESS]
    last = 0.5 if settings.sigma is None else settings.sigma
    ends = []
    for state in starts:
        iterations = 0
        for sigma, gate, rounds in ((4.0, 40.0, 12), (2.0, 25.0, 12), (1.0, 12.0, 15), (last, 8.0, 20)):
            # neighbouring outline pixels err together: as many independent ones as there are pixels in a finger's width
            term.sigma, term.gate, term.scale = 2 * sigma, gate, settings.robust
            solved = solve(problem, state, iterations=rounds, tolerance=1e-5, before=match)
            state, iterations = solved.state, iterations + solved.iterations
        ends.append((overlap(data, posing, state, masks, cameras), iterations, state))
    _, iterations, state = max(ends, key=lambda end: end[0])
    match(state, posing(state.shape, state.rotations(), state.translation, jacobian=False).points)
    fit = finish(problem, state, term, iterations)
    good = fit.distances[fit.inliers]
    share = overlap(data, posing, state, masks, cameras)
    return replace(
        fit,
        sigma=float(np.sqrt((good**2).mean())) if good.size else np.nan,
        notes=[*fit.notes, f"overlap of model and masks (intersection over union): {share:.3f}"],
    )


def _starts_in_hull(
    posing: Posing, masks: list[np.ndarray], cameras: Cameras, settings: Settings, rng: np.random.Generator
) -> list[State]:
    """A fit to the masks' visual hull as if it were a scan, then placements in it."""
    hull = Scan(visual_hull(masks, cameras), complete=True).thinned(2500, rng)
    found = surface_starts(posing.data, hull, settings.shape, shapes=posing.shape_count, bent=_PLACED)
    placed = [start.state for start in found[:_TRIED]]
    return [fit_scans(posing.data, [hull], settings, start=placed[0], rng=rng).state, *placed]


def overlap(
    data: ModelData, posing: Posing, state: State, masks: list[np.ndarray], cameras: Cameras
) -> float:
    """Intersection over union of the model's and the given masks, over all views."""
    points = posing(state.shape, state.rotations(), state.translation, jacobian=False).points[
        0, : len(data.template)
    ]
    both = either = 0
    for view, mask in enumerate(masks):
        covered = (
            fragments(
                torch.from_numpy(points.astype(np.float32)), torch.from_numpy(data.faces), cameras[view]
            )
            .mask[..., 0]
            .numpy()
        )
        both += int((covered & mask).sum())
        either += int((covered | mask).sum())
    return both / max(either, 1)


def visual_hull(masks: list[np.ndarray], cameras: Cameras, resolution: int = 72) -> np.ndarray:
    """(n, 3) points on the surface of what all masks allow (Laurentini 1994), from a grid of `resolution` cells a side.

    Raises UserError where the masks allow nothing: cameras and masks do not belong together.
    """
    low, high = _bounds(masks, cameras)
    for _ in range(2):  # once for the box, once finely inside it
        axes = [np.linspace(a, b, resolution) for a, b in zip(low, high)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        inside = np.ones(grid.shape[:3], bool)
        points = torch.from_numpy(grid.reshape(-1, 3))
        for view, mask in enumerate(masks):
            pixels = cameras.project(points, torch.tensor([view]))[0].numpy()
            seen = np.isfinite(pixels).all(1)
            column, row = (np.where(seen, pixels[:, k], -1).astype(int) for k in (0, 1))
            seen &= (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
            hit = np.zeros(len(points), bool)
            hit[seen] = mask[row[seen], column[seen]]
            inside &= hit.reshape(inside.shape)
        if not inside.any():
            raise UserError(
                "silhouettes: no point in space lies inside all masks; do cameras and masks belong together?"
            )
        spacing = (high - low) / (resolution - 1)
        kept = grid[inside]
        low, high = kept.min(0) - 2 * spacing, kept.max(0) + 2 * spacing
    surface = inside & ~ndimage.binary_erosion(inside)
    return grid[surface]


def _bounds(masks: list[np.ndarray], cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """A box round the point nearest to the middle rays of all masks, as large as the masks are seen there."""
    origins, directions, widths = [], [], []
    for view, mask in enumerate(masks):
        row, column = np.nonzero(mask)
        pixels = torch.tensor(
            [[column.mean() + 0.5, row.mean() + 0.5], [column.max() + 1.0, row.max() + 1.0]]
        ).double()
        local = cameras.unproject(pixels, torch.tensor([view])).numpy()
        pose = cameras.camera_to_world[view].numpy()
        origins.append(pose[:3, 3])
        directions.append(pose[:3, :3] @ local[0])
        widths.append(np.arccos(np.clip(local[0] @ local[1], -1, 1)))
    across = np.eye(3) - np.einsum("vi,vj->vij", directions, directions)
    centre = np.linalg.lstsq(across.sum(0), np.einsum("vij,vj->i", across, np.array(origins)), rcond=None)[0]
    reach = max(np.linalg.norm(centre - o) * np.tan(min(w, 1.2)) for o, w in zip(origins, widths))
    return centre - 1.5 * reach, centre + 1.5 * reach


def _edge_pixels(mask: np.ndarray) -> np.ndarray:
    """(n, 2) centres (column + 0.5, row + 0.5) of pixels inside that touch the outside; the picture's border is no outline."""
    padded = np.pad(mask, 1, mode="edge")
    edge = mask & ~ndimage.binary_erosion(padded, structure=np.ones((3, 3)))[1:-1, 1:-1]
    edge[[0, -1], :] = False
    edge[:, [0, -1]] = False
    row, column = np.nonzero(edge)
    return np.stack((column, row), 1) + 0.5


def _outward(mask: np.ndarray) -> np.ndarray:
    """(h, w, 2) unit directions in which a blurred mask falls, as (x, y)."""
    soft = ndimage.gaussian_filter(mask.astype(np.float64), 1.5)
    slope = -np.stack((ndimage.sobel(soft, 1), ndimage.sobel(soft, 0)), -1)
    return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-12)


def _sampled_slope(field: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(n, 2) unit gradient (x, y) of the distance field at pixels."""
    rows, columns = np.gradient(field)
    at = (pixels[:, 1] - 0.5, pixels[:, 0] - 0.5)
    slope = np.stack(
        [ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in (columns, rows)], 1
    )
    return slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)
