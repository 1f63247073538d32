"""Coordinate-aware modulation (Lee et al. 2024, CAM): scale and shift of hidden features, read from small grids."""

from .grids import CoordinateModulation
from .perceptron import CamMlp
from .presets import image_cam, mip_nerf_direction_cam, t_nerf_time_cam

__all__ = [
    "CamMlp",
    "CoordinateModulation",
    "image_cam",
    "mip_nerf_direction_cam",
    "t_nerf_time_cam",
]
