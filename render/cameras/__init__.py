"""Cameras: every COLMAP lens model and the full sphere, poses, rays and camera paths.

Camera space has OpenCV's axes (x right, y down, z forward); `camera_to_world` is rigid; the pixel in column j
and row i has its centre at (j + 0.5, i + 0.5).
"""

from .cameras import Cameras, Rays
from .direction_tables import pixel_centres
from .models import CAMERA_MODELS, COLMAP_MODEL_IDS, PARAMETER_NAMES

__all__ = ["CAMERA_MODELS", "COLMAP_MODEL_IDS", "PARAMETER_NAMES", "Cameras", "Rays", "pixel_centres"]
