"""`fieldstone hand fit` on files of every kind, and what it refuses."""

import json

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from fieldstone.__main__ import main
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.render.cameras import Cameras, look_at
from fieldstone.tools.hand.fitting.handedness import mirrored
from fieldstone.tools.hand.observed.keypoint_file import read_keypoints, write_keypoints
from fieldstone.tools.hand.posed_mesh import posed_vertices
from fieldstone.tools.hand.result import read_result

from .fitting_truth import Truth


def fitted(*arguments):
    return main(["hand", "fit", *map(str, arguments)])


def apart_mm(path, truth):
    result = read_result(path)
    return (
        np.linalg.norm(posed_vertices(built_in(result.model), result) - truth.vertices(), axis=-1).mean()
        * 1e3
    )


def test_keypoints_in_json_with_report_and_pictures(tmp_path, capsys):
    truth = Truth(40)
    points = truth.noisy(0.0005)
    points[0, 12] = np.nan
    write_keypoints(tmp_path / "a.json", points, "openpose21", side="right")
    again = read_keypoints(tmp_path / "a.json")[0]
    assert np.array_equal(again.points, points, equal_nan=True) and again.side == "right"
    out = tmp_path / "r.npz"
    assert (
        fitted(
            tmp_path / "a.json",
            "--out",
            out,
            "--report",
            tmp_path / "r.html",
            "--residuals",
            tmp_path / "r.png",
        )
        == 0
    )
    assert "not seen by the data" in capsys.readouterr().out
    assert apart_mm(out, truth) < 2
    result = read_result(out)
    known = result.uncertainty
    assert known.covariance.shape == (1, 61, 61) and known.standard_deviation.shape == (1, 61)
    assert np.allclose(np.sqrt(np.diagonal(known.covariance[0])), known.standard_deviation[0], rtol=1e-3)
    assert "middle3 x" in result.info["unseen"] and known.names[10] == "wrist x"
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png") == 2 and "middle3" in page and '"u"' in page
    picture = np.asarray(Image.open(tmp_path / "r.png"))
    assert picture.shape == (420, 840, 3) and picture.std() > 5


def test_npz_of_millimetres_and_another_joint_set(tmp_path):
    truth = Truth(41)
    order = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]
    np.savez(tmp_path / "a.npz", points=truth.points()[0][order] * 1000, joint_set="interhand21", unit="mm")
    assert fitted(tmp_path / "a.npz", "--out", tmp_path / "r.npz") == 0
    assert apart_mm(tmp_path / "r.npz", truth) < 0.5


