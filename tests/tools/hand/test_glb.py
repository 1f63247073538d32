"""Skinned GLB out and in again; rigs of others read."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.articulated import ArticulatedModel
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.geometry import boundary_loops, mesh_volume
from fieldstone.tools.hand.glb_reader import read_glb
from fieldstone.tools.hand.glb_writer import write_glb
from fieldstone.tools.hand.rig import WEBXR_PARENTS, rig_model, webxr_to_mano

WEBXR = Path(__file__).resolve().parents[4] / "shared" / "data" / "hands" / "webxr" / "generic-hand"


def motion(data, frames, seed=0):
    generator = np.random.default_rng(seed)
    return (
        generator.normal(0, 0.5, (frames, len(data.parents), 3)),
        generator.normal(0, 1, data.shape_basis.shape[2]),
        generator.normal(0, 0.2, (frames, 3)),
    )


@pytest.mark.parametrize(
    "name, rule", [("hand", "features"), ("hand", "frames"), ("hand-left", "auto"), ("body", "frames")]
)
def test_what_a_reader_sees_are_our_vertices(tmp_path, name, rule):
    data = built_in(name)
    pose, shape, move = motion(data, 3)
    write_glb(
        tmp_path / "a.glb", data, pose, shape=shape, translation=move, frames_per_second=10, correctives=rule
    )
    scene = read_glb(tmp_path / "a.glb")
    node = scene.mesh_of.index(0)
    model = ArticulatedModel(data, dtype=torch.float64)
    expected = model(*(torch.from_numpy(x) for x in (shape, pose, move))).vertices.numpy()
    for frame in range(3):
        assert np.abs(scene.posed(node, frame / 10) - expected[frame]).max() < 1e-5
    assert np.abs(scene.posed(node) - expected[0]).max() < 1e-5  # the pose at rest is the first one


def test_between_frames_the_pose_features_interpolate_as_morphs_do(tmp_path):
    data = built_in("hand")
    pose = np.zeros((2, 16, 3))
    pose[1, 1:, 2] = 0.6
    write_glb(tmp_path / "a.glb", data, pose, frames_per_second=1, correctives="features")
    scene = read_glb(tmp_path / "a.glb")
    half = ArticulatedModel(data, dtype=torch.float64)(pose=torch.from_numpy(pose[1] / 2)).vertices[0].numpy()
    assert np.abs(scene.posed(0, 0.5) - half).max() < 1e-3


def test_trimesh_reads_the_file_too(tmp_path):
    import trimesh

    data = built_in("hand")
    write_glb(tmp_path / "a.glb", data, np.zeros((1, 16, 3)))
    mesh = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    assert np.abs(mesh.vertices - data.template).max() < 1e-6
    assert np.array_equal(mesh.faces, data.faces)


@pytest.mark.skipif(not WEBXR.exists(), reason="the WebXR hands are not here")
@pytest.mark.parametrize("side", ["left", "right"])
def test_webxr_hands_are_read_as_watertight_models(side):
    data = rig_model(WEBXR / f"{side}.glb")
    assert len(data.template) == 1159 and len(data.faces) == 2314 and len(data.parents) == 25
    assert not boundary_loops(data.faces) and mesh_volume(data.template, data.faces) > 1e-4
    assert data.joint_names[0] == "wrist" and data.side == side
    assert all(
        data.joint_names[parent] == WEBXR_PARENTS[name]
        for name, parent in zip(data.joint_names[1:], data.parents[1:])
    )
    scene = read_glb(WEBXR / f"{side}.glb")
    skin = scene.skins[0]
    place = {scene.names[node]: np.linalg.inv(m)[:3, 3] for node, m in zip(skin.joints, skin.inverse_bind)}
    assert np.abs(data.joints - [place[name] for name in data.joint_names]).max() < 1e-9
    hand = webxr_to_mano(data)
    assert hand.layout == "mano" and len(hand.fingertips) == 5
    tip = data.joints[data.joint_names.index("middle-finger-tip")]
    assert np.linalg.norm(hand.template[hand.fingertips[2]] - tip) < 0.015


def test_webxr_parents_are_a_hand():
    assert WEBXR_PARENTS["thumb-metacarpal"] == WEBXR_PARENTS["pinky-finger-metacarpal"] == "wrist"
    assert WEBXR_PARENTS["ring-finger-tip"] == "ring-finger-phalanx-distal"
    assert len(WEBXR_PARENTS) == 24


def changed(path, edit):
    """The GLB with its JSON edited."""
    raw = path.read_bytes()
    length = struct.unpack_from("<I", raw, 12)[0]
    document = json.loads(raw[20 : 20 + length])
    edit(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = raw[20 + length :]
    out = path.with_name("changed.glb")
    out.write_bytes(
        struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON") + text + rest
    )
    return out


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda d: d["accessors"][0].update(count=10**7), "reaches over"),
        (lambda d: d["buffers"][0].update(uri="file:///etc/passwd"), "outside the file"),
        (lambda d: d["nodes"][1].update(children=[1]), "hangs on two nodes"),
        (lambda d: d["bufferViews"][0].update(byteOffset=-4), "reaches over"),
        (lambda d: d["skins"][0].update(joints=[0]), "joints its skin does not have"),
        (lambda d: d["accessors"][0].update(componentType=9), "not a readable GLB"),
        (lambda d: d.update(nodes=[]), "nodes"),
    ],
)
def test_hostile_files_are_refused(tmp_path, edit, words):
    data = built_in("hand")
    write_glb(tmp_path / "a.glb", data, np.zeros((1, 16, 3)))
    with pytest.raises(UserError, match=words) as error:
        read_glb(changed(tmp_path / "a.glb", edit))
    assert "\n" not in str(error.value)


def test_cut_files_are_refused(tmp_path):
    write_glb(tmp_path / "a.glb", built_in("hand"), np.zeros((1, 16, 3)))
    raw = (tmp_path / "a.glb").read_bytes()
    for size in (0, 8, 40, len(raw) // 2):
        (tmp_path / "b.glb").write_bytes(raw[:size])
        with pytest.raises(UserError):
            read_glb(tmp_path / "b.glb")
