"""The holes of a face as a measurement: parameters in world coordinates, and one covariance of face and holes together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cloud import Cloud
from .faces import Face
from .hole_finding import FaceHoles, FoundHole
from .result import Measurement
from .thread_axis import axis_frame

__all__ = ["JointCovariance", "hole_parameters", "ordered", "report"]


def ordered(holes: list[FoundHole], face: Face) -> list[FoundHole]:
    """Measured ones first; the one around the middle of all before the others, and those by angle about it.

    Angles count from `axis_frame`'s reference of the face's normal, counter-clockwise seen against it.
    """
    if not holes:
        return []
    middle = np.mean([hole.centre for hole in holes], axis=0)
    x, y, _ = axis_frame(face.axes[2]) @ face.axes[:2].T @ (np.stack([h.centre for h in holes]) - middle).T
    angle = np.mod(np.arctan2(y, x), 2 * np.pi)

    def key(i: int) -> tuple:
        around = np.hypot(x[i], y[i]) < 0.5 * holes[i].radius
        return (holes[i].covariance is None, not around, round(float(angle[i]), 6))

    return [holes[i] for i in sorted(range(len(holes)), key=key)]


@dataclass
class JointCovariance:
    """The covariance of everything reported, from that of the face's plane, each hole's place in it, and the blur they share.

    A hole's centre lies on the plane, so all centres move together with it: du U + dv V + (dz - u dtx - v dty) N.
    """

    face: Face
    blur_sd: float

    def __post_init__(self) -> None:
        u, v, n = self.face.axes
        to_base = np.zeros((3, 6))
        to_base[0, :3], to_base[1, 3:], to_base[2, 3:] = n, u, v
        plane = to_base @ self.face.plane.covariance_of("point", "normal") @ to_base.T
        self._blocks = [plane, np.array([[self.blur_sd**2 if np.isfinite(self.blur_sd) else 0.0]])]
        point, normal = np.zeros((3, 3)), np.zeros((3, 3))
        point[:, 0], normal[:, 1], normal[:, 2] = n, u, v
        self._rows: list[tuple[np.ndarray, int]] = [(np.concatenate([point, normal]), 0)]
        self._own: list[np.ndarray] = [np.zeros((6, 0))]
        self.names = [f"{name}.{axis}" for name in ("point", "normal") for axis in "xyz"]

    def add(self, label: str, hole: FoundHole) -> None:
        """Rows for a hole's centre, radius, and of a slot length, width and direction."""
        if hole.covariance is None:
            return
        u, v, n = self.face.axes
        k = len(hole.covariance)
        common, own = np.zeros((4, 4)), np.zeros((4, k))
        common[:3, 0], common[:3, 1], common[:3, 2] = n, -hole.centre[0] * n, -hole.centre[1] * n
        common[3, 3] = hole.by_blur
        own[:3, 0], own[:3, 1], own[3, 2] = u, v, 1.0
        names = [f"{label}.centre.{axis}" for axis in "xyz"] + [f"{label}.radius"]
        if k == 5:
            more, mine = np.zeros((5, 4)), np.zeros((5, k))
            c, s = np.cos(hole.angle), np.sin(hole.angle)
            mine[0, 2:4], mine[1, 2] = 2.0, 2.0
            mine[2:, 4] = c * v - s * u
            more[:2, 3] = 2 * hole.by_blur
            common, own = np.concatenate([common, more]), np.concatenate([own, mine])
            names += [f"{label}.length", f"{label}.width"] + [f"{label}.axis_direction.{a}" for a in "xyz"]
        self._blocks.append(hole.covariance)
        self._rows.append((common, len(self._blocks) - 1))
        self._own.append(own)
        self.names += names

    def matrix(self) -> np.ndarray:
        """(k, k) by `names`."""
        sizes = np.cumsum([0, *(len(block) for block in self._blocks)])
        base = np.zeros((sizes[-1], sizes[-1]))
        for block, at in zip(self._blocks, sizes):
            base[at : at + len(block), at : at + len(block)] = block
        jacobian = np.zeros((len(self.names), sizes[-1]))
        row = 0
        for (common, block), own in zip(self._rows, self._own):
            jacobian[row : row + len(common), : common.shape[1]] = common
            if own.shape[1]:
                jacobian[row : row + len(own), sizes[block] : sizes[block] + own.shape[1]] = own
            row += len(common)
        return jacobian @ base @ jacobian.T


