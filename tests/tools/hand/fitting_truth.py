"""Random hands of the procedural model, for the fitting tests."""

import numpy as np

from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.procedural.hand import sample_hand_pose
from fieldstone.tools.hand.fitting.keypoints import keypoints_of
from fieldstone.tools.hand.fitting.posing import Posing
from fieldstone.tools.hand.fitting.so3 import exp
from fieldstone.tools.hand.fitting.state import State


class Truth:
    """`frames` poses of one person, and where their vertices and 21 keypoints are."""

    def __init__(self, seed=0, frames=1):
        generator = np.random.default_rng(seed)
        self.data = built_in("hand")
        self.keypoints = keypoints_of(self.data, "openpose21")
        pose = np.stack([sample_hand_pose(generator, root=True) for _ in range(frames)])
        move = generator.normal(0, 0.2, (frames, 3))
        self.state = State(generator.normal(0, 1, 10), exp(pose[:, 0]), pose[:, 1:], move)
        self.generator = generator

    def vertices(self, state=None):
        state = state or self.state
        posing = Posing(self.data, None, len(state.shape))
        points = posing(state.shape, state.rotations(), state.translation, False).points
        return points[:, : len(self.data.template)]

    def points(self, state=None):
        state = state or self.state
        posing = Posing(self.data, self.keypoints.vertices, len(state.shape))
        return (
            self.keypoints.mixture @ posing(state.shape, state.rotations(), state.translation, False).points
        )

    def noisy(self, noise, wrong=0):
        points = self.points() + self.generator.normal(0, noise, self.points().shape)
        for frame in range(len(points)):
            rows = self.generator.choice(21, wrong, replace=False)
            points[frame, rows] += self.generator.normal(0, 0.05, (wrong, 3))
        return points

    def apart_mm(self, state):
        return np.linalg.norm(self.vertices(state) - self.vertices(), axis=-1).mean() * 1e3
