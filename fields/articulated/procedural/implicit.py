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

    def gradient(
        self,
        points: np.ndarray,
        motion: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
        step: float = 1e-5,
    ) -> np.ndarray:
        """(n, 3) by central differences."""
        result = np.empty_like(points)
        for axis in range(3):
            move = np.zeros(3)
            move[axis] = step
            result[:, axis] = self(points + move, motion, chosen) - self(points - move, motion, chosen)
        return result / (2 * step)

    def project(
        self,
        points: np.ndarray,
        level: np.ndarray | float = 0.0,
        motion: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
        steps: int = 4,
        most: float = 0.01,
    ) -> np.ndarray:
        """Points moved along the gradient onto f = level, at most `most` metres a step (Newton)."""
        for _ in range(steps):
            gradient = self.gradient(points, motion, chosen)
            square = (gradient**2).sum(1).clip(0.05)
            move = ((self(points, motion, chosen) - level) / square).clip(-most, most)
            points = points - move[:, None] * gradient
        return points


def _round_cone(p: np.ndarray, cone: Cone) -> np.ndarray:
    """Exact distance to a round cone; where it is flattened, that of the stretched space, times the smaller factor."""
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


def _soft_minimum(values: np.ndarray, softness: float) -> np.ndarray:
    least = values.min(1)
    if softness <= 0 or values.shape[1] == 1:
        return least
    return least - softness * np.log(np.exp(-(values - least[:, None]) / softness).sum(1))