def hole_parameters(hole: FoundHole, face: Face, origin: np.ndarray) -> dict:
    """Plain data in world coordinates."""
    u, v, n = face.axes

    def world(place: np.ndarray, height: float = 0.0) -> list[float]:
        return (face.point + place[0] * u + place[1] * v + height * n + origin).tolist()

    out: dict = {"type": hole.kind, "centre": world(hole.centre), "radius": float(hole.radius)}
    if hole.kind == "slot" or (hole.kind in ("notch", "opening") and hole.half_length > 0.15 * hole.radius):
        direction = np.cos(hole.angle) * u + np.sin(hole.angle) * v
        out |= {
            "length": float(2 * (hole.half_length + hole.radius)),
            "width": float(2 * hole.radius),
            "axis_direction": direction.tolist(),
        }
    if hole.rim is not None:
        edge = hole.rim.edge
        out["edge"] = {"centre": world(edge.centre), "radius": float(edge.radius), "from": hole.source}
    if hole.floor is not None:
        out["height" if hole.kind == "boss" else "depth"] = float(abs(hole.floor))
    if hole.wall is not None and hole.wall.bore is not None and hole.kind == "hole":
        out["bore"] = _bore(hole, face, world)
    if hole.wall is not None and hole.wall.countersink is not None:
        cone = hole.wall.countersink.frame
        s0, half = cone.sizes
        out["countersink"] = {
            "radius": float(s0 / np.cos(half)),
            "half_angle_deg": float(np.degrees(half)),
            "apex": world(cone.origin[:2], float(cone.origin[2] - s0 / np.sin(half))),
            "axis_direction": n.tolist(),
        }
    return out


def _bore(hole: FoundHole, face: Face, world) -> dict:
    bore = hole.wall.bore
    out = {
        "axis_point": world(bore.centre, sum(bore.depth) / 2),
        "axis_direction": face.axes[2].tolist(),
        "radius": float(bore.radius),
        "radius_sd": float(np.sqrt(bore.covariance[2, 2])),
        "seen_from": -bore.depth[1],
        "seen_to": -bore.depth[0],
        "arc_deg": bore.arc_deg,
        "rms": float(bore.sigma),
    }
    if bore.cylinder is not None:
        frame, covariance = bore.cylinder.frame, bore.cylinder.covariance
        tilt_sd = float(np.degrees(np.sqrt(max(covariance[2, 2] + covariance[3, 3], 0.0))))
        if tilt_sd < 0.5:
            axis = frame.axis * np.sign(frame.axis[2])
            out |= {
                "axis_point": world(frame.origin[:2], float(frame.origin[2])),
                "axis_direction": (axis @ face.axes).tolist(),
                "tilt_deg": float(np.degrees(np.arccos(min(1.0, axis[2])))),
                "tilt_sd_deg": tilt_sd,
            }
    return out


def report(
    kind: str,
    cloud: Cloud,
    face: Face,
    found: FaceHoles,
    parameters: dict,
    covariance: JointCovariance,
    warnings: list[str],
    seed: int | None,
) -> Measurement:
    """The measurement of a face and its holes."""
    plane = face.plane
    return Measurement(
        kind=kind,
        unit=cloud.unit,
        parameters={
            "point": plane["point"].tolist(),
            "normal": plane["normal"].tolist(),
            **parameters,
        },
        covariance=covariance.matrix(),
        covariance_names=covariance.names,
        rms=plane.rms,
        n_used=int(found.used.sum()),
        n_total=len(cloud),
        warnings=[*cloud.warnings, *found.warnings, *warnings],
        input=cloud.input_record(),
        seed=seed,
        extras={
            "sigma": face.sigma,
            "blur": found.blur,
            "blur_sd": found.blur_sd,
            "density": found.density,
            "least_radius": found.least_radius,
        },
        inliers=found.used,
    )
