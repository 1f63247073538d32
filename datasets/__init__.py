"""How bytes on disk become cameras, images and points; synthetic scenes with ground truth.

`open(path)` recognises a capture by its content and returns a `Capture`. The names below are imported on
first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldstone.core.lazy import public_names

if TYPE_CHECKING:
    from .capture import Capture

_PUBLIC = {
    "Capture": ".capture",
    "Extent": ".extent",
    "Images": ".images",
    "Masks": ".images",
    "ZDepths": ".images",
    "write_blender": ".writers",
    "write_colmap": ".writers",
    "write_transforms_json": ".writers",
}

__all__ = ["open", "open_capture", *_PUBLIC]


def open_capture(path, *, downscale: float = 1, holdout: int | None = None, workspace=None) -> Capture:
    """The capture at `path`; see `datasets.formats.open_capture`."""
    from .formats import open_capture as opened

    return opened(path, downscale=downscale, holdout=holdout, workspace=workspace)


open = open_capture

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
