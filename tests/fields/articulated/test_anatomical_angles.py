"""Twist, spread and bend: signs, round trips, mirror images."""

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.articulated import ArticulatedModel
from fieldstone.fields.articulated.anatomical_angles import anatomical_frames
from fieldstone.fields.articulated.built_in import built_in

MIRROR = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def hands():
    return {name: ArticulatedModel(built_in(name), dtype=torch.float64) for name in ("hand", "hand-left")}


def one(joint: int, axis: int, value: float) -> torch.Tensor:
    angles = torch.zeros(16, 3, dtype=torch.float64)
    angles[joint, axis] = value
    return angles


def tip(model, angles, finger):  # of the bent hand, less that of the flat one
    order = ("thumb", "index", "middle", "ring", "pinky")
    vertex = int(model.data.fingertips[order.index(finger)])
    flat = model().vertices[0, vertex]
    return model(pose=angles, pose_format="anatomical").vertices[0, vertex] - flat


@pytest.mark.parametrize(
    "finger, joint", [("index", 1), ("middle", 5), ("pinky", 8), ("ring", 10), ("thumb", 14)]
)
def test_signs_are_those_of_the_table(hands, finger, joint):
    for model in hands.values():
        bent = tip(model, one(joint, 2, 0.5), finger)
        if finger == "thumb":  # across the palm: towards the little finger, -z in both hands
            assert bent[2] < -0.005
        else:  # the palm looks to -y
            assert bent[1] < -0.005
        spread = tip(model, one(joint - (joint - 1) % 3, 1, 0.2), finger)
        assert spread[2] < -0.002 if finger != "thumb" else spread.norm() > 0.002


def test_equal_angles_give_the_mirror_image(hands):
    generator = torch.Generator().manual_seed(0)
    angles = 0.4 * torch.randn(5, 16, 3, generator=generator, dtype=torch.float64)
    angles[:, 0] = 0
    right, left = (model(pose=angles, pose_format="anatomical").vertices for model in hands.values())
    assert torch.allclose(left, right * MIRROR, atol=1e-12)


def test_there_and_back_for_every_shape(hands):
    generator = torch.Generator().manual_seed(1)
    angles = 0.5 * torch.randn(4, 16, 3, generator=generator, dtype=torch.float64)
    shape = torch.randn(4, 10, generator=generator, dtype=torch.float64)
    for model in hands.values():
        posed = model(shape, angles, pose_format="anatomical")
        assert torch.allclose(model.anatomical_angles(posed.rotations, shape), angles, atol=1e-10)
        by_identity = model(identity=model.identity(shape), pose=angles, pose_format="anatomical")
        assert torch.allclose(by_identity.vertices, posed.vertices, atol=1e-12)
        assert not torch.allclose(
            model(pose=angles, pose_format="anatomical").rotations, posed.rotations, atol=1e-4
        )


def test_a_body_has_both_hands_frames():
    body = ArticulatedModel(built_in("body"), dtype=torch.float64)
    frames = anatomical_frames(body.joint_template, "smplh")
    assert torch.allclose(torch.linalg.det(frames), torch.ones(52, dtype=torch.float64))
    assert torch.equal(frames[:22], torch.eye(3, dtype=torch.float64).expand(22, 3, 3))
    hand = anatomical_frames(body.joint_template[[21, *range(37, 52)]], "mano", "right")
    assert torch.allclose(frames[37:], hand[1:])
    angles = torch.zeros(52, 3, dtype=torch.float64)
    angles[[22, 37], 2] = 0.7  # both index fingers bend towards the palms, which look down
    moved = body(pose=angles, pose_format="anatomical").joints[0] - body().joints[0]
    assert (moved[[24, 39], 1] < -0.01).all()


def test_gradients_reach_angles_and_shape(mano):
    model = ArticulatedModel(mano, dtype=torch.float64)
    angles = torch.full((16, 3), 0.2, dtype=torch.float64, requires_grad=True)
    shape = torch.full((10,), 0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, s: model(s, a, pose_format="anatomical").joints.square().sum(), (angles, shape)
    )


def test_wrong_use_is_told(mano, smplh):
    model = ArticulatedModel(mano)
    for call, words in (
        (lambda: model(pose=torch.zeros(2, 15, 3), pose_format="anatomical"), r"\(\.\.\., 16, 3\).*2, 15, 3"),
        (lambda: model(pose={"root": torch.zeros(3)}, pose_format="anatomical"), "not by parts"),
        (
            lambda: model(torch.zeros(3, 10), torch.zeros(2, 16, 3), pose_format="anatomical"),
            r"broadcast: pose \(2,\), shape \(3,\)",
        ),
        (
            lambda: ArticulatedModel(mano, mean="model")(pose=torch.zeros(16, 3), pose_format="anatomical"),
            "mean='model'",
        ),
        (lambda: anatomical_frames(torch.zeros(24, 3), "smpl"), "layout is smpl"),
        (lambda: anatomical_frames(torch.zeros(16, 3), "mano", "none"), "right or left"),
    ):
        with pytest.raises(UserError, match=words):
            call()
