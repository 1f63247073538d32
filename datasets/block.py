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

    def distances(self, points: np.ndarray) -> np.ndarray:  # (n, b)
        """Of points (n, 3) to each box, 0 inside."""
        points = np.asarray(points, np.float64)
        far = np.empty((len(points), len(self.boxes)))
        for number, (low, high) in enumerate(self.boxes):  # one at a time: memory grows with points alone
            outside = np.maximum(np.maximum(low - points, points - high), 0)
            far[:, number] = np.sqrt((outside**2).sum(1))
        return far

    def owned(self, points: np.ndarray) -> np.ndarray:  # (n,) bool
        """Whether points (n, 3) belong to this block."""
        return self.distances(points).argmin(1) == self.index

    def near(self, points: np.ndarray) -> np.ndarray:  # (n,) bool
        """Whether points (n, 3) belong to this block or its margin."""
        far = self.distances(points)
        return far[:, self.index] - far.min(1) <= self.margin

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
