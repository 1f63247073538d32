"""The forward pass against the equations of the paper, and what must hold for any model."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.core.errors import UserError
from fieldstone.core.rotations import axis_angle_to_matrix, matrix_to_quaternion, matrix_to_six
from fieldstone.fields.articulated import ArticulatedModel
from fieldstone.fields.articulated.skinning import SKINNING

from .conftest import random_model, reference


def inputs(data, batch, seed=0):
    generator = np.random.default_rng(seed)
    shape = generator.normal(0, 1, (batch, data.shape_basis.shape[2]))
    pose = generator.normal(0, 0.6, (batch, len(data.parents), 3))
    return shape, pose, generator.normal(0, 0.3, (batch, 3))


@pytest.mark.parametrize("layout", ["mano", "smpl", "smplh", "smplx"])
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_forward_equals_the_reference(layout, dtype, bound):
    data = random_model(layout, 3, **({} if layout == "mano" else {"vertices": 161}))
    model = ArticulatedModel(data, dtype=dtype)
    shape, pose, move = inputs(data, 4)
    posed = model(*(torch.from_numpy(x).to(dtype) for x in (shape, pose, move)))
    shape, pose, move = (torch.from_numpy(x).to(dtype).double().numpy() for x in (shape, pose, move))
    for i in range(4):
        vertices, joints = reference(data, shape[i], pose[i], move[i])
        assert np.abs(posed.vertices[i].double().numpy() - vertices).max() <= bound
        assert np.abs(posed.joints[i].double().numpy() - joints).max() <= bound


def test_rest_pose_is_the_shaped_template(mano):
    model = ArticulatedModel(mano, dtype=torch.float64)
    shape = torch.randn(2, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    posed = model(shape, torch.zeros(2, 48, dtype=torch.float64))
    expected = mano.template + np.einsum("vds,bs->bvd", mano.shape_basis, shape.numpy())
    assert np.abs(posed.vertices.numpy() - expected).max() < 1e-15
    assert posed.transforms.shape == (2, 16, 4, 4)
    assert torch.allclose(model().vertices, model.template[None], atol=1e-15)


def test_root_turns_about_the_first_joint(mano):
    model = ArticulatedModel(mano, dtype=torch.float64)
    shape, pose, _ = (torch.from_numpy(x) for x in inputs(mano, 1))
    before = model(shape, pose)
    turn = axis_angle_to_matrix(torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64))
    turned = before.rotations.clone()
    turned[:, 0] = turn @ turned[:, 0]
    centre = model.identity(shape).joints[:, :1]
    expected = (before.vertices - centre) @ turn.T + centre
    assert torch.allclose(model(shape, turned).vertices, expected, atol=1e-14)


def test_bone_lengths_depend_on_shape_alone(mano):
    model = ArticulatedModel(mano, dtype=torch.float64)
    shape, pose, move = (torch.from_numpy(x) for x in inputs(mano, 3))
    parents = list(model.parents[1:])
    posed = model(shape, pose, move).joints
    rest = model.identity(shape).joints
    assert torch.allclose(
        (posed[:, 1:] - posed[:, parents]).norm(dim=-1),
        (rest[:, 1:] - rest[:, parents]).norm(dim=-1),
        atol=1e-14,
    )


@pytest.mark.parametrize("name", ["axis_angle", "flat", "quaternion", "6d", "matrix"])
def test_every_notation_of_a_pose_gives_the_same_vertices(mano, name):
    model = ArticulatedModel(mano, dtype=torch.float64)
    _, pose, _ = (torch.from_numpy(x) for x in inputs(mano, 3))
    matrices = axis_angle_to_matrix(pose)
    given = {
        "axis_angle": pose,
        "flat": pose.flatten(1),
        "quaternion": -1.7 * matrix_to_quaternion(matrices),
        "6d": matrix_to_six(matrices) * 1.0,
        "matrix": matrices,
    }[name]
    expected = model(pose=pose, pose_format="axis_angle").vertices
    assert torch.allclose(model(pose=given).vertices, expected, atol=1e-13)


@pytest.mark.parametrize("mean", ["pca", "model", "flat"])
@pytest.mark.parametrize("count", [6, 45])
def test_pose_components_and_mean(mano, mean, count):
    model = ArticulatedModel(mano, dtype=torch.float64, mean=mean, components=count)
    generator = np.random.default_rng(4)
    coefficients = generator.normal(0, 0.5, (2, 3 + count))
    added = 0 if mean == "flat" else mano.pose_mean
    angles = np.concatenate(
        (coefficients[:, :3], coefficients[:, 3:] @ mano.pose_components[:count] + added), 1
    )
    flat = ArticulatedModel(mano, dtype=torch.float64, mean="flat")
    assert torch.allclose(
        model(pose=torch.from_numpy(coefficients), pose_format="pca").vertices,
        flat(pose=torch.from_numpy(angles)).vertices,
        atol=1e-13,
    )
    plain = torch.from_numpy(angles)
    shifted = plain + (torch.from_numpy(np.append(np.zeros(3), mano.pose_mean)) if mean == "model" else 0)
    assert torch.allclose(model(pose=plain).vertices, flat(pose=shifted).vertices, atol=1e-13)


def test_coefficients_of_a_pose_come_back_though_components_are_not_orthonormal(mano):
    pca = ArticulatedModel(mano, dtype=torch.float64).pca
    pose = torch.from_numpy(np.random.default_rng(5).normal(0, 0.3, (3, 48)))
    assert torch.allclose(pca.coefficients(pca.axis_angles(pose)), pose, atol=1e-9)


def test_body_poses_by_part(smplh):
    model = ArticulatedModel(smplh, dtype=torch.float64)
    _, pose, _ = (torch.from_numpy(x) for x in inputs(smplh, 2))
    parts = {
        "root": pose[:, :1],
        "body": pose[:, 1:22],
        "left_hand": pose[:, 22:37].flatten(1),
        "right_hand": axis_angle_to_matrix(pose[:, 37:]),
    }
    assert torch.allclose(model(pose=parts).vertices, model(pose=pose).vertices, atol=1e-13)
    alone = model(pose={"right_hand": parts["right_hand"]})
    assert torch.equal(alone.rotations[:, 1:37], torch.eye(3, dtype=torch.float64).expand(2, 36, 3, 3))


def test_arguments_broadcast(mano):
    model = ArticulatedModel(mano, dtype=torch.float64)
    shape, pose, move = (torch.from_numpy(x) for x in inputs(mano, 6))
    full = model(shape[:1].expand(6, -1), pose, move).vertices
    assert torch.allclose(model(shape[0], pose, move).vertices, full, atol=1e-15)
    assert torch.allclose(model(shape[:1], pose, move).vertices, full, atol=1e-15)
    grid = model(shape[:2, None], pose[None, :3], move[0])
    assert grid.vertices.shape == (2, 3, 778, 3) and grid.transforms.shape == (2, 3, 16, 4, 4)
    for a, b in itertools.product(range(2), range(3)):
        assert torch.allclose(grid.vertices[a, b], model(shape[a], pose[b], move[0]).vertices[0], atol=1e-14)


def test_identity_skeleton_and_subset_agree_with_the_whole(mano):
    model = ArticulatedModel(mano, dtype=torch.float64)
    shape, pose, move = (torch.from_numpy(x) for x in inputs(mano, 3))
    whole = model(shape, pose, move)
    assert torch.allclose(
        model(identity=model.identity(shape), pose=pose, translation=move).vertices, whole.vertices
    )
    skeleton = model(shape, pose, move, skeleton_only=True)
    assert skeleton.vertices is None and torch.equal(skeleton.joints, whole.joints)
    chosen = [5, 700, 31]
    part = model.subset(chosen)(shape, pose, move)
    assert torch.allclose(part.vertices, whole.vertices[:, chosen], atol=1e-15)
    assert torch.equal(part.joints, whole.joints)


def test_skinning_transforms_are_what_weights_blend(mano):
    model = ArticulatedModel(mano, dtype=torch.float64)
    shape, pose, move = (torch.from_numpy(x) for x in inputs(mano, 2))
    posed = model(shape, pose, move)
    blended = torch.einsum("vj,bjrc->bvrc", model.weights, posed.skinning)
    again = (blended[..., :3, :3] @ posed.rest_vertices[..., None])[..., 0] + blended[..., :3, 3]
    assert torch.allclose(again, posed.vertices, atol=1e-14)


def test_double_precision_survives_a_way_through_single(mano):
    again = ArticulatedModel(mano).to(torch.float64)
    assert again.template.dtype == torch.float64
    assert np.array_equal(again.template.numpy(), mano.template)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.0999, 0.1001, 3.1415926535, 6.0])
def test_gradients_at_awkward_angles(angle):
    data = random_model("mano", 7, vertices=33)
    model = ArticulatedModel(data, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    axis = torch.nn.functional.normalize(torch.randn(16, 3, generator=generator, dtype=torch.float64), dim=-1)
    pose = (angle * axis).requires_grad_()
    shape = torch.randn(10, generator=generator, dtype=torch.float64, requires_grad=True)
    pick = torch.randn(33, 3, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p, s: (model(s, p).vertices * pick).sum(), (pose, shape), atol=1e-7
    )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("batch", [1, 9])
def test_skinning_back_ends_agree_in_value_and_gradient(mano, shared, batch):
    assert set(SKINNING.names()) == {"cpu", "reference"}
    generator = torch.Generator().manual_seed(2)
    vertices = torch.randn(1 if shared else batch, 778, 3, generator=generator)
    transforms = torch.randn(batch, 16, 3, 4, generator=generator)
    pick = torch.randn(batch, 778, 3, generator=generator)
    for weights in (
        torch.from_numpy(mano.weights).float(),
        torch.eye(16)[torch.randint(16, (778,), generator=generator)],
    ):
        found = {}
        for name in SKINNING.names():
            a, b = vertices.clone().requires_grad_(), transforms.clone().requires_grad_()
            out = SKINNING.load(name, "cpu").skin(a, b, weights)
            (out * pick).sum().backward()
            found[name] = out.detach(), a.grad, b.grad
        for ours, theirs in zip(found["cpu"], found["reference"]):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_the_kernel_notices_weights_that_change(mano):
    weights = torch.from_numpy(mano.weights).float()
    kernel, reference_ = (SKINNING.load(name, "cpu").skin for name in ("cpu", "reference"))
    vertices, transforms = torch.randn(1, 778, 3), torch.randn(1, 16, 3, 4)
    kernel(vertices, transforms, weights)
    weights.copy_(weights.flip(1))
    assert torch.allclose(
        kernel(vertices, transforms, weights), reference_(vertices, transforms, weights), atol=1e-4
    )


@pytest.mark.parametrize("leads", [((), (), ()), ((5,), (1,), (5,)), ((2, 3), (3,), (2, 1))])
def test_the_compiled_pass_equals_the_differentiable_one(mano, leads):
    model = ArticulatedModel(mano)
    generator = torch.Generator().manual_seed(4)
    shape, pose, move = (torch.randn(*lead, n, generator=generator) for lead, n in zip(leads, (10, 48, 3)))
    pose[..., :6] *= 1e-4  # the series near zero
    quick = model(shape, pose, move)
    slow = model(shape, pose.clone().requires_grad_(), move)
    plain = model(shape, pose, move, backend="reference")
    assert not quick.vertices.requires_grad and slow.vertices.requires_grad
    for name in ("vertices", "joints", "transforms", "skinning", "rotations", "rest_vertices", "rest_joints"):
        a, b, c = (getattr(posed, name) for posed in (quick, slow, plain))
        assert a.shape == b.shape == c.shape, name
        assert torch.allclose(a, b, atol=2e-6) and torch.allclose(a, c, atol=2e-6), name
    who = model.identity(shape.reshape(-1, 10)[:1])
    assert torch.allclose(
        model(identity=who, pose=pose).vertices,
        model(identity=who, pose=pose, backend="reference").vertices,
        atol=2e-6,
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 6))
def test_any_pose_is_finite_and_rigid_per_joint(mano, seed, size):
    model = ArticulatedModel(mano, dtype=torch.float64)
    pose = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (16, 3)) * size)
    turns = model(pose=pose).transforms[0, :, :3, :3]
    assert torch.allclose(turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(16, 3, 3), atol=1e-12)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"shape": torch.zeros(11)}, ["shape", "at most 10", "(11,)"]),
        ({"pose": torch.zeros(2, 47)}, ["pose", "48", "(2, 47)"]),
        ({"pose": torch.zeros(2, 45), "pose_format": "pca"}, ["pose", "48", "45 coefficients", "(2, 45)"]),
        ({"pose": torch.zeros(2, 48), "pose_format": "euler"}, ["pose_format", "quaternion", "'euler'"]),
        ({"translation": torch.zeros(2)}, ["translation", "(..., 3)", "(2,)"]),
        ({"pose": torch.zeros(2, 48), "shape": torch.zeros(3, 10)}, ["broadcast", "(2,)", "(3,)"]),
        ({"pose": {"body": torch.zeros(63)}}, ["'body'", "root, hand"]),
    ],
)
def test_wrong_arguments_are_named(mano, arguments, words):
    with pytest.raises(UserError) as error:
        ArticulatedModel(mano)(**arguments)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_body_without_components_says_what_to_merge(smplh):
    with pytest.raises(UserError, match=r"merge them in .*--hands"):
        ArticulatedModel(smplh)(pose=torch.zeros(1, 78), pose_format="pca")
    with pytest.raises(UserError, match="no pose components"):
        ArticulatedModel(smplh, components=6)
