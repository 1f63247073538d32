"""Annotations of hand data sets and recorded hand poses. The data is brought by whoever uses it; only formats are ours."""

from __future__ import annotations

from .annotation import HandSample, HandSet, ManoParameters, open_hands
from .handpose import WEBXR_JOINTS, HandPose, read_handpose

__all__ = [
    "WEBXR_JOINTS",
    "HandPose",
    "HandSample",
    "HandSet",
    "ManoParameters",
    "open_hands",
    "read_handpose",
]
