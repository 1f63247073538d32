"""Fingers do not pass through each other: capsules round the bones, pushed apart where they overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....fields.articulated.model_data import ModelData
from .posing import Posing
from .state import State

__all__ = ["Capsules", "hand_capsules", "nearest_on_segments"]

_SOFT = 0.001
"""Metres of overlap that cost as much as one standard deviation of noise."""
_SHARE = 0.85
"""Of the fingers' radius: skin gives way."""


@dataclass(frozen=True)
class Capsules:
    """Pairs of bones that may not overlap; an extra of `Problem`."""

    ends: np.ndarray
    """(k, 2) points of the posing: both ends of each bone."""
    radius: np.ndarray
    """(k,) metres."""
    pairs: np.ndarray
    """(p, 2) bones."""
    room: np.ndarray
    """(p,) metres between the axes below which a pair overlaps."""
    weight: float = 1.0

    def overlaps(self, points: np.ndarray) -> np.ndarray:
        """(b, p) metres, 0 where there is none."""
        return np.maximum(self.room - self._gap(points)[0], 0)

    def _gap(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        first, second = (points[:, self.ends[self.pairs[:, i]]] for i in (0, 1))  # (b, p, 2, 3)
        s, t = nearest_on_segments(first[..., 0, :], first[..., 1, :], second[..., 0, :], second[..., 1, :])
        offset = (
            first[..., 0, :] * (1 - s)[..., None] + first[..., 1, :] * s[..., None]
            - second[..., 0, :] * (1 - t)[..., None] - second[..., 1, :] * t[..., None]
        )  # fmt: skip
        return np.linalg.norm(offset, axis=-1), offset, s, t

    def __call__(
        self, state: State, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> tuple:
        scale = np.sqrt(self.weight) / _SOFT
        gap, offset, s, t = self._gap(points)
        over = np.maximum(self.room - gap, 0)
        touching = over.any(0)  # most pairs never meet: the others have neither cost nor slope
        over, gap, offset, s, t = (part[:, touching] for part in (over, gap, offset, s, t))
        if by_frame is None:
            return over * scale, None, None
        pairs = self.pairs[touching]
        direction = -scale * offset / np.maximum(gap, 1e-9)[..., None] * (over > 0)[..., None]

        def along(part: np.ndarray) -> np.ndarray:
            total = 0.0
            for side, share, sign in ((0, s, 1.0), (1, t, -1.0)):
                ends = self.ends[pairs[:, side]]
                for end, factor in ((0, 1 - share), (1, share)):
                    weighted = direction * (sign * factor)[..., None]
                    total = total + np.einsum("bpc,bpck->bpk", weighted, part[:, ends[:, end]], optimize=True)
            return total

        return over * scale, along(by_shape), along(by_frame)


def nearest_on_segments(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where on segments ab and cd (..., 3) their nearest points are, 0 to 1 (Ericson 2005, section 5.1.9)."""
    u, v, w = b - a, d - c, a - c
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    uw, vw = (u * w).sum(-1), (v * w).sum(-1)
    uu, vv = np.maximum(uu, 1e-18), np.maximum(vv, 1e-18)
    denominator = uu * vv - uv**2
    s = np.where(
        denominator > 1e-12 * uu * vv, (uv * vw - uw * vv) / np.where(denominator == 0, 1, denominator), 0.0
    ).clip(0, 1)
    t = (uv * s + vw) / vv
    inside = t.clip(0, 1)
    s = np.where(t != inside, ((inside * uv - uw) / uu).clip(0, 1), s)
    return s, inside


def hand_capsules(data: ModelData, posing: Posing, weight: float = 1.0) -> Capsules | None:
    """Bones of different fingers of a MANO-like hand; None for other layouts. Fingertips are needed among the posing's vertices for the
    last bones; without them these are left out.
    """
    if data.layout != "mano":
        return None
    joints, template = data.joints, data.template
    offset = len(posing.vertices)
    place = {int(vertex): i for i, vertex in enumerate(posing.vertices)}
    ends, radius, finger, number = [], [], [], []
    for joint in range(1, 16):
        name = data.joint_names[joint]
        below = [k for k in range(16) if data.parents[k] == joint]
        if below:
            end, at = offset + below[0], joints[below[0]]
        else:
            tips = [int(v) for v in data.fingertips if data.weights[v].argmax() == joint and int(v) in place]
            if not tips:
                continue
            end, at = place[tips[0]], template[tips[0]]
        own = template[data.weights.argmax(1) == joint]
        if len(own) < 3:
            continue
        s, _ = nearest_on_segments(
            np.broadcast_to(joints[joint], own.shape), np.broadcast_to(at, own.shape), own, own + 1e-12
        )
        axis = joints[joint] + s[:, None] * (at - joints[joint])
        ends.append((offset + joint, end))
        radius.append(_SHARE * float(np.median(np.linalg.norm(own - axis, axis=1))))
        finger.append(name[:-1])
        number.append(int(name[-1]))
    pairs = [
        (i, k)
        for i in range(len(ends))
        for k in range(i)
        if finger[i] != finger[k] and not (number[i] == number[k] == 1)
    ]
    if not pairs:
        return None
    ends, radius, pairs = np.array(ends), np.array(radius), np.array(pairs)
    capsules = Capsules(ends, radius, pairs, radius[pairs].sum(1), weight)
    # neighbouring fingers may touch at rest: what overlaps there is no overlap
    flat = posing(
        np.zeros(posing.shape_count), np.tile(np.eye(3), (1, 16, 1, 1)), np.zeros((1, 3)), False
    ).points
    rest = capsules._gap(flat)[0][0]
    return Capsules(ends, radius, pairs, np.minimum(capsules.room, 0.95 * rest), weight)
