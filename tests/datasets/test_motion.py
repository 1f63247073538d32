"""BVH, ASF/AMC and AMASS: known small files, real ones where they are, and files that are cut or hostile."""

from pathlib import Path

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.datasets.motion import read_amass, read_asf_amc, read_bvh

MOTION = Path(__file__).resolve().parents[3] / "shared" / "data" / "motion"

BVH = """HIERARCHY
ROOT hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT knee
  {
    OFFSET 0 -2 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
1 2 3 0 0 0 0 0 0
1 2 3 90 0 0 0 90 0
"""

ASF = """# made
:version 1.10
:units
  length 0.5
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    id 1
    name thigh
    direction 0 -1 0
    length 2
    axis 0 0 90 XYZ
    dof rx
  end
:hierarchy
  begin
    root thigh
  end
"""
AMC = """:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
thigh 0
2
root 1 2 3 0 90 0
thigh 90
"""


@pytest.fixture
def bvh(tmp_path):
    path = tmp_path / "a.bvh"
    path.write_text(BVH)
    return path


@pytest.fixture
def amc(tmp_path):
    (tmp_path / "a.asf").write_text(ASF)
    path = tmp_path / "a.amc"
    path.write_text(AMC)
    return path


def test_bvh_by_hand(bvh):
    motion = read_bvh(bvh, 0.1)
    assert motion.names == ("hips", "knee", "knee_end") and motion.frames_per_second == pytest.approx(20)
    assert np.allclose(motion.positions()[0], [[0.1, 0.2, 0.3], [0.1, 0, 0.3], [0.1, -0.1, 0.3]])
    # hips a quarter turn about z: down becomes +x; the knee a quarter turn about its own x, which now points up: +x becomes -z
    assert np.allclose(motion.positions()[1], [[0.1, 0.2, 0.3], [0.3, 0.2, 0.3], [0.3, 0.2, 0.2]])


def test_asf_amc_by_hand(amc):
    motion = read_asf_amc(amc)
    inch = 0.0254 / 0.5
    assert motion.names == ("root", "thigh", "thigh_end")
    assert np.allclose(motion.positions()[0] / inch, [[1, 2, 3], [1, 2, 3], [1, 0, 3]])
    # the thigh turns about its own x, which its axis puts on the world's y: nothing moves a bone that points down y; the root turns it either way
    assert np.allclose(motion.positions()[1] / inch, [[1, 2, 3], [1, 2, 3], [1, 0, 3]])


