"""What pixels show: semantic classes, by number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Labels"]


@dataclass(frozen=True, eq=False)
class Labels:
    """Class numbers of the pixels of frames; what is not labelled has no place in `names`."""

    names: dict[int, str]
    """Number in the files -> name of the class."""
    images: tuple[Path | None, ...] = ()
    """A picture of class numbers for each frame that has one, of any size but the frame's shape; empty: none has."""

    def image(self, index: int) -> np.ndarray | None:
        """(h, w) class numbers of a frame at the size they are stored in; None if it has none. UserError for a damaged file."""
        path = self.images[index] if self.images else None
        if path is None:
            return None
        import cv2

        try:
            stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, cv2.error) as error:
            raise UserError(f"{path}: the labels cannot be read ({error})") from error
        if stored is None or stored.ndim != 2 or stored.dtype.kind != "u":
            raise UserError(f"{path}: not a picture of class numbers; needed: one channel of 8 or 16 bits")
        return stored
