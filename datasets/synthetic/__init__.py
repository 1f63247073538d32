"""Synthetic scenes with exact ground truth."""

from .bundled import bundled_capture, bundled_folder, user_cache_folder
from .scene import SyntheticScene

__all__ = ["SyntheticScene", "bundled_capture", "bundled_folder", "user_cache_folder"]
