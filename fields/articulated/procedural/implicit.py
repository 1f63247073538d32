"""The flesh around a skeleton: round cones fixed to bones, united smoothly. Posed, it is the truth that skinning is corrected towards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Cone", "Flesh"]


@dataclass(frozen=True)
class Cone:
    """A cone with round ends between two points, moving with a joint, possibly flattened."""

    joint: int
    start: tuple[float, float, float]
    """Metres, in the rest pose."""
    end: tuple[float, float, float]
    radii: tuple[float, float]
    """At start and end, metres."""
    group: str = "trunk"
    """Cones of a group unite with `Flesh.within`; groups unite with `Flesh.between`."""
    flat: tuple[float, float, float] | None = None
    """A direction along which the cone is thinner: its length is the factor (0.5: half as thick)."""


@dataclass
class Flesh:
    """The union of cones: f(x) < 0 inside, in metres, close to a distance near the surface."""

    cones: list[Cone]
    within: dict[str, float]
    """Softness of the union inside each group, metres: -k log sum exp(-d / k)."""
    between: float
    """Softness between groups."""

    def __post_init__(self) -> None:
        self.joint = np.array([cone.joint for cone in self.cones])
        self.groups = sorted({cone.group for cone in self.cones})
        self.group = np.array([self.groups.index(cone.group) for cone in self.cones])

    def distances(
        self,
        points: np.ndarray,  # (n, 3)
        motion: np.ndarray | None = None,  # (j, 3, 4) from rest to posed; None: at rest
        chosen: np.ndarray | None = None,  # numbers of the cones wanted
    ) -> np.ndarray:  # (n, cones)
        """Distance to each cone: the points are taken back into each bone's rest frame."""
        which = np.arange(len(self.cones)) if chosen is None else chosen
        result = np.empty((len(points), len(which)))
        for column, index in enumerate(which):
            cone = self.cones[index]
            local = points
            if motion is not None:
                turn, shift = motion[cone.joint, :, :3], motion[cone.joint, :, 3]
                local = (points - shift) @ turn
            result[:, column] = _round_cone(local, cone)
        return result

    def value(self, distances: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """The smooth union of given distances (n, cones)."""
        groups = self.group if chosen is None else self.group[chosen]
        parts = []
        for number, name in enumerate(self.groups):
            members = distances[:, groups == number]
            if members.shape[1]:
                parts.append(_soft_minimum(members, self.within[name]))
        return _soft_minimum(np.stack(parts, 1), self.between)

    def __call__(
        self, points: np.ndarray, motion: np.ndarray | None = None, chosen: np.ndarray | None = None
    ) -> np.ndarray:
        return self.value(self.distances(points, motion, chosen), chosen)

    def value_and_gradient(
        self,
        points: np.ndarray,  # (..., n, 3)
        motion: np.ndarray | None = None,  # (..., j, 3, 4)
        chosen: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # (..., n), (..., n, 3)
        """f and its exact gradient, of many poses at once."""
        which = np.arange(len(self.cones)) if chosen is None else chosen
        distances = np.empty((*points.shape[:-1], len(which)))
        slopes = np.empty((*points.shape[:-1], len(which), 3))
        for column, index in enumerate(which):
            cone = self.cones[index]
            if motion is None:
                distances[..., column], slopes[..., column, :] = _round_cone_slope(points, cone)
                continue
            turn, shift = motion[..., cone.joint, :, :3], motion[..., cone.joint, None, :, 3]
            distances[..., column], slope = _round_cone_slope((points - shift) @ turn, cone)
            slopes[..., column, :] = slope @ np.swapaxes(turn, -1, -2)
        parts, directions = [], []
        groups = self.group[which]
        for number, name in enumerate(self.groups):
            members = groups == number
            if members.any():
                part, share = _soft_minimum_shares(distances[..., members], self.within[name])
                parts.append(part)
                directions.append((share[..., None, :] @ slopes[..., members, :])[..., 0, :])
        value, share = _soft_minimum_shares(np.stack(parts, -1), self.between)
        return value, (share[..., None, :] @ np.stack(directions, -2))[..., 0, :]

    def gradient(
        self, points: np.ndarray, motion: np.ndarray | None = None, chosen: np.ndarray | None = None
    ) -> np.ndarray:
        """(..., n, 3)."""
        return self.value_and_gradient(points, motion, chosen)[1]

    def project(
        self,
        points: np.ndarray,  # (..., n, 3)
        level: np.ndarray | float = 0.0,  # (n,)
        motion: np.ndarray | None = None,  # (..., j, 3, 4)
        chosen: np.ndarray | None = None,
        steps: int = 4,
        most: float = 0.01,
    ) -> np.ndarray:
        """Points moved along the gradient onto f = level, at most `most` metres a step (Newton)."""
        for _ in range(steps):
            value, gradient = self.value_and_gradient(points, motion, chosen)
            square = (gradient**2).sum(-1).clip(0.05)
            move = ((value - level) / square).clip(-most, most)
            points = points - move[..., None] * gradient
        return points


def _round_cone(p: np.ndarray, cone: Cone) -> np.ndarray:
    """Exact distance to a round cone; where it is flattened, that of the stretched space."""
    a, b = np.array(cone.start), np.array(cone.end)
    if cone.flat is not None:
        normal = np.array(cone.flat)
        factor = np.linalg.norm(normal)
        normal = normal / factor
        p = p + (1 / factor - 1) * ((p - a) @ normal)[:, None] * normal
        b = b + (1 / factor - 1) * ((b - a) @ normal) * normal
    ra, rb = cone.radii
    axis = b - a
    length = np.linalg.norm(axis)
    if length < 1e-9 or length <= abs(ra - rb):  # one ball holds the other
        centre = a if ra >= rb else b
        return np.linalg.norm(p - centre, axis=1) - max(ra, rb)
    axis = axis / length
    along = (p - a) @ axis
    aside = np.sqrt((((p - a) ** 2).sum(1) - along**2).clip(0))
    slope = (ra - rb) / length
    rise = np.sqrt(1 - slope**2)
    place = (along - aside * slope / rise).clip(
        0, length
    )  # where the nearest point's radius starts on the axis
    radius = ra + (rb - ra) * place / length
    return np.hypot(along - place, aside) - radius


def _round_cone_slope(p: np.ndarray, cone: Cone) -> tuple[np.ndarray, np.ndarray]:
    """The same distance (..., n) and its gradient (..., n, 3).

    The distance is the least of |p - c| - r over the balls (c, r) of the cone, so that its gradient is that of the nearest ball
    (envelope theorem): away from its centre.
    """
    a, b = np.array(cone.start), np.array(cone.end)
    stretch = np.eye(3)
    if cone.flat is not None:
        normal = np.array(cone.flat)
        factor = np.linalg.norm(normal)
        normal = normal / factor
        stretch = stretch + (1 / factor - 1) * np.outer(normal, normal)
        p, b = a + (p - a) @ stretch, a + (b - a) @ stretch
    ra, rb = cone.radii
    axis = b - a
    length = np.linalg.norm(axis)
    if length < 1e-9 or length <= abs(ra - rb):
        away = p - (a if ra >= rb else b)
        radius = max(ra, rb)
    else:
        axis = axis / length
        relative = p - a
        along = relative @ axis
        aside = np.sqrt(((relative**2).sum(-1) - along**2).clip(0))
        slope = (ra - rb) / length
        place = (along - aside * slope / np.sqrt(1 - slope**2)).clip(0, length)
        away = relative - place[..., None] * axis
        radius = ra + (rb - ra) * place / length
    distance = np.sqrt((away**2).sum(-1))
    return distance - radius, (away / np.maximum(distance, 1e-20)[..., None]) @ stretch


def _soft_minimum(values: np.ndarray, softness: float) -> np.ndarray:
    least = values.min(1)
    if softness <= 0 or values.shape[1] == 1:
        return least
    return least - softness * np.log(np.exp(-(values - least[:, None]) / softness).sum(1))


def _soft_minimum_shares(values: np.ndarray, softness: float) -> tuple[np.ndarray, np.ndarray]:
    """The soft minimum over the last axis, and its derivative by each value: shares that sum to 1."""
    least = values.min(-1)
    if softness <= 0 or values.shape[-1] == 1:
        return least, np.eye(values.shape[-1])[values.argmin(-1)]
    share = np.exp(-(values - least[..., None]) / softness)
    total = share.sum(-1)
    return least - softness * np.log(total), share / total[..., None]
