"""The committed hand and body are what the code makes: checked on parts that are cheap to make again."""

import numpy as np
import pytest
import torch

from fieldstone.core.rotations import axis_angle_to_matrix
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.layouts import LAYOUTS
from fieldstone.fields.articulated.mirror import mirror_model
from fieldstone.fields.articulated.procedural.body import body_anatomy
from fieldstone.fields.articulated.procedural.build import neighbourhoods, pose_space
from fieldstone.fields.articulated.procedural.correctives import flesh_errors
from fieldstone.fields.articulated.procedural.hand import hand_anatomy
from fieldstone.fields.articulated.procedural.shapes import individual
from fieldstone.fields.articulated.procedural.weights import skinning_weights

# name, anatomy, seed and number of poses of `build`, bones a corrective looks around, joints that are turned
MODELS = [("hand", hand_anatomy, 0, 160, 1, 16), ("body", body_anatomy, 1, 140, 2, 22)]


@pytest.mark.parametrize("name, anatomy_of", [model[:2] for model in MODELS])
def test_template_weights_joints_and_shapes(name, anatomy_of):
    data, anatomy = built_in(name), anatomy_of()
    assert data.joint_names == anatomy.joint_names and tuple(data.parents) == anatomy.parents
    assert np.abs(data.joints - anatomy.joints).max() < (5e-4 if name == "hand" else 2e-3)
    on_surface = np.abs(anatomy.flesh(data.template))
    assert np.percentile(on_surface, 95) < 3e-6 and on_surface.max() < 1e-3  # rims are cut, not projected
    weights = skinning_weights(anatomy.flesh, len(data.parents), data.template, data.faces, anatomy.spread)
    apart = np.abs(weights - data.weights)
    # positions are rounded to a micrometre: a few vertices half way between two bones may go to the other one
    assert apart.mean() < 1e-5 and (apart.max(1) > 1e-3).mean() < 2e-3
    generator = np.random.default_rng(7)
    basis = data.shape_basis.reshape(-1, data.shape_basis.shape[2])
    for _ in range(3):
        vertices, joints = individual(anatomy, data.template, data.weights, anatomy.sample_scales(generator))
        shape = (vertices - joints[0] + anatomy.joints[0] - data.template).reshape(-1)
        left = shape - basis @ np.linalg.lstsq(basis, shape)[0]
        assert np.linalg.norm(left) < 0.2 * np.linalg.norm(shape)


@pytest.mark.parametrize("name, anatomy_of, seed, poses", [model[:4] for model in MODELS])
def test_pose_space_comes_from_the_poses_as_they_are_drawn_now(name, anatomy_of, seed, poses):
    data, anatomy = built_in(name), anatomy_of()
    generator = np.random.default_rng(seed)
    for _ in range(400):
        anatomy.sample_scales(generator)
    for _ in range(poses):
        anatomy.sample_pose(generator)
    mean, components, _ = pose_space(generator)
    assert np.abs(data.pose_mean[-45:] - mean).max() < 1e-6
    assert np.abs(data.pose_components[-45:, -45:] - components).max() < 1e-5


@pytest.mark.parametrize("name, anatomy_of, steps, own", [model[:2] + model[4:] for model in MODELS])
def test_correctives_repair_skinning_in_new_poses(name, anatomy_of, steps, own):
    data, anatomy = built_in(name), anatomy_of()
    generator = np.random.default_rng(11)
    angles = np.stack([anatomy.sample_pose(generator) for _ in range(4)])
    angles[:, own:] = 0
    errors = flesh_errors(
        anatomy, data.template, data.weights, *neighbourhoods(anatomy, data.weights, steps)
    )(angles)
    turned = axis_angle_to_matrix(torch.from_numpy(angles)).numpy()
    features = (turned[:, 1:] - np.eye(3)).reshape(len(angles), -1)
    given = np.einsum("vdk,pk->pvd", data.pose_correctives, features)
    before = np.linalg.norm(errors, axis=2)
    after = np.linalg.norm(errors - given, axis=2)
    assert after.mean() < 0.6 * before.mean()


def test_the_body_has_the_hand_at_its_arms():
    body, hand = built_in("body"), built_in("hand")
    names = LAYOUTS["smplh"].joint_names
    anatomy = body_anatomy()
    for side, start, own in (("left", 22, mirror_model(hand)), ("right", 37, hand)):
        wrist = anatomy.joints[names.index(f"{side}_wrist")]
        first = len(body.template) - (1 if side == "right" else 2) * len(hand.template)
        rows = slice(first, first + len(hand.template))
        assert np.abs(body.template[rows] - own.template - wrist).max() < 2e-6
        columns = slice(9 * (start - 1), 9 * (start + 14))
        assert np.abs(body.pose_correctives[rows, :, columns] - own.pose_correctives).max() < 2e-6


def test_the_gradient_of_flesh_is_its_derivative():
    anatomy = hand_anatomy()
    generator = np.random.default_rng(0)
    points = anatomy.joints[generator.integers(0, 16, 200)] + generator.normal(0, 0.02, (200, 3))
    motion = anatomy.motion(np.stack([anatomy.sample_pose(generator) for _ in range(2)]))
    values, gradients = anatomy.flesh.value_and_gradient(np.tile(points, (2, 1, 1)), motion)
    for pose, value, gradient in zip(motion, values, gradients):
        assert np.abs(value - anatomy.flesh(points, pose)).max() < 1e-15
        numeric = np.stack(
            [
                (anatomy.flesh(points + step, pose) - anatomy.flesh(points - step, pose)) / 2e-6
                for step in 1e-6 * np.eye(3)
            ],
            1,
        )
        assert np.abs(gradient - numeric).max() < 1e-6
