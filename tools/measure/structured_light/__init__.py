"""Structured light: fringe images of a stereo pair to a point cloud, and the calibration of the pair.

decoded = decode("capture", "calibration.yml", unit="mm")
decoded.cloud.points, decoded.cloud.sigma
"""

from .board import Board, calibrate, calibrate_corners, parse_board
from .calibration import Lens, StereoCalibration, read_calibration, write_calibration
from .decode import Decoded, decode
from .pattern import Pattern

__all__ = [
    "Board",
    "Decoded",
    "Lens",
    "Pattern",
    "StereoCalibration",
    "calibrate",
    "calibrate_corners",
    "decode",
    "parse_board",
    "read_calibration",
    "write_calibration",
]
