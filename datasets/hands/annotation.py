"""What the hand data sets have in common, after their readers: one record per hand and image."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["JOINTS21", "READERS", "HandSample", "HandSet", "ManoParameters", "open_hands"]

JOINTS21 = (
    "wrist",
    *(
        f"{finger}{joint}"
        for finger in ("thumb", "index", "middle", "ring", "pinky")
        for joint in (1, 2, 3, "_tip")
    ),
)
"""Our order of 21 joints (OpenPose's): wrist, then thumb to pinky, each from its base to its tip."""

READERS = ("freihand", "ho3d", "interhand", "dexycb", "real583")
"""Modules of this folder with FORMAT, LOOKED_FOR, recognise(folder) and read(folder)."""


@dataclass(frozen=True)
class ManoParameters:
    """MANO parameters as a data set states them, with the conventions that numbers alone do not tell.

    Vertices in the sample's frame are `to_sample` applied to the model's vertices.
    """

    pose: np.ndarray
    """(48,): global rotation (axis-angle), then 45 numbers of the hand: axis-angle, or PCA coefficients if `pca`."""
    shape: np.ndarray
    """(10,)."""
    translation: np.ndarray
    """(3,) metres, added after posing (the wrist joint of the shaped template is not at the origin)."""
    pca: bool
    mean_included: bool
    """Whether the 45 numbers are the pose itself (True: do not add the model's mean pose) or relative to the mean."""
    to_sample: np.ndarray
    """(4, 4) rigid."""
    mirrored_left_shape: bool | None
    """Left hands: fitted with the left file's shape basis negated in x (True), as shipped (False), or not known."""


@dataclass(frozen=True)
class HandSample:
    """One hand of one image. Everything is in the camera's frame (x right, y down, z forward) and metres; what the
    data set lacks is None, joints that it does not give are NaN.
    """

    name: str
    side: str
    """"right" or "left"."""
    image: Path | None = None
    mask: Path | None = None
    joints: np.ndarray | None = None
    """(21, 3) in the order `JOINTS21`."""
    pixels: np.ndarray | None = None
    """(21, 2) pixels as the data set defines them (its own intrinsics project onto them)."""
    intrinsics: np.ndarray | None = None
    """(3, 3)."""
    camera_to_world: np.ndarray | None = None
    """(4, 4), where the data set has several cameras."""
    vertices: np.ndarray | None = None
    """(778, 3) of the ground-truth mesh."""
    mano: ManoParameters | None = None
    frame: str = ""
    """Samples with the same `frame` show the same instant (other cameras or the other hand)."""


class HandSet(Sequence[HandSample]):
    """Samples that are decoded one at a time, when they are asked for."""

    def __init__(
        self, folder: Path, format: str, names: list[str], sample: Callable[[int], HandSample]
    ) -> None:
        self.folder, self.format, self.names, self._sample = folder, format, names, sample

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> HandSample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._sample(index % len(self))


def open_hands(folder: str | Path) -> HandSet:
    """Recognises the data set in `folder` by its files and opens it. Raises UserError, listing what was looked for."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected the folder of a hand data set, found {'a file' if folder.exists() else 'nothing'}"
        )
    readers = [importlib.import_module(f".{name}", __package__) for name in READERS]
    for reader in readers:
        if reader.recognise(folder):
            return reader.read(folder)
    wanted = "; ".join(reader.LOOKED_FOR for reader in readers)
    raise UserError(f"{folder}: no hand annotations recognised; looked for {wanted}")
