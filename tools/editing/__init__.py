"""Scenes of mesh primitives edited without training: selected, deleted, copied, moved, recoloured; replayable, the source run untouched."""

from .placed import Placed

__all__ = ["Placed"]
