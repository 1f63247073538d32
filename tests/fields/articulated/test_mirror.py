"""The other hand."""

import numpy as np
import pytest
import torch

from fieldstone.fields.articulated import ArticulatedModel
from fieldstone.fields.articulated.mirror import mirror_model, mirror_pose

from .conftest import random_model

FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def pair():
    right = random_model("mano", 4)
    return right, mirror_model(right)


def test_twice_is_nothing(pair):
    right, left = pair
    assert left.side == "left"
    again = mirror_model(left)
    for name, array in right.arrays().items():
        assert np.array_equal(getattr(again, name), array), name


def test_mirrored_pose_gives_the_mirrored_mesh(pair):
    right, left = (ArticulatedModel(data, dtype=torch.float64) for data in pair)
    generator = np.random.default_rng(0)
    shape, pose = torch.from_numpy(generator.normal(0, 1, (3, 10))), generator.normal(0, 0.7, (3, 48))
    move = torch.from_numpy(generator.normal(0, 1, (3, 3)))
    a = right(shape, torch.from_numpy(pose), move)
    b = left(shape, torch.from_numpy(mirror_pose(pose)), move * FLIP)
    assert (a.vertices * FLIP - b.vertices).abs().max() < 1e-14
    assert (a.joints * FLIP - b.joints).abs().max() < 1e-14


def test_the_same_coefficients_give_the_mirrored_mesh(pair):
    right, left = (ArticulatedModel(data, dtype=torch.float64) for data in pair)
    pose = torch.from_numpy(np.random.default_rng(1).normal(0, 0.5, (2, 48)))
    pose[:, :3] = 0
    a, b = (model(pose=pose, pose_format="pca").vertices for model in (right, left))
    assert (a * FLIP - b).abs().max() < 1e-14


def test_a_bodys_sides_change_places():
    pose = np.zeros((52, 3))
    pose[18] = (1, 2, 3)  # left elbow
    other = mirror_pose(pose, "smplh")
    assert other[19].tolist() == [1, -2, -3] and not other[18].any()
    assert np.array_equal(mirror_pose(other, "smplh"), pose)
