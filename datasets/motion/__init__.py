"""Motion capture: BVH, ASF/AMC and AMASS files as skeletons that move."""

from __future__ import annotations

from .amass import BodySequence, read_amass
from .asf_amc import read_asf_amc
from .bvh import read_bvh
from .skeleton import SkeletonMotion

__all__ = ["BodySequence", "SkeletonMotion", "read_amass", "read_asf_amc", "read_bvh"]
