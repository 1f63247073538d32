"""Which trained primitives an edited scene shows, where, and how they look."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fieldstone.core.similarity import Similarity

__all__ = ["Arrangement"]

NO_TINT = np.eye(3, 4)


@dataclass(frozen=True, eq=False)
class Arrangement:
    """m primitives, in the order of their numbers. Every change gives a new arrangement; trained primitives stay as they are."""

    ids: np.ndarray
    """(m,) int64 ascending: the number by which a primitive is known. Trained ones have theirs from the start, copies get new ones."""
    shape: np.ndarray
    """(m,) int64: the trained primitive whose shape it has."""
    look: np.ndarray
    """(m,) int64: the trained primitive whose features it shows."""
    place: np.ndarray
    """(m,) int64 row of `transforms`."""
    tint: np.ndarray
    """(m,) int64 row of `tints`."""
    transforms: tuple[Similarity, ...]
    """From where a primitive was trained to where it is, source frame; the first is the identity."""
    tints: np.ndarray
    """(j, 3, 4) affine maps of linear RGB; the first is the identity."""
    given: int
    """Numbers given so far; the next copy gets this one."""

    @staticmethod
    def of(
        there: np.ndarray,  # (n,) bool: which trained primitives belong to the scene
    ) -> Arrangement:
        ids = np.flatnonzero(there)
        none = np.zeros(len(ids), np.int64)
        return Arrangement(
            ids, ids, ids, none, none, (Similarity.identity(),), NO_TINT[None].copy(), len(there)
        )

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Of primitives that are there."""
        rows = np.searchsorted(self.ids, ids)
        if (rows >= len(self)).any() or (self.ids[np.minimum(rows, len(self) - 1)] != ids).any():
            raise ValueError("a primitive that is not there")
        return rows

    def middles(self, trained: np.ndarray) -> np.ndarray:  # (m, 3)
        """`trained` (n, 3) points of trained primitives, where the primitives of that shape are now; source frame."""
        points = np.asarray(trained, np.float64)[self.shape].copy()
        for place in np.unique(self.place[self.place > 0]):
            rows = self.place == place
            points[rows] = self.transforms[place].apply(points[rows])
        return points

    def without(self, rows: np.ndarray) -> Arrangement:
        kept = np.ones(len(self), bool)
        kept[rows] = False
        return self._taken(np.flatnonzero(kept))

    def moved(self, rows: np.ndarray, transform: Similarity) -> Arrangement:
        place, transforms = self._placed(rows, transform)
        changed = self.place.copy()
        changed[rows] = place
        return replace(self, place=changed, transforms=transforms)

    def copied(self, rows: np.ndarray, transform: Similarity) -> Arrangement:
        """With a copy of each row at the end, moved by `transform`."""
        place, transforms = self._placed(rows, transform)
        both = self._taken(np.concatenate([np.arange(len(self)), rows]))
        first = len(self)
        ids, places = both.ids.copy(), both.place.copy()
        ids[first:], places[first:] = self.given + np.arange(len(rows)), place
        return replace(both, ids=ids, place=places, transforms=transforms, given=self.given + len(rows))

    def tinted(self, rows: np.ndarray, affine: np.ndarray) -> Arrangement:
        """With the (3, 4) map of linear RGB after what tints there are."""
        old, inverse = np.unique(self.tint[rows], return_inverse=True)
        fresh = affine[:, :3] @ self.tints[old]
        fresh[..., 3] += affine[:, 3]
        tint = self.tint.copy()
        tint[rows] = len(self.tints) + inverse
        return replace(self, tint=tint, tints=np.concatenate([self.tints, fresh]))

    def dressed(self, rows: np.ndarray, source: np.ndarray) -> Arrangement:
        """Rows with features and tint of rows `source`, pair by pair, both as they were before."""
        look, tint = self.look.copy(), self.tint.copy()
        look[rows], tint[rows] = self.look[source], self.tint[source]
        return replace(self, look=look, tint=tint)

    def _placed(self, rows: np.ndarray, transform: Similarity) -> tuple[np.ndarray, tuple[Similarity, ...]]:
        old, inverse = np.unique(self.place[rows], return_inverse=True)
        fresh = tuple(self.transforms[place].then(transform) for place in old)
        return len(self.transforms) + inverse, self.transforms + fresh

    def _taken(self, rows: np.ndarray) -> Arrangement:
        columns = {name: getattr(self, name)[rows] for name in ("ids", "shape", "look", "place", "tint")}
        return replace(self, **columns)
