"""A motion of the procedural hand."""

import numpy as np

from fieldstone.fields.articulated.procedural.hand import sample_hand_pose
from fieldstone.tools.hand.result import HandResult


def example_motion(frames: int) -> HandResult:
    generator = np.random.default_rng(0)
    pose = np.stack([sample_hand_pose(generator, root=True) for _ in range(frames)])
    return HandResult("hand", generator.normal(0, 1, 5), pose, generator.normal(0, 0.1, (frames, 3)), 25.0)
