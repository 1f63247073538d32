"""A large scene in blocks: boxes along the way of the cameras, and which of them owns a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Block"]


@dataclass(frozen=True, eq=False)
class Block:
    """One of the boxes that a scene is divided in. Every place belongs to the box nearest to it, the first of those equally near."""

    index: int
    boxes: np.ndarray
    """(b, 2, 3) low and high corners of all of them, source frame."""
    margin: float
    """A block also learns what is within this of being its own, source units; what it learned there is left out when blocks are joined."""

    def distance(self, points: np.ndarray, number: int) -> np.ndarray:  # (n,)
        """Of points (n, 3) to box `number`, 0 inside."""
        low, high = self.boxes[number]
        points = np.asarray(points, np.float64)
        return np.sqrt((np.maximum(np.maximum(low - points, points - high), 0) ** 2).sum(1))

    def owner(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # (n,) int64, (n,)
        """Which block owns each of points (n, 3), and its distance to that one's box."""
        # one box at a time: memory grows with points alone
        owner, least = np.zeros(len(points), np.int64), self.distance(points, 0)
        for number in range(1, len(self.boxes)):
            distance = self.distance(points, number)
            nearer = distance < least
            owner[nearer], least[nearer] = number, distance[nearer]
        return owner, least

    def owned(self, points: np.ndarray) -> np.ndarray:  # (n,) bool
        """Whether points (n, 3) belong to this block."""
        return self.owner(points)[0] == self.index

    def near(self, points: np.ndarray) -> np.ndarray:  # (n,) bool
        """Whether points (n, 3) belong to this block or its margin."""
        return self.distance(points, self.index) - self.owner(points)[1] <= self.margin

    @property
    def centre(self) -> np.ndarray:
        """(3,) of its box."""
        return self.boxes[self.index].mean(0)

    def to_json(self) -> dict:
        return {"index": int(self.index), "boxes": self.boxes.tolist(), "margin": float(self.margin)}

    @staticmethod
    def from_json(value: object) -> Block:
        """UserError for what is no block."""
        try:
            boxes = np.array(value["boxes"], np.float64)
            block = Block(int(value["index"]), boxes, float(value["margin"]))
            good = boxes.ndim == 3 and boxes.shape[1:] == (2, 3) and np.isfinite(boxes).all()
            good = good and (boxes[:, 0] <= boxes[:, 1]).all() and 0 <= block.index < len(boxes)
            good = good and np.isfinite(block.margin) and block.margin >= 0
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise UserError(f"block {value!r}: wanted index, boxes [[low, high], ...] and margin")
        return block
