"""Annotations of the hand data sets, from files made here in their formats; hostile and cut ones are one line."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from fieldstone.core.errors import UserError
from fieldstone.datasets.hands import open_hands, read_handpose

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "hands"
K = np.array([[500.0, 0, 112], [0, 510, 110], [0, 0, 1]])
GENERATOR = np.random.default_rng(0)
JOINTS = GENERATOR.normal(0, 0.05, (21, 3)) + np.array([0, 0, 0.6])
PIXELS = (JOINTS @ K.T)[:, :2] / (JOINTS @ K.T)[:, 2:]
TO_MANO21 = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
"""Our order's joint at each place of MANO's 16 and the tips, written out by hand: index, middle, pinky, ring, thumb."""


def freihand(folder):
    for key, value in (
        ("K", K),
        ("xyz", JOINTS),
        ("mano", GENERATOR.normal(size=(1, 61))),
        ("verts", np.ones((778, 3))),
    ):
        (folder / f"training_{key}.json").write_text(json.dumps([value.tolist()]))
    (folder / "training" / "rgb").mkdir(parents=True)
    Image.new("RGB", (224, 224)).save(folder / "training" / "rgb" / "00000000.jpg")


def ho3d(folder, **changes):
    meta = {
        "handJoints3D": (JOINTS * [1, -1, -1])[TO_MANO21], "camMat": K, "handPose": np.arange(48.0), "handBeta": np.ones(10),
        "handTrans": np.array([0.0, 1, 2]), "objName": "021_bleach", "handVertContact": None,
    } | changes  # fmt: skip
    place = folder / "train" / "ABF10" / "meta"
    place.mkdir(parents=True, exist_ok=True)
    (place / "0007.pkl").write_bytes(pickle.dumps(meta, protocol=3))


def interhand(folder):
    order = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]
    rotation, centre = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.array([100.0, 200, 300])
    world = (JOINTS[order] * 1000) @ rotation + centre
    both = np.concatenate((world, world + 5))
    stem = folder / "InterHand2.6M_test_"
    image = {"id": 1, "file_name": "c/a.jpg", "capture": 0, "camera": "40", "frame_idx": 9}
    files = {
        "data": {"images": [image], "annotations": []},
        "camera": {
            "0": {
                "campos": {"40": centre.tolist()},
                "camrot": {"40": rotation.tolist()},
                "focal": {"40": [500, 510]},
                "princpt": {"40": [112, 110]},
            }
        },
        "joint_3d": {
            "0": {
                "9": {
                    "world_coord": both.tolist(),
                    "joint_valid": [[1]] * 41 + [[0]],
                    "hand_type": "interacting",
                }
            }
        },
        "MANO_NeuralAnnot": {
            "0": {"9": {"right": {"pose": [0.1] * 48, "shape": [1] * 10, "trans": [0, 0, 1]}, "left": None}}
        },
    }
    for key, value in files.items():
        Path(f"{stem}{key}.json").write_text(json.dumps(value))


def dexycb(folder):
    for name, value in (
        ("intrinsics/836_640x480.yml", {"color": {"fx": 500.0, "fy": 510.0, "ppx": 112.0, "ppy": 110.0}}),
        ("extrinsics_20/extrinsics.yml", {"extrinsics": {"836": np.eye(4)[:3].reshape(-1).tolist()}}),
        ("mano_s1/mano.yml", {"betas": [0.5] * 10}),
    ):
        path = folder / "calibration" / name
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(value))
    sequence = folder / "subject-01" / "20200709"
    (sequence / "836").mkdir(parents=True)
    (sequence / "meta.yml").write_text(
        yaml.safe_dump({"serials": ["836"], "mano_sides": ["left"], "mano_calib": ["s1"], "extrinsics": "20"})
    )
    np.savez(
        sequence / "836" / "labels_000000.npz",
        joint_3d=JOINTS[None],
        joint_2d=PIXELS[None],
        pose_m=np.ones((1, 51)),
    )
    absent = -np.ones((1, 21, 3))
    np.savez(
        sequence / "836" / "labels_000001.npz",
        joint_3d=absent,
        joint_2d=absent[..., :2],
        pose_m=np.zeros((1, 51)),
    )


def real583(folder):
    (folder / "images").mkdir()
    Image.new("RGB", (256, 256)).save(folder / "images" / "00001.jpg")
    # a square of 128 pixels that starts at (20, 10) in the full picture, enlarged twice
    full = [[0, 0, 1, 1], [250.0, 255.0, 56 + 20, 55 + 10]]
    savemat(folder / "pose_gt.mat", {"pose_gt": np.stack((JOINTS, JOINTS)) * 100})
    savemat(
        folder / "params.mat",
        {"cam_param": np.array(full), "bbox": np.array([[0, 0, 1, 1], [20.0, 10, 128, 128]])},
    )


MAKERS = {"freihand": freihand, "ho3d": ho3d, "interhand": interhand, "dexycb": dexycb, "real583": real583}


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_gives_the_same_joints_and_pixels(name, tmp_path):
    MAKERS[name](tmp_path)
    found = open_hands(tmp_path)
    sample = found[0]
    assert found.format == name
    assert np.abs(sample.joints - JOINTS).max() < 1e-9
    assert np.abs(sample.intrinsics - K).max() < 1e-9
    assert np.abs(sample.pixels - PIXELS).max() < 1e-6
    assert sample.side == {"dexycb": "left", "real583": "left"}.get(name, "right")
    if sample.mano is not None:
        assert sample.mano.pose.shape == (48,) and sample.mano.shape.shape == (10,)


def test_what_each_format_says_about_mano(tmp_path):
    found = {}
    for name in ("ho3d", "interhand", "dexycb"):
        (tmp_path / name).mkdir()
        MAKERS[name](tmp_path / name)
        found[name] = open_hands(tmp_path / name)
    assert found["ho3d"][0].mano.mean_included and np.allclose(
        np.diag(found["ho3d"][0].mano.to_sample), [1, -1, -1, 1]
    )
    assert found["dexycb"][0].mano.pca and found["dexycb"][0].mano.mirrored_left_shape is False
    assert found["dexycb"][1].joints is None  # out of view
    right, left = found["interhand"]
    assert left.side == "left" and left.mano is None and right.frame == left.frame
    assert np.isnan(left.joints[0]).all()  # the wrist, joint 41, is not valid
    assert right.mano.mirrored_left_shape is True


class Boom:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"objName": Boom()}, ["exec"]),
        ({"handJoints3D": np.zeros((20, 3))}, ["handJoints3D", "(1, 3)", "(20, 3)"]),
        ({"camMat": np.full((3, 3), np.inf)}, ["camMat", "not finite"]),
        ({"handPose": np.zeros(45)}, ["handPose", "(48)", "(45,)"]),
    ],
)
def test_ho3d_pickles_are_data_and_nothing_runs(tmp_path, changes, words):
    ho3d(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        open_hands(tmp_path)[0]
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_cut_files_are_one_line(tmp_path):
    for name, file in (
        ("freihand", "training_xyz.json"), ("ho3d", "train/ABF10/meta/0007.pkl"), ("interhand", "InterHand2.6M_test_camera.json"),
        ("dexycb", "subject-01/20200709/836/labels_000000.npz"), ("real583", "pose_gt.mat"), ("dexycb", "calibration/mano_s1/mano.yml"),
    ):  # fmt: skip
        folder = tmp_path / f"{name}_{Path(file).stem}"
        folder.mkdir()
        MAKERS[name](folder)
        whole = (folder / file).read_bytes()
        for size in (0, 10, len(whole) // 2, len(whole) - 3):
            (folder / file).write_bytes(whole[:size])
            try:
                open_hands(folder)[0]
            except UserError as error:
                assert "\n" not in str(error)
            else:  # a YAML list that ends early may still be one; JSON, pickles and archives may not
                assert file.endswith("yml") and size == len(whole) - 3


def test_mistakes_name_key_expected_and_found(tmp_path):
    with pytest.raises(UserError, match=r"looked for .*FreiHAND.*HO-3D.*InterHand2.6M.*DexYCB"):
        open_hands(tmp_path)
    freihand(tmp_path)
    (tmp_path / "training_xyz.json").write_text(json.dumps([JOINTS[:20].tolist()]))
    with pytest.raises(UserError, match=r"xyz.json row 0: expected shape \(21, 3\), found \(20, 3\)"):
        open_hands(tmp_path)[0]
    (tmp_path / "training_xyz.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match=r"expected 1 rows as in training_K\.json, found 0"):
        open_hands(tmp_path)


def test_handpose_by_hand_and_its_mistakes(tmp_path):
    frames = np.tile(np.eye(4), (2, 25, 1, 1))
    frames[:, :, :3, 3] = GENERATOR.normal(0, 0.05, (2, 25, 3))
    values = np.concatenate(([25.0], frames.transpose(0, 1, 3, 2).reshape(-1), np.ones(50))).astype("<f4")
    path = tmp_path / "a.handpose"
    values.tofile(path)
    found = read_handpose(path)
    assert np.abs(found.right[:, :3, 3] - frames[1, :, :3, 3]).max() < 1e-7
    assert np.allclose(
        found.joints21("left")[5], frames[0, 6, :3, 3]
    )  # index knuckle: after wrist, four of the thumb, one metacarpal
    values[:-1].tofile(path)
    with pytest.raises(UserError, match="expected 851 float32"):
        read_handpose(path)
    values[5] = 3
    values.tofile(path)
    with pytest.raises(UserError, match="not a rigid transform"):
        read_handpose(path)


@pytest.mark.skipif(not (SHARED / "real583").is_dir(), reason="../shared/data/hands/real583 is absent")
def test_real583_joints_lie_in_their_pictures():
    found = open_hands(SHARED / "real583")
    assert len(found) == 117
    for sample in found:
        assert sample.side == "left" and ((sample.pixels > -20) & (sample.pixels < 276)).all()


@pytest.mark.skipif(not (SHARED / "handywork").is_dir(), reason="../shared/data/hands/handywork is absent")
def test_recorded_hands_have_bones_of_a_hand():
    for path in sorted((SHARED / "handywork" / "poses").glob("*.handpose")):
        pose = read_handpose(path)
        for side in ("left", "right"):
            palm = np.linalg.norm(pose.joints21(side)[9] - pose.joints21(side)[0])
            assert 0.07 < palm < 0.12