def amass(path, **changes):
    arrays = {
        "poses": np.arange(2 * 156).reshape(2, 156) / 1000,
        "trans": np.array([[0.0, 1, 2], [3, 4, 5]]),
        "betas": np.ones(16),
        "mocap_framerate": np.array(120.0),
        "gender": np.array("female"),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_amass_layouts(tmp_path):
    found = read_amass(amass(tmp_path / "a.npz"))
    assert found.layout == "smplh" and found.poses.shape == (2, 52, 3) and found.frames_per_second == 120
    assert found.gender == "female" and len(found.shape) == 16
    x = read_amass(
        amass(
            tmp_path / "x.npz",
            poses=np.arange(165.0)[None] / 1000,
            trans=np.zeros((1, 3)),
            mocap_frame_rate=np.array(30.0),
            mocap_framerate=None,
        )
    )
    assert x.layout == "smplx" and x.frames_per_second == 30
    assert np.allclose(x.smplh().poses[0, 22:], x.poses[0, 25:])
    body = read_amass(amass(tmp_path / "b.npz", poses=np.zeros((2, 66))))
    assert body.layout == "body" and body.smplh().poses.shape == (2, 52, 3)


class Boom:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"poses": np.zeros((2, 99))}, ["poses", "156", "(2, 99)"]),
        ({"trans": np.zeros((3, 3))}, ["trans", "(2, 3)", "(3, 3)"]),
        ({"poses": np.full((2, 156), np.nan)}, ["poses", "312 of 312", "not finite"]),
        ({"mocap_framerate": None}, ["mocap_framerate", "poses"]),
        ({"mocap_framerate": np.array(0.0)}, ["mocap_framerate", "above 0"]),
        ({"poses": np.array([Boom()], object)}, ["poses", "object"]),
        ({"poses": None}, ["poses"]),
    ],
)
def test_amass_mistakes_are_one_line(tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        read_amass(amass(tmp_path / "a.npz", **changes))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "before, after, words",
    [
        ("MOTION", "", ["HIERARCHY", "MOTION"]),
        ("OFFSET 0 -2 0", "OFFSET 0 nan 0", ["OFFSET of knee", "not finite"]),
        (
            "CHANNELS 3 Zrotation Xrotation Yrotation",
            "CHANNELS 3 Zrotation Wrotation Yrotation",
            ["CHANNELS of knee", "wrotation"],
        ),
        ("CHANNELS 3 Z", "CHANNELS 9 Z", ["CHANNELS of knee", "'9'"]),
        ("1 2 3 90 0 0 0 90 0\n", "1 2 3 90\n", ["2 frames of 9 channels", "expected 18", "found 13"]),
        ("Frame Time: 0.05", "Frame Time: 0", ["Frame Time is 0"]),
        ("Frames: 2", "Frames: many", ["Frames: N", "many"]),
        ("JOINT knee", "ROOT knee", ["ROOT where a JOINT belongs"]),
        ("  }\n}\nMOTION", "  }\nMOTION", ["not closed"]),
    ],
)
def test_bvh_mistakes_are_one_line(bvh, before, after, words):
    bvh.write_text(BVH.replace(before, after, 1))
    with pytest.raises(UserError) as error:
        read_bvh(bvh)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "where, before, after, words",
    [
        ("a.amc", "thigh 90", "thigh 90 1", ["frame 2", "thigh", "expected 1 values, found 2"]),
        ("a.amc", "thigh 90", "shin 90", ["'shin'", "another subject"]),
        ("a.amc", "thigh 90\n", "", ["thigh", "1 frames, expected 2"]),
        ("a.asf", "dof rx", "dof rw", ["'rw'", "tx ty tz"]),
        ("a.asf", "    root thigh\n", "    hips thigh\n", ["hips", "thigh"]),
        ("a.asf", "length 2", "length two", ["expected numbers"]),
    ],
)
def test_asf_amc_mistakes_are_one_line(amc, where, before, after, words):
    path = amc.with_name(where)
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(UserError) as error:
        read_asf_amc(amc)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.bvh", "a.amc"])
def test_binary_absent_and_cut_files_are_refused(tmp_path, bvh, amc, name):
    path = tmp_path / name
    read = read_bvh if name.endswith("bvh") else read_asf_amc
    whole = path.read_bytes()
    for size in range(0, len(whole) - 12, 23):
        path.write_bytes(whole[:size])
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert name == "a.amc"  # a motion may end after any whole frame
    path.write_bytes(b"\0\1\2" * 99)
    with pytest.raises(UserError, match="binary"):
        read(path)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read(path)


@pytest.mark.skipif(not (MOTION / "cmu").is_dir(), reason="../shared/data/motion/cmu is absent")
def test_one_take_in_both_formats_is_one_motion():
    """CMU 01_01: the BVH is a conversion of the AMC, one frame longer. Its maker left out the thorax's length (117 mm), so heads and arms
    are that much lower; legs and spine agree to the rounding of the files.
    """
    a = read_asf_amc(MOTION / "cmu/01_01.amc").frames(slice(0, None, 50))
    b = read_bvh(MOTION / "cmu/01_01.bvh", 0.0254 / 0.45).frames(slice(1, None, 50))
    assert a.frames_per_second == pytest.approx(b.frames_per_second, rel=1e-3)
    pairs = (("root", "Hips"), ("ltibia", "LeftLeg"), ("rtoes", "RightToeBase"), ("thorax", "Spine1"))
    p, q = a.positions(), b.positions()
    for ours, theirs in pairs:
        apart = np.linalg.norm(p[:, a.names.index(ours)] - q[: len(p), b.names.index(theirs)], axis=1)
        assert apart.max() < 1e-3, ours
