"""How bytes on disk become cameras, images and points; synthetic scenes with ground truth.

`open(path)` recognises a capture by its content and returns a `Capture`. The names below are imported on
first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
