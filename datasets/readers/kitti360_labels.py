"""KITTI-360's class numbers (kitti360Scripts, helpers/labels.py: those of Cityscapes and eleven more)."""

from __future__ import annotations

__all__ = ["NAMES"]

_CITYSCAPES = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk", "parking",
    "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup", "traffic light",
    "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan",
    "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
_MORE = (
    "garage", "gate", "stop", "smallpole", "lamp", "trash bin", "vending machine", "box", "unknown construction",
    "unknown vehicle", "unknown object",
)  # fmt: skip

NAMES = {number: name for number, name in enumerate(_CITYSCAPES + _MORE) if number}
"""Number -> name; 0, unlabeled, is left out."""
