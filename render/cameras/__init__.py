"""Cameras: every COLMAP lens model and the full sphere, poses, rays and camera paths.

Camera space has OpenCV's axes (x right, y down, z forward); `camera_to_world` is rigid; the pixel in
column j and row i has its centre at (j + 0.5, i + 0.5).
"""

from .camera_path_json import PathFile, read_camera_path, write_camera_path
from .cameras import Cameras, Rays
from .direction_tables import pixel_centres
from .focus import focus_point, up_direction
from .models import CAMERA_MODELS, COLMAP_MODEL_IDS, PARAMETER_NAMES
from .paths import CameraPath, dataset_path, look_at, orbit, spiral

__all__ = [
    "CAMERA_MODELS",
    "COLMAP_MODEL_IDS",
    "PARAMETER_NAMES",
    "CameraPath",
    "Cameras",
    "PathFile",
    "Rays",
    "dataset_path",
    "focus_point",
    "look_at",
    "orbit",
    "pixel_centres",
    "read_camera_path",
    "spiral",
    "up_direction",
    "write_camera_path",
]
