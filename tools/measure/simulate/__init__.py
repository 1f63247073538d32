"""Simulated parts and scanners with ground truth.

part = build("turbine-flange", rng)
rig = stereo_rig(flaws=Flaws(noise=0.05))
cloud, labels = scan(part.placed(view_pose(rig, tilt_deg=15)), rig, rng)
part.truth()                                     # what a perfect measurement would say
"""

from .boards import board_images, board_poses
from .fringes import Imaging, render_fringes
from .part import Feature, Part, pose_from, rotation_about
from .parts import FlangeShape, Hole, ShaftShape, Stud, bolt_circle, flange, shaft, stud
from .presets import PRESETS, build, studs_on_circle
from .scanner import Flaws, Projector, Rig, biased, pixel_rays, scan, stereo_rig, view_pose
from .surface import sample_surface
from .write import write_images, write_simulation

__all__ = [
    "PRESETS",
    "Feature",
    "FlangeShape",
    "Flaws",
    "Hole",
    "Imaging",
    "Part",
    "Projector",
    "Rig",
    "ShaftShape",
    "Stud",
    "biased",
    "board_images",
    "board_poses",
    "bolt_circle",
    "build",
    "flange",
    "pixel_rays",
    "pose_from",
    "render_fringes",
    "rotation_about",
    "sample_surface",
    "scan",
    "shaft",
    "stereo_rig",
    "stud",
    "studs_on_circle",
    "view_pose",
    "write_images",
    "write_simulation",
]
