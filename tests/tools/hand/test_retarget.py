"""Motion capture onto the body."""

import numpy as np
import pytest

from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.datasets.motion import SkeletonMotion
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.procedural.body import sample_body_pose
from fieldstone.tools.hand.fitting.so3 import exp
from fieldstone.tools.hand.result import HandResult, read_result, write_result
from fieldstone.tools.hand.retarget import joint_map, retarget

CMU = tuple(
    "Hips LHipJoint LeftUpLeg LeftLeg LeftFoot LeftToeBase RHipJoint RightUpLeg RightLeg RightFoot RightToeBase LowerBack Spine Spine1 Neck "
    "Neck1 Head LeftShoulder LeftArm LeftForeArm LeftHand RightShoulder RightArm RightForeArm RightHand".split()
)
CMU_PARENTS = np.array(
    [-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14, 15, 13, 17, 18, 19, 13, 21, 22, 23]
)


def body_motion(tmp_path, frames=3):
    body = built_in("body")
    generator = np.random.default_rng(0)
    pose = np.stack([sample_body_pose(generator) for _ in range(frames)])
    pose[:, 0] = generator.normal(0, 1, (frames, 3))
    pose[:, 22:] = 0
    move = generator.normal(0, 1, (frames, 3))
    result = HandResult("body", np.zeros(2), pose, move, 60.0)
    write_result(tmp_path / "in.npz", result)
    assert main(["hand", "export", str(tmp_path / "in.npz"), "--out", str(tmp_path / "a.bvh")]) == 0
    return body, pose, move


def test_our_own_motion_comes_back(tmp_path, capsys):
    _, pose, move = body_motion(tmp_path)
    assert (
        main(["hand", "fit", str(tmp_path / "a.bvh"), "--model", "body", "--out", str(tmp_path / "out.npz")])
        == 0
    )
    assert "22 joints mapped" in capsys.readouterr().out
    again = read_result(tmp_path / "out.npz")
    assert np.abs(exp(again.pose) - exp(pose)).max() < 1e-5
    assert np.abs(again.translation - move).max() < 1e-5 and again.frames_per_second == pytest.approx(
        60, rel=1e-4
    )


def test_cmu_names_are_understood_and_prefixes_dropped():
    found = joint_map(CMU, CMU_PARENTS)
    assert (
        found["left_hip"] == "LeftUpLeg"
        and found["left_knee"] == "LeftLeg"
        and found["left_collar"] == "LeftShoulder"
    )
    assert (
        found["left_shoulder"] == "LeftArm" and found["spine1"] == "LowerBack" and found["spine3"] == "Spine1"
    )
    assert found["neck"] == "Neck" and len(found) == 22
    mixamo = tuple(f"mixamorig:{name}" for name in CMU)
    assert joint_map(mixamo, CMU_PARENTS)["right_wrist"] == "mixamorig:RightHand"


def test_another_rest_pose_and_size_still_points_the_same_way():
    """A skeleton that rests with its arms down and faces -z: bones follow, twists of limbs stay those of the source."""
    body = built_in("body")
    generator = np.random.default_rng(3)
    rest = np.zeros((25, 3))
    at = dict(zip(CMU, range(25)))
    places = {
        "Hips": (0, 0, 0), "LeftUpLeg": (-0.2, -0.1, 0), "LeftLeg": (-0.3, -1, 0), "LeftFoot": (-0.35, -1.9, 0), "LeftToeBase": (-0.35, -2, -0.3),
        "LowerBack": (0, 0.1, 0), "Spine": (0, 0.3, 0), "Spine1": (0, 0.6, 0), "Neck": (0, 1, 0), "Neck1": (0, 1.1, 0), "Head": (0, 1.2, 0),
        "LeftShoulder": (-0.1, 0.9, 0), "LeftArm": (-0.4, 0.9, 0), "LeftForeArm": (-0.45, 0.3, 0), "LeftHand": (-0.45, -0.3, 0),
    }  # fmt: skip
    for name, place in places.items():
        rest[at[name]] = place
        if name.startswith("Left"):
            rest[at[name.replace("Left", "Right")]] = np.array(place) * [-1, 1, 1]
    offsets = rest - np.where(CMU_PARENTS[:, None] >= 0, rest[CMU_PARENTS], 0)
    rotations = exp(generator.normal(0, 0.4, (4, 25, 3)))
    motion = SkeletonMotion(CMU, CMU_PARENTS, offsets, rotations, np.tile(offsets, (4, 1, 1)), 30.0, "made")
    found = retarget(body, motion)
    from fieldstone.tools.hand.fitting.posing import Posing

    moved = Posing(body, np.zeros(0, np.int64), 0)(
        np.zeros(0), exp(found.pose), found.translation, False
    ).points
    source = motion.positions()
    for a, b, c, d in (
        ("left_knee", "left_ankle", "LeftLeg", "LeftFoot"),
        ("right_elbow", "right_wrist", "RightForeArm", "RightHand"),
    ):
        own = moved[:, body.joint_names.index(b)] - moved[:, body.joint_names.index(a)]
        theirs = source[:, at[d]] - source[:, at[c]]
        cosine = (own * theirs).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(theirs, axis=1)
        assert cosine.min() > 1 - 1e-9
    assert found.direction_deg < 12  # where three bones meet, one rotation serves them all as well as it can
    assert np.allclose(moved[:, 0], found.scale * source[:, 0])


def test_mistakes_are_one_line(tmp_path, capsys):
    body_motion(tmp_path)
    out = str(tmp_path / "o.npz")
    assert main(["hand", "fit", str(tmp_path / "a.bvh"), "--model", "hand-left", "--out", out]) == 2
    assert "--model body" in capsys.readouterr().err
    names = tuple(name.replace("LeftLeg", "Stilt") for name in CMU)
    with pytest.raises(UserError, match="no joint for the left knee; looked for leftleg"):
        joint_map(names, CMU_PARENTS)
    np.savez(
        tmp_path / "amass.npz",
        poses=np.zeros((2, 156)),
        trans=np.ones((2, 3)),
        betas=np.ones(16),
        mocap_framerate=120.0,
    )
    assert main(["hand", "fit", str(tmp_path / "amass.npz"), "--model", "body", "--out", out]) == 0
    assert "mean shape" in capsys.readouterr().out and np.allclose(read_result(out).translation, 1)