def test_two_hands_of_one_person_share_a_shape(tmp_path):
    truth = Truth(42)
    move = np.array([0.3, 0, 0])
    document = {
        "joint_set": "openpose21",
        "unit": "m",
        "hands": {
            "right": {"points": truth.noisy(0.001).tolist()},
            "left": {"points": (mirrored(truth.noisy(0.001)) + move).tolist()},
        },
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert fitted(tmp_path / "a.json", "--out", tmp_path / "r.npz") == 0
    right, left = (read_result(tmp_path / f"r_{side}.npz") for side in ("right", "left"))
    assert (right.model, left.model) == ("hand", "hand-left") and np.array_equal(right.shape, left.shape)
    assert apart_mm(tmp_path / "r_right.npz", truth) < 2
    found = posed_vertices(built_in("hand-left"), left)
    assert np.linalg.norm(found - mirrored(truth.vertices()) - move, axis=-1).mean() < 2e-3


def test_two_hands_in_one_another_are_called_out(tmp_path, capsys):
    truth = Truth(42)
    for move, through in ((np.array([0.012, 0, 0]), True), (np.array([0.3, 0, 0]), False)):
        right = truth.points()
        left = mirrored(right)
        left = left + right.mean(1) - left.mean(1) + move
        document = {
            "joint_set": "openpose21",
            "unit": "m",
            "hands": {"right": {"points": right.tolist()}, "left": {"points": left.tolist()}},
        }
        (tmp_path / "a.json").write_text(json.dumps(document))
        assert fitted(tmp_path / "a.json", "--out", tmp_path / "r.npz", "--side-check", "off") == 0
        said = capsys.readouterr().out
        assert ("pass through each other" in said) == through, said
    assert "pass through" not in str(read_result(tmp_path / "r_right.npz").info)


def test_pixels_of_two_views_and_their_overlay(tmp_path):
    truth = Truth(43)
    centre = truth.points()[0].mean(0)
    places = [centre + np.array(p) for p in ((0.4, 0.1, 0.2), (-0.1, 0.2, 0.5))]
    poses = torch.stack([torch.as_tensor(look_at(p, centre, np.array([0.0, 1.0, 0.0]))) for p in places])
    cameras = Cameras.pinhole(poses, 300.0, 200, 160)
    pixels = [
        cameras.project(torch.from_numpy(truth.points()[0]), torch.tensor([v]))[0].tolist() for v in (0, 1)
    ]
    Image.new("RGB", (200, 160), (40, 90, 40)).save(tmp_path / "a.png")
    document = {
        "joint_set": "openpose21",
        "unit": "m",
        "cameras": cameras.to_json(),
        "pixels": pixels,
        "photos": ["a.png", "a.png"],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert fitted(tmp_path / "a.json", "--out", tmp_path / "r.npz") == 0
    assert apart_mm(tmp_path / "r.npz", truth) < 1
    overlay = [
        "hand",
        "render",
        str(tmp_path / "r.npz"),
        "--photo",
        "--view",
        "1",
        "--out",
        str(tmp_path / "o.png"),
    ]
    assert main(overlay) == 0
    picture = np.asarray(Image.open(tmp_path / "o.png")).astype(int)
    height, width = picture.shape[0], picture.shape[1] // 2
    assert height == 3 * 160 and (picture[:, :width] == picture[0, 0]).all()
    x, y = (3 * np.array(pixels[1][9])).astype(int)
    assert np.abs(picture[y, width + x] - picture[0, 0]).sum() > 60  # the hand covers its own knuckle


def test_scan_file_in_millimetres(tmp_path, capsys):
    truth = Truth(44)
    trimesh.Trimesh(truth.vertices()[0] * 1000, truth.data.faces, process=False).export(tmp_path / "a.ply")
    assert fitted(tmp_path / "a.ply", "--out", tmp_path / "r.npz") == 2
    assert "give its unit (--unit mm)" in capsys.readouterr().err
    assert fitted(tmp_path / "a.ply", "--unit", "mm", "--out", tmp_path / "r.npz", "--side-check", "off") == 0
    assert "from scan to surface" in capsys.readouterr().out
    assert apart_mm(tmp_path / "r.npz", truth) < 3


POINTS = Truth(45).points()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"unit": None}, ["unit is missing", "mm", "--unit"]),
        ({"unit": "feet"}, ["unit", "'feet'"]),
        ({"joint_set": None}, ["joint_set is missing", "openpose21", "--joints"]),
        ({"joint_set": "coco17"}, ["joint_set", "'coco17'", "mano16"]),
        ({"points": POINTS[:, :20].tolist()}, ["points", "(frames, 21, 3)", "(1, 20, 3)"]),
        ({"points": [[1, 2], [3]]}, ["points", "nested lists"]),
        ({"points": (POINTS * np.inf).tolist()}, ["points", "infinity"]),
        ({"points": [[None] * 21]}, ["points", "nothing was seen"]),
        ({"points": None}, ["expected points or pixels", "joint_set"]),
        ({"side": "both"}, ["side", "'both'"]),
        ({"side": "left"}, []),
        (
            {"points": mirrored(POINTS).tolist()},
            ["looks like a left hand", "--model hand-left", "--side-check off"],
        ),
        ({"format": "fieldstone-keypoints-9"}, ["format", "fieldstone-keypoints-1"]),
        ({"frames_per_second": -1}, ["frames_per_second", "-1"]),
        ({"confidence": [[2.0] * 21]}, ["confidence", "0 to 1"]),
    ],
)
def test_keypoint_mistakes_are_one_line(changes, words, tmp_path, capsys):
    document = {"joint_set": "openpose21", "unit": "m", "points": POINTS.tolist()} | changes
    text = json.dumps({key: value for key, value in document.items() if value is not None})
    (tmp_path / "a.json").write_text(text)
    code = fitted(tmp_path / "a.json", "--out", tmp_path / "r.npz")
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and all(word in error for word in words), error
    assert not (tmp_path / "r.npz").exists()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("absent.json", None, ["no such file"]),
        ("a.json", b"{", ["not JSON"]),
        ("a.npz", b"PK\3\4", ["not a readable .npz"]),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 9\n", ["not a readable scan"]),
        ("a.tif", b"", ["'.tif'", ".handpose"]),
        ("folder", None, ["nothing to fit recognised", "transforms.json", "FreiHAND"]),
    ],
)
def test_files_that_cannot_be_read_are_one_line(name, content, words, tmp_path, capsys):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    assert fitted(path, "--out", tmp_path / "r.npz") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error


def test_object_arrays_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", points=np.array([{}], object), joint_set="openpose21", unit="m")
    assert fitted(tmp_path / "a.npz", "--out", tmp_path / "r.npz") == 2
    assert "object" in capsys.readouterr().err
