"""`fieldstone hand ...` end to end, on models that come with Fieldstone."""

import json

import numpy as np
import pytest

from fieldstone.__main__ import main
from fieldstone.datasets.motion.bvh import read_bvh
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.geometry import mesh_volume
from fieldstone.tools.hand.result import HandResult, read_result, write_result

from .conftest import example_motion


@pytest.fixture
def result(tmp_path):
    path = tmp_path / "result.npz"
    write_result(path, example_motion(4))
    return path


def test_a_result_comes_back(result):
    again, expected = read_result(result), example_motion(4)
    for name in ("shape", "pose", "translation"):
        assert np.array_equal(getattr(again, name), getattr(expected, name))
    assert again.model == "hand" and again.frames_per_second == 25


def test_info_and_convert(tmp_path, capsys):
    assert main(["hand", "info", "hand", "--json", str(tmp_path / "i.json")]) == 0
    report = json.loads((tmp_path / "i.json").read_text())
    assert report["joints"] == 16 and report["layout"] == "mano" and report["side"] == "right"
    assert report["open_loops"] and "not MANO" in report["info"]["note"]
    assert main(["hand", "convert", "hand", "--mirror", "--out", str(tmp_path / "left.npz")]) == 0
    assert main(["hand", "info", str(tmp_path / "left.npz")]) == 0
    out = capsys.readouterr().out
    assert "mano, side left" in out and built_in("hand-left").sha256() in out


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl", "bvh", "json"])
def test_every_format_is_written(result, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    assert main(["hand", "export", str(result), "--out", str(out)]) == 0
    assert out.stat().st_size > 500


def test_exported_surface_is_the_posed_one_and_closes(result, tmp_path):
    import trimesh

    from fieldstone.tools.hand.posed_mesh import posed_vertices

    assert (
        main(["hand", "export", str(result), "--frame", "2", "--cap", "--out", str(tmp_path / "a.ply")]) == 0
    )
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    expected = posed_vertices(built_in("hand"), example_motion(4))[2]
    assert np.abs(mesh.vertices[: len(expected)] - expected).max() < 1e-6
    assert mesh.is_watertight and mesh_volume(mesh.vertices, mesh.faces) > 1e-4


def test_bvh_has_our_joints(result, tmp_path):
    import torch

    from fieldstone.fields.articulated import ArticulatedModel

    assert main(["hand", "export", str(result), "--out", str(tmp_path / "a.bvh")]) == 0
    motion = read_bvh(tmp_path / "a.bvh")
    given = example_motion(4)
    model = ArticulatedModel(built_in("hand"), dtype=torch.float64)
    joints = model(
        *(torch.from_numpy(x) for x in (given.shape, given.pose, given.translation))
    ).joints.numpy()
    place = [motion.names.index(name) for name in model.joint_names]
    assert np.abs(motion.positions()[:, place] - joints).max() < 1e-6
    assert abs(motion.frames_per_second - 25) < 1e-3


def test_the_json_skeleton_says_what_the_model_says(result, tmp_path):
    import torch

    from fieldstone.fields.articulated import ArticulatedModel

    assert main(["hand", "export", str(result), "--out", str(tmp_path / "a.json")]) == 0
    found, given = json.loads((tmp_path / "a.json").read_text()), example_motion(4)
    model = ArticulatedModel(built_in("hand"), dtype=torch.float64)
    posed = model(*(torch.from_numpy(x) for x in (given.shape, given.pose, given.translation)))
    assert found["joint_names"] == list(model.joint_names) and found["parents"] == list(model.parents)
    assert np.allclose([frame["joints"] for frame in found["frames"]], posed.joints.numpy(), atol=1e-12)
    assert np.allclose(
        [frame["transforms"] for frame in found["frames"]], posed.transforms.numpy(), atol=1e-12
    )
    assert np.allclose(found["rest_joints"], posed.rest_joints[0].numpy(), atol=1e-12)


def test_pictures(result, tmp_path):
    from PIL import Image

    for name, options in (("a.png", []), ("b.jpg", ["--style", "parts", "--cap", "--subdivide", "1"])):
        assert (
            main(["hand", "render", str(result), "--size", "96", "--out", str(tmp_path / name), *options])
            == 0
        )
        image = np.asarray(Image.open(tmp_path / name))
        assert image.shape == (96, 96, 3) and 0.05 < (image.min(2) < 240).mean() < 0.9
    assert (
        main(["hand", "render", "hand", "--size", "64", "--turn", "3", "--out", str(tmp_path / "c.gif")]) == 0
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["info", "absent.npz"], ["absent.npz", "anatomical-hand"]),
        (["export", "hand", "--out", "a.fbx"], ["'.fbx'", ".glb"]),
        (["export", "hand", "--shape", "1,2,3,4,5,6,7,8,9,10,11", "--out", "a.obj"], ["at most 10", "11"]),
        (["render", "hand", "--out", "a.tiff"], ["'.tiff'"]),
        (["export", "hand", "--subdivide", "9", "--out", "a.obj"], ["at most 4"]),
        (["convert", "absent.pkl", "--out", "a.npz"], ["absent.pkl"]),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["hand", *arguments]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words) and error.count("\n") == 1, error
    assert not list(tmp_path.iterdir())


def test_a_result_of_another_model_is_refused(tmp_path, capsys):
    given = example_motion(1)
    write_result(
        tmp_path / "r.npz",
        HandResult("hand", given.shape, given.pose, given.translation, model_sha256="0" * 64),
    )
    assert main(["hand", "export", str(tmp_path / "r.npz"), "--out", str(tmp_path / "a.obj")]) == 2
    assert "not the one the result was made with" in capsys.readouterr().err
